package fwd

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

var (
	dip4, rip4 = addr("10.0.2.1"), addr("10.0.2.11")
	dip6, rip6 = addr("fd00:2::1"), addr("fd00:2::11")
)

// tunnels is one of each, with what the director's MTU of 1500 leaves of it
// (measured on IPVS: reference table of tunnel MTUs).
var tunnels = []struct {
	name string
	Tunnel
	mtu   int
	proto [2]uint8 // of the outer header, for IPv4 and IPv6 inside
}{
	{"IPIP", Tunnel{Src: dip4, Dst: rip4}, 1480, [2]uint8{wire.ProtoIPIP, wire.ProtoIPv6}},
	{"IPIP over IPv6", Tunnel{Src: dip6, Dst: rip6}, 1460, [2]uint8{wire.ProtoIPIP, wire.ProtoIPv6}},
	{"GUE", Tunnel{Src: dip4, Dst: rip4, Type: GUE, Port: GUEPort}, 1468, [2]uint8{wire.ProtoUDP, wire.ProtoUDP}},
	{"GUE with checksum", Tunnel{Src: dip4, Dst: rip4, Type: GUE, Port: GUEPort, Checksum: true}, 1468, [2]uint8{wire.ProtoUDP, wire.ProtoUDP}},
	{"GUE with checksum over IPv6", Tunnel{Src: dip6, Dst: rip6, Type: GUE, Port: GUEPort, Checksum: true}, 1448, [2]uint8{wire.ProtoUDP, wire.ProtoUDP}},
	{"GRE", Tunnel{Src: dip4, Dst: rip4, Type: GRE}, 1476, [2]uint8{wire.ProtoGRE, wire.ProtoGRE}},
	{"GRE with checksum", Tunnel{Src: dip4, Dst: rip4, Type: GRE, Checksum: true}, 1472, [2]uint8{wire.ProtoGRE, wire.ProtoGRE}},
	{"GRE over IPv6", Tunnel{Src: dip6, Dst: rip6, Type: GRE}, 1456, [2]uint8{wire.ProtoGRE, wire.ProtoGRE}},
	{"GRE with checksum over IPv6", Tunnel{Src: dip6, Dst: rip6, Type: GRE, Checksum: true}, 1452, [2]uint8{wire.ProtoGRE, wire.ProtoGRE}},
	{"GUE over IPv6", Tunnel{Src: dip6, Dst: rip6, Type: GUE, Port: GUEPort}, 1448, [2]uint8{wire.ProtoUDP, wire.ProtoUDP}},
}

// outer is what gopacket finds in the first IP header of the frame.
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
				src: wire.AddrFrom6(l.SrcIP), dst: wire.AddrFrom6(l.DstIP),
				proto: uint8(l.NextHeader), ttl: l.HopLimit, tos: l.TrafficClass,
			}
		}
	}
	t.Fatalf("no IP header in %s", dump(f))
	return outer{}
}

// TestTunnel: every packet goes into every tunnel, is right from end to end
// there, and comes out as it went in.
func TestTunnel(t *testing.T) {
	for _, tunnel := range tunnels {
		for i, family := range families {
			for _, tr := range transports {
				for _, e := range envelopes {
					in := tr.in
					in.Src, in.Dst, in.TTL = family.client, family.vip, 61
					e.wrap(&in, i == 1)
					if in.GSOSize != 0 || i == 1 && (in.MF || in.NoChecksum) {
						continue // TestTunnelSuper; no such thing in IPv6
					}
					t.Run(fmt.Sprint(tunnel.name, "/", family.name, "/", tr.name, "/", e.name), func(t *testing.T) {
						f, want := in.Frame(), in.Frame()
						wire.FinishChecksum(&want)
						want.Offload = wire.Offload{}
						p := parse(t, &f)
						if !tunnel.Encap(&f, p) {
							t.Fatal("Encap refused")
						}
						wiretest.Check(t, f)
						if f.Len()-want.Len() != tunnel.Overhead() || int(f.TunnelLen) != tunnel.Overhead() {
							t.Errorf("%d bytes longer, Outer %d, Overhead %d", f.Len()-want.Len(), f.TunnelLen, tunnel.Overhead())
						}
						o := outerOf(t, f)
						if o.src != tunnel.Src || o.dst != tunnel.Dst || o.ttl != 61 || o.proto != tunnel.proto[i] {
							t.Errorf("outer header %+v of tunnel %+v", o, tunnel.Tunnel)
						}
						if !Decap(&f, parse(t, &f)) {
							t.Fatalf("Decap refused %s", dump(f))
						}
						wantFrame(t, f, want)
					})
				}
			}
		}
	}
}

// TestTunnelHeaders: GUE and GRE look as IPVS's do.
func TestTunnelHeaders(t *testing.T) {
	tests := []struct {
		tunnel int // index into tunnels
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
		tunnel := tunnels[tt.tunnel]
		f := wiretest.Packet{Src: families[tt.family].client, Dst: families[tt.family].vip}.Frame()
		if !tunnel.Encap(&f, parse(t, &f)) {
			t.Fatalf("%s: Encap refused", tunnel.name)
		}
		at := uint16(wire.EthernetLen + wire.IPv4Len)
		if tunnel.Type == GUE {
			u := wire.UDP(f.From(at))
			if u.DstPort() != GUEPort || u.SrcPort() < 32768 || u.SrcPort() > 60999 || u.Checksum() != 0 {
				t.Errorf("%s: UDP header %x", tunnel.name, u[:wire.UDPLen])
			}
			at += wire.UDPLen
		}
		if got := f.From(at)[:4]; !bytes.Equal(got, tt.want) {
			t.Errorf("%s: %s inside: header %x, want %x", tunnel.name, families[tt.family].name, got, tt.want)
		}
	}
}

// TestDecapRefuses: what Encap could not have made, or what the way has spoilt,
// stays as it is.
func TestDecapRefuses(t *testing.T) {
	const shim = wire.EthernetLen + wire.IPv4Len
	tests := []struct {
		name   string
		tunnel int
		spoil  func(b []byte)
	}{
		{"GRE with a wrong checksum", 6, func(b []byte) { b[len(b)-1] ^= 1 }},
		{"GRE with a key", 5, func(b []byte) { b[shim] = 0x20 }},
		{"GRE of another protocol", 5, func(b []byte) { b[shim+3] = 0x06 }},
		{"GUE with a wrong checksum", 3, func(b []byte) { b[len(b)-1] ^= 1 }},
		{"GUE control message", 2, func(b []byte) { b[shim+8] = 0x20 }},
		{"GUE with flags", 2, func(b []byte) { b[shim+11] = 1 }},
		{"GUE of another protocol", 2, func(b []byte) { b[shim+9] = wire.ProtoTCP }},
		{"IPIP whose inner packet is of the other family", 0, func(b []byte) { b[shim] = 6 << 4 }},
		{"IPIP whose inner packet is longer than the outer", 0, func(b []byte) { b[shim+2] = 1 }},
		{"IPIP over IPv6 that says it is IPv6", 1, func(b []byte) { b[wire.EthernetLen+6] = wire.ProtoIPv6 }},
		{"first fragment of an IPIP packet", 0, func(b []byte) {
			wire.IPv4(b[wire.EthernetLen:]).SetFragment(wire.IPv4MF, 0)
			wire.IPv4(b[wire.EthernetLen:]).FillChecksum()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := wiretest.Packet{Src: families[0].client, Dst: families[0].vip, Payload: []byte("inner")}.Frame()
			tunnels[tt.tunnel].Encap(&f, parse(t, &f))
			tt.spoil(f.Bytes())
			p := parse(t, &f)
			wantUntouched(t, f, func(f *wire.Frame) bool { return Decap(f, p) })
		})
	}
	plain := wiretest.Packet{Src: families[0].client, Dst: families[0].vip}.Frame()
	p := parse(t, &plain)
	wantUntouched(t, plain, func(f *wire.Frame) bool { return Decap(f, p) })
}

// TestTunnelFlowPort: packets of one flow have one GUE source port, flows differ.
func TestTunnelFlowPort(t *testing.T) {
	port := func(src string, seq uint32) uint16 {
		f := wiretest.Packet{Src: src, Dst: families[0].vip, Seq: seq}.Frame()
		tunnels[2].Encap(&f, parse(t, &f))
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
		p.Src, p.Dst, p.Proto, p.ID = families[0].client, families[0].vip, wire.ProtoUDP, 9
		p.Payload = make([]byte, 64)
		f := p.Frame()
		tunnels[2].Encap(&f, parse(t, &f))
		return wire.UDP(f.From(wire.EthernetLen + wire.IPv4Len)).SrcPort()
	}
	if first, last := fragment(wiretest.Packet{MF: true}), fragment(wiretest.Packet{Offset: 72}); first != last {
		t.Errorf("fragments of one datagram have ports %d and %d", first, last)
	}
	if len(seen) < 90 {
		t.Errorf("100 flows share %d ports", len(seen))
	}
}

// TestTunnelECN: DSCP is copied; ECN is copied too, but congestion met before
// the tunnel is not said to have been met in it (RFC 3168 section 9.1.1).
func TestTunnelECN(t *testing.T) {
	const ef = 46 << 2
	for _, tunnel := range tunnels[:2] {
		for _, family := range families {
			for inner, want := range map[uint8]uint8{0: 0, 1: 1, 2: 2, 3: 2, ef: ef, ef | 1: ef | 1, ef | 3: ef | 2, 0xff: 0xfe} {
				f := wiretest.Packet{Src: family.client, Dst: family.vip, TOS: inner}.Frame()
				tunnel.Encap(&f, parse(t, &f))
				if got := outerOf(t, f).tos; got != want {
					t.Errorf("%s of %s with class %#02x has class %#02x, want %#02x", tunnel.name, family.name, inner, got, want)
				}
				Decap(&f, parse(t, &f))
				if got := outerOf(t, f).tos; got != inner {
					t.Errorf("%s of %s: class %#02x came out as %#02x", tunnel.name, family.name, inner, got)
				}
			}
		}
	}
}

// TestTunnelCongested: congestion met in the tunnel reaches the inner packet,
// or, if its ends do not know ECN, drops it (RFC 6040 section 4.2).
func TestTunnelCongested(t *testing.T) {
	for _, family := range families {
		for inner, want := range map[uint8]int{0: -1, 1: 3, 2: 3, 3: 3, 0xfc: -1, 0xfd: 0xff} {
			f := wiretest.Packet{Src: family.client, Dst: family.vip, TOS: inner}.Frame()
			tunnels[0].Encap(&f, parse(t, &f))
			wire.IPv4(f.From(wire.EthernetLen)).ReplaceTOS(inner | ecnCE)
			got := -1
			if Decap(&f, parse(t, &f)) {
				got = int(outerOf(t, f).tos)
				wiretest.Check(t, f)
			}
			if got != want {
				t.Errorf("%s: inner class %#02x, congested tunnel: got %#02x, want %#02x", family.name, inner, got, want)
			}
		}
	}
}

// TestTunnelDF: the outer header has DF if the inner has it, both are IPv4 and
// path MTU discovery is not switched off; and an id if it has not.
func TestTunnelDF(t *testing.T) {
	ignore := tunnels[0].Tunnel
	ignore.IgnoreDF = true
	tests := []struct {
		name   string
		tunnel Tunnel
		family int
		df     bool
		want   bool
	}{
		{"IPv4 with DF", tunnels[0].Tunnel, 0, true, true},
		{"IPv4 without DF", tunnels[0].Tunnel, 0, false, false},
		{"IPv4 with DF that is to be ignored", ignore, 0, true, false},
		{"IPv6 in IPv4", tunnels[0].Tunnel, 1, false, false},
		{"IPv4 with DF in GUE", tunnels[2].Tunnel, 0, true, true},
	}
	for _, tt := range tests {
		ids := map[uint16]bool{}
		for n := range 50 {
			f := wiretest.Packet{
				Src: families[tt.family].client, Dst: families[tt.family].vip, DF: tt.df, ID: uint16(n), Seq: uint32(n),
			}.Frame()
			tt.tunnel.Encap(&f, parse(t, &f))
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

// TestTunnelMTU: what just fits and what does not, of every tunnel over 1500.
func TestTunnelMTU(t *testing.T) {
	for _, tunnel := range tunnels {
		for i, family := range families {
			for _, fits := range []bool{true, false} {
				n := tunnel.mtu - []int{40, 60}[i]
				if !fits {
					n++
				}
				f := wiretest.Packet{Src: family.client, Dst: family.vip, Payload: make([]byte, n)}.Frame()
				if got := !TooLong(&f, parse(t, &f), 1500, tunnel.Overhead()); got != fits {
					t.Errorf("%s: %s packet of %d bytes fits: %v", tunnel.name, family.name, f.Len()-14, got)
				}
			}
		}
	}
}

// TestTunnelSuper: a super-frame stays one, half made, for the link to cut up,
// also if only its outer packet is too long to state its length, or both are.
func TestTunnelSuper(t *testing.T) {
	for _, tunnel := range tunnels {
		for _, family := range families {
			for _, payload := range []int{4000, 65460, 70000} {
				in := wiretest.Packet{Src: family.client, Dst: family.vip, GSOSize: 1000, VLANs: []uint16{7}, Payload: make([]byte, payload)}
				f, want := in.Frame(), in.Frame()
				p := parse(t, &f)
				if !tunnel.Encap(&f, p) {
					t.Fatal("Encap refused")
				}
				o := want.Offload
				o.CsumStart += uint16(tunnel.Overhead())
				o.HdrLen += uint16(tunnel.Overhead())
				if f.Offload != o || f.TunnelLen != uint8(tunnel.Overhead()) {
					t.Errorf("%s: Offload %+v Outer %d, want %+v", tunnel.name, f.Offload, f.TunnelLen, o)
				}
				if got := f.From(p.L3 + uint16(tunnel.Overhead())); !bytes.Equal(got, want.From(p.L3)) {
					t.Errorf("%s: inner packet changed", tunnel.name)
				}
				if tunnel.Type == GUE && payload > 60000 {
					continue // no UDP length can say so: it leaves in pieces only
				}
				if !Decap(&f, parse(t, &f)) || f.Offload != want.Offload || !bytes.Equal(f.Bytes(), want.Bytes()) {
					t.Errorf("%s: came out as %s %+v, want %s", tunnel.name, dump(f), f.Offload, dump(want))
				}
			}
		}
	}
}

// TestTunnelSuperSplit: the pieces the link sends instead of a tunnelled
// super-frame fit, are right in and out of their tunnel, and are all of it.
func TestTunnelSuperSplit(t *testing.T) {
	data := make([]byte, 20001)
	for i := range data {
		data[i] = byte(i * 7)
	}
	splitter := wire.NewSplitter()
	for _, tunnel := range tunnels {
		for _, family := range families {
			splitter.Reset()
			f := wiretest.Packet{Src: family.client, Dst: family.vip, GSOSize: 1300, DF: true, Payload: data}.Frame()
			f.MTU = 1500
			if !tunnel.Encap(&f, parse(t, &f)) {
				t.Fatal("Encap refused")
			}
			pieces, ok := splitter.Split(&f)
			if !ok || len(pieces) != 16 {
				t.Fatalf("%s: %d pieces, want 16", tunnel.name, len(pieces))
			}
			var got []byte
			for _, piece := range pieces {
				wiretest.Check(t, piece)
				if piece.Len() > 14+1500 || !Decap(&piece, parse(t, &piece)) {
					t.Fatalf("%s: piece %s", tunnel.name, dump(piece))
				}
				wiretest.Check(t, piece)
				got = append(got, piece.From(parse(t, &piece).L4+wire.TCPLen)...)
			}
			if !bytes.Equal(got, data) {
				t.Errorf("%s: pieces are not the whole", tunnel.name)
			}
		}
	}
}

// TestTunnelRefuses: frames that cannot take the headers stay as they are.
func TestTunnelRefuses(t *testing.T) {
	noRoom := wiretest.Packet{Src: families[0].client, Dst: families[0].vip}.Frame()
	noRoom.Buf, noRoom.Off, noRoom.End = noRoom.Buf[wire.Headroom-19:], 19, noRoom.End-wire.Headroom+19
	tooLong := wiretest.Packet{Src: families[0].client, Dst: families[0].vip, Payload: make([]byte, 65535-40-19)}.Frame()
	arp := wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, "10.0.0.1", wire.MAC{}, "10.0.0.2")
	for name, f := range map[string]wire.Frame{"no room": noRoom, "too long": tooLong, "ARP": arp} {
		p := parse(t, &f)
		before, was := bytes.Clone(f.Buf), f
		if tunnels[0].Encap(&f, p) {
			t.Errorf("%s: encapsulated", name)
		}
		if !bytes.Equal(f.Buf, before) || f.Off != was.Off || f.End != was.End {
			t.Errorf("%s: changed", name)
		}
	}
}

// TestTunnelPadding: what Ethernet put behind a short packet does not become
// part of the outer one.
func TestTunnelPadding(t *testing.T) {
	f := wiretest.Packet{Src: families[0].client, Dst: families[0].vip}.Frame()
	f.Buf = append(f.Buf, "padding"...)
	f.End += 7
	tunnels[0].Encap(&f, parse(t, &f))
	wiretest.Check(t, f)
}
