package realserver

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// decapsulate finds the inner packet of what the socket gave, cut to the length its
// header states, and the ECN bits of the outer header.
func (s *tunnelSocket) decapsulate(b, oob []byte) (inner []byte, ecn byte, ok bool) {
	if s.header {
		if len(b) < wire.IPv4Len || len(b) < wire.IPv4(b).HeaderLen() {
			return nil, 0, false
		}
		b = b[wire.IPv4(b).HeaderLen():]
	}
	b, version, ok := s.shim(b)
	if !ok {
		return nil, 0, false
	}
	length := 0
	switch {
	case version == 4 && len(b) >= wire.IPv4Len && b[0]>>4 == 4:
		h := wire.IPv4(b)
		if length = int(h.TotalLen()); h.HeaderLen() < wire.IPv4Len || length < h.HeaderLen() {
			return nil, 0, false
		}
	case version == 6 && len(b) >= wire.IPv6Len && b[0]>>4 == 6:
		length = wire.IPv6Len + int(wire.IPv6(b).PayloadLen())
	default:
		return nil, 0, false
	}
	if length > len(b) {
		return nil, 0, false
	}
	return b[:length], s.ecn(oob), true
}

// ecn reads the only control message asked for: IP_TOS is a byte, IPV6_TCLASS an
// int (ip(7), ipv6(7)).
func (s *tunnelSocket) ecn(oob []byte) byte {
	switch {
	case s.outer == 4 && len(oob) >= unix.CmsgLen(1):
		return oob[unix.CmsgLen(0)] & ecnMask
	case s.outer == 6 && len(oob) >= unix.CmsgLen(4):
		return byte(binary.NativeEndian.Uint32(oob[unix.CmsgLen(0):])) & ecnMask
	}
	return 0
}

// destination returns the destination address of a packet unwrap found good.
func destination(inner []byte) netip.Addr {
	if inner[0]>>4 == 4 {
		return wire.IPv4(inner).Dst().Netip()
	}
	return wire.IPv6(inner).Dst().Netip()
}

// Values of the ECN field, the last two bits of the TOS or traffic class (RFC
// 3168 section 5).
const (
	ecnMask = 3
	ecnNone = 0
	ecnCE   = 3
)

// combineECN carries "congestion experienced" from the outer header to the
// inner one, and reports false for a packet that must be dropped because its
// sender would not understand (RFC 6040 section 4.2).
func combineECN(inner []byte, outer byte) bool {
	if outer != ecnCE {
		return true
	}
	if inner[0]>>4 == 6 {
		h := wire.IPv6(inner)
		if h.TrafficClass()&ecnMask == ecnNone {
			return false
		}
		h[1] |= ecnCE << 4 // the traffic class straddles the first two bytes
		return true
	}
	h := wire.IPv4(inner)
	if h.TOS()&ecnMask == ecnNone {
		return false
	}
	h.ReplaceTOS(h.TOS() | ecnCE)
	return true
}

// completeChecksum finishes the checksum of TCP and UDP where it is half made.
// Segmentation or receive offload on the way leaves it so, in a packet that may
// then be many segments in one, and a raw socket does not tell. It shows: the
// field holds the sum of the pseudo-header, and the packet does not add up.
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
				sum = 0xffff // zero means none, RFC 768
			}
			h.SetChecksum(sum)
		}
	}
}
