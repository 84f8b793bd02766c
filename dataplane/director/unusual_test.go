package director

import (
	"bytes"
	"testing"

	"github.com/google/gopacket/layers"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// unusualTestbed returns a testbed that also has services of SCTP and of IKE.
func unusualTestbed(t testing.TB, method conntrack.Method) *testbed {
	w := newTestbed(t, method)
	w.service(method, wire.ProtoSCTP, "10.9.0.1", "10.2.0.11", "10.2.0.12")
	w.service(method, wire.ProtoSCTP, "fd00:9::1", "fd00:2::11", "fd00:2::12")
	w.addIKE("10.9.0.1")
	w.addIKE("10.9.0.2")
	return w
}

// addIKE adds a service of IKE with the servers of 10.9.0.1's UDP service.
func (w *testbed) addIKE(vip string) {
	ike := *w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoUDP})
	ike.Port = wire.PortIKE
	w.table.Services.Set(Endpoint{addr(vip), wire.PortIKE, wire.ProtoUDP}, &ike)
}

// unusualFrame is a frame that is not quite ordinary, and the rule for it.
type unusualFrame struct {
	sentence string
	method   conntrack.Method
	port     uint16
	frame    wire.Frame
	verdict  Verdict
	out      string // "": nothing leaves
}

// from and to are the endpoints of most rows.
const (
	from, to   = "10.1.0.2:5000", "10.9.0.1:80"
	from6, to6 = "[fd00:1::2]:5000", "[fd00:9::1]:80"
	toServer   = "1 02:00:00:00:01:01: "
	toClient   = "0 02:00:00:00:00:0c: "
)

// modified returns a changed frame as it arrives on port 0.
func modified(p wiretest.Packet, how func(f *wire.Frame)) wire.Frame {
	f := in(0, p)
	how(&f)
	return f
}

// withTail returns a frame with bytes behind its packet, as Ethernet pads short frames.
func withTail(f wire.Frame, b ...byte) wire.Frame {
	g := wiretest.Frame(append(bytes.Clone(f.Bytes()), b...))
	g.In, g.Offload = f.In, f.Offload
	return g
}

// arpWith returns a changed ARP request for a VIP.
func arpWith(how func(b []byte)) wire.Frame {
	f := wiretest.ARP(1, wiretest.ClientMAC, "10.1.0.2", wire.MAC{}, "10.9.0.1")
	how(f.Bytes())
	return f
}

// truncated returns a frame without its last n bytes.
func truncated(f wire.Frame, n int32) wire.Frame { f.End -= n; return f }

// fixIPChecksum makes the IPv4 header checksum right again.
func fixIPChecksum(f *wire.Frame) { wire.IPv4(f.Bytes()[wire.EthernetLen:]).FillChecksum() }

func unusualFrames() []unusualFrame {
	udp := datagram // shorter, for many rows
	sctp := func(src, dst string) wiretest.Packet { return chunk(src, dst, wire.ChunkInit) }
	with := func(p wiretest.Packet, how func(*wiretest.Packet)) wire.Frame { how(&p); return in(0, p) }
	rows := []unusualFrame{
		{
			"SCTP is translated with a right CRC32c", conntrack.MethodNAT, 0, in(0, sctp(from, to)), ForwardedMasq,
			toServer + "10.1.0.2>10.2.0.11 ttl 63 sctp 5000>8080",
		},
		{
			"over IPv6 too", conntrack.MethodNAT, 0, in(0, sctp(from6, to6)), ForwardedMasq,
			toServer + "fd00:1::2>fd00:2::11 ttl 63 sctp 5000>8080",
		},
		{"a CRC32c that was left to a device is made", conntrack.MethodNAT, 0, modified(sctp(from, to), func(
			f *wire.Frame,
		) {
			clear(f.Bytes()[42:46])
			f.Offload = wire.Offload{Flags: wire.OffloadNeedsCsum, CsumStart: 34, CsumOffset: 8}
		}), ForwardedMasq, toServer + "10.1.0.2>10.2.0.11 ttl 63 sctp 5000>8080"},
		{
			"SCTP through a tunnel is not touched", conntrack.MethodTunnel, 0, in(0, sctp(from, to)), ForwardedTunnel,
			toServer + "10.2.0.1>10.2.0.11 ttl 63 10.1.0.2>10.9.0.1 ttl 63 sctp 5000>80",
		},
		{
			"SCTP without a conn is aborted, as the host would", conntrack.MethodNAT, 0,
			in(0, chunk(from, to, 0)), RefusedNoConn, toClient + "10.9.0.1>10.1.0.2 ttl 64 sctp 80>5000 abort",
		},
		{
			"the end of an association that both ends have left is confirmed", conntrack.MethodNAT, 0,
			in(0, chunk(from6, to6, wire.ChunkShutdownAck)), RefusedNoConn,
			toClient + "fd00:9::1>fd00:1::2 ttl 64 sctp 80>5000",
		},
		{
			"an ABORT is not answered", conntrack.MethodNAT, 0,
			in(0, chunk(from, to, wire.ChunkAbort)), DroppedUnanswered, "",
		},
		{
			"SCTP to a port without a service is aborted", conntrack.MethodDR, 0,
			in(0, sctp(from, "10.9.0.1:81")), RefusedNoService,
			toClient + "10.9.0.1>10.1.0.2 ttl 64 sctp 81>5000 abort",
		},
		{
			"or the host's, if it holds the VIP", conntrack.MethodDR, 0,
			in(0, sctp(from, "10.9.0.2:81")), NotOurs, "",
		},

		{
			"UDP without a checksum gets a whole one by NAT", conntrack.MethodNAT, 0, with(
				udp(from, to), func(p *wiretest.Packet) { p.NoChecksum = true },
			),
			ForwardedMasq, toServer + "10.1.0.2>10.2.0.11 ttl 63 udp 5000>8080",
		},
		{
			"and stays without one otherwise", conntrack.MethodDR, 0, with(
				udp(from, to), func(p *wiretest.Packet) { p.NoChecksum = true },
			),
			ForwardedRoute, toServer + "10.1.0.2>10.9.0.1 ttl 63 udp 5000>80",
		},
		{
			"over IPv6 none is illegal, and NAT must not make it look verified", conntrack.MethodNAT, 0,
			with(udp(from6, to6), func(p *wiretest.Packet) { p.NoChecksum = true }), DroppedUDP6NoChecksum, "",
		},

		{
			"IPv4 options stay, whatever they are", conntrack.MethodNAT, 0, with(
				udp(from, to), func(p *wiretest.Packet) { p.Options = []byte{148, 4, 0, 0, 1, 1, 1, 0} },
			),
			ForwardedMasq, toServer + "10.1.0.2>10.2.0.11 ttl 63 udp 5000>8080",
		},
		{
			"in a tunnel they stay inside", conntrack.MethodTunnel, 0, with(
				udp(from, to), func(p *wiretest.Packet) { p.Options = []byte{148, 4, 0, 0} },
			),
			ForwardedTunnel, toServer + "10.2.0.1>10.2.0.11 ttl 63 10.1.0.2>10.9.0.1 ttl 63 udp 5000>80",
		},
		{
			"a loose source route is refused", conntrack.MethodDR, 0, with(
				udp(from, to), func(p *wiretest.Packet) { p.Options = []byte{131, 7, 4, 192, 0, 2, 1, 0} },
			),
			DroppedSourceRoute, "",
		},
		{
			"a strict one too, behind another option", conntrack.MethodDR, 0, with(
				udp(from, to), func(p *wiretest.Packet) { p.Options = []byte{148, 4, 0, 0, 1, 137, 3, 4} },
			),
			DroppedSourceRoute, "",
		},
		{
			"an option longer than the header is refused", conntrack.MethodDR, 0, with(
				udp(from, to), func(p *wiretest.Packet) { p.Options = []byte{7, 5, 4, 0} },
			),
			DroppedBadIPOption, "",
		},
		{
			"an option without a length too", conntrack.MethodDR, 0, with(
				udp(from, to), func(p *wiretest.Packet) { p.Options = []byte{1, 1, 1, 7} },
			),
			DroppedBadIPOption, "",
		},

		{
			"IPv6 extension headers are walked and stay", conntrack.MethodNAT, 0,
			with(udp(from6, to6), func(p *wiretest.Packet) {
				p.Extension, p.Extensions = wire.ProtoDestOptions, []byte{wire.ProtoUDP, 0, 1, 4, 0, 0, 0, 0}
			}), ForwardedMasq, toServer + "fd00:1::2>fd00:2::11 ttl 63 udp 5000>8080",
		},
		{
			"but no more than eight of them", conntrack.MethodNAT, 0,
			with(udp(from6, to6), func(p *wiretest.Packet) {
				p.Extension = wire.ProtoDestOptions
				for range 8 {
					p.Extensions = append(p.Extensions, wire.ProtoDestOptions, 0, 1, 4, 0, 0, 0, 0)
				}
				p.Extensions = append(p.Extensions, wire.ProtoUDP, 0, 1, 4, 0, 0, 0, 0)
			}), DroppedManyExtensions, "",
		},
		{
			"one that ends behind the packet is refused", conntrack.MethodNAT, 0,
			with(udp(from6, to6), func(p *wiretest.Packet) {
				p.Extension, p.Extensions = wire.ProtoDestOptions, []byte{wire.ProtoUDP, 9, 1, 4, 0, 0, 0, 0}
			}), DroppedBadExtension, "",
		},
		{
			"a routing header with hosts yet to visit is a source route", conntrack.MethodDR, 0,
			with(udp(from6, to6), func(p *wiretest.Packet) {
				p.Extension, p.Extensions = wire.ProtoRouting, append(
					[]byte{wire.ProtoUDP, 2, 0, 1, 0, 0, 0, 0}, make([]byte, 16)...,
				)
			}), DroppedSourceRoute, "",
		},
		{
			"one that has led here is not", conntrack.MethodDR, 0,
			with(udp(from6, to6), func(p *wiretest.Packet) {
				p.Extension, p.Extensions = wire.ProtoRouting, append(
					[]byte{wire.ProtoUDP, 2, 0, 0, 0, 0, 0, 0}, make([]byte, 16)...,
				)
			}), ForwardedRoute, toServer + "fd00:1::2>fd00:9::1 ttl 63 udp 5000>80",
		},

		{
			"TTL 1 ends here", conntrack.MethodDR, 0, with(udp(from, to), func(p *wiretest.Packet) { p.TTL = 1 }),
			AnsweredTTLExceeded, "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp TimeExceeded(TTLExceeded)",
		},
		{
			"TTL 0 too", conntrack.MethodDR, 0, modified(
				udp(from, to), func(f *wire.Frame) { f.Bytes()[22] = 0; fixIPChecksum(f) },
			),
			AnsweredTTLExceeded, "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp TimeExceeded(TTLExceeded)",
		},
		{
			"and hop limit 1", conntrack.MethodTunnel, 0, with(udp(from6, to6), func(p *wiretest.Packet) { p.TTL = 1 }),
			AnsweredTTLExceeded, "0 02:00:00:00:00:0c: fd00:9::1>fd00:1::2 ttl 64 icmp6 TimeExceeded(HopLimitExceeded)",
		},
		{
			"TTL 2 goes on, as 1", conntrack.MethodDR, 0, with(
				udp(from, to), func(p *wiretest.Packet) { p.TTL = 2 },
			),
			ForwardedRoute, toServer + "10.1.0.2>10.9.0.1 ttl 1 udp 5000>80",
		},

		{
			"an IPv4-mapped address is never on the wire", conntrack.MethodNAT, 0,
			modified(udp(from6, to6), func(f *wire.Frame) { copy(f.Bytes()[22:38], mapped4("10.1.0.2")) }),
			DroppedMappedAddress, "",
		},
		{
			"nor as a destination", conntrack.MethodNAT, 0,
			modified(udp(from6, to6), func(f *wire.Frame) { copy(f.Bytes()[38:54], mapped4("10.9.0.1")) }),
			DroppedMappedAddress, "",
		},

		{
			"a frame shorter than its IPv4 header says", conntrack.MethodNAT, 0,
			modified(udp(from, to), func(f *wire.Frame) { f.End-- }), DroppedBadIPLength, "",
		},
		{
			"a frame shorter than its IPv6 header says", conntrack.MethodNAT, 0,
			modified(udp(from6, to6), func(f *wire.Frame) { f.End-- }), DroppedBadIPLength, "",
		},
		{
			"a frame that ends in its IPv4 header", conntrack.MethodNAT, 0,
			modified(udp(from, to), func(f *wire.Frame) { f.End = f.Off + 30 }), DroppedBadIPLength, "",
		},
		{
			"a frame that ends in its Ethernet header", conntrack.MethodNAT, 0,
			modified(udp(from, to), func(f *wire.Frame) { f.End = f.Off + 13 }), DroppedRunt, "",
		},
		{
			"a packet that ends in its TCP header", conntrack.MethodNAT, 0,
			modified(syn(from, to), func(f *wire.Frame) { f.End = f.Off + 50; f.Bytes()[17] = 36; fixIPChecksum(f) }),
			DroppedBadTransport, "",
		},
		{
			"a TCP header longer than its packet", conntrack.MethodNAT, 0,
			modified(syn(from, to), func(f *wire.Frame) { f.Bytes()[46] = 0xf0 }), DroppedBadTransportLength, "",
		},
		{
			"a datagram longer than its packet", conntrack.MethodNAT, 0,
			modified(udp(from, to), func(f *wire.Frame) { f.Bytes()[39]++ }), DroppedBadTransportLength, "",
		},
		{
			"version 5", conntrack.MethodNAT, 0,
			modified(udp(from, to), func(f *wire.Frame) { f.Bytes()[14] = 0x55; fixIPChecksum(f) }), DroppedBadIPHeader,
			"",
		},
		{
			"an IPv4 header with a bit wrong", conntrack.MethodNAT, 0,
			modified(udp(from, to), func(f *wire.Frame) { f.Bytes()[24] ^= 4 }), DroppedBadIPChecksum, "",
		},

		{
			"what Ethernet pads a short frame with does not leave", conntrack.MethodNAT, 0, withTail(
				in(0, syn(from, to)), 0xee, 0xee, 0xee, 0xee, 0xee, 0xee,
			),
			ForwardedMasq, toServer + "10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
		{
			"nor in a tunnel", conntrack.MethodTunnel, 0, withTail(
				in(0, syn(from, to)), 0xee, 0xee, 0xee, 0xee, 0xee, 0xee,
			),
			ForwardedTunnel, toServer + "10.2.0.1>10.2.0.11 ttl 63 10.1.0.2>10.9.0.1 ttl 63 tcp 5000>80",
		},
		{
			"nor is it answered with", conntrack.MethodNAT, 0,
			withTail(
				in(0, wiretest.Packet{Src: "10.1.0.2", Dst: "10.9.0.1", Proto: wire.ProtoICMP, ICMPType: 8}),
				bytes.Repeat([]byte{0xee}, 18)...,
			),
			AnsweredEcho, "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp EchoReply",
		},

		{
			"a VIP in a broadcast frame is nobody's", conntrack.MethodNAT, 0,
			with(syn(from, to), func(p *wiretest.Packet) { p.DstMAC = wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }),
			NotOursLinkGroup, "",
		},
		{
			"nor in a multicast one", conntrack.MethodNAT, 0,
			with(syn(from, to), func(p *wiretest.Packet) { p.DstMAC = wire.MAC{1, 0, 0x5e, 1, 2, 3} }),
			NotOursLinkGroup, "",
		},
		{
			"multicast is the host's", conntrack.MethodNAT, 0,
			with(
				udp(from, "224.0.0.251:5353"), func(p *wiretest.Packet) { p.DstMAC = wire.MAC{1, 0, 0x5e, 0, 0, 0xfb} },
			),
			NotOursLinkGroup, "",
		},
		{"also in a frame to us alone", conntrack.MethodNAT, 0, in(0, udp(from, "224.0.0.251:5353")), NotOurs, ""},
		{"broadcast too", conntrack.MethodNAT, 0, in(0, udp(from, "255.255.255.255:67")), NotOurs, ""},
		{
			"a frame to another machine is that machine's", conntrack.MethodNAT, 0,
			with(syn(from, to), func(p *wiretest.Packet) { p.DstMAC = gwMAC }), NotOursOtherHost, "",
		},
		{
			"our own frame, come back to us", conntrack.MethodNAT, 0,
			with(syn(from, to), func(p *wiretest.Packet) { p.SrcMAC, p.DstMAC = portMAC[0], gwMAC }),
			DroppedSourceMACOwn, "",
		},
		{
			"a frame from us to us", conntrack.MethodNAT, 0,
			with(syn(from, to), func(p *wiretest.Packet) { p.SrcMAC = portMAC[0] }), DroppedSourceMACOwn, "",
		},
		{
			"a ping from us to us", conntrack.MethodNAT, 0,
			in(0, wiretest.Packet{
				SrcMAC: portMAC[0], Src: "10.1.0.2", Dst: "10.9.0.1", Proto: wire.ProtoICMP, ICMPType: 8,
			}), DroppedSourceMACOwn, "",
		},
		{
			"ARP that is not for IPv4", conntrack.MethodNAT, 0, arpWith(func(b []byte) { b[16] = 0x86 }),
			DroppedBadARP, "",
		},
		{"ARP that ends too soon", conntrack.MethodNAT, 0, truncated(arpWith(func([]byte) {}), 20), DroppedBadARP, ""},
		{
			"who-has from us", conntrack.MethodNAT, 0, wiretest.ARP(1, portMAC[0], "10.1.0.1", wire.MAC{}, "10.9.0.1"),
			DroppedSourceMACOwn, "",
		},
		{
			"a solicitation from us", conntrack.MethodNAT, 0,
			wiretest.Solicitation(portMAC[0], "fd00:1::1", "fd00:9::1"), DroppedSourceMACOwn, "",
		},
		{
			"a frame from a group of machines", conntrack.MethodNAT, 0,
			with(syn(from, to), func(p *wiretest.Packet) { p.SrcMAC = wire.MAC{3, 0, 0, 0, 0, 0xc} }),
			DroppedSourceMACGroup, "",
		},
		{
			"is not refused either", conntrack.MethodNAT, 0,
			with(syn(from, "10.9.0.1:81"), func(p *wiretest.Packet) { p.SrcMAC = wire.MAC{3, 0, 0, 0, 0, 0xc} }),
			DroppedSourceMACGroup, "",
		},

		{
			"a reply hidden from the host is not routed to loopback", conntrack.MethodNAT, 1,
			in(1, udp("10.2.0.11:8080", "127.0.0.1:5000")), DroppedBadDestination, "",
		},
		{
			"nor to a group", conntrack.MethodNAT, 1, in(1, udp("10.2.0.11:8080", "224.0.0.9:5000")),
			DroppedBadDestination, "",
		},
		{
			"nor to everybody", conntrack.MethodNAT, 1, in(1, udp("10.2.0.11:8080", "255.255.255.255:5000")),
			DroppedBadDestination, "",
		},
		{
			"nor to a link-local address", conntrack.MethodNAT, 1, in(1, udp("[fd00:2::11]:8080", "[fe80::1]:5000")),
			DroppedBadDestination, "",
		},

		{
			"ESP without a flow of IKE goes nowhere", conntrack.MethodNAT, 0,
			in(0, wiretest.Packet{Src: "10.1.0.2", Dst: "10.9.0.1", Proto: wire.ProtoESP, Payload: make([]byte, 40)}),
			DroppedIPsecNoConn, "",
		},
		{
			"also where the host holds the VIP but IKE is a service", conntrack.MethodNAT, 0,
			in(0, wiretest.Packet{Src: "10.1.0.2", Dst: "10.9.0.2", Proto: wire.ProtoAH, Payload: make([]byte, 40)}),
			DroppedIPsecNoConn, "",
		},
		{
			"where IKE is none, it is the host's", conntrack.MethodNAT, 0,
			in(0, wiretest.Packet{Src: "fd00:1::2", Dst: "fd00:9::2", Proto: wire.ProtoESP, Payload: make([]byte, 40)}),
			NotOurs, "",
		},
	}
	for _, s := range []struct {
		sentence, src string
		verdict       Verdict
	}{
		{"the VIP and port itself (a land attack)", to, DroppedSourceVIP},
		{"another VIP", "10.9.0.2:80", DroppedSourceVIP},
		{"an IPv6 VIP to itself", to6, DroppedSourceVIP},
		{"loopback", "127.0.0.1:5000", DroppedSourceLoopback},
		{"the end of loopback's net", "127.255.255.254:5000", DroppedSourceLoopback},
		{"IPv6 loopback", "[::1]:5000", DroppedSourceLoopback},
		{"no address", "0.0.0.0:5000", DroppedSourceUnspecified},
		{"this net", "0.1.2.3:5000", DroppedSourceUnspecified},
		{"no IPv6 address", "[::]:5000", DroppedSourceUnspecified},
		{"a multicast group", "224.0.0.5:5000", DroppedSourceGroup},
		{"the last multicast group", "239.255.255.255:5000", DroppedSourceGroup},
		{"an IPv6 multicast group", "[ff02::5]:5000", DroppedSourceGroup},
		{"everybody", "255.255.255.255:5000", DroppedSourceGroup},
		{"a reserved net", "240.0.0.1:5000", DroppedSourceReserved},
		{"the end of it", "255.255.255.254:5000", DroppedSourceReserved},
		{"an IPv6 link-local address", "[fe80::1]:5000", DroppedSourceLinkLocal},
	} {
		dst := to
		if s.src[0] == '[' {
			dst = to6
		}
		for _, p := range []wiretest.Packet{syn(s.src, dst), udp(s.src, dst)} {
			rows = append(rows, unusualFrame{"from " + s.sentence, conntrack.MethodNAT, 0, in(0, p), s.verdict, ""})
		}
		nobody := dst[:len(dst)-1] + "1"
		rows = append(rows, unusualFrame{
			"to no service from " + s.sentence, conntrack.MethodDR, 0, in(0, syn(s.src, nobody)), s.verdict, "",
		})
	}
	return rows
}

func mapped4(s string) []byte { a := addr(s); return a[:] }

// The rules of docs/packets.md for single frames, each with its counter and what
// leaves. Nothing that is dropped or left to the host begins a conn.
func TestUnusualFrames(t *testing.T) {
	for _, r := range unusualFrames() {
		t.Run(r.sentence, func(t *testing.T) {
			w := unusualTestbed(t, r.method)
			w.now += 1000
			f := r.frame
			if v := w.process(&f); v != r.verdict {
				t.Errorf("verdict %s, want %s", v, r.verdict)
			}
			if out := w.format(f); out != r.out {
				t.Errorf("out\n%s, want\n%s", out, r.out)
			}
			if n := w.conns.Stats().Inserted; n != 0 && r.out == "" && r.verdict != DroppedUDP6NoChecksum {
				t.Errorf("%d conns", n)
			}
		})
	}
}

// Options leave as they came, also in a tunnel, whose own header has none.
func TestOptionsStay(t *testing.T) {
	options := []byte{148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0}
	for _, method := range []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel} {
		w := unusualTestbed(t, method)
		f := in(
			0, wiretest.Packet{Src: from, Dst: to, Proto: wire.ProtoUDP, Options: options, Payload: []byte("hello")},
		)
		w.process(&f)
		var inner *layers.IPv4
		for _, l := range wiretest.Decode(t, f).Layers() {
			if ip, ok := l.(*layers.IPv4); ok {
				inner = ip
			}
		}
		if inner == nil || !bytes.Equal(inner.Contents[20:], options) {
			t.Errorf("method %d: options %x, want %x", method, inner.Contents[20:], options)
		}
	}
}

// If the frames of a known flow suddenly seem to come from ourselves, or from a group,
// replies are not sent there.
func TestReturnHopIsNoLoop(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	ack := wiretest.Packet{Src: from, Dst: to, TCPFlags: wire.TCPAck}
	own, group := ack, ack
	own.SrcMAC, group.SrcMAC = portMAC[0], wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	reply := wiretest.Packet{SrcMAC: serverMAC[0], Src: "10.2.0.11:8080", Dst: from, TCPFlags: wire.TCPAck}
	back := "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 63 tcp 80>5000"
	converse(t, w, []step{
		{"the client calls", 0, syn(from, to), ForwardedMasq, toServer + "10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080"},
		{"a frame from our own address", 0, own, DroppedSourceMACOwn, ""},
		{"a frame from everybody", 0, group, DroppedSourceMACGroup, ""},
		{"the reply goes to the client", 1, reply, ReturnedMasq, back},
		{"as before", 0, ack, ForwardedMasq, toServer + "10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080"},
	})
	if got := w.table.server(1).Counters.Totals(); got.InPkts != 2 {
		t.Errorf("the server counted %d packets, want 2: not the dropped ones", got.InPkts)
	}
}
