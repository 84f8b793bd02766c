package wire_test

import (
	"bytes"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// TestFragment: the fragments of a random long packet, reassembled, are the packet.
// It is in a tunnel or not, and has a complete or a partial checksum.
func TestFragment(t *testing.T) {
	r, s := newRandom(t), wire.NewSplitter()
	for range 300 {
		s.Reset()
		kind, inner6 := r.IntN(len(tunnels)), r.coin()
		if kind == 0 {
			inner6 = false
		}
		proto := []uint8{wire.ProtoTCP, wire.ProtoUDP, wire.ProtoICMP}[r.IntN(3)]
		if inner6 && proto == wire.ProtoICMP {
			proto = wire.ProtoICMPv6
		}
		desc := r.packet(proto, inner6, 800+r.IntN(8000))
		desc.DF = kind > 0 // the inner packet's DF does not matter
		desc.PartialChecksum = r.coin() && proto != wire.ProtoICMP
		desc.ICMPType = 128
		f := desc.Frame()
		encap(&f, kind)
		f.MTU = uint16(300 + r.IntN(500))
		wholes := reassemble(t, split(t, s, &f))
		if len(wholes) != 1 {
			t.Fatalf("%s: fragments of %d datagrams, want 1", tunnels[kind].name, len(wholes))
		}
		inner := decap(wholes[0], int(f.TunnelLen), inner6)
		wiretest.Check(t, inner)
		desc.PartialChecksum = false
		want := desc.Frame()
		if !bytes.Equal(inner.Bytes(), want.Bytes()) {
			t.Fatalf("%s: put together\n%x\nwant\n%x", tunnels[kind].name, inner.Bytes(), want.Bytes())
		}
	}
}

// TestFragmentFragments: fragments of fragments reassemble to the datagram.
func TestFragmentFragments(t *testing.T) {
	r, s := newRandom(t), wire.NewSplitter()
	desc := r.packet(wire.ProtoUDP, false, 5000)
	f := desc.Frame()
	f.MTU = 1500
	var parts []wire.Frame
	for _, part := range append([]wire.Frame(nil), split(t, s, &f)...) {
		part.MTU = 576
		parts = append(parts, split(t, s, &part)...)
	}
	wholes := reassemble(t, parts)
	want := desc.Frame()
	if len(wholes) != 1 || !bytes.Equal(wholes[0].Bytes(), want.Bytes()) {
		t.Fatalf("put together %d datagrams\n%x\nwant one\n%x", len(wholes), wholes, want.Bytes())
	}
}

// TestFragmentIDs: fragmented datagrams have different identifications, also if two
// workers fragment them.
func TestFragmentIDs(t *testing.T) {
	workers := [2]*wire.Splitter{wire.NewSplitter(), wire.NewSplitter()}
	seen := map[uint32]bool{}
	for i := range 6 {
		f := change(udp6, func(p *wiretest.Packet) { p.Payload = make([]byte, 2000) })
		encap(&f, 2)
		f.MTU = 1500
		id, _, _, _, _ := fragmentOf(t, split(t, workers[i%2], &f)[0])
		if seen[id] {
			t.Errorf("identification %d is used twice", id)
		}
		seen[id] = true
	}
}

// TestFragmentUFO: a GSO frame of type GSOUDP becomes the fragments of one datagram.
func TestFragmentUFO(t *testing.T) {
	desc := newRandom(t).packet(wire.ProtoUDP, false, 9000)
	want := desc.Frame()
	desc.PartialChecksum = true
	f := desc.Frame()
	f.Offload.GSOType, f.Offload.GSOSize, f.MTU = wire.GSOUDP, 1400, 1500
	wholes := reassemble(t, split(t, wire.NewSplitter(), &f))
	if len(wholes) != 1 || !bytes.Equal(wholes[0].Bytes(), want.Bytes()) {
		t.Fatalf("put together %d datagrams, want the one sent", len(wholes))
	}
}

// TestFragmentOptions: options without the copied flag are in the first fragment
// only (RFC 791 section 3.1). All headers have the same length.
func TestFragmentOptions(t *testing.T) {
	f := wiretest.Packet{
		Src: "10.0.0.1:1", Dst: "10.0.0.2:2", Proto: wire.ProtoUDP, Payload: make([]byte, 3000),
		// security (copied), record route, router alert
		Options: []byte{0x82, 3, 4, 1, 7, 4, 0, 0, 0x94, 4, 0, 0},
	}.Frame()
	f.MTU = 1500
	want := [][]byte{
		{0x82, 3, 4, 1, 7, 4, 0, 0, 0x94, 4, 0, 0},
		{0x82, 3, 4, 1, 1, 1, 1, 1, 0x94, 4, 0, 0},
		{0x82, 3, 4, 1, 1, 1, 1, 1, 0x94, 4, 0, 0},
	}
	parts := split(t, wire.NewSplitter(), &f)
	if len(parts) != len(want) {
		t.Fatalf("%d fragments, want %d", len(parts), len(want))
	}
	for i, part := range parts {
		if got := part.Bytes()[34:46]; !bytes.Equal(got, want[i]) {
			t.Errorf("fragment %d has options %x, want %x", i, got, want[i])
		}
	}
}

// reassemble reassembles IP fragments, which gopacket decodes. It returns other
// packets as they are, and keeps the order.
func reassemble(t *testing.T, parts []wire.Frame) (wholes []wire.Frame) {
	t.Helper()
	datagrams := map[uint32]*datagram{}
	for _, part := range parts {
		id, offset, more, header, payload := fragmentOf(t, part)
		if header == nil {
			wholes = append(wholes, part)
			continue
		}
		d := datagrams[id]
		if d == nil {
			d = &datagram{header: append([]byte(nil), header...)}
			datagrams[id] = d
		}
		if offset != len(d.payload) {
			t.Fatalf("fragment of datagram %d is at %d, want %d", id, offset, len(d.payload))
		}
		d.payload = append(d.payload, payload...)
		if !more {
			wholes = append(wholes, d.frame())
			delete(datagrams, id)
		}
	}
	if len(datagrams) > 0 {
		t.Fatalf("%d datagrams never end", len(datagrams))
	}
	return wholes
}

type datagram struct{ header, payload []byte }

// frame returns the reassembled datagram.
func (d *datagram) frame() wire.Frame {
	b := append(d.header, d.payload...)
	if h := b[wire.EthernetLen:]; h[0]>>4 == 6 {
		wire.IPv6(h).SetPayloadLen(uint16(len(h) - wire.IPv6Len))
	} else {
		wire.IPv4(h).SetFragment(0, 0)
		wire.IPv4(h).SetTotalLen(uint16(len(h)))
		wire.IPv4(h).FillChecksum()
	}
	return wiretest.Frame(b)
}

// fragmentOf decodes a fragment. header is the frame before the payload, without
// the fragment header. It is nil if f is not a fragment.
func fragmentOf(t *testing.T, f wire.Frame) (id uint32, offset int, more bool, header, payload []byte) {
	t.Helper()
	d := gopacket.NewPacket(f.Bytes(), layers.LayerTypeEthernet, gopacket.Default)
	switch ip := d.NetworkLayer().(type) {
	case *layers.IPv4:
		if ip.Flags&layers.IPv4MoreFragments != 0 || ip.FragOffset != 0 {
			n := wire.EthernetLen + len(ip.Contents)
			return uint32(ip.Id), int(ip.FragOffset) * 8, ip.Flags&layers.IPv4MoreFragments != 0, f.Bytes()[:n],
				ip.Payload
		}
	case *layers.IPv6:
		if l := d.Layer(layers.LayerTypeIPv6Fragment); l != nil && ip.NextHeader == layers.IPProtocolIPv6Fragment {
			x := l.(*layers.IPv6Fragment)
			if x.Reserved1 != 0 || x.Reserved2 != 0 {
				t.Errorf("reserved bits of a fragment header are %d and %d, want 0", x.Reserved1, x.Reserved2)
			}
			header := append([]byte(nil), f.Bytes()[:wire.EthernetLen+wire.IPv6Len]...)
			header[wire.EthernetLen+6] = byte(x.NextHeader)
			return x.Identification, int(x.FragmentOffset) * 8, x.MoreFragments, header, x.Payload
		}
	}
	return 0, 0, false, nil, nil
}
