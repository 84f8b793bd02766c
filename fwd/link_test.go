package fwd_test

import (
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd"
	"uvs/fwd/fwdtest"
)

// TestLinkHeader: a link header changes the MAC addresses and the port, nothing else.
func TestLinkHeader(t *testing.T) {
	server, port := wire.MAC{2, 0, 0, 0, 0, 0x11}, wire.MAC{2, 0, 0, 0, 0, 0xdd}
	for _, family := range fwdtest.Families {
		in := wiretest.Packet{Src: family.Client, Dst: family.VIP, VLANs: []uint16{7}}
		want := in
		want.SrcMAC, want.DstMAC = port, server
		f := in.Frame()
		f.In = 1
		hop := fwd.LinkHeader{Port: 4, Dst: server, Src: port}
		hop.Apply(&f)
		fwdtest.WantFrame(t, f, want.Frame())
		if f.Out != 4 || f.In != 1 {
			t.Errorf("in by %d, out by %d; want 1 and 4", f.In, f.Out)
		}
	}
}

// TestTTL: 1 and 0 are expired, everything else is one less afterwards.
func TestTTL(t *testing.T) {
	for _, family := range fwdtest.Families {
		for ttl := 1; ttl < 256; ttl++ {
			in := wiretest.Packet{Src: family.Client, Dst: family.VIP, TTL: uint8(ttl)}
			f := in.Frame()
			p := fwdtest.Parse(t, &f)
			if got := fwd.TTLExpired(&f, p); got != (ttl == 1) {
				t.Errorf("%s: TTL %d expired: %v", family.Name, ttl, got)
			}
			if ttl == 1 {
				continue
			}
			fwd.DecTTL(&f, p)
			in.TTL--
			fwdtest.WantFrame(t, f, in.Frame())
		}
		f := wiretest.Packet{Src: family.Client, Dst: family.VIP}.Frame()
		p := fwdtest.Parse(t, &f)
		f.From(p.L3)[7+map[bool]int{false: 1}[p.IPv6]] = 0
		if !fwd.TTLExpired(&f, p) {
			t.Errorf("%s: TTL 0 is not expired", family.Name)
		}
	}
}

// jumbogram returns an IPv6 GSO frame of more than 64 KiB, with the jumbo payload option that
// the kernel puts behind its header: RFC 2675 section 2.
func jumbogram(size uint16) wiretest.Packet {
	const length = 70_000
	return wiretest.Packet{
		GSOSize: size, Payload: make([]byte, length), Extension: wire.ProtoHopByHop,
		Extensions: []byte{
			wire.ProtoTCP, 0, 0xc2, 4, 0, (length + 28) >> 16, (length + 28) >> 8 & 0xff,
			(length + 28) & 0xff,
		},
	}
}

// TestTooLong: the length of a packet counts, of a GSO frame that of a segment.
func TestTooLong(t *testing.T) {
	tests := []struct {
		name       string
		in         wiretest.Packet
		ipv6       bool
		mtu, outer int
		want       bool
	}{
		{"1500 bytes through 1500", wiretest.Packet{Payload: make([]byte, 1460)}, false, 1500, 0, false},
		{"1501 bytes through 1500", wiretest.Packet{Payload: make([]byte, 1461)}, false, 1500, 0, true},
		{"1480 bytes in a tunnel of 20", wiretest.Packet{Payload: make([]byte, 1440)}, false, 1500, 20, false},
		{"1481 bytes in a tunnel of 20", wiretest.Packet{Payload: make([]byte, 1441)}, false, 1500, 20, true},
		{"IPv6 of 1460 bytes in a tunnel of 40", wiretest.Packet{Payload: make([]byte, 1400)}, true, 1500, 40, false},
		{"IPv6 of 1461 bytes in a tunnel of 40", wiretest.Packet{Payload: make([]byte, 1401)}, true, 1500, 40, true},
		{"segments of 1500", wiretest.Packet{GSOSize: 1460, Payload: make([]byte, 30000)}, false, 1500, 0, false},
		{"segments of 1501", wiretest.Packet{GSOSize: 1461, Payload: make([]byte, 30000)}, false, 1500, 0, true},
		{"segments with options of 1500", wiretest.Packet{
			GSOSize: 1448, TCPOptions: make([]byte, 12),
			Payload: make([]byte, 30000),
		}, false, 1500, 0, false},
		{"segments with options of 1501", wiretest.Packet{
			GSOSize: 1449, TCPOptions: make([]byte, 12),
			Payload: make([]byte, 30000),
		}, false, 1500, 0, true},
		{"IPv6 segments of 1500", wiretest.Packet{GSOSize: 1440, Payload: make([]byte, 70000)}, true, 1500, 0, false},
		{
			"segments of 1500 in a tunnel",
			wiretest.Packet{GSOSize: 1460, Payload: make([]byte, 30000)},
			false, 1500, 20,
			true,
		},
		{
			"datagrams of 1500",
			wiretest.Packet{Proto: wire.ProtoUDP, GSOSize: 1472, Payload: make([]byte, 3000)},
			false,
			1500, 0, false,
		},
		{
			"datagrams of 1501",
			wiretest.Packet{Proto: wire.ProtoUDP, GSOSize: 1473, Payload: make([]byte, 3000)},
			false,
			1500, 0, true,
		},
		{"IPv6 segments of 1500 in a jumbogram", jumbogram(1440), true, 1500, 0, false},
		{"IPv6 segments of 1501 in a jumbogram", jumbogram(1441), true, 1500, 0, true},
		{
			"a GSO frame of one segment",
			wiretest.Packet{GSOSize: 9000, Payload: make([]byte, 1460)},
			false, 1500, 0,
			false,
		},
	}
	for _, tt := range tests {
		family := fwdtest.Families[0]
		if tt.ipv6 {
			family = fwdtest.Families[1]
		}
		tt.in.Src, tt.in.Dst = family.Client, family.VIP
		f := tt.in.Frame()
		if got := fwd.TooLong(&f, fwdtest.Parse(t, &f), tt.mtu, tt.outer); got != tt.want {
			t.Errorf("%s: too long for %d: %v, want %v", tt.name, tt.mtu-tt.outer, got, tt.want)
		}
	}
}

// TestDontFragment: IPv4 according to its header, IPv6 never to be fragmented.
func TestDontFragment(t *testing.T) {
	for _, tt := range []struct {
		family int
		df     bool
		want   bool
	}{{0, false, false}, {0, true, true}, {1, false, true}} {
		f := wiretest.Packet{
			Src: fwdtest.Families[tt.family].Client, Dst: fwdtest.Families[tt.family].VIP,
			DF: tt.df,
		}.Frame()
		if got := fwd.DontFragment(&f, fwdtest.Parse(t, &f)); got != tt.want {
			t.Errorf("%s with DF %v: %v", fwdtest.Families[tt.family].Name, tt.df, got)
		}
	}
}
