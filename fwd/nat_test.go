package fwd

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// ends are the addresses of a family's tests: a client, the VIP it calls and
// the server behind.
type ends struct{ client, vip, server string }

var families = []struct {
	name string
	ends
}{
	{"IPv4", ends{"198.51.100.7:40000", "10.9.0.1:80", "10.0.2.11:8080"}},
	{"IPv6", ends{"[2001:db8:c::7]:40000", "[2001:db8:9::1]:80", "[fd00:2::11]:8080"}},
}

var chunk = []byte{3, 0, 0, 16, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 7} // SCTP SACK

// transports are the packets masquerading treats differently; want changes the
// description of the frame that is expected to leave.
var transports = []struct {
	name string
	in   wiretest.Packet
	want func(*wiretest.Packet)
}{
	{name: "TCP", in: wiretest.Packet{TCPFlags: wire.TCPAck, Seq: 7, Ack: 9, Payload: []byte("odd")}},
	{name: "TCP with options", in: wiretest.Packet{TCPFlags: wire.TCPSyn, TCPOptions: []byte{2, 4, 5, 180}}},
	{name: "half-made TCP", in: wiretest.Packet{PartialChecksum: true, Payload: []byte("half made")}},
	{name: "super TCP", in: wiretest.Packet{GSOSize: 1000, Payload: make([]byte, 5000)}},
	{name: "super TCP longer than 64 KiB", in: wiretest.Packet{GSOSize: 1400, Payload: make([]byte, 70000)}},
	{name: "UDP", in: wiretest.Packet{Proto: wire.ProtoUDP, Payload: []byte("query")}},
	{
		name: "UDP without a checksum gets one",
		in:   wiretest.Packet{Proto: wire.ProtoUDP, Payload: []byte("query"), NoChecksum: true},
		want: func(p *wiretest.Packet) { p.NoChecksum = false },
	},
	{name: "half-made UDP", in: wiretest.Packet{Proto: wire.ProtoUDP, PartialChecksum: true, Payload: []byte("q")}},
	{name: "super UDP", in: wiretest.Packet{Proto: wire.ProtoUDP, GSOSize: 1200, Payload: make([]byte, 3000)}},
	{name: "SCTP", in: wiretest.Packet{Proto: wire.ProtoSCTP, Payload: chunk}},
	{name: "first fragment of UDP", in: wiretest.Packet{Proto: wire.ProtoUDP, MF: true, ID: 5, Payload: make([]byte, 64)}},
	{
		name: "first fragment of UDP without a checksum stays so, the rest being elsewhere",
		in:   wiretest.Packet{Proto: wire.ProtoUDP, MF: true, ID: 5, Payload: make([]byte, 64), NoChecksum: true},
	},
}

// envelopes are the ways a packet can be wrapped without changing what NAT does.
var envelopes = []struct {
	name string
	wrap func(p *wiretest.Packet, ipv6 bool)
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

func parse(t testing.TB, f *wire.Frame) *wire.Packet {
	t.Helper()
	p := new(wire.Packet)
	if wire.Parse(f, p); p.Kind == wire.KindBad {
		t.Fatalf("frame has flaw %d: %x", p.Flaw, f.Bytes())
	}
	return p
}

func split(s string) (wire.Addr, uint16) {
	a := netip.MustParseAddrPort(s)
	return wire.AddrFrom(a.Addr()), a.Port()
}

// addr reads an address, with or without a port.
func addr(s string) wire.Addr {
	if a, err := netip.ParseAddr(s); err == nil {
		return wire.AddrFrom(a)
	}
	a, _ := split(s)
	return a
}

// wantFrame compares two frames, and has ours judged by gopacket, which knows
// no packet longer than 64 KiB.
func wantFrame(t *testing.T, got, want wire.Frame) {
	t.Helper()
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("got  %s\nwant %s", dump(got), dump(want))
	}
	if got.Offload != want.Offload {
		t.Errorf("Offload %+v, want %+v", got.Offload, want.Offload)
	}
	if got.Len() <= 0xffff {
		wiretest.Check(t, got)
	}
}

// dump is the frame in hex, or as much of it as has headers.
func dump(f wire.Frame) string {
	b := f.Bytes()
	return fmt.Sprintf("%d bytes %x", len(b), b[:min(len(b), 200)])
}

// wantTrue fails unless p says what a fresh look at the frame says.
func wantTrue(t *testing.T, f wire.Frame, p *wire.Packet) {
	t.Helper()
	if fresh := parse(t, &f); *fresh != *p {
		t.Errorf("packet after rewriting is %+v, want %+v", *p, *fresh)
	}
}

// TestMasquerade: a frame rewritten for its server, or for its client, is byte
// for byte the frame that would have been made for it.
func TestMasquerade(t *testing.T) {
	for _, family := range families {
		for _, tr := range transports {
			for _, e := range envelopes {
				ipv6 := family.name == "IPv6"
				if ipv6 && tr.in.MF {
					continue // needs a fragment header: see TestMasqueradeIPv6Fragment
				}
				in, want := tr.in, tr.in
				e.wrap(&in, ipv6)
				e.wrap(&want, ipv6)
				if tr.want != nil {
					tr.want(&want)
				}
				name := fmt.Sprint(family.name, "/", tr.name, "/", e.name)
				t.Run(name+"/to server", func(t *testing.T) {
					in.Src, in.Dst = family.client, family.vip
					want.Src, want.Dst = family.client, family.server
					f := in.Frame()
					p := parse(t, &f)
					server, port := split(family.server)
					ToServer(&f, p, server, port)
					wantFrame(t, f, want.Frame())
					wantTrue(t, f, p)
				})
				t.Run(name+"/from server", func(t *testing.T) {
					in.Src, in.Dst = family.server, family.client
					want.Src, want.Dst = family.vip, family.client
					f := in.Frame()
					p := parse(t, &f)
					vip, port := split(family.vip)
					FromServer(&f, p, vip, port)
					wantFrame(t, f, want.Frame())
					wantTrue(t, f, p)
				})
			}
		}
	}
}

// TestMasqueradeAddressesOnly: packets without ports, or without their ports,
// get new addresses and nothing else.
func TestMasqueradeAddressesOnly(t *testing.T) {
	ipv6Fragment := func(offset uint16) []byte {
		return []byte{wire.ProtoUDP, 0, byte(offset >> 8), byte(offset) | 1, 0, 0, 0, 5}
	}
	tests := []struct {
		name string
		in   wiretest.Packet
	}{
		{"later fragment", wiretest.Packet{Proto: wire.ProtoUDP, ID: 5, Offset: 64, Payload: []byte("the rest")}},
		{"ESP", wiretest.Packet{Proto: wire.ProtoESP, Payload: []byte("spi, sequence, secret")}},
		{"ICMP echo", wiretest.Packet{Proto: wire.ProtoICMP, ICMPType: wire.ICMPEcho, Payload: []byte("ping")}},
		{"ICMPv6 echo, whose checksum covers addresses", wiretest.Packet{Proto: wire.ProtoICMPv6, ICMPType: wire.ICMPv6Echo, Payload: []byte("ping")}},
		{"IPv6 later fragment", wiretest.Packet{Proto: wire.ProtoUDP, Offset: 64, Extension: wire.ProtoFragment, Extensions: ipv6Fragment(64), Payload: []byte("the rest")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			family := families[0]
			if tt.in.Proto == wire.ProtoICMPv6 || tt.in.Extension != 0 {
				family = families[1]
			}
			in, want := tt.in, tt.in
			in.Src, in.Dst = family.client, family.vip
			want.Src, want.Dst = family.client, family.server
			f := in.Frame()
			p := parse(t, &f)
			server, port := split(family.server)
			ToServer(&f, p, server, port)
			wantFrame(t, f, want.Frame())
			wantTrue(t, f, p)
		})
	}
}

// TestMasqueradeIPv6Fragment: the first fragment has its ports and checksum
// changed like a whole packet.
func TestMasqueradeIPv6Fragment(t *testing.T) {
	in := wiretest.Packet{
		Src: families[1].client, Dst: families[1].vip, Proto: wire.ProtoUDP, Payload: make([]byte, 64),
		Extension: wire.ProtoFragment, Extensions: []byte{wire.ProtoUDP, 0, 0, 1, 0, 0, 0, 5},
	}
	want := in
	want.Dst = families[1].server
	f := in.Frame()
	p := parse(t, &f)
	server, port := split(families[1].server)
	ToServer(&f, p, server, port)
	wantFrame(t, f, want.Frame())
}

// TestMasqueradeRandom: whatever the addresses, ports and data, incremental
// repair agrees with a checksum made anew.
func TestMasqueradeRandom(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	end := func(ipv6 bool) string {
		a := make([]byte, 4)
		if ipv6 {
			a = make([]byte, 16)
		}
		for i := range a {
			a[i] = byte(r.Uint32())
			if r.IntN(3) == 0 {
				a[i] = 0xff * byte(r.IntN(2)) // carries live at the edges
			}
		}
		ip, _ := netip.AddrFromSlice(a)
		if ip.Is4In6() {
			ip = netip.MustParseAddr("2001:db8::1")
		}
		return netip.AddrPortFrom(ip, uint16(r.Uint32())).String()
	}
	for range 3000 {
		ipv6 := r.IntN(2) == 0
		in := wiretest.Packet{
			Src: end(ipv6), Dst: end(ipv6), Proto: []uint8{wire.ProtoTCP, wire.ProtoUDP, wire.ProtoSCTP}[r.IntN(3)],
			Payload: make([]byte, r.IntN(40)),
		}
		in.PartialChecksum = in.Proto != wire.ProtoSCTP && r.IntN(3) == 0
		for i := range in.Payload {
			in.Payload[i] = byte(r.Uint32())
		}
		want := in
		want.Src, want.Dst = end(ipv6), end(ipv6)
		f, w := in.Frame(), want.Frame()
		p := parse(t, &f)
		src, sport := split(want.Src)
		dst, dport := split(want.Dst)
		ToServer(&f, p, dst, dport)
		FromServer(&f, p, src, sport)
		if !bytes.Equal(f.Bytes(), w.Bytes()) {
			t.Fatalf("seed %d: %+v to %+v:\ngot  %x\nwant %x", seed, in, want, f.Bytes(), w.Bytes())
		}
	}
}

// TestMasqueradeKeepsWrong: a checksum that was wrong is forwarded wrong, so
// that its receiver can see it.
func TestMasqueradeKeepsWrong(t *testing.T) {
	for _, proto := range []uint8{wire.ProtoTCP, wire.ProtoUDP} {
		f := wiretest.Packet{Src: families[0].client, Dst: families[0].vip, Proto: proto, Payload: []byte("data")}.Frame()
		p := parse(t, &f)
		f.Bytes()[f.Len()-1] ^= 1
		server, port := split(families[0].server)
		ToServer(&f, p, server, port)
		if wire.VerifyChecksum(&f, p) {
			t.Errorf("protocol %d: a wrong checksum was made right", proto)
		}
	}
}

// TestMasqueradeOtherFamily: a packet cannot be sent to an address of the other
// family; it stays as it was.
func TestMasqueradeOtherFamily(t *testing.T) {
	for i, family := range families {
		f := wiretest.Packet{Src: family.client, Dst: family.vip}.Frame()
		p := parse(t, &f)
		before, was := bytes.Clone(f.Bytes()), *p
		other, port := split(families[1-i].server)
		ToServer(&f, p, other, port)
		FromServer(&f, p, other, port)
		if !bytes.Equal(f.Bytes(), before) || *p != was {
			t.Errorf("%s packet changed for an address of the other family", family.name)
		}
	}
}
