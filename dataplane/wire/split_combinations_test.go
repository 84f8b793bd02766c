package wire_test

import (
	"bytes"
	"fmt"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// tagOffset is the offset of the first VLAN tag: behind both MAC addresses.
const tagOffset = 12

// pushTags inserts VLAN tags into a frame, as the receiving ring does: the offsets
// of its Offload move with the headers.
func pushTags(f *wire.Frame, tags []byte) {
	copy(f.Buf[int(f.Off)-len(tags):], f.Bytes()[:tagOffset])
	f.Off -= int32(len(tags))
	copy(f.Bytes()[tagOffset:], tags)
	if f.ChecksumPartial() {
		f.Offload.CsumStart += uint16(len(tags))
		f.Offload.HdrLen += uint16(len(tags))
	}
}

// popTags returns a copy of f without the tags, which it must have.
func popTags(t *testing.T, f wire.Frame, tags []byte) wire.Frame {
	t.Helper()
	b := f.Bytes()
	if !bytes.HasPrefix(b[tagOffset:], tags) {
		t.Fatalf("a part without its tags % x: % x", tags, b[:min(len(b), 30)])
	}
	plain := wiretest.Frame(append(append([]byte(nil), b[:tagOffset]...), b[tagOffset+len(tags):]...))
	if plain.Offload = f.Offload; f.ChecksumPartial() {
		plain.Offload.CsumStart -= uint16(len(tags))
	}
	return plain
}

// TestSplitCombinations: Split and FinishChecksum send what a device with offloads
// would have sent. The combinations are every protocol and family; zero, one and
// two VLAN tags; every tunnel, and none; a short packet, fragments, segments, and
// fragments of segments; a complete and a partial checksum.
func TestSplitCombinations(t *testing.T) {
	const mtu = 1000
	shapes := []struct {
		name          string
		payload, size int // bytes; size: the GSO size
	}{
		{"fits", 301, 0},
		{"fragments", 3001, 0},
		{"segments", 6001, 501},
		{"segments too long", 6001, 1501},
	}
	r, s := newRandom(t), wire.NewSplitter()
	cells := 0
	for _, proto := range []uint8{wire.ProtoTCP, wire.ProtoUDP, wire.ProtoSCTP} {
		for _, ipv6 := range []bool{false, true} {
			for kind := range tunnels {
				for _, tags := range [][]byte{nil, {0x81, 0, 0, 7}, {0x88, 0xa8, 0x20, 5, 0x81, 0, 0, 7}} {
					for _, shape := range shapes {
						for _, partial := range []bool{false, true} {
							switch {
							// the receiving link completes it
							case proto == wire.ProtoSCTP && (partial || shape.size > 0):
								continue
							case shape.size > 0 && !partial: // a GSO frame always has a partial checksum
								continue
							// routers do not fragment IPv6
							case kind == 0 && ipv6 &&
								(shape.name == "fragments" || proto == wire.ProtoUDP && shape.size > mtu):
								continue
							}
							desc := r.packet(proto, ipv6, shape.payload)
							desc.TCPFlags, desc.GSOSize, desc.PartialChecksum = wire.TCPAck, uint16(shape.size), partial
							name := fmt.Sprintf("protocol %d, IPv6 %v, %s, tags % x, %s, partial %v", proto, ipv6,
								tunnels[kind].name, tags, shape.name, partial)
							f := desc.Frame()
							encap(&f, kind)
							outer := int(f.TunnelLen)
							pushTags(&f, tags)
							f.MTU = mtu
							checkSplit(t, s, name, &f, desc, tags, outer)
							cells++
						}
					}
				}
			}
		}
	}
	if cells < 500 {
		t.Errorf("%d combinations, want hundreds", cells)
	}
}

// checkSplit splits f, which is desc behind outer bytes of tunnel headers, and
// compares the packets that leave the tunnel.
func checkSplit(t *testing.T, s *wire.Splitter, name string, f *wire.Frame, desc wiretest.Packet, tags []byte,
	outer int,
) {
	t.Helper()
	s.Reset()
	parts, ok := s.Split(f)
	if !ok {
		t.Fatalf("%s: cannot be split", name)
	}
	var plain []wire.Frame
	for _, part := range parts {
		p := popTags(t, part, tags)
		if n := p.Len() - wire.EthernetLen; n > int(f.MTU) {
			t.Errorf("%s: a packet of %d bytes, longer than the MTU", name, n)
		}
		wiretest.Check(t, p)
		plain = append(plain, p)
	}
	at := 0
	for i, whole := range reassemble(t, plain) {
		got := decap(whole, outer, desc.Src[0] == '[')
		if whole.ChecksumPartial() { // it fits: the device completes it
			got.Offload = whole.Offload
			wire.FinishChecksum(&got)
		}
		want := desc
		n := f.Len() // at most the rest
		if desc.GSOSize > 0 {
			n = len(got.Bytes()) - headersOf(desc)
		}
		want.Payload = desc.Payload[at:min(at+n, len(desc.Payload))]
		want.ID, want.Seq, want.GSOSize, want.PartialChecksum = desc.ID+uint16(i), desc.Seq+uint32(at), 0, false
		if w := want.Frame(); !bytes.Equal(got.Bytes(), w.Bytes()) {
			t.Fatalf("%s: packet %d is\n%x\nwant\n%x", name, i, got.Bytes(), w.Bytes())
		}
		at += len(want.Payload)
	}
	if at != len(desc.Payload) {
		t.Fatalf("%s: %d bytes arrive of %d", name, at, len(desc.Payload))
	}
	if t.Failed() {
		t.Fatal(name)
	}
}

// headersOf returns the length of a packet's headers in bytes, with Ethernet's.
func headersOf(desc wiretest.Packet) int {
	desc.GSOSize, desc.PartialChecksum, desc.Payload = 0, false, nil
	f := desc.Frame()
	return f.Len()
}
