package fwd

import (
	"encoding/binary"

	"uvs/dataplane/wire"
)

// ownTTL is the TTL and hop limit of what we originate (IANA's default).
const ownTTL = 64

// ipHeader is what an IP header of ours says: one without options or
// extensions, of the family of its addresses, over the rest of the frame.
type ipHeader struct {
	src, dst wire.Addr
	proto    uint8
	ttl      uint8
	class    uint8  // TOS, traffic class
	df       bool   // IPv4
	id       uint16 // IPv4
}

// ipLen is the length of a header to or from a.
func ipLen(a wire.Addr) int {
	if a.Is4() {
		return wire.IPv4Len
	}
	return wire.IPv6Len
}

// put writes the header into f at l3 and returns what the packet now is. The
// payload is what follows to the end of the frame.
func (h *ipHeader) put(f *wire.Frame, l3 uint16) wire.Packet {
	ip := f.From(l3)
	if h.dst.Is4() {
		h.put4(ip)
	} else {
		h.put6(ip)
	}
	return wire.Packet{
		Kind: wire.KindIP, IPv6: !h.dst.Is4(), Proto: h.proto, Src: h.src, Dst: h.dst,
		L3: l3, L4: l3 + uint16(ipLen(h.dst)), Len: uint32(len(ip)),
	}
}

// putWhole is put for a transport packet without a checksum yet, which it makes.
func (h *ipHeader) putWhole(f *wire.Frame, l3 uint16) {
	p := h.put(f, l3)
	wire.FillChecksum(f, &p)
}

// put4 writes whole words and sums them as it goes: reading back what was just
// written in smaller pieces would wait for the stores (Encap 1.5 times slower).
func (h *ipHeader) put4(ip wire.IPv4) {
	words := [...]uint32{
		4<<28 | wire.IPv4Len/4<<24 | uint32(h.class)<<16 | uint32(statable(len(ip))),
		uint32(h.id) << 16,
		uint32(h.ttl)<<24 | uint32(h.proto)<<16,
		binary.BigEndian.Uint32(h.src[12:]),
		binary.BigEndian.Uint32(h.dst[12:]),
	}
	if h.df {
		words[1] |= wire.IPv4DF
	}
	sum := uint32(0)
	for i, w := range words {
		binary.BigEndian.PutUint32(ip[4*i:], w)
		sum += w>>16 + w&0xffff
	}
	ip.SetChecksum(^wire.Fold(sum))
}

func (h *ipHeader) put6(ip wire.IPv6) {
	ip.SetVersionClassFlow(h.class, 0)
	ip.SetPayloadLen(statable(len(ip) - wire.IPv6Len))
	ip.SetNextHeader(h.proto)
	ip.SetHopLimit(h.ttl)
	ip.SetSrc(h.src)
	ip.SetDst(h.dst)
}

// statable is a length as a header states it. One that it cannot state is 0, as
// Linux writes it for super-frames (BIG TCP) and wire.Parse reads it.
func statable(n int) uint16 {
	if n > wire.MaxIPLen {
		return 0
	}
	return uint16(n)
}

// SetLen says, in the IP header and in p, that the packet is n bytes long, its IP
// header included. The transport checksum, which covers the length, is left alone.
func SetLen(f *wire.Frame, p *wire.Packet, n uint32) {
	p.Len = n
	if ip := f.From(p.L3); p.IPv6 {
		wire.IPv6(ip).SetPayloadLen(statable(int(n) - wire.IPv6Len))
	} else {
		wire.IPv4(ip).ReplaceTotalLen(statable(int(n)))
	}
}
