package wire_test

import (
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// icmpError returns an ICMP error, of the family of f, that quotes n bytes of f.
func icmpError(typ uint8, f wire.Frame, n int) wire.Frame {
	quote := wiretest.Quote(f, n)
	p := wiretest.Packet{
		Src: "192.0.2.1", Dst: "10.0.0.1", Proto: wire.ProtoICMP, ICMPType: typ, ICMPCode: 3,
		Payload: quote,
	}
	if quote[0]>>4 == 6 {
		p.Src, p.Dst, p.Proto = "2001:db8::9", "2001:db8::1", wire.ProtoICMPv6
	}
	return p.Frame()
}

// TestParseQuoted: quotes of the minimum length, and one byte shorter.
func TestParseQuoted(t *testing.T) {
	want4 := wire.Packet{
		Kind: wire.KindIP, Src: addr(10, 0, 0, 1), Dst: addr(10, 0, 0, 2), SrcPort: 1234, DstPort: 80,
		Proto: wire.ProtoTCP, L3: 42, L4: 62, Len: 28,
	}
	want6 := wire.Packet{
		Kind: wire.KindIP, Src: addr(1), Dst: addr(2), SrcPort: 1234, DstPort: 80,
		Proto: wire.ProtoTCP, L3: 62, L4: 102, Len: 48, IPv6: true,
	}
	with := func(p wire.Packet, how func(*wire.Packet)) *wire.Packet { how(&p); return &p }
	staleQuote := icmpError(wire.ICMPUnreachable, tcp4.Frame(), 28)
	staleQuote.Bytes()[42+8]-- // the TTL
	oddLength := icmpError(wire.ICMPUnreachable, tcp4.Frame(), 28)
	oddLength.Bytes()[42+3] = 0
	jumbogram := withExtensions(wire.ProtoHopByHop, "11 00 c204 00012345")
	copy(jumbogram.Bytes()[14+4:], []byte{0, 0})
	for _, row := range []struct {
		name string
		f    wire.Frame
		want *wire.Packet // nil: refused
	}{
		{"header and eight bytes", icmpError(wire.ICMPUnreachable, tcp4.Frame(), 28), &want4},
		{"one byte less", icmpError(wire.ICMPUnreachable, tcp4.Frame(), 27), nil},
		{
			"all of the packet has flags too", icmpError(wire.ICMPTimeExceeded, tcp4.Frame(), 99),
			with(want4, func(p *wire.Packet) { p.Len, p.TCPFlags = 42, wire.TCPSyn }),
		},
		{"not all of the IP header", icmpError(wire.ICMPUnreachable, tcp4.Frame(), 19), nil},
		{"a quoted header checksum is not verified", staleQuote, &want4},
		{"a quoted length of 0 means the length of the quote", oddLength, &want4},
		{"ICMPv6: header and eight bytes", icmpError(wire.ICMPv6TooBig, tcp6.Frame(), 48), &want6},
		{
			"ICMPv6: a quoted length of 0, a jumbogram's", icmpError(wire.ICMPv6TooBig, jumbogram, 56),
			with(want6, func(p *wire.Packet) {
				p.Proto, p.SrcPort, p.DstPort, p.L4, p.Len = wire.ProtoUDP, 53, 5353, 110, 56
			}),
		},
		{"ICMPv6: one byte less", icmpError(wire.ICMPv6TooBig, tcp6.Frame(), 47), nil},
		{
			"ICMPv6: not all of the extension headers",
			icmpError(wire.ICMPv6Unreachable, withExtensions(60, "11 01 0000 00000000 00000000 00000000"), 48), nil,
		},
		{
			"a quoted echo has a type", icmpError(wire.ICMPUnreachable, echo4.Frame(), 28),
			with(want4, func(p *wire.Packet) {
				p.Proto, p.SrcPort, p.DstPort, p.ICMPType = wire.ProtoICMP, 0, 0, wire.ICMPEcho
			}),
		},
		{"a later fragment has no ports", icmpError(wire.ICMPUnreachable, third4.Frame(), 28), nil},
		{
			"a first fragment has",
			icmpError(wire.ICMPUnreachable, change(tcp4, func(p *wiretest.Packet) { p.MF = true }), 28),
			with(want4, func(p *wire.Packet) { p.Fragment = wire.FragmentFirst }),
		},
		{"a redirect is not about a flow", icmpError(wire.ICMPRedirect, tcp4.Frame(), 28), nil},
		{
			"an error that is itself in fragments",
			editHeader(wiretest.Packet{
				Src: "10.0.0.9", Dst: "10.0.0.1", Proto: wire.ProtoICMP,
				ICMPType: wire.ICMPUnreachable, Payload: wiretest.Quote(tcp4.Frame(), 28),
			},
				func(b []byte) { b[20] = 0x20 }), nil,
		},
		{"an echo quotes nothing", echo4.Frame(), nil},
		{"a TCP packet quotes nothing", tcp4.Frame(), nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			var p wire.Packet
			in := wire.Packet{TCPFlags: 1, ICMPCode: 1}
			wire.Parse(&row.f, &p)
			ok := wire.ParseQuoted(&row.f, &p, &in)
			if ok != (row.want != nil) || ok && in != *row.want {
				t.Errorf("quoted in %x\n got %v %+v\nwant %+v", row.f.Bytes(), ok, in, row.want)
			}
		})
	}
}
