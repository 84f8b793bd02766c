package realserver

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// decapsulate finds the inner packet in what the socket delivered, cut to the
// length in its header, and the ECN bits of the outer header.
func (s *tunnelSocket) decapsulate(b, oob []byte) (inner []byte, ecn byte, ok bool) {
	if s.header {
		if len(b) < wire.IPv4Len || len(b) < wire.IPv4(b).HeaderLen() {
			return nil, 0, false
		}
		b = b[wire.IPv4(b).HeaderLen():]
	}
	n, proto, ok := s.encap.Strip(s.proto, b)
	if !ok {
		return nil, 0, false
	}
	b = b[n:]
	length := 0
	switch {
	case proto == wire.ProtoIPIP && len(b) >= wire.IPv4Len && b[0]>>4 == 4:
		h := wire.IPv4(b)
		if length = int(h.TotalLen()); h.HeaderLen() < wire.IPv4Len || length < h.HeaderLen() {
			return nil, 0, false
		}
	case proto == wire.ProtoIPv6 && len(b) >= wire.IPv6Len && b[0]>>4 == 6:
		length = wire.IPv6Len + int(wire.IPv6(b).PayloadLen())
	default:
		return nil, 0, false
	}
	if length > len(b) {
		return nil, 0, false
	}
	return b[:length], s.ecn(oob), true
}

// ecn returns the ECN field (RFC 3168 section 5) of the outer header, from the
// only control message that listen requests: IP_TOS is a byte, IPV6_TCLASS an
// int (ip(7), ipv6(7)).
func (s *tunnelSocket) ecn(oob []byte) byte {
	switch {
	case s.outer == 4 && len(oob) >= unix.CmsgLen(1):
		return oob[unix.CmsgLen(0)] & 3
	case s.outer == 6 && len(oob) >= unix.CmsgLen(4):
		return byte(binary.NativeEndian.Uint32(oob[unix.CmsgLen(0):])) & 3
	}
	return 0
}

// destination returns the destination address of a packet that decapsulate
// accepted.
func destination(inner []byte) netip.Addr {
	if inner[0]>>4 == 4 {
		return wire.IPv4(inner).Dst().Netip()
	}
	return wire.IPv6(inner).Dst().Netip()
}

// completeChecksum completes a partial checksum of TCP or UDP. Segmentation or
// receive offload on the path leaves one, in a packet that may be many segments
// in one, and a raw socket does not report it. A checksum is partial if the
// field holds the sum of the pseudo-header and the packet does not add up.
func completeChecksum(inner []byte) {
	var src, dst wire.Addr
	var proto uint8
	var l4 []byte
	if inner[0]>>4 == 4 {
		h := wire.IPv4(inner)
		if h.MF() || h.FragmentOffset() > 0 {
			return
		}
		src, dst, proto, l4 = h.Src(), h.Dst(), h.Protocol(), h[h.HeaderLen():]
	} else {
		h := wire.IPv6(inner)
		src, dst, proto, l4 = h.Src(), h.Dst(), h.NextHeader(), h[wire.IPv6Len:]
	}
	pseudo := wire.PseudoSum(src, dst, proto, uint32(len(l4)))
	half := func(field uint16) bool {
		return field == wire.Fold(pseudo) && wire.Fold(wire.Sum(l4, pseudo)) != 0xffff
	}
	switch {
	case proto == wire.ProtoTCP && len(l4) >= wire.TCPLen:
		if h := wire.TCP(l4); half(h.Checksum()) {
			h.SetChecksum(^wire.Fold(wire.Sum(l4, 0)))
		}
	case proto == wire.ProtoUDP && len(l4) >= wire.UDPLen:
		if h := wire.UDP(l4); half(h.Checksum()) {
			sum := ^wire.Fold(wire.Sum(l4, 0))
			if sum == 0 {
				sum = 0xffff // zero means no checksum, RFC 768
			}
			h.SetChecksum(sum)
		}
	}
}
