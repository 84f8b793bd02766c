package fwd_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd"
	"uvs/fwd/fwdtest"
)

// wantParsed fails unless p is what parsing the frame again gives.
func wantParsed(t *testing.T, f wire.Frame, p *wire.Packet) {
	t.Helper()
	if fresh := fwdtest.Parse(t, &f); *fresh != *p {
		t.Errorf("packet after rewriting is %+v, want %+v", *p, *fresh)
	}
}

// TestMasquerade: a frame rewritten for its server, or for its client, is byte for byte
// the frame that the other end would have sent there.
func TestMasquerade(t *testing.T) {
	for _, family := range fwdtest.Families {
		for _, tr := range fwdtest.Transports {
			for _, e := range fwdtest.Envelopes {
				ipv6 := family.Name == "IPv6"
				if ipv6 && tr.In.MF {
					continue // needs a fragment header: see TestMasqueradeIPv6Fragment
				}
				in, want := tr.In, tr.In
				e.Wrap(&in, ipv6)
				e.Wrap(&want, ipv6)
				if tr.Want != nil {
					tr.Want(&want)
				}
				name := fmt.Sprint(family.Name, "/", tr.Name, "/", e.Name)
				t.Run(name+"/to server", func(t *testing.T) {
					in.Src, in.Dst = family.Client, family.VIP
					want.Src, want.Dst = family.Client, family.Server
					f := in.Frame()
					p := fwdtest.Parse(t, &f)
					server, port := fwdtest.Split(family.Server)
					fwd.ToServer(&f, p, server, port)
					fwdtest.WantFrame(t, f, want.Frame())
					wantParsed(t, f, p)
				})
				t.Run(name+"/from server", func(t *testing.T) {
					in.Src, in.Dst = family.Server, family.Client
					want.Src, want.Dst = family.VIP, family.Client
					f := in.Frame()
					p := fwdtest.Parse(t, &f)
					vip, port := fwdtest.Split(family.VIP)
					fwd.FromServer(&f, p, vip, port)
					fwdtest.WantFrame(t, f, want.Frame())
					wantParsed(t, f, p)
				})
			}
		}
	}
}

// TestMasqueradeAddressesOnly: packets of a protocol without ports, and later fragments,
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
		{
			"ICMPv6 echo, whose checksum covers addresses",
			wiretest.Packet{Proto: wire.ProtoICMPv6, ICMPType: wire.ICMPv6Echo, Payload: []byte("ping")},
		},
		{"IPv6 later fragment", wiretest.Packet{
			Proto: wire.ProtoUDP, Offset: 64, Extension: wire.ProtoFragment,
			Extensions: ipv6Fragment(64), Payload: []byte("the rest"),
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			family := fwdtest.Families[0]
			if tt.in.Proto == wire.ProtoICMPv6 || tt.in.Extension != 0 {
				family = fwdtest.Families[1]
			}
			in, want := tt.in, tt.in
			in.Src, in.Dst = family.Client, family.VIP
			want.Src, want.Dst = family.Client, family.Server
			f := in.Frame()
			p := fwdtest.Parse(t, &f)
			server, port := fwdtest.Split(family.Server)
			fwd.ToServer(&f, p, server, port)
			fwdtest.WantFrame(t, f, want.Frame())
			wantParsed(t, f, p)
		})
	}
}

// TestMasqueradeIPv6Fragment: the ports and the checksum of a first fragment change like
// those of a whole packet.
func TestMasqueradeIPv6Fragment(t *testing.T) {
	in := wiretest.Packet{
		Src: fwdtest.Families[1].Client, Dst: fwdtest.Families[1].VIP, Proto: wire.ProtoUDP, Payload: make([]byte, 64),
		Extension: wire.ProtoFragment, Extensions: []byte{wire.ProtoUDP, 0, 0, 1, 0, 0, 0, 5},
	}
	want := in
	want.Dst = fwdtest.Families[1].Server
	f := in.Frame()
	p := fwdtest.Parse(t, &f)
	server, port := fwdtest.Split(fwdtest.Families[1].Server)
	fwd.ToServer(&f, p, server, port)
	fwdtest.WantFrame(t, f, want.Frame())
}

// TestMasqueradeRandom: whatever the addresses, ports and data, the updated checksum is
// the one that is computed from all bytes.
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
				a[i] = 0xff * byte(r.IntN(2)) // carries come from all ones and zeros
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
		p := fwdtest.Parse(t, &f)
		src, sport := fwdtest.Split(want.Src)
		dst, dport := fwdtest.Split(want.Dst)
		fwd.ToServer(&f, p, dst, dport)
		fwd.FromServer(&f, p, src, sport)
		if !bytes.Equal(f.Bytes(), w.Bytes()) {
			t.Fatalf("seed %d: %+v to %+v:\ngot  %x\nwant %x", seed, in, want, f.Bytes(), w.Bytes())
		}
	}
}

// TestMasqueradeKeepsWrong: a wrong checksum stays wrong, so that the receiver sees it.
func TestMasqueradeKeepsWrong(t *testing.T) {
	for _, proto := range []uint8{wire.ProtoTCP, wire.ProtoUDP} {
		f := wiretest.Packet{
			Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP, Proto: proto,
			Payload: []byte("data"),
		}.Frame()
		p := fwdtest.Parse(t, &f)
		f.Bytes()[f.Len()-1] ^= 1
		server, port := fwdtest.Split(fwdtest.Families[0].Server)
		fwd.ToServer(&f, p, server, port)
		if wire.VerifyChecksum(&f, p) {
			t.Errorf("protocol %d: a wrong checksum was made right", proto)
		}
	}
}

// TestMasqueradeOtherFamily: with an address of the other family, a packet stays as it
// is.
func TestMasqueradeOtherFamily(t *testing.T) {
	for i, family := range fwdtest.Families {
		f := wiretest.Packet{Src: family.Client, Dst: family.VIP}.Frame()
		p := fwdtest.Parse(t, &f)
		before, was := bytes.Clone(f.Bytes()), *p
		other, port := fwdtest.Split(fwdtest.Families[1-i].Server)
		fwd.ToServer(&f, p, other, port)
		fwd.FromServer(&f, p, other, port)
		if !bytes.Equal(f.Bytes(), before) || *p != was {
			t.Errorf("%s packet changed for an address of the other family", family.Name)
		}
	}
}
