package wire_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// Packets from which the tables below start.
var (
	tcp4 = wiretest.Packet{Src: "10.0.0.1:1234", Dst: "10.0.0.2:80", TCPFlags: wire.TCPSyn, Payload: []byte("hi")}
	tcp6 = wiretest.Packet{Src: "[2001:db8::1]:1234", Dst: "[2001:db8::2]:80", TCPFlags: wire.TCPAck}
	udp4 = wiretest.Packet{Src: "10.0.0.1:53", Dst: "10.0.0.2:5353", Proto: wire.ProtoUDP, Payload: []byte("hello")}
	udp6 = wiretest.Packet{
		Src: "[2001:db8::1]:53", Dst: "[2001:db8::2]:5353", Proto: wire.ProtoUDP,
		Payload: []byte("hello"),
	}
	sctp4 = wiretest.Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", Proto: wire.ProtoSCTP, Payload: make([]byte, 16)}
	echo4 = wiretest.Packet{
		Src: "10.0.0.1", Dst: "10.0.0.2", Proto: wire.ProtoICMP, ICMPType: wire.ICMPEcho,
		ICMPCode: 0,
	}
	echo6  = wiretest.Packet{Src: "::1", Dst: "::2", Proto: wire.ProtoICMPv6, ICMPType: wire.ICMPv6Echo}
	third4 = wiretest.Packet{
		Src: "10.0.0.1", Dst: "10.0.0.2", Proto: wire.ProtoUDP, Offset: 1480,
		Payload: []byte("later"),
	}
)

// mapped is 10.0.0.1 as an IPv4-mapped address.
var mapped = wire.AddrFrom4([]byte{10, 0, 0, 1})

// change returns the frame of a changed description.
func change(p wiretest.Packet, how func(*wiretest.Packet)) wire.Frame {
	how(&p)
	return p.Frame()
}

// editBytes returns the frame of a description with changed bytes.
func editBytes(p wiretest.Packet, how func(b []byte)) wire.Frame {
	f := p.Frame()
	how(f.Bytes())
	return f
}

// editHeader is editBytes with the IPv4 header checksum made right again.
func editHeader(p wiretest.Packet, how func(b []byte)) wire.Frame {
	return editBytes(p, func(b []byte) {
		how(b)
		wire.IPv4(b[14:]).FillChecksum()
	})
}

// truncate returns the frame without its last n bytes.
func truncate(f wire.Frame, n int) wire.Frame {
	f.End -= int32(n)
	return f
}

// padded returns the frame with n bytes of 0xee behind it.
func padded(f wire.Frame, n int) wire.Frame {
	b := append([]byte(nil), f.Bytes()...)
	for range n {
		b = append(b, 0xee)
	}
	g := wiretest.Frame(b)
	g.Offload = f.Offload
	return g
}

// withExtensions returns a UDP/IPv6 packet with extension headers given in hex.
func withExtensions(first uint8, headers string) wire.Frame {
	b, err := hex.DecodeString(strings.ReplaceAll(headers, " ", ""))
	if err != nil {
		panic(err)
	}
	return change(udp6, func(p *wiretest.Packet) { p.Extension, p.Extensions = first, b })
}

func addr(b ...byte) wire.Addr {
	if len(b) == 4 {
		return wire.AddrFrom4(b)
	}
	return wire.Addr{0: 0x20, 1: 1, 2: 0xd, 3: 0xb8, 15: b[0]}
}

// TestParse: Parse on valid frames.
func TestParse(t *testing.T) {
	ip4 := wire.Packet{Kind: wire.KindIP, Src: addr(10, 0, 0, 1), Dst: addr(10, 0, 0, 2), L3: 14, L4: 34}
	ip6 := wire.Packet{Kind: wire.KindIP, Src: addr(1), Dst: addr(2), L3: 14, L4: 54, IPv6: true}
	with := func(p wire.Packet, how func(*wire.Packet)) wire.Packet { how(&p); return p }
	asTCP4 := func(p *wire.Packet) {
		p.Proto, p.SrcPort, p.DstPort, p.TCPFlags, p.Len = wire.ProtoTCP, 1234, 80, wire.TCPSyn, 42
	}
	asUDP4 := func(p *wire.Packet) { p.Proto, p.SrcPort, p.DstPort, p.Len = wire.ProtoUDP, 53, 5353, 33 }
	asUDP6 := func(p *wire.Packet) { p.Proto, p.SrcPort, p.DstPort, p.Len = wire.ProtoUDP, 53, 5353, 53 }
	for _, row := range []struct {
		name string
		f    wire.Frame
		want wire.Packet
	}{
		{"TCP over IPv4", tcp4.Frame(), with(ip4, asTCP4)},
		{"TCP over IPv6", tcp6.Frame(), with(ip6, func(p *wire.Packet) {
			p.Proto, p.SrcPort, p.DstPort, p.TCPFlags, p.Len = wire.ProtoTCP, 1234, 80, wire.TCPAck, 60
		})},
		{
			"a VLAN tag moves everything by four", change(tcp4, func(p *wiretest.Packet) { p.VLANs = []uint16{5} }),
			with(ip4, func(p *wire.Packet) { asTCP4(p); p.L3, p.L4 = 18, 38 }),
		},
		{
			"two tags move it by eight", change(tcp4, func(p *wiretest.Packet) { p.VLANs = []uint16{5, 6} }),
			with(ip4, func(p *wire.Packet) { asTCP4(p); p.L3, p.L4 = 22, 42 }),
		},
		{
			"three tags are KindOther", change(tcp4, func(p *wiretest.Packet) { p.VLANs = []uint16{5, 6, 7} }),
			wire.Packet{},
		},
		{"an unknown EtherType is KindOther", editBytes(tcp4, func(b []byte) { b[12] = 0x99 }), wire.Packet{}},
		{"an 802.3 length is KindOther", editBytes(tcp4, func(b []byte) { b[12], b[13] = 0, 42 }), wire.Packet{}},
		{
			"padding does not count", padded(change(udp4, func(p *wiretest.Packet) { p.Payload = nil }), 18),
			with(ip4, func(p *wire.Packet) { asUDP4(p); p.Len = 28 }),
		},
		{
			"IPv4 options move the transport",
			change(udp4, func(p *wiretest.Packet) { p.Options = []byte{1, 1, 1, 0} }),
			with(ip4, func(p *wire.Packet) { asUDP4(p); p.L4, p.Len = 38, 37 }),
		},
		{
			"a source route behind the end of options is none",
			change(udp4, func(p *wiretest.Packet) { p.Options = []byte{1, 0, 131, 3} }),
			with(ip4, func(p *wire.Packet) { asUDP4(p); p.L4, p.Len = 38, 37 }),
		},
		{
			"forty bytes of options are the most",
			change(udp4, func(p *wiretest.Packet) { p.Options = make([]byte, 40) }),
			with(ip4, func(p *wire.Packet) { asUDP4(p); p.L4, p.Len = 74, 73 }),
		},
		{
			"SCTP has ports", sctp4.Frame(),
			with(ip4, func(p *wire.Packet) { p.Proto, p.SrcPort, p.DstPort, p.Len = wire.ProtoSCTP, 1, 2, 48 }),
		},
		{
			"ICMP has a type", echo4.Frame(),
			with(ip4, func(p *wire.Packet) { p.Proto, p.ICMPType, p.Len = wire.ProtoICMP, wire.ICMPEcho, 28 }),
		},
		{
			"ICMPv6 has a type",
			change(echo6, func(p *wiretest.Packet) { p.Src, p.Dst = "2001:db8::1", "2001:db8::2" }),
			with(ip6, func(p *wire.Packet) { p.Proto, p.ICMPType, p.Len = wire.ProtoICMPv6, wire.ICMPv6Echo, 48 }),
		},
		{
			"ICMPv6 in IPv4 means nothing",
			change(echo4, func(p *wiretest.Packet) { p.Proto, p.ICMPType = wire.ProtoICMPv6, wire.ICMPv6Echo }),
			with(ip4, func(p *wire.Packet) { p.Proto, p.Len = wire.ProtoICMPv6, 28 }),
		},
		{
			"AH is a transport without ports", change(udp4, func(p *wiretest.Packet) { p.Proto = wire.ProtoAH }),
			with(ip4, func(p *wire.Packet) { p.Proto, p.Len = wire.ProtoAH, 25 }),
		},
		{
			"a header alone may be a packet", change(udp4, func(p *wiretest.Packet) { p.Proto, p.Payload = 253, nil }),
			with(ip4, func(p *wire.Packet) { p.Proto, p.Len = 253, 20 }),
		},
		{
			"a first fragment has ports", change(udp4, func(p *wiretest.Packet) { p.MF = true }),
			with(ip4, func(p *wire.Packet) { asUDP4(p); p.Fragment = wire.FragmentFirst }),
		},
		{
			"a first fragment states the datagram's UDP length",
			editHeader(udp4, func(b []byte) { b[20], b[38] = 0x20, 0x10 }),
			with(ip4, func(p *wire.Packet) { asUDP4(p); p.Fragment = wire.FragmentFirst }),
		},
		{
			"a later fragment has none", third4.Frame(),
			with(ip4,
				func(p *wire.Packet) { p.Proto, p.Fragment, p.L4, p.Len = wire.ProtoUDP, wire.FragmentLater, 0, 25 }),
		},
		{"UDP may end before the IP packet", editBytes(udp4, func(b []byte) { b[14+20+5] -= 2 }), with(ip4, asUDP4)},
		{
			"a GSO frame too long for its IPv4 length",
			change(tcp4, func(p *wiretest.Packet) { p.Payload, p.GSOSize = make([]byte, 70000), 1400 }),
			with(ip4, func(p *wire.Packet) { asTCP4(p); p.Len = 70040 }),
		},
		{
			"a GSO frame too long for its IPv6 length",
			change(tcp6, func(p *wiretest.Packet) { p.Payload, p.GSOSize = make([]byte, 70000), 1400 }),
			with(ip6, func(p *wire.Packet) {
				p.Proto, p.SrcPort, p.DstPort, p.TCPFlags, p.Len = wire.ProtoTCP, 1234, 80, wire.TCPAck, 70060
			}),
		},
		{
			"hop-by-hop, routing and destination options are walked",
			withExtensions(0, "2b 00 0000 00000000  3c 01 0000 00000000 0000000000000000  11 00 0000 00000000"),
			with(ip6, func(p *wire.Packet) { asUDP6(p); p.L4, p.Len = 86, 85 }),
		},
		{
			"eight extension headers are walked",
			withExtensions(60, strings.Repeat("3c00000000000000", 7)+"1100000000000000"),
			with(ip6, func(p *wire.Packet) { asUDP6(p); p.L4, p.Len = 118, 117 }),
		},
		{
			"the first IPv6 fragment has ports", withExtensions(44, "11 00 0001 00000007"),
			with(ip6, func(p *wire.Packet) { asUDP6(p); p.Fragment, p.L4, p.Len = wire.FragmentFirst, 62, 61 }),
		},
		{
			"the fragment header of a whole packet does nothing", withExtensions(44, "11 00 0000 00000007"),
			with(ip6, func(p *wire.Packet) { asUDP6(p); p.L4, p.Len = 62, 61 }),
		},
		{
			"a later IPv6 fragment has none", withExtensions(44, "11 00 0009 00000007"),
			with(ip6,
				func(p *wire.Packet) { p.Proto, p.Fragment, p.L4, p.Len = wire.ProtoUDP, wire.FragmentLater, 0, 61 }),
		},
		{
			"extension headers in a later IPv6 fragment are not walked", withExtensions(44, "3c 00 0009 00000007"),
			with(ip6, func(p *wire.Packet) {
				p.Proto, p.Fragment, p.L4, p.Len = wire.ProtoDestOptions, wire.FragmentLater, 0, 61
			}),
		},
		{
			"no next header is a transport", withExtensions(60, "3b00000000000000"),
			with(ip6, func(p *wire.Packet) { p.Proto, p.L4, p.Len = wire.ProtoNoNext, 62, 61 }),
		},
		{
			"ESP ends the walk", withExtensions(0, "3200000000000000"),
			with(ip6, func(p *wire.Packet) { p.Proto, p.L4, p.Len = wire.ProtoESP, 62, 61 }),
		},
		{
			"ARP", wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, "10.0.0.1", wire.MAC{}, "10.0.0.2"),
			wire.Packet{Kind: wire.KindARP, L3: 14},
		},
		{"padded ARP", padded(wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, "10.0.0.1", wire.MAC{}, "10.0.0.2"),
			18), wire.Packet{Kind: wire.KindARP, L3: 14}},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := row.f.End
			// left from another frame
			got := wire.Packet{SrcPort: 9, ICMPType: 9, Flaw: wire.FlawARP, Fragment: wire.FragmentLater}
			wire.Parse(&row.f, &got)
			if got != row.want {
				t.Errorf("parsed %x\n got %+v\nwant %+v", row.f.Bytes()[:min(100, row.f.Len())], got, row.want)
			}
			end := before
			switch got.Kind {
			case wire.KindIP:
				end = row.f.Off + int32(got.L3) + int32(got.Len)
			case wire.KindARP:
				end = row.f.Off + int32(got.L3) + wire.ARPLen
			}
			if row.f.End != end {
				t.Errorf("frame ends at %d after parsing, want %d (it was %d)", row.f.End, end, before)
			}
		})
	}
}

// TestParseIPAt: the inner packet of a tunnel is parsed as Whole.
func TestParseIPAt(t *testing.T) {
	for kind := range tunnels {
		for _, desc := range []wiretest.Packet{tcp4, tcp6} {
			f := desc.Frame()
			encap(&f, kind)
			var in wire.Packet
			if flaw := wire.ParseIPAt(&f, wire.EthernetLen+int(f.TunnelLen), &in, wire.Whole); flaw != wire.FlawNone ||
				in.SrcPort != 1234 || in.DstPort != 80 {
				t.Errorf("%s: flaw %d, %+v", tunnels[kind].name, flaw, in)
			}
			if flaw := wire.ParseIPAt(&f, f.Len(), &in, wire.Whole); flaw != wire.FlawIPHeader ||
				in.Kind != wire.KindBad {
				t.Errorf("%s: at the end of the frame: flaw %d, want %d", tunnels[kind].name, flaw, wire.FlawIPHeader)
			}
		}
	}
}

// TestParseIPAtFar: a header whose transport may be out of reach of a 16-bit offset
// is refused. At the limit the offset is right.
func TestParseIPAtFar(t *testing.T) {
	long := withExtensions(60,
		strings.Repeat("3cff0000"+strings.Repeat("00", 2044), 7)+"11ff0000"+strings.Repeat("00", 2044))
	for _, off := range []int{0x8000, 0x8001, 0xffff, -1} {
		f := wiretest.Frame(append(make([]byte, max(off, 0)), long.Bytes()[14:]...))
		var in wire.Packet
		want := wire.FlawIPHeader
		if off == 0x8000 {
			want = wire.FlawNone
		}
		if flaw := wire.ParseIPAt(&f, off, &in, wire.Whole); flaw != want ||
			flaw == wire.FlawNone && int(in.L4) != off+40+8*2048 {
			t.Errorf("at %d: flaw %d, transport at %d; want flaw %d", off, flaw, in.L4, want)
		}
	}
}

// TestParseFragment: the position of a fragment, and impossible fragments.
func TestParseFragment(t *testing.T) {
	fragment := func(offset, length int, more bool) wire.Frame {
		return change(third4, func(p *wiretest.Packet) {
			p.ID, p.Offset, p.MF, p.Payload = 0xabcd, offset, more, make([]byte, length)
		})
	}
	for _, row := range []struct {
		sentence string
		f        wire.Frame
		want     wire.FragmentInfo
		ok       bool
	}{
		{"the last of IPv4", fragment(1480, 5, false), wire.FragmentInfo{ID: 0xabcd, Start: 1480, End: 1485}, true},
		{
			"one in the middle", fragment(1480, 16, true),
			wire.FragmentInfo{ID: 0xabcd, Start: 1480, End: 1496, More: true},
			true,
		},
		{
			"the first of IPv4",
			change(udp4, func(p *wiretest.Packet) { p.MF, p.ID, p.Payload = true, 0xabcd, make([]byte, 8) }),
			wire.FragmentInfo{ID: 0xabcd, End: 16, More: true},
			true,
		},
		{
			"the longest possible", fragment(65528, 7, false),
			wire.FragmentInfo{ID: 0xabcd, Start: 65528, End: 65535},
			true,
		},
		{"longer than any packet (the ping of death)", fragment(65528, 8, false), wire.FragmentInfo{}, false},
		{"without payload", fragment(1480, 0, false), wire.FragmentInfo{}, false},
		{"of an odd length, and not the last", fragment(1480, 15, true), wire.FragmentInfo{}, false},
		{"not a fragment", udp4.Frame(), wire.FragmentInfo{}, false},
		{
			"the last of IPv6, behind options", withExtensions(60, "2c00000000000000 11 00 0008 89abcdef"),
			wire.FragmentInfo{ID: 0x89abcdef, Start: 8, End: 8 + 13},
			true,
		},
		{
			"one in the middle of IPv6, of an odd length", withExtensions(44, "11 00 0009 89abcdef"),
			wire.FragmentInfo{},
			false,
		},
		{
			"the first of IPv6, in front of options",
			withExtensions(44, "3c 00 0001 89abcdef 11 01 000000000000 0000000000000000"),
			wire.FragmentInfo{},
			false,
		},
	} {
		var p wire.Packet
		wire.Parse(&row.f, &p)
		got, ok := wire.ParseFragment(&row.f, &p)
		if ok != row.ok || ok && got != row.want {
			t.Errorf("%s: %+v, %t; want %+v, %t", row.sentence, got, ok, row.want, row.ok)
		}
	}
}

// TestIsICMPError: the types that are errors, for both families.
func TestIsICMPError(t *testing.T) {
	for typ := range 256 {
		p := wire.Packet{Kind: wire.KindIP, Proto: wire.ProtoICMP, ICMPType: uint8(typ)}
		want := typ == 3 || typ == 4 || typ == 5 || typ == 11 || typ == 12
		if got := wire.IsICMPError(&p); got != want {
			t.Errorf("ICMP type %d: %v, want %v", typ, got, want)
		}
		p.IPv6 = true
		if wire.IsICMPError(&p) {
			t.Errorf("ICMP type %d in IPv6 is called an error", typ)
		}
		p.Proto = wire.ProtoICMPv6
		if got, want := wire.IsICMPError(&p), typ < 128; got != want {
			t.Errorf("ICMPv6 type %d: %v, want %v", typ, got, want)
		}
		p.Fragment = wire.FragmentLater
		if wire.IsICMPError(&p) {
			t.Error("a later fragment, whose type is not known, is called an error")
		}
	}
}

// TestParseDoesNotAllocate: parsing does not allocate.
func TestParseDoesNotAllocate(t *testing.T) {
	frames := []wire.Frame{
		tcp4.Frame(), udp6.Frame(), third4.Frame(),
		icmpError(wire.ICMPUnreachable, tcp4.Frame(), 28),
	}
	var p, in wire.Packet
	if n := testing.AllocsPerRun(100, func() {
		for i := range frames {
			wire.Parse(&frames[i], &p)
			wire.ParseQuoted(&frames[i], &p, &in)
			wire.ParseFragment(&frames[i], &p)
		}
	}); n != 0 {
		t.Errorf("%v allocations per run, want 0", n)
	}
}

// BenchmarkParse measures Parse of one frame.
func BenchmarkParse(b *testing.B) {
	for _, row := range []struct {
		name string
		f    wire.Frame
	}{
		{"tcp4", tcp4.Frame()},
		{"udp4", udp4.Frame()},
		{"tcp6", tcp6.Frame()},
		{"vlan", change(tcp4, func(p *wiretest.Packet) { p.VLANs = []uint16{5} })},
		{"icmp", echo4.Frame()},
	} {
		b.Run(row.name, func(b *testing.B) {
			var p wire.Packet
			b.ReportAllocs()
			for b.Loop() {
				wire.Parse(&row.f, &p)
			}
			if p.Kind != wire.KindIP {
				b.Fatalf("kind %d", p.Kind)
			}
		})
	}
}
