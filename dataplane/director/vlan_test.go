package director

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// vlanTestbed returns a testbed whose port 0 is a trunk; its VLANs 7 and 8 are ports
// too. On VLAN 8 there is a server, 10.8.0.11, of the VIP 10.9.0.8; the client's VLAN
// is 7.
func vlanTestbed(t testing.TB, method conntrack.Method) *testbed {
	w := newTestbed(t, method)
	h := testHostNet()
	for i, vlan := range []uint16{7, 8} {
		h.Ports = append(h.Ports, Port{
			Name: "vlan", Index: 2, MAC: portMAC[0], MTU: 1500, Trunk: 0, VLAN: vlan, Forwards4: true,
			Addr4: netip.AddrFrom4([4]byte{10, byte(vlan), 0, 1}),
		})
		h.Routes.Insert(
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(vlan), 0, 0}), 24), Route{Port: uint16(2 + i)},
		)
	}
	h.Neighbours[NeighbourKey{3, addr("10.8.0.11")}] = serverMAC[0]
	w.table.FIB = NewFIB(h)
	w.table.VIPs.Set(addr("10.9.0.8"), VIP{DirectorOnly: true})
	w.table.VIPs.Set(addr("10.8.0.1"), VIP{DirectorOnly: true})
	for _, proto := range []uint8{wire.ProtoTCP, wire.ProtoUDP} {
		w.service(method, proto, "10.9.0.8", "10.8.0.11")
	}
	return w
}

// A VLAN of a trunk is a port. What comes in by one leaves by the other with its tag,
// by every method, and comes back with the tag of the first. The host's default route,
// which does not cover VLANs, plays no part.
func TestVLANPorts(t *testing.T) {
	for _, r := range []struct {
		method  conntrack.Method
		verdict Verdict
		out     string
	}{
		{conntrack.MethodNAT, ForwardedMasq, "192.0.2.9>10.8.0.11 ttl 63 tcp 5000>8080"},
		{conntrack.MethodDR, ForwardedRoute, "192.0.2.9>10.9.0.8 ttl 63 tcp 5000>80"},
		{conntrack.MethodTunnel, ForwardedTunnel, "10.8.0.1>10.8.0.11 ttl 63 192.0.2.9>10.9.0.8 ttl 63 tcp 5000>80"},
	} {
		w := vlanTestbed(t, r.method)
		call := syn("192.0.2.9:5000", "10.9.0.8:80")
		call.VLANs = []uint16{0xe007} // of priority 7
		converse(t, w, []step{{"the call", 0, call, r.verdict, "0 02:00:00:00:01:01: vlan 8 " + r.out}})
		if r.method != conntrack.MethodNAT {
			continue
		}
		converse(t, w, []step{
			{
				"the reply", 0,
				wiretest.Packet{
					VLANs: []uint16{8}, SrcMAC: serverMAC[0], Src: "10.8.0.11:8080", Dst: "192.0.2.9:5000",
					TCPFlags: wire.TCPSyn | wire.TCPAck,
				},
				ReturnedMasq, "0 02:00:00:00:00:0c: vlan 7 10.9.0.8>192.0.2.9 ttl 63 tcp 80>5000",
			},
			{
				"an error about the call", 0,
				wiretest.Packet{
					VLANs: []uint16{8}, SrcMAC: serverMAC[0], Src: "10.8.0.11", Dst: "192.0.2.9", Proto: wire.ProtoICMP,
					ICMPType: 3, ICMPCode: 1,
					Payload: wiretest.Quote(
						wiretest.Packet{Src: "192.0.2.9:5000", Dst: "10.8.0.11:8080", TCPFlags: wire.TCPAck}.Frame(),
						28,
					),
				},
				ICMPErrorToClient,
				"0 02:00:00:00:00:0c: vlan 7 10.9.0.8>192.0.2.9 ttl 63 icmp DestinationUnreachable(Host)",
			},
		})
	}
}

// The server is in no VLAN and the client in one, and the reverse.
func TestVLANOnOneSide(t *testing.T) {
	w := vlanTestbed(t, conntrack.MethodNAT)
	call := syn("10.7.0.2:5000", "10.9.0.1:80")
	call.VLANs = []uint16{7}
	converse(t, w, []step{
		{
			"from a VLAN to a server in none", 0, call, ForwardedMasq,
			"1 02:00:00:00:01:01: 10.7.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
		{
			"and back", 1,
			wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.7.0.2:5000", TCPFlags: wire.TCPAck},
			ReturnedMasq, "0 02:00:00:00:00:0c: vlan 7 10.9.0.1>10.7.0.2 ttl 63 tcp 80>5000",
		},
		{
			"from none to a server in one", 0, syn("10.1.0.2:5000", "10.9.0.8:80"), ForwardedMasq,
			"0 02:00:00:00:01:01: vlan 8 10.1.0.2>10.8.0.11 ttl 63 tcp 5000>8080",
		},
		{
			"and back", 0,
			wiretest.Packet{VLANs: []uint16{8}, Src: "10.8.0.11:8080", Dst: "10.1.0.2:5000", TCPFlags: wire.TCPAck},
			ReturnedMasq, "0 02:00:00:00:00:0c: 10.9.0.8>10.1.0.2 ttl 63 tcp 80>5000",
		},
	})
}

// One tagged frame: who gets it, and how it is answered.
func TestTaggedFrames(t *testing.T) {
	tagged := func(p wiretest.Packet, tags ...uint16) wire.Frame { p.VLANs = tags; return in(0, p) }
	arp := func(target string, tags ...uint16) wire.Frame {
		f := wiretest.ARP(1, wiretest.ClientMAC, "10.7.0.2", wire.MAC{}, target)
		for _, tag := range tags {
			wire.PushVLAN(&f, wire.EtherTypeVLAN, tag)
		}
		return f
	}
	ping := wiretest.Packet{Src: "10.8.0.11", Dst: "10.8.0.1", Proto: wire.ProtoICMP, ICMPType: 8}
	partial := syn(from, to)
	partial.PartialChecksum = true
	solicitation := wiretest.Solicitation(wiretest.ClientMAC, "fd00:1::2", "fd00:9::1")
	wire.PushVLAN(&solicitation, wire.EtherTypeVLAN, 7)
	for _, r := range []struct {
		sentence string
		keep     bool // keep_tags
		frame    wire.Frame
		verdict  Verdict
		out      string
	}{
		{"a VLAN that is no port is the host's", false, tagged(syn(from, to), 9), NotOursVLAN, ""},
		{"ARP there too", false, arp("10.9.0.1", 9), NotOursVLAN, ""},
		{
			"with tags kept it is handled, and stays there", true, tagged(syn(from, to), 9), ForwardedMasq,
			"1 02:00:00:00:01:01: vlan 9 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
		{
			"ARP is answered there", true, arp("10.9.0.1", 9), AnsweredARP,
			"0 02:00:00:00:00:0c: vlan 9 arp 2 10.9.0.1 is-at 02:00:00:00:00:0d",
		},
		{"two tags are the host's", false, tagged(syn(from, to), 7, 9), NotOursVLAN, ""},
		{
			"with tags kept both stay", true, tagged(syn(from, to), 7, 9), ForwardedMasq,
			"1 02:00:00:00:01:01: vlan 7 vlan 9 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
		{
			"a priority tag is none", false, tagged(syn(from, to), 0xa000), ForwardedMasq,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
		{
			"nor with tags kept", true, tagged(syn(from, to), 0xa000), ForwardedMasq,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
		{
			"nor on ARP", false, arp("10.9.0.1", 0), AnsweredARP,
			"0 02:00:00:00:00:0c: arp 2 10.9.0.1 is-at 02:00:00:00:00:0d",
		},
		{
			"who-has in our VLAN is answered there", false, arp("10.9.0.1", 7), AnsweredARP,
			"0 02:00:00:00:00:0c: vlan 7 arp 2 10.9.0.1 is-at 02:00:00:00:00:0d",
		},
		{
			"also for our own address there", false, arp("10.8.0.1", 8), AnsweredARP,
			"0 02:00:00:00:00:0c: vlan 8 arp 2 10.8.0.1 is-at 02:00:00:00:00:0d",
		},
		{
			"so is a solicitation", false, solicitation, AnsweredND,
			"0 02:00:00:00:00:0c: vlan 7 fd00:9::1>fd00:1::2 ttl 255 icmp6 NeighborAdvertisement",
		},
		{
			"and a ping", false, tagged(ping, 8), AnsweredEcho,
			"0 02:00:00:00:00:0c: vlan 8 10.8.0.1>10.8.0.11 ttl 64 icmp EchoReply",
		},
		{
			"a reset goes where it was called for", false, tagged(syn(from, "10.9.0.1:81"), 7), RefusedNoService,
			"0 02:00:00:00:00:0c: vlan 7 10.9.0.1>10.1.0.2 ttl 64 tcp 81>5000 rst",
		},
		{
			"a partial checksum stays one", false, tagged(partial, 7), ForwardedMasq,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
		{
			"also in the VLAN it leaves by", false,
			tagged(wiretest.Packet{Src: from, Dst: "10.9.0.8:80", TCPFlags: wire.TCPSyn, PartialChecksum: true}, 7),
			ForwardedMasq,
			"0 02:00:00:00:01:01: vlan 8 10.1.0.2>10.8.0.11 ttl 63 tcp 5000>8080",
		},
		{
			"what is not IP there is the host's", false,
			wiretest.Frame(append(bytes.Repeat([]byte{2}, 12), 0x81, 0, 0, 7, 0x88, 0xcc, 0)), NotOurs, "",
		},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			w := vlanTestbed(t, conntrack.MethodNAT)
			w.table.Settings.KeepTags = r.keep
			f := r.frame
			if v := w.process(&f); v != r.verdict {
				t.Errorf("verdict %s, want %s", v, r.verdict)
			}
			if out := w.format(f); out != r.out {
				t.Errorf("out\n%s, want\n%s", out, r.out)
			}
		})
	}
}

// A frame without room for the tag is dropped and counted.
func TestNoRoomForATag(t *testing.T) {
	w := vlanTestbed(t, conntrack.MethodDR)
	f := in(0, syn(from, "10.9.0.8:80"))
	f.Buf, f.Off, f.End = f.Bytes(), 0, int32(f.Len())
	if v := w.process(&f); v != DroppedNoRoom || f.Out != wire.NoPort {
		t.Errorf("%s by port %d", v, f.Out)
	}
}

// Keep-alives to the ends of conns that timed out are tagged too.
func TestVLANKeepAlive(t *testing.T) {
	w := vlanTestbed(t, conntrack.MethodNAT)
	w.resetForgotten(5*conntrack.Second, conntrack.TCPEstablished)
	for _, flags := range []uint8{wire.TCPSyn, wire.TCPAck} {
		w.verdict(0, wiretest.Packet{VLANs: []uint16{7}, Src: "10.7.0.2:5000", Dst: "10.9.0.8:80", TCPFlags: flags})
	}
	keepAlives := w.advance(10 * conntrack.Second)
	if len(keepAlives) != 2 || keepAlives[0] != "0 02:00:00:00:00:0c: vlan 7 10.9.0.8>10.7.0.2 ttl 64 tcp 80>5000" ||
		keepAlives[1] != "0 02:00:00:00:01:01: vlan 8 10.7.0.2>10.8.0.11 ttl 64 tcp 5000>8080" {
		t.Errorf("keep-alives %q", keepAlives)
	}
}

// Tagged frames allocate nothing either.
func TestTaggedFramesDoNotAllocate(t *testing.T) {
	w := vlanTestbed(t, conntrack.MethodNAT)
	var frames []wire.Frame
	for _, tags := range [][]uint16{{7}, {8}, {9}, {0}, {7, 8}} {
		for _, p := range []wiretest.Packet{
			syn(from, to), syn(from, "10.9.0.8:80"), {Src: "10.8.0.11:8080", Dst: from, TCPFlags: wire.TCPAck},
		} {
			p.VLANs = tags
			frames = append(frames, in(0, p))
		}
	}
	batchDoesNotAllocate(t, w, conntrack.MethodNAT, "tagged", frames)
}

// Fragments of a VLAN leave by the server's VLAN, and so does one that came before the
// first.
func TestVLANFragments(t *testing.T) {
	piece := func(offset int, more bool) wire.Frame {
		return in(0, wiretest.Packet{
			VLANs: []uint16{7}, Src: "10.7.0.2:5000", Dst: "10.9.0.8:80", Proto: wire.ProtoUDP, ID: 9, MF: more,
			Offset: offset, Payload: make([]byte, 64),
		})
	}
	w := vlanTestbed(t, conntrack.MethodNAT)
	first, later := piece(0, true), piece(72, false)
	var out []string
	for _, f := range []*wire.Frame{&later, &first} {
		w.process(f)
		out = append(out, w.format(*f))
		for _, held := range w.dir.Originate() {
			out = append(out, w.format(held))
		}
	}
	want := []string{
		"", "0 02:00:00:00:01:01: vlan 8 10.7.0.2>10.8.0.11 ttl 63",
		"0 02:00:00:00:01:01: vlan 8 10.7.0.2>10.8.0.11 ttl 63",
	}
	if !slices.Equal(out, want) {
		t.Errorf("out\n%q, want\n%q", out, want)
	}
}
