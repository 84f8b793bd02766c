package fwd

import (
	"encoding/binary"

	"uvs/dataplane/wire"
)

// IPHeader is an IP header to write, without options or extension headers and of
// the family of its addresses.
type IPHeader struct {
	Src, Dst wire.Addr
	Proto    uint8
	TTL      uint8
	Class    uint8  // TOS, traffic class
	DF       bool   // IPv4
	ID       uint16 // IPv4
}

// IPLen returns the length of a header to or from a.
func IPLen(a wire.Addr) int { return wire.ByFamily(!a.Is4(), wire.IPv4Len, wire.IPv6Len) }

// Put writes the header into f at offset l3 and returns the packet, whose payload is
// the rest of the frame.
func (h *IPHeader) Put(f *wire.Frame, l3 uint16) wire.Packet {
	ip := f.From(l3)
	if h.Dst.Is4() {
		h.put4(ip)
	} else {
		h.put6(ip)
	}
	return wire.Packet{
		Kind: wire.KindIP, IPv6: !h.Dst.Is4(), Proto: h.Proto, Src: h.Src, Dst: h.Dst,
		L3: l3, L4: l3 + uint16(IPLen(h.Dst)), Len: uint32(len(ip)),
	}
}

// PutWithChecksum is Put that also fills in the checksum of the transport header
// after it.
func (h *IPHeader) PutWithChecksum(f *wire.Frame, l3 uint16) {
	p := h.Put(f, l3)
	wire.FillChecksum(f, &p)
}

// put4 writes whole words and sums them as it goes. Reading them back in smaller
// pieces would wait for the stores: Tunnel.Encap takes 1.5 times as long.
func (h *IPHeader) put4(ip wire.IPv4) {
	words := [...]uint32{
		4<<28 | wire.IPv4Len/4<<24 | uint32(h.Class)<<16 | uint32(LengthField(len(ip))),
		uint32(h.ID) << 16,
		uint32(h.TTL)<<24 | uint32(h.Proto)<<16,
		binary.BigEndian.Uint32(h.Src[12:]),
		binary.BigEndian.Uint32(h.Dst[12:]),
	}
	if h.DF {
		words[1] |= wire.IPv4DF
	}
	sum := uint32(0)
	for i, w := range words {
		binary.BigEndian.PutUint32(ip[4*i:], w)
		sum += w>>16 + w&0xffff
	}
	ip.SetChecksum(^wire.Fold(sum))
}

func (h *IPHeader) put6(ip wire.IPv6) {
	ip.SetVersionClassFlow(h.Class, 0)
	ip.SetPayloadLen(LengthField(len(ip) - wire.IPv6Len))
	ip.SetNextHeader(h.Proto)
	ip.SetHopLimit(h.TTL)
	ip.SetSrc(h.Src)
	ip.SetDst(h.Dst)
}

// LengthField returns a length as a 16-bit field of a header has it. A length that does
// not fit is 0, as Linux writes it for GSO frames (BIG TCP) and wire.Parse reads it.
func LengthField(n int) uint16 {
	if n > wire.MaxIPLen {
		return 0
	}
	return uint16(n)
}

// SetLen sets the length of the packet, IP header included, to n bytes in its IP
// header and in p. It leaves the transport checksum, which covers the length, alone.
func SetLen(f *wire.Frame, p *wire.Packet, n uint32) {
	p.Len = n
	if ip := f.From(p.L3); p.IPv6 {
		wire.IPv6(ip).SetPayloadLen(LengthField(int(n) - wire.IPv6Len))
	} else {
		wire.IPv4(ip).ReplaceTotalLen(LengthField(int(n)))
	}
}

// TTL returns the packet's TTL (RFC 791) or hop limit (RFC 8200).
func TTL(f *wire.Frame, p *wire.Packet) uint8 {
	ip := f.Bytes()[p.L3:]
	if p.IPv6 {
		return wire.IPv6(ip).HopLimit()
	}
	return wire.IPv4(ip).TTL()
}

// TTLExpired reports whether the packet may not be forwarded any further: its TTL
// or hop limit is 1 or less.
func TTLExpired(f *wire.Frame, p *wire.Packet) bool { return TTL(f, p) <= 1 }

// DecTTL takes one off the TTL or hop limit, which must not be 0.
func DecTTL(f *wire.Frame, p *wire.Packet) {
	ip := f.Bytes()[p.L3:]
	if p.IPv6 {
		h := wire.IPv6(ip)
		h.SetHopLimit(h.HopLimit() - 1)
		return
	}
	wire.IPv4(ip).DecTTL()
}

// DontFragment reports whether a router must not fragment the packet: IPv4 with
// DF set, and all of IPv6.
func DontFragment(f *wire.Frame, p *wire.Packet) bool {
	return p.IPv6 || wire.IPv4(f.Bytes()[p.L3:]).DF()
}

// TooLong reports whether the packet, with outer bytes of tunnel headers before it,
// is longer than mtu. Of a GSO frame the length of a segment counts.
func TooLong(f *wire.Frame, p *wire.Packet, mtu, outer int) bool {
	n := int(p.Len)
	if f.IsGSO() && f.Offload.GSOSize != 0 && p.Fragment != wire.FragmentLater {
		n = min(n, segmentHeaderLen(f, p)+int(f.Offload.GSOSize))
	}
	return n+outer > mtu
}

// segmentHeaderLen returns the length of the IP and transport headers that every segment of a
// GSO frame repeats.
func segmentHeaderLen(f *wire.Frame, p *wire.Packet) int {
	n := int(p.L4) - int(p.L3) - wire.JumboLen(f.Bytes(), int(p.L3))
	if p.Proto == wire.ProtoTCP {
		return n + wire.TCP(f.Bytes()[p.L4:]).HeaderLen()
	}
	return n + wire.UDPLen
}
