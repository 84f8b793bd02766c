package tunnel_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd"
	"uvs/fwd/fwdtest"
	"uvs/fwd/tunnel"
)

// outer is the first IP header of a frame according to gopacket.
type outer struct {
	src, dst        wire.Addr
	proto, ttl, tos uint8
	df              bool
	id              uint16
}

func outerOf(t *testing.T, f wire.Frame) outer {
	t.Helper()
	d := gopacket.NewPacket(f.Bytes(), layers.LayerTypeEthernet, gopacket.Default)
	for _, l := range d.Layers() {
		switch l := l.(type) {
		case *layers.IPv4:
			return outer{
				src: wire.AddrFrom4(l.SrcIP.To4()), dst: wire.AddrFrom4(l.DstIP.To4()),
				proto: uint8(l.Protocol), ttl: l.TTL, tos: l.TOS, df: l.Flags&layers.IPv4DontFragment != 0, id: l.Id,
			}
		case *layers.IPv6:
			if l.FlowLabel != 0 {
				t.Errorf("outer flow label %#x, want 0", l.FlowLabel)
			}
			return outer{
				src: wire.Addr(l.SrcIP), dst: wire.Addr(l.DstIP),
				proto: uint8(l.NextHeader), ttl: l.HopLimit, tos: l.TrafficClass,
			}
		}
	}
	t.Fatalf("no IP header in %s", fwdtest.Dump(f))
	return outer{}
}

// TestTunnel: every packet in every tunnel is a valid packet, and comes out as it went
// in.
func TestTunnel(t *testing.T) {
	for _, tun := range fwdtest.Tunnels {
		for i, family := range fwdtest.Families {
			for _, tr := range fwdtest.Transports {
				for _, e := range fwdtest.Envelopes {
					in := tr.In
					in.Src, in.Dst, in.TTL = family.Client, family.VIP, 61
					e.Wrap(&in, i == 1)
					if in.GSOSize != 0 || i == 1 && (in.MF || in.NoChecksum) {
						continue // TestTunnelGSO; not possible in IPv6
					}
					t.Run(fmt.Sprint(tun.Name, "/", family.Name, "/", tr.Name, "/", e.Name), func(t *testing.T) {
						f, want := in.Frame(), in.Frame()
						wire.FinishChecksum(&want)
						want.Offload = wire.Offload{}
						p := fwdtest.Parse(t, &f)
						if !tun.Encap(&f, p) {
							t.Fatal("Encap refused")
						}
						wiretest.Check(t, f)
						if f.Len()-want.Len() != tun.Overhead() || int(f.TunnelLen) != tun.Overhead() {
							t.Errorf("%d bytes longer, TunnelLen %d, Overhead %d", f.Len()-want.Len(), f.TunnelLen,
								tun.Overhead())
						}
						o := outerOf(t, f)
						if o.src != tun.Src || o.dst != tun.Dst || o.ttl != 61 || o.proto != tun.Proto[i] {
							t.Errorf("outer header %+v of tunnel %+v", o, tun.Tunnel)
						}
						if !fwdtest.Decap(&f, fwdtest.Parse(t, &f)) {
							t.Fatalf("Decap refused %s", fwdtest.Dump(f))
						}
						fwdtest.WantFrame(t, f, want)
					})
				}
			}
		}
	}
}

// TestTunnelHeaders: the headers of GUE and GRE are those of IPVS.
func TestTunnelHeaders(t *testing.T) {
	tests := []struct {
		tun    int // index into tunnels
		family int
		want   []byte // behind the outer IP header, or behind its UDP header
	}{
		{2, 0, []byte{0, 4, 0, 0}},
		{2, 1, []byte{0, 41, 0, 0}},
		{5, 0, []byte{0, 0, 0x08, 0x00}},
		{5, 1, []byte{0, 0, 0x86, 0xdd}},
		{6, 0, []byte{0x80, 0, 0x08, 0x00}},
	}
	for _, tt := range tests {
		tun := fwdtest.Tunnels[tt.tun]
		f := wiretest.Packet{Src: fwdtest.Families[tt.family].Client, Dst: fwdtest.Families[tt.family].VIP}.Frame()
		if !tun.Encap(&f, fwdtest.Parse(t, &f)) {
			t.Fatalf("%s: Encap refused", tun.Name)
		}
		at := uint16(wire.EthernetLen + wire.IPv4Len)
		if tun.Type == tunnel.GUE {
			u := wire.UDP(f.From(at))
			if u.DstPort() != tunnel.GUEPort || u.SrcPort() < 32768 || u.SrcPort() > 60999 || u.Checksum() != 0 {
				t.Errorf("%s: UDP header %x", tun.Name, u[:wire.UDPLen])
			}
			at += wire.UDPLen
		}
		if got := f.From(at)[:4]; !bytes.Equal(got, tt.want) {
			t.Errorf("%s: %s inside: header %x, want %x", tun.Name, fwdtest.Families[tt.family].Name, got, tt.want)
		}
	}
}

// TestDecapRefuses: a packet that Encap cannot have made, or that is damaged, stays as it
// is.
func TestDecapRefuses(t *testing.T) {
	const header = wire.EthernetLen + wire.IPv4Len
	tests := []struct {
		name  string
		tun   int
		spoil func(b []byte)
	}{
		{"GRE with a wrong checksum", 6, func(b []byte) { b[len(b)-1] ^= 1 }},
		{"GRE with a key", 5, func(b []byte) { b[header] = 0x20 }},
		{"GRE of another protocol", 5, func(b []byte) { b[header+3] = 0x06 }},
		{"GUE with a wrong checksum", 3, func(b []byte) { b[len(b)-1] ^= 1 }},
		{"GUE control message", 2, func(b []byte) { b[header+8] = 0x20 }},
		{"GUE with flags", 2, func(b []byte) { b[header+11] = 1 }},
		{"GUE of another protocol", 2, func(b []byte) { b[header+9] = wire.ProtoTCP }},
		{"IPIP whose inner packet is of the other family", 0, func(b []byte) { b[header] = 6 << 4 }},
		{"IPIP whose inner packet is longer than the outer", 0, func(b []byte) { b[header+2] = 1 }},
		{"IPIP over IPv6 that says it is IPv6", 1, func(b []byte) { b[wire.EthernetLen+6] = wire.ProtoIPv6 }},
		{"first fragment of an IPIP packet", 0, func(b []byte) {
			wire.IPv4(b[wire.EthernetLen:]).SetFragment(wire.IPv4MF, 0)
			wire.IPv4(b[wire.EthernetLen:]).FillChecksum()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := wiretest.Packet{
				Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP,
				Payload: []byte("inner"),
			}.Frame()
			fwdtest.Tunnels[tt.tun].Encap(&f, fwdtest.Parse(t, &f))
			tt.spoil(f.Bytes())
			p := fwdtest.Parse(t, &f)
			fwdtest.WantUntouched(t, f, func(f *wire.Frame) bool { return fwdtest.Decap(f, p) })
		})
	}
	plain := wiretest.Packet{Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP}.Frame()
	p := fwdtest.Parse(t, &plain)
	fwdtest.WantUntouched(t, plain, func(f *wire.Frame) bool { return fwdtest.Decap(f, p) })
}

// TestTunnelFlowPort: packets of one flow have the same GUE source port; flows differ.
func TestTunnelFlowPort(t *testing.T) {
	port := func(src string, seq uint32) uint16 {
		f := wiretest.Packet{Src: src, Dst: fwdtest.Families[0].VIP, Seq: seq}.Frame()
		fwdtest.Tunnels[2].Encap(&f, fwdtest.Parse(t, &f))
		return wire.UDP(f.From(wire.EthernetLen + wire.IPv4Len)).SrcPort()
	}
	seen := map[uint16]bool{}
	for i := range 100 {
		src := fmt.Sprintf("198.51.100.7:%d", 1024+i)
		if port(src, 1) != port(src, 2) {
			t.Errorf("flow of %s changed its port", src)
		}
		seen[port(src, 1)] = true
	}
	fragment := func(p wiretest.Packet) uint16 {
		p.Src, p.Dst, p.Proto, p.ID = fwdtest.Families[0].Client, fwdtest.Families[0].VIP, wire.ProtoUDP, 9
		p.Payload = make([]byte, 64)
		f := p.Frame()
		fwdtest.Tunnels[2].Encap(&f, fwdtest.Parse(t, &f))
		return wire.UDP(f.From(wire.EthernetLen + wire.IPv4Len)).SrcPort()
	}
	if first, last := fragment(wiretest.Packet{MF: true}), fragment(wiretest.Packet{Offset: 72}); first != last {
		t.Errorf("fragments of one datagram have ports %d and %d", first, last)
	}
	if len(seen) < 90 {
		t.Errorf("100 flows share %d ports", len(seen))
	}
}

// TestTunnelECN: DSCP and ECN are copied, except that CE becomes ECT(0): congestion before
// the tunnel is not congestion in it (RFC 3168 section 9.1.1).
func TestTunnelECN(t *testing.T) {
	const ef = 46 << 2
	for _, tun := range fwdtest.Tunnels[:2] {
		for _, family := range fwdtest.Families {
			for inner, want := range map[uint8]uint8{
				0: 0, 1: 1, 2: 2, 3: 2, ef: ef, ef | 1: ef | 1, ef | 3: ef | 2,
				0xff: 0xfe,
			} {
				f := wiretest.Packet{Src: family.Client, Dst: family.VIP, TOS: inner}.Frame()
				tun.Encap(&f, fwdtest.Parse(t, &f))
				if got := outerOf(t, f).tos; got != want {
					t.Errorf("%s of %s with class %#02x has class %#02x, want %#02x", tun.Name, family.Name, inner, got,
						want)
				}
				fwdtest.Decap(&f, fwdtest.Parse(t, &f))
				if got := outerOf(t, f).tos; got != inner {
					t.Errorf("%s of %s: class %#02x came out as %#02x", tun.Name, family.Name, inner, got)
				}
			}
		}
	}
}

// TestTunnelCongested: congestion in the tunnel marks the inner packet, or drops it if
// its sender does not know ECN (RFC 6040 section 4.2).
func TestTunnelCongested(t *testing.T) {
	for _, family := range fwdtest.Families {
		for inner, want := range map[uint8]int{0: -1, 1: 3, 2: 3, 3: 3, 0xfc: -1, 0xfd: 0xff} {
			f := wiretest.Packet{Src: family.Client, Dst: family.VIP, TOS: inner}.Frame()
			fwdtest.Tunnels[0].Encap(&f, fwdtest.Parse(t, &f))
			wire.IPv4(f.From(wire.EthernetLen)).ReplaceTOS(inner | 3)
			got := -1
			if fwdtest.Decap(&f, fwdtest.Parse(t, &f)) {
				got = int(outerOf(t, f).tos)
				wiretest.Check(t, f)
			}
			if got != want {
				t.Errorf("%s: inner class %#02x, congested tunnel: got %#02x, want %#02x", family.Name, inner, got,
					want)
			}
		}
	}
}

// TestTunnelDF: the outer header has DF if the inner has it, both are IPv4, and path MTU
// discovery is not switched off. Otherwise it has an id.
func TestTunnelDF(t *testing.T) {
	ignore := fwdtest.Tunnels[0].Tunnel
	ignore.IgnoreDF = true
	tests := []struct {
		name   string
		tun    tunnel.Tunnel
		family int
		df     bool
		want   bool
	}{
		{"IPv4 with DF", fwdtest.Tunnels[0].Tunnel, 0, true, true},
		{"IPv4 without DF", fwdtest.Tunnels[0].Tunnel, 0, false, false},
		{"IPv4 with DF that is to be ignored", ignore, 0, true, false},
		{"IPv6 in IPv4", fwdtest.Tunnels[0].Tunnel, 1, false, false},
		{"IPv4 with DF in GUE", fwdtest.Tunnels[2].Tunnel, 0, true, true},
	}
	for _, tt := range tests {
		ids := map[uint16]bool{}
		for n := range 50 {
			f := wiretest.Packet{
				Src: fwdtest.Families[tt.family].Client, Dst: fwdtest.Families[tt.family].VIP, DF: tt.df, ID: uint16(n),
				Seq: uint32(n),
			}.Frame()
			tt.tun.Encap(&f, fwdtest.Parse(t, &f))
			o := outerOf(t, f)
			if o.df != tt.want || tt.want && o.id != 0 {
				t.Errorf("%s: DF %v, id %d", tt.name, o.df, o.id)
			}
			ids[o.id] = true
		}
		if !tt.want && len(ids) < 45 {
			t.Errorf("%s: 50 packets have %d ids", tt.name, len(ids))
		}
	}
}

// TestTunnelMTU: the longest packet that fits into a tunnel over a link of 1500, and one
// byte more.
func TestTunnelMTU(t *testing.T) {
	for _, tun := range fwdtest.Tunnels {
		for i, family := range fwdtest.Families {
			for _, fits := range []bool{true, false} {
				n := tun.MTU - []int{40, 60}[i]
				if !fits {
					n++
				}
				f := wiretest.Packet{Src: family.Client, Dst: family.VIP, Payload: make([]byte, n)}.Frame()
				if got := !fwd.TooLong(&f, fwdtest.Parse(t, &f), 1500, tun.Overhead()); got != fits {
					t.Errorf("%s: %s packet of %d bytes fits: %v", tun.Name, family.Name, f.Len()-14, got)
				}
			}
		}
	}
}

// TestTunnelGSO: a GSO frame stays one, with its partial checksum, for the link to cut up;
// also if the length of its outer packet, or of both, does not fit into the header.
func TestTunnelGSO(t *testing.T) {
	for _, tun := range fwdtest.Tunnels {
		for _, family := range fwdtest.Families {
			for _, payload := range []int{4000, 65460, 70000} {
				in := wiretest.Packet{
					Src: family.Client, Dst: family.VIP, GSOSize: 1000, VLANs: []uint16{7},
					Payload: make([]byte, payload),
				}
				f, want := in.Frame(), in.Frame()
				p := fwdtest.Parse(t, &f)
				if !tun.Encap(&f, p) {
					t.Fatal("Encap refused")
				}
				o := want.Offload
				o.CsumStart += uint16(tun.Overhead())
				o.HdrLen += uint16(tun.Overhead())
				if f.Offload != o || f.TunnelLen != uint8(tun.Overhead()) {
					t.Errorf("%s: Offload %+v TunnelLen %d, want %+v", tun.Name, f.Offload, f.TunnelLen, o)
				}
				if got := f.From(p.L3 + uint16(tun.Overhead())); !bytes.Equal(got, want.From(p.L3)) {
					t.Errorf("%s: inner packet changed", tun.Name)
				}
				if tun.Proto[0] == wire.ProtoUDP && payload > 60000 {
					continue // too long for the UDP length: it leaves only in segments
				}
				if !fwdtest.Decap(&f, fwdtest.Parse(t, &f)) || f.Offload != want.Offload ||
					!bytes.Equal(f.Bytes(), want.Bytes()) {
					t.Errorf("%s: came out as %s %+v, want %s", tun.Name, fwdtest.Dump(f), f.Offload,
						fwdtest.Dump(want))
				}
			}
		}
	}
}

// TestTunnelGSOSplit: the packets that the link sends instead of a GSO frame in a tunnel
// fit the MTU, are valid in and out of the tunnel, and have all its bytes.
func TestTunnelGSOSplit(t *testing.T) {
	data := make([]byte, 20001)
	for i := range data {
		data[i] = byte(i * 7)
	}
	splitter := wire.NewSplitter()
	for _, tun := range fwdtest.Tunnels {
		for _, family := range fwdtest.Families {
			splitter.Reset()
			f := wiretest.Packet{Src: family.Client, Dst: family.VIP, GSOSize: 1300, DF: true, Payload: data}.Frame()
			f.MTU = 1500
			if !tun.Encap(&f, fwdtest.Parse(t, &f)) {
				t.Fatal("Encap refused")
			}
			pieces, ok := splitter.Split(&f)
			if !ok || len(pieces) != 16 {
				t.Fatalf("%s: %d pieces, want 16", tun.Name, len(pieces))
			}
			var got []byte
			for _, piece := range pieces {
				wiretest.Check(t, piece)
				if piece.Len() > 14+1500 || !fwdtest.Decap(&piece, fwdtest.Parse(t, &piece)) {
					t.Fatalf("%s: piece %s", tun.Name, fwdtest.Dump(piece))
				}
				wiretest.Check(t, piece)
				got = append(got, piece.From(fwdtest.Parse(t, &piece).L4+wire.TCPLen)...)
			}
			if !bytes.Equal(got, data) {
				t.Errorf("%s: pieces are not the whole", tun.Name)
			}
		}
	}
}

// TestTunnelRefuses: a frame without room for the headers, or too long, stays as it is.
func TestTunnelRefuses(t *testing.T) {
	noRoom := wiretest.Packet{Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP}.Frame()
	noRoom.Buf, noRoom.Off, noRoom.End = noRoom.Buf[wire.Headroom-19:], 19, noRoom.End-wire.Headroom+19
	tooLong := wiretest.Packet{
		Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP,
		Payload: make([]byte, 65535-40-19),
	}.Frame()
	arp := wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, "10.0.0.1", wire.MAC{}, "10.0.0.2")
	for name, f := range map[string]wire.Frame{"no room": noRoom, "too long": tooLong, "ARP": arp} {
		p := fwdtest.Parse(t, &f)
		before, was := bytes.Clone(f.Buf), f
		if fwdtest.Tunnels[0].Encap(&f, p) {
			t.Errorf("%s: encapsulated", name)
		}
		if !bytes.Equal(f.Buf, before) || f.Off != was.Off || f.End != was.End {
			t.Errorf("%s: changed", name)
		}
	}
}

// TestTunnelPadding: the padding of a short Ethernet frame does not become part of the
// outer packet.
func TestTunnelPadding(t *testing.T) {
	f := wiretest.Packet{Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP}.Frame()
	f.Buf = append(f.Buf, "padding"...)
	f.End += 7
	fwdtest.Tunnels[0].Encap(&f, fwdtest.Parse(t, &f))
	wiretest.Check(t, f)
}
