// Package fwdtest has the packets that the tests of fwd, fwd/answer and fwd/tunnel
// share, and how they compare frames.
package fwdtest

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd"
	"uvs/fwd/tunnel"
)

// Families has the endpoints of each family: a client, the VIP, and the server.
var Families = []struct{ Name, Client, VIP, Server string }{
	{"IPv4", "198.51.100.7:40000", "10.9.0.1:80", "10.0.2.11:8080"},
	{"IPv6", "[2001:db8:c::7]:40000", "[2001:db8:9::1]:80", "[fd00:2::11]:8080"},
}

// Chunk is a chunk of SCTP, a SACK.
var Chunk = []byte{3, 0, 0, 16, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 7}

// Transports are packets that NAT treats differently; Want changes the description
// of the frame that should leave.
var Transports = []struct {
	Name string
	In   wiretest.Packet
	Want func(*wiretest.Packet)
}{
	{Name: "TCP", In: wiretest.Packet{TCPFlags: wire.TCPAck, Seq: 7, Ack: 9, Payload: []byte("odd")}},
	{Name: "TCP with options", In: wiretest.Packet{TCPFlags: wire.TCPSyn, TCPOptions: []byte{2, 4, 5, 180}}},
	{Name: "TCP with a partial checksum", In: wiretest.Packet{PartialChecksum: true, Payload: []byte("half made")}},
	{Name: "GSO TCP", In: wiretest.Packet{GSOSize: 1000, Payload: make([]byte, 5000)}},
	{Name: "GSO TCP longer than 64 KiB", In: wiretest.Packet{GSOSize: 1400, Payload: make([]byte, 70000)}},
	{Name: "UDP", In: wiretest.Packet{Proto: wire.ProtoUDP, Payload: []byte("query")}},
	{
		Name: "UDP without a checksum gets one",
		In:   wiretest.Packet{Proto: wire.ProtoUDP, Payload: []byte("query"), NoChecksum: true},
		Want: func(p *wiretest.Packet) { p.NoChecksum = false },
	},
	{Name: "UDP with a partial checksum", In: wiretest.Packet{
		Proto: wire.ProtoUDP, PartialChecksum: true,
		Payload: []byte("q"),
	}},
	{Name: "GSO UDP", In: wiretest.Packet{Proto: wire.ProtoUDP, GSOSize: 1200, Payload: make([]byte, 3000)}},
	{Name: "SCTP", In: wiretest.Packet{Proto: wire.ProtoSCTP, Payload: Chunk}},
	{Name: "first fragment of UDP", In: wiretest.Packet{
		Proto: wire.ProtoUDP, MF: true, ID: 5,
		Payload: make([]byte, 64),
	}},
	{
		Name: "first fragment of UDP without a checksum gets none, because the rest is elsewhere",
		In:   wiretest.Packet{Proto: wire.ProtoUDP, MF: true, ID: 5, Payload: make([]byte, 64), NoChecksum: true},
	},
}

// Envelopes are headers that a packet can have without any effect on NAT.
var Envelopes = []struct {
	Name string
	Wrap func(p *wiretest.Packet, ipv6 bool)
}{
	{"plain", func(*wiretest.Packet, bool) {}},
	{"tagged", func(p *wiretest.Packet, _ bool) { p.VLANs = []uint16{42} }},
	{"twice tagged", func(p *wiretest.Packet, _ bool) { p.VLANs = []uint16{42, 43} }},
	{"with options or extension headers", func(p *wiretest.Packet, ipv6 bool) {
		if !ipv6 {
			p.Options = []byte{1, 1, 1, 0}
			return
		}
		next := p.Proto
		if next == 0 {
			next = wire.ProtoTCP
		}
		p.Extension, p.Extensions = wire.ProtoDestOptions, []byte{next, 0, 1, 4, 0, 0, 0, 0}
	}},
}

// Ends of tunnels: the director's and the server's.
var (
	DIP4, RIP4 = Addr("10.0.2.1"), Addr("10.0.2.11")
	DIP6, RIP6 = Addr("fd00:2::1"), Addr("fd00:2::11")
)

// Tunnels is one of each, with the MTU that a link of 1500 bytes leaves to it, as
// measured on IPVS.
var Tunnels = []struct {
	Name string
	tunnel.Tunnel
	MTU   int
	Proto [2]uint8 // of the outer header, for IPv4 and IPv6 inside
}{
	{"IPIP", tunnel.Tunnel{Src: DIP4, Dst: RIP4}, 1480, [2]uint8{wire.ProtoIPIP, wire.ProtoIPv6}},
	{"IPIP over IPv6", tunnel.Tunnel{Src: DIP6, Dst: RIP6}, 1460, [2]uint8{wire.ProtoIPIP, wire.ProtoIPv6}},
	{"GUE", gue4, 1468, [2]uint8{wire.ProtoUDP, wire.ProtoUDP}},
	{"GUE with checksum", summed(gue4), 1468, [2]uint8{wire.ProtoUDP, wire.ProtoUDP}},
	{"GUE with checksum over IPv6", summed(gue6), 1448, [2]uint8{wire.ProtoUDP, wire.ProtoUDP}},
	{"GRE", gre4, 1476, [2]uint8{wire.ProtoGRE, wire.ProtoGRE}},
	{"GRE with checksum", summed(gre4), 1472, [2]uint8{wire.ProtoGRE, wire.ProtoGRE}},
	{"GRE over IPv6", gre6, 1456, [2]uint8{wire.ProtoGRE, wire.ProtoGRE}},
	{"GRE with checksum over IPv6", summed(gre6), 1452, [2]uint8{wire.ProtoGRE, wire.ProtoGRE}},
	{"GUE over IPv6", gue6, 1448, [2]uint8{wire.ProtoUDP, wire.ProtoUDP}},
}

var (
	gue4 = tunnel.Tunnel{Src: DIP4, Dst: RIP4, Type: tunnel.GUE, Port: tunnel.GUEPort}
	gue6 = tunnel.Tunnel{Src: DIP6, Dst: RIP6, Type: tunnel.GUE, Port: tunnel.GUEPort}
	gre4 = tunnel.Tunnel{Src: DIP4, Dst: RIP4, Type: tunnel.GRE}
	gre6 = tunnel.Tunnel{Src: DIP6, Dst: RIP6, Type: tunnel.GRE}
)

// summed returns the tunnel with a checksum.
func summed(t tunnel.Tunnel) tunnel.Tunnel {
	t.Checksum = true
	return t
}

// Decap takes the inner packet out of a tunnel packet, as a server does: the frame
// then holds the inner packet, and p is no longer valid. False for any other packet,
// for fragments, and for what a receiver must drop because of ECN.
func Decap(f *wire.Frame, p *wire.Packet) bool {
	if p.Kind != wire.KindIP || p.Fragment != wire.FragmentNone {
		return false
	}
	header, proto, ok := strip(f, p)
	var in wire.Packet
	at := int(p.L4) + header
	if !ok || wire.ParseIPAt(f, at, &in, wire.Whole) != wire.FlawNone || in.IPv6 != (proto == wire.ProtoIPv6) {
		return false
	}
	class := f.From(p.L3)[1]
	if p.IPv6 {
		class = wire.IPv6(f.From(p.L3)).TrafficClass()
	}
	if !tunnel.CombineECN(f.From(in.L3), class) {
		return false
	}
	removed := in.L3 - p.L3
	fwd.MoveLink(f, p, -int(removed))
	fwd.SetEtherType(f, p, in.IPv6)
	f.TunnelLen = 0
	f.Offload.CsumStart -= min(f.Offload.CsumStart, removed)
	f.Offload.HdrLen -= min(f.Offload.HdrLen, removed)
	return true
}

// strip finds the inner packet: how many bytes after p's IP header it starts, and its
// protocol number.
func strip(f *wire.Frame, p *wire.Packet) (n int, inner uint8, ok bool) {
	b := f.From(p.L4)
	for _, e := range tunnel.All() {
		if e.Proto(wire.ProtoIPIP) != p.Proto && e.Proto(wire.ProtoIPv6) != p.Proto ||
			e.Port != 0 && e.Port != p.DstPort {
			continue
		}
		if e.Port == 0 {
			return e.Strip(p.Proto, b)
		}
		// RFC 6935 lets tunnels over IPv6 go without a UDP checksum.
		if wire.UDP(b).Checksum() != 0 && !wire.VerifyChecksum(f, p) {
			return 0, 0, false
		}
		n, inner, ok = e.Strip(p.Proto, b[wire.UDPLen:])
		return n + wire.UDPLen, inner, ok
	}
	return 0, 0, false
}

// Parse parses a frame that must not be bad.
func Parse(t testing.TB, f *wire.Frame) *wire.Packet {
	t.Helper()
	p := new(wire.Packet)
	if wire.Parse(f, p); p.Kind == wire.KindBad {
		t.Fatalf("frame has flaw %d: %x", p.Flaw, f.Bytes())
	}
	return p
}

// Split reads an endpoint: an address and a port.
func Split(s string) (wire.Addr, uint16) {
	a := netip.MustParseAddrPort(s)
	return wire.AddrFrom(a.Addr()), a.Port()
}

// Addr reads an address, with or without a port.
func Addr(s string) wire.Addr {
	if a, err := netip.ParseAddr(s); err == nil {
		return wire.AddrFrom(a)
	}
	a, _ := Split(s)
	return a
}

// Host returns an endpoint without its port.
func Host(endpoint string) string {
	a, _ := Split(endpoint)
	return a.String()
}

// WantFrame compares two frames and has gopacket check ours, which knows no packet
// longer than 64 KiB.
func WantFrame(t *testing.T, got, want wire.Frame) {
	t.Helper()
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("got  %s\nwant %s", Dump(got), Dump(want))
	}
	if got.Offload != want.Offload {
		t.Errorf("Offload %+v, want %+v", got.Offload, want.Offload)
	}
	if got.Len() <= 0xffff {
		wiretest.Check(t, got)
	}
}

// WantUntouched fails if a function that refused a frame changed it.
func WantUntouched(t *testing.T, f wire.Frame, do func(*wire.Frame) bool) {
	t.Helper()
	before := f
	b := bytes.Clone(f.Buf)
	if do(&f) {
		t.Errorf("done to %s", Dump(f))
	}
	if !bytes.Equal(f.Buf, b) || f.Off != before.Off || f.End != before.End || f.Out != before.Out ||
		f.Offload != before.Offload {
		t.Errorf("refused, but changed: %s", Dump(f))
	}
}

// Dump returns the frame in hex, or as much of it as has headers.
func Dump(f wire.Frame) string {
	b := f.Bytes()
	return fmt.Sprintf("%d bytes %x", len(b), b[:min(len(b), 200)])
}

// ErrorAbout describes the ICMP error that from sends to about's source. It quotes the
// IP header and some bytes after it.
func ErrorAbout(about wiretest.Packet, from, to string, quoted int) wiretest.Packet {
	header := wire.IPv4Len
	e := wiretest.Packet{
		Src: from, Dst: to, Proto: wire.ProtoICMP, VLANs: []uint16{5},
		ICMPType: wire.ICMPUnreachable, ICMPCode: wire.ICMPCodeTooBig, ICMPRest: 1400,
	}
	if !Addr(from).Is4() {
		header = wire.IPv6Len
		e.Proto, e.ICMPType, e.ICMPCode = wire.ProtoICMPv6, wire.ICMPv6TooBig, 0
	}
	e.Payload = wiretest.Quote(about.Frame(), header+quoted)
	return e
}
