package director

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// Packets of other balancers' tests, with addresses of this testbed, and what becomes of
// them here. Frames are made and judged by gopacket alone. Where the other balancer does
// otherwise, its row says what, and we do as IPVS does.
//
// The collections:
//
//	katran     facebookincubator/katran, katran/lib/testing/fixtures: KatranTestFixtures
//	           (IPIP), KatranGueTestFixtures, KatranIcmpTooBigTestFixtures,
//	           KatranXPopDecapTestFixtures. It keeps no state of TCP, so the rows have
//	           sloppy_tcp; its outer headers have TTL 64 and id 0, ours what IPVS's have.
//	glb        github/glb-director, src/glb-director/tests: test_director_classify_v4
//	           and _v6 (GUE, there with private data)
//	cilium     cilium/cilium, bpf/tests: the nodeport tests with DSR by IPIP
type collected struct {
	sentence string
	tunnel   tunnel.Tunnel
	over6    bool
	in       []gopacket.SerializableLayer // behind the Ethernet header
	verdict  Verdict
	want     string // see describe; "": the frame is left as it is
}

// The tunnels of the rows.
var (
	ipip = tunnel.Tunnel{Type: tunnel.IPIP}
	gue  = tunnel.Tunnel{Type: tunnel.GUE, Port: tunnel.GUEPort, Checksum: true}
	gre  = tunnel.Tunnel{Type: tunnel.GRE}
)

// A client behind the gateway, and text to send.
const (
	far4, far6 = "192.168.1.1", "fd00:1::7"
	text       = "a test packet.."
)

var katran = []collected{
	{
		"a datagram is put whole into an IPv4 packet to the server", ipip, false,
		headers(v4(far4, "10.9.0.1"), udp(31337, 80), data(text)),
		ForwardedTunnel,
		"10.2.0.1>10.2.0.11 len 63 ttl 63 | 192.168.1.1>10.9.0.1 len 43 ttl 63 | udp 31337>80 | 15 bytes",
	},
	{
		"so is a segment", ipip, false,
		headers(v4(far4, "10.9.0.1"), ack(31337, 80), data(text)),
		ForwardedTunnel,
		"10.2.0.1>10.2.0.11 len 75 ttl 63 | 192.168.1.1>10.9.0.1 len 55 ttl 63 | tcp 31337>80 ack | 15 bytes",
	},
	{
		"the outer header has the inner TOS", ipip, false,
		headers(with4(v4(far4, "10.9.0.1"), func(h *layers.IPv4) { h.TOS = 0x8c }), ack(31337, 80), data(text)),
		ForwardedTunnel,
		"10.2.0.1>10.2.0.11 len 75 ttl 63 tos 0x8c | 192.168.1.1>10.9.0.1 len 55 ttl 63 tos 0x8c | " +
			"tcp 31337>80 ack | 15 bytes",
	},
	{
		"an IPv4 VIP has an IPv6 server", ipip, true,
		headers(v4(far4, "10.9.0.1"), ack(31337, 80), data(text)),
		ForwardedTunnel,
		"fd00:2::1>fd00:2::11 len 95 ttl 63 | 192.168.1.1>10.9.0.1 len 55 ttl 63 | tcp 31337>80 ack | 15 bytes",
	},
	{
		"an IPv6 VIP has an IPv6 server", ipip, true,
		headers(v6(far6, "fd00:9::1"), ack(31337, 80), data(text)),
		ForwardedTunnel,
		"fd00:2::1>fd00:2::11 len 115 ttl 63 | fd00:1::7>fd00:9::1 len 75 ttl 63 | tcp 31337>80 ack | 15 bytes",
	},
	{
		"the outer header has the inner traffic class", ipip, true,
		headers(
			with6(v6(far6, "fd00:9::1"), func(h *layers.IPv6) { h.TrafficClass = 0x8c }), ack(31337, 80), data(text),
		),
		ForwardedTunnel,
		"fd00:2::1>fd00:2::11 len 115 ttl 63 tos 0x8c | fd00:1::7>fd00:9::1 len 75 ttl 63 tos 0x8c | " +
			"tcp 31337>80 ack | 15 bytes",
	},
	{
		"the director answers ping itself", ipip, false,
		headers(v4(far4, "10.9.0.1"), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 7, Seq: 1}),
		AnsweredEcho, "10.9.0.1>192.168.1.1 len 28 ttl 64 | icmp 0/0 id 7 rest 1",
	},
	{
		"also over IPv6", ipip, true,
		headers(v6(far6, "fd00:9::1"), icmp6(far6, "fd00:9::1", 128, 0, []byte{0, 7, 0, 1})),
		AnsweredEcho, "fd00:9::1>fd00:1::7 len 48 ttl 64 | icmp6 129/0",
	},
	{
		"a header with a word of options is carried with it; katran drops it", ipip, false,
		headers(with4(v4(far4, "10.9.0.1"), func(h *layers.IPv4) {
			h.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 0}}
		}), ack(31337, 80), data(text)),
		ForwardedTunnel,
		"10.2.0.1>10.2.0.11 len 79 ttl 63 | 192.168.1.1>10.9.0.1 len 59 ttl 63 options 4 | tcp 31337>80 ack | 15 bytes",
	},
	{
		"the first fragment stays one inside, and the outer packet is none; katran drops it", ipip, false,
		headers(
			with4(v4(far4, "10.9.0.1"), func(h *layers.IPv4) { h.Flags = layers.IPv4MoreFragments }), udp(31337, 80),
			data(text+"."),
		),
		ForwardedTunnel, "10.2.0.1>10.2.0.11 len 64 ttl 63 | 192.168.1.1>10.9.0.1 len 44 ttl 63 more | 24 bytes",
	},
	{
		"a header that takes the ports for a word of options leaves a TCP header that is none", ipip, false,
		headers(with4(as4(v4(far4, "10.9.0.1"), layers.IPProtocolTCP), func(h *layers.IPv4) {
			h.Options = []layers.IPv4Option{{OptionType: 0x7a, OptionLength: 4, OptionData: []byte{0, 80}}}
		}), data("\x00\x00\x00\x00\x00\x00\x00\x00\x50\x10\x20\x00\x27\xe4\x00\x00"+text)),
		DroppedBadTransportLength, "",
	},
	{
		"a port of the host's VIP without a service is the host's", ipip, false,
		headers(v4(far4, "10.9.0.2"), ack(31337, 82), data(text)), NotOurs, "",
	},
	{
		"over IPv6, too", ipip, true,
		headers(v6(far6, "fd00:9::2"), ack(31337, 82), data(text)), NotOurs, "",
	},
	{
		"an IPIP packet to somebody else is his, whatever is inside", ipip, false,
		headers(
			as4(v4("172.16.1.1", "10.1.0.1"), layers.IPProtocolIPv4), v4(far4, "10.9.0.1"), udp(31337, 80), data(text),
		),
		NotOurs, "",
	},
	{
		"so is IPv6 in IPv6", ipip, true,
		headers(
			as6(v6("fd00:1::9", "fd00:1::1"), layers.IPProtocolIPv6), v6(far6, "fd00:9::1"), ack(31337, 80), data(text),
		),
		NotOurs, "",
	},
	{
		"and IPv4 in IPv6", ipip, true,
		headers(
			as6(v6("fd00:1::9", "fd00:1::1"), layers.IPProtocolIPv4), v4(far4, "10.9.0.1"), udp(31337, 80), data(text),
		),
		NotOurs, "",
	},
	{
		"and GUE", gue, false,
		headers(
			v4("172.16.1.1", "10.1.0.1"), udp(1337, 6080), data("\x00\x04\x00\x00"), v4(far4, "10.9.0.1"),
			udp(31337, 80), data(text),
		),
		NotOurs, "",
	},

	{
		"QUIC with a long header (Initial) is a datagram like any other", ipip, false,
		headers(
			v4(far4, "10.9.0.1"), udp(31337, 80),
			data("\xcf\xfa\xce\xb0\x01\x08\x41\x02\x03\x04\x05\x06\x07\x00\x00\x01\x11\x01quic data\x00@"),
		),
		ForwardedTunnel,
		"10.2.0.1>10.2.0.11 len 77 ttl 63 | 192.168.1.1>10.9.0.1 len 57 ttl 63 | udp 31337>80 | 29 bytes",
	},
	{
		"QUIC with a short header of one byte leaves no padding in the tunnel", ipip, true,
		headers(v4(far4, "10.9.0.1"), udp(31337, 80), data("\x00")),
		ForwardedTunnel,
		"fd00:2::1>fd00:2::11 len 69 ttl 63 | 192.168.1.1>10.9.0.1 len 29 ttl 63 | udp 31337>80 | 1 bytes",
	},
	{
		"QUIC over IPv6 in GUE", gue, true,
		headers(
			v6(far6, "fd00:9::1"), udp(31337, 80),
			data("\xcf\xfa\xce\xb0\x01\x08\x44\x01\x03\x04\x05\x06\x07\x00\x00\x01\x11\x01quic data\x00@"),
		),
		ForwardedTunnel,
		"fd00:2::1>fd00:2::11 len 129 ttl 63 | gue 6080 41 sum | fd00:1::7>fd00:9::1 len 77 ttl 63 | " +
			"udp 31337>80 | 29 bytes",
	},

	{
		"a datagram in GUE; katran's has no header behind UDP (version 1)", gue, false,
		headers(v4(far4, "10.9.0.1"), udp(31337, 80), data(text)),
		ForwardedTunnel,
		"10.2.0.1>10.2.0.11 len 75 ttl 63 | gue 6080 4 sum | 192.168.1.1>10.9.0.1 len 43 ttl 63 | " +
			"udp 31337>80 | 15 bytes",
	},
	{
		"a segment for an IPv6 server in GUE", gue, true,
		headers(v4(far4, "10.9.0.1"), ack(31337, 80), data(text)),
		ForwardedTunnel,
		"fd00:2::1>fd00:2::11 len 107 ttl 63 | gue 6080 4 sum | 192.168.1.1>10.9.0.1 len 55 ttl 63 | " +
			"tcp 31337>80 ack | 15 bytes",
	},
	{
		"an IPv6 segment in GUE over IPv6", gue, true,
		headers(v6(far6, "fd00:9::1"), ack(31337, 80), data(text)),
		ForwardedTunnel,
		"fd00:2::1>fd00:2::11 len 127 ttl 63 | gue 6080 41 sum | fd00:1::7>fd00:9::1 len 75 ttl 63 | " +
			"tcp 31337>80 ack | 15 bytes",
	},
	{
		"GUE has the TOS in the outer header, too", gue, false,
		headers(with4(v4(far4, "10.9.0.1"), func(h *layers.IPv4) { h.TOS = 0x8c }), ack(31337, 80), data(text)),
		ForwardedTunnel,
		"10.2.0.1>10.2.0.11 len 87 ttl 63 tos 0x8c | gue 6080 4 sum | 192.168.1.1>10.9.0.1 len 55 " +
			"ttl 63 tos 0x8c | tcp 31337>80 ack | 15 bytes",
	},
	{
		"and the traffic class", gue, true,
		headers(
			with6(v6(far6, "fd00:9::1"), func(h *layers.IPv6) { h.TrafficClass = 0x8c }), ack(31337, 80), data(text),
		),
		ForwardedTunnel,
		"fd00:2::1>fd00:2::11 len 127 ttl 63 tos 0x8c | gue 6080 41 sum | fd00:1::7>fd00:9::1 len 75 " +
			"ttl 63 tos 0x8c | tcp 31337>80 ack | 15 bytes",
	},

	{
		"a datagram of 1528 bytes with DF is too big, by the VIP's word; katran says 1500 and quotes 84 bytes", ipip,
		false,
		headers(
			with4(v4(far4, "10.9.0.1"), func(h *layers.IPv4) { h.Flags = layers.IPv4DontFragment }), udp(31337, 80),
			data(strings.Repeat(text, 100)),
		),
		AnsweredTooBig,
		"10.9.0.1>192.168.1.1 len 576 ttl 64 tos 0xc0 df | icmp 3/4 id 0 rest 1480 | quoting " +
			"192.168.1.1>10.9.0.1 len 1528 ttl 63 df",
	},
	{
		"the same in GUE: 48 bytes less than katran's link, 32 less than ours", gue, false,
		headers(
			with4(v4(far4, "10.9.0.1"), func(h *layers.IPv4) { h.Flags = layers.IPv4DontFragment }), udp(31337, 80),
			data(strings.Repeat(text, 100)),
		),
		AnsweredTooBig,
		"10.9.0.1>192.168.1.1 len 576 ttl 64 tos 0xc0 df | icmp 3/4 id 0 rest 1468 | quoting " +
			"192.168.1.1>10.9.0.1 len 1528 ttl 63 df",
	},
	{
		"a segment of 1560 bytes over IPv6 is too big; katran quotes 248 bytes", ipip, true,
		headers(v6(far6, "fd00:9::1"), ack(31337, 80), data(strings.Repeat(text, 100))),
		AnsweredTooBig,
		"fd00:9::1>fd00:1::7 len 1280 ttl 64 | icmp6 2/0 mtu 1460 | quoting fd00:1::7>fd00:9::1 len 1560 ttl 63",
	},
	{
		"the same in GUE", gue, true,
		headers(v6(far6, "fd00:9::1"), ack(31337, 80), data(strings.Repeat(text, 100))),
		AnsweredTooBig,
		"fd00:9::1>fd00:1::7 len 1280 ttl 64 | icmp6 2/0 mtu 1448 | quoting fd00:1::7>fd00:9::1 len 1560 ttl 63",
	},
	{
		"TTL 1 ends here; katran drops it silently", gue, true,
		headers(with4(v4(far4, "10.9.0.1"), func(h *layers.IPv4) { h.TTL = 1 }), udp(31337, 80), data(text)),
		AnsweredTTLExceeded,
		"10.9.0.1>192.168.1.1 len 71 ttl 64 tos 0xc0 df | icmp 11/0 id 0 rest 0 | quoting " +
			"192.168.1.1>10.9.0.1 len 43 ttl 1",
	},
	{
		"so does hop limit 1", gue, true,
		headers(with6(v6(far6, "fd00:9::1"), func(h *layers.IPv6) { h.HopLimit = 1 }), ack(31337, 80), data(text)),
		AnsweredTTLExceeded,
		"fd00:9::1>fd00:1::7 len 123 ttl 64 | icmp6 3/0 mtu 0 | quoting fd00:1::7>fd00:9::1 len 75 ttl 1",
	},
}

var glb = []collected{
	{
		"a segment in GUE goes from the director's address to the GUE port of the server", gue, false,
		headers(v4("10.11.12.13", "10.9.0.1"), ack(45678, 80)),
		ForwardedTunnel,
		"10.2.0.1>10.2.0.11 len 72 ttl 63 | gue 6080 4 sum | 10.11.12.13>10.9.0.1 len 40 ttl 63 | tcp 45678>80 ack",
	},
	{
		"an IPv6 VIP has IPv4 servers", gue, false,
		headers(v6(far6, "fd00:9::1"), ack(45678, 80)),
		ForwardedTunnel,
		"10.2.0.1>10.2.0.11 len 92 ttl 63 | gue 6080 41 sum | fd00:1::7>fd00:9::1 len 60 ttl 63 | tcp 45678>80 ack",
	},
}

var cilium = []collected{
	{
		"a segment in IPIP keeps the VIP inside, and its length, ports and checksum", ipip, false,
		headers(v4("110.0.11.1", "10.9.0.1"), ack(111, 80), data("Should not change!!")),
		ForwardedTunnel,
		"10.2.0.1>10.2.0.11 len 79 ttl 63 | 110.0.11.1>10.9.0.1 len 59 ttl 63 | tcp 111>80 ack | 19 bytes",
	},
	{
		"over IPv6, too", ipip, true,
		headers(v6(far6, "fd00:9::1"), ack(111, 80), data("Should not change!!")),
		ForwardedTunnel,
		"fd00:2::1>fd00:2::11 len 119 ttl 63 | fd00:1::7>fd00:9::1 len 79 ttl 63 | tcp 111>80 ack | 19 bytes",
	},
}

func TestCollections(t *testing.T) {
	for name, rows := range map[string][]collected{"katran": katran, "glb": glb, "cilium": cilium} {
		for _, r := range rows {
			t.Run(name+"/"+r.sentence, func(t *testing.T) {
				w := tunnelTestbed(t, r.tunnel, r.over6)
				w.table.Settings.SloppyTCP = true
				f := onWire(t, r.in)
				was := bytes.Clone(f.Bytes())
				if v := w.process(&f); v != r.verdict {
					t.Errorf("verdict %s, want %s", v, r.verdict)
				}
				if r.want == "" {
					if f.Out != wire.NoPort || !bytes.Equal(f.Bytes(), was) {
						t.Errorf("changed, or sent by %d", f.Out)
					}
					return
				}
				if got := describe(t, f); got != r.want {
					t.Errorf("\n%s, want\n%s", got, r.want)
				}
			})
		}
	}
}

// A router between client and VIP reports how long the server's reply may be. The error
// reaches that server whole, in its tunnel (katran's and glb's cases of ICMP; in both
// the router has an address of its own).
func TestCollectedErrors(t *testing.T) {
	quoted4 := headers(v4("10.9.0.1", far4), syn80(31337), data(text))
	quoted6 := headers(v6("fd00:9::1", far6), syn80(31337), data(text))
	big4 := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: 1400}
	for _, r := range []struct {
		tunnel  tunnel.Tunnel
		over6   bool
		opening []gopacket.SerializableLayer
		in      []gopacket.SerializableLayer
		want    string
	}{
		{
			ipip, false, headers(v4(far4, "10.9.0.1"), ack(31337, 80)),
			headers(v4("192.168.100.1", "10.9.0.1"), big4, data(string(serialized(t, quoted4)))),
			"10.2.0.1>10.2.0.11 len 103 ttl 63 | 192.168.100.1>10.9.0.1 len 83 ttl 63 | icmp 3/4 id " +
				"0 rest 1400 | quoting 10.9.0.1>192.168.1.1 len 55 ttl 64",
		},
		{
			gue, false, headers(v4(far4, "10.9.0.1"), ack(31337, 80)),
			headers(v4("192.168.100.1", "10.9.0.1"), big4, data(string(serialized(t, quoted4)))),
			"10.2.0.1>10.2.0.11 len 115 ttl 63 | gue 6080 4 sum | 192.168.100.1>10.9.0.1 len 83 ttl " +
				"63 | icmp 3/4 id 0 rest 1400 | quoting 10.9.0.1>192.168.1.1 len 55 ttl 64",
		},
		{
			ipip, true, headers(v6(far6, "fd00:9::1"), ack(31337, 80)),
			headers(
				v6("fd00:200::1", "fd00:9::1"),
				icmp6("fd00:200::1", "fd00:9::1", 2, 0, append([]byte{0, 0, 5, 0}, serialized(t, quoted6)...)),
			),
			"fd00:2::1>fd00:2::11 len 163 ttl 63 | fd00:200::1>fd00:9::1 len 123 ttl 63 | icmp6 2/0 " +
				"mtu 1280 | quoting fd00:9::1>fd00:1::7 len 75 ttl 64",
		},
		{
			gue, false, headers(v6(far6, "fd00:9::1"), ack(31337, 80)),
			headers(
				v6("fd00:200::1", "fd00:9::1"),
				icmp6("fd00:200::1", "fd00:9::1", 2, 0, append([]byte{0, 0, 5, 0}, serialized(t, quoted6)...)),
			),
			"10.2.0.1>10.2.0.11 len 155 ttl 63 | gue 6080 41 sum | fd00:200::1>fd00:9::1 len 123 ttl " +
				"63 | icmp6 2/0 mtu 1280 | quoting fd00:9::1>fd00:1::7 len 75 ttl 64",
		},
		{
			gre, true, headers(v4(far4, "10.9.0.1"), ack(31337, 80)),
			headers(v4("192.168.100.1", "10.9.0.1"), big4, data(string(serialized(t, quoted4)))),
			"fd00:2::1>fd00:2::11 len 127 ttl 63 | gre IPv4 | 192.168.100.1>10.9.0.1 len 83 ttl 63 | " +
				"icmp 3/4 id 0 rest 1400 | quoting 10.9.0.1>192.168.1.1 len 55 ttl 64",
		},
	} {
		w := tunnelTestbed(t, r.tunnel, r.over6)
		w.table.Settings.SloppyTCP = true
		first := onWire(t, r.opening)
		w.process(&first)
		f := onWire(t, r.in)
		if v := w.process(&f); v != ICMPErrorToServer {
			t.Errorf("%s: verdict %s", r.want, v)
			continue
		}
		if got := describe(t, f); got != r.want {
			t.Errorf("\n%s, want\n%s", got, r.want)
		}
	}
}

// All GUE packets of a flow have the same UDP source port, and other flows have others
// (katran and glb compute it from addresses and ports).
func TestCollectedFlowPorts(t *testing.T) {
	w := tunnelTestbed(t, gue, false)
	w.table.Settings.SloppyTCP = true
	port := func(clientPort uint16, payload string) layers.UDPPort {
		f := onWire(t, headers(v4(far4, "10.9.0.1"), ack(clientPort, 80), data(payload)))
		w.process(&f)
		return decoded(f).TransportLayer().(*layers.UDP).SrcPort
	}
	seen := map[layers.UDPPort]bool{}
	for p := range uint16(64) {
		if port(5000+p, "one") != port(5000+p, "the other") {
			t.Errorf("packets of the flow from port %d have two", 5000+p)
		}
		seen[port(5000+p, "")] = true
	}
	if len(seen) < 60 {
		t.Errorf("64 flows have %d ports", len(seen))
	}
}
