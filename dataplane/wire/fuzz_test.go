package wire_test

import (
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// seeds are frames of every kind, the seed corpus of all fuzz targets here.
func seeds() []wire.Frame {
	frames := []wire.Frame{
		tcp4.Frame(), tcp6.Frame(), udp4.Frame(), udp6.Frame(), sctp4.Frame(), echo4.Frame(), echo6.Frame(),
		third4.Frame(),
		change(tcp4, func(p *wiretest.Packet) { p.VLANs = []uint16{5, 6} }),
		change(tcp4, func(p *wiretest.Packet) { p.Options = []byte{0x82, 3, 4, 7, 7, 4, 0, 0, 0, 0, 0, 0} }),
		withExtensions(0, "2b00000000000000 3c01000000000000 0000000000000000 1100000000000000"),
		withExtensions(44, "1100000100000007"), withExtensions(44, "1100000800000007"),
		icmpError(wire.ICMPUnreachable, tcp4.Frame(), 28), icmpError(wire.ICMPv6TooBig, tcp6.Frame(), 60),
		wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, "10.0.0.1", wire.MAC{}, "10.0.0.2"),
		wiretest.Solicitation(wiretest.ClientMAC, "fe80::1", "2001:db8::1"),
	}
	for kind := range tunnels {
		f := udp4.Frame()
		encap(&f, kind)
		frames = append(frames, f)
	}
	return frames
}

// offsetsInside reports whether the offsets and lengths of p lie within f.
func offsetsInside(f *wire.Frame, p *wire.Packet) bool {
	switch p.Kind {
	case wire.KindARP:
		return int(p.L3)+wire.ARPLen <= f.Len()
	case wire.KindIP:
		end := int(p.L3) + int(p.Len)
		return end <= f.Len() && (p.Fragment == wire.FragmentLater && p.L4 == 0 || p.L4 > p.L3 && int(p.L4) <= end)
	}
	return true
}

// FuzzParse: Parse accepts any bytes, its offsets stay inside the frame, and gopacket
// decodes the same addresses and ports.
func FuzzParse(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s.Bytes(), uint8(wire.GSONone))
		f.Add(s.Bytes(), uint8(wire.GSOTCPv4))
	}
	f.Fuzz(func(t *testing.T, b []byte, gso uint8) {
		frame := wiretest.Frame(b)
		frame.Offload.GSOType = gso
		var p wire.Packet
		wire.Parse(&frame, &p)
		if !offsetsInside(&frame, &p) {
			t.Fatalf("outside of the frame of %d bytes: %+v", frame.Len(), p)
		}
		if (p.Kind == wire.KindBad) != (p.Flaw != wire.FlawNone) {
			t.Fatalf("kind %d with flaw %d", p.Kind, p.Flaw)
		}
		if p.Kind == wire.KindIP && !frame.IsGSO() {
			compareWithGopacket(t, &frame, &p)
		}
	})
}

// compareWithGopacket compares p with gopacket's result, as far as gopacket decodes.
func compareWithGopacket(t *testing.T, f *wire.Frame, p *wire.Packet) {
	t.Helper()
	d := gopacket.NewPacket(f.Bytes(), layers.LayerTypeEthernet, gopacket.Default)
	if d.NetworkLayer() == nil {
		t.Fatalf("gopacket sees no IP: %v", d)
	}
	flow := d.NetworkLayer().NetworkFlow()
	if src, dst := ipBytes(p.Src, p.IPv6), ipBytes(p.Dst, p.IPv6); string(flow.Src().Raw()) != src ||
		string(flow.Dst().Raw()) != dst {
		t.Fatalf("addresses %v, gopacket %v", net.IP(src), flow)
	}
	// gopacket stops at a fragment header, even at that of a whole packet, and at
	// faults in options.
	if d.Layer(gopacket.LayerTypeFragment) != nil || p.Fragment != wire.FragmentNone ||
		d.ErrorLayer() != nil && d.TransportLayer() == nil {
		return
	}
	switch l := d.TransportLayer().(type) {
	case *layers.TCP:
		if p.Proto != wire.ProtoTCP && !tunnelled(p) ||
			p.Proto == wire.ProtoTCP &&
				(p.SrcPort != uint16(l.SrcPort) || p.DstPort != uint16(l.DstPort) || p.TCPFlags != l.Contents[13]) {
			t.Fatalf("%+v\ngopacket %+v", p, l)
		}
	case *layers.UDP:
		if p.Proto != wire.ProtoUDP && !tunnelled(p) ||
			p.Proto == wire.ProtoUDP && (p.SrcPort != uint16(l.SrcPort) || p.DstPort != uint16(l.DstPort)) {
			t.Fatalf("%+v\ngopacket %+v", p, l)
		}
	case nil:
		if p.Proto == wire.ProtoTCP || p.Proto == wire.ProtoUDP {
			t.Fatalf("%+v\ngopacket sees no transport: %v", p, d)
		}
	}
}

// tunnelled reports whether gopacket may have decoded an inner packet, which Parse does not.
func tunnelled(p *wire.Packet) bool { return p.SrcPort == 0 && p.DstPort == 0 }

func ipBytes(a wire.Addr, ipv6 bool) string {
	if ipv6 {
		return string(a[:])
	}
	b := a.As4()
	return string(b[:])
}

// FuzzParseQuoted: a quoted packet lies inside the frame, and its ports are those at
// its offset.
func FuzzParseQuoted(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame := wiretest.Frame(b)
		var p, in wire.Packet
		wire.Parse(&frame, &p)
		if !wire.ParseQuoted(&frame, &p, &in) {
			return
		}
		if p.Kind != wire.KindIP || in.Kind != wire.KindIP || !offsetsInside(&frame, &in) || in.L3 != p.L4+8 {
			t.Fatalf("quoted %+v\nin %+v\nin a frame of %d bytes", in, p, frame.Len())
		}
		if in.Proto == wire.ProtoTCP || in.Proto == wire.ProtoUDP {
			ports := frame.From(in.L4)
			if len(ports) < 8 || in.SrcPort != wire.UDP(ports).SrcPort() || in.DstPort != wire.UDP(ports).DstPort() {
				t.Fatalf("ports %d and %d are not those at %d", in.SrcPort, in.DstPort, in.L4)
			}
		}
	})
}

// FuzzRewriteAndSplit: checksum functions and Split do not panic, whatever a frame and
// its Offload hold. No result of Split is longer than the MTU.
func FuzzRewriteAndSplit(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s.Bytes(), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0), uint16(50), uint8(0))
		f.Add(s.Bytes(), uint8(1), uint8(1), uint16(10), uint16(34), uint16(16), uint16(100), uint8(20))
		f.Add(s.Bytes(), uint8(1), uint8(5), uint16(3), uint16(54), uint16(6), uint16(200), uint8(40))
	}
	s := wire.NewSplitter()
	f.Fuzz(func(t *testing.T, b []byte, flags, gso uint8, size, start, offset, mtu uint16, outer uint8) {
		frame := wiretest.Frame(b)
		frame.Offload = wire.Offload{Flags: flags, GSOType: gso, GSOSize: size, CsumStart: start, CsumOffset: offset}
		var p wire.Packet
		wire.Parse(&frame, &p)
		if p.Kind == wire.KindIP {
			wire.VerifyChecksum(&frame, &p)
			wire.ChecksumDelta{}.Addr(p.Src, p.Dst).Port(1, 2).Apply(&frame, &p)
			wire.FillChecksum(&frame, &p)
			if x, ok := wire.ParseFragment(&frame, &p); ok && (x.Start >= x.End || x.End > 0xffff) {
				t.Fatalf("fragment %+v", x)
			}
			frame.MTU, frame.TunnelLen = mtu, outer
		}
		s.Reset()
		parts, ok := s.Split(&frame)
		if !ok {
			return
		}
		for i := range parts {
			if part := &parts[i]; mtu != 0 && p.Kind == wire.KindIP && part.Len()-int(p.L3) > int(mtu) {
				t.Fatalf("part %d has %d bytes behind its link header, MTU %d", i, part.Len()-int(p.L3), mtu)
			}
		}
		wire.FinishChecksum(&frame)
	})
}

// TestSeedsAreParsed: the seeds of the fuzz targets are valid frames.
func TestSeedsAreParsed(t *testing.T) {
	var kinds [4]int
	for _, s := range seeds() {
		var p wire.Packet
		wire.Parse(&s, &p)
		kinds[p.Kind]++
	}
	if kinds[wire.KindBad] != 0 || kinds[wire.KindOther] != 0 || kinds[wire.KindIP] < 20 {
		t.Errorf("seeds by kind: %v, want only KindARP and KindIP", kinds)
	}
}
