package wire

import (
	"encoding/binary"
	"hash/crc32"
)

// ChecksumDelta is what a rewrite of addresses and ports does to the transport checksum
// of a packet. Collect the changes, rewrite the headers, then Apply:
//
//	wire.ChecksumDelta{}.Addr(vip, rip).Port(vport, rport).Apply(f, p)
type ChecksumDelta struct {
	addrs, ports uint32 // sums of the new words minus the old ones
	ported       bool   // some port really changed
}

// Addr adds the change of an address of the IP header.
func (x ChecksumDelta) Addr(old, new Addr) ChecksumDelta {
	x.addrs += uint32(^uint16(sumAddr(&old))) + sumAddr(&new)
	return x
}

// Port adds the change of a port of the transport header.
func (x ChecksumDelta) Port(old, new uint16) ChecksumDelta {
	x.ports += uint32(^old) + uint32(new)
	x.ported = x.ported || old != new
	return x
}

// Apply repairs the transport checksum of p, whose headers are rewritten
// already. A wrong checksum stays wrong, as it must.
//
//   - A finished checksum changes by the difference of all words (RFC 1624).
//   - A half-made one is the pseudo-header's sum, not complemented: addresses
//     change it the other way round, ports not at all.
//   - UDP without a checksum gets a full one, as in IPVS, and keeps none in a
//     fragment, of which the rest is not at hand.
//   - ICMPv6 covers the addresses; ICMP covers neither.
//   - SCTP covers the ports, with a CRC that is made anew if one changed. In a
//     fragment that cannot be done.
func (x ChecksumDelta) Apply(f *Frame, p *Packet) {
	field := checksumField(f, p)
	if field == nil || p.Proto == ProtoICMP {
		return
	}
	if p.Proto == ProtoSCTP {
		if x.ported {
			FillChecksum(f, p)
		}
		return
	}
	check := binary.BigEndian.Uint16(field)
	switch {
	case f.partialAt(p):
		check = Fold(uint32(check) + uint32(Fold(x.addrs)))
	case p.Proto == ProtoUDP && check == 0:
		FillChecksum(f, p)
		return
	default:
		check = ^Fold(uint32(^check) + uint32(Fold(x.addrs)) + uint32(Fold(x.ports)))
		check = wireChecksum(p.Proto, check)
	}
	binary.BigEndian.PutUint16(field, check)
}

// wireChecksum is how a finished checksum is sent: UDP writes 0 as 0xffff,
// because 0 says that there is none (RFC 768).
func wireChecksum(proto uint8, check uint16) uint16 {
	if proto == ProtoUDP && check == 0 {
		return 0xffff
	}
	return check
}

// partialAt says whether the half-made checksum of f is the one of p, rather
// than of a packet inside it.
func (f *Frame) partialAt(p *Packet) bool { return f.ChecksumPartial() && f.Offload.CsumStart == p.L4 }

// checksumField is the transport checksum of p, nil if there is none we know of
// or it is in another fragment.
func checksumField(f *Frame, p *Packet) []byte {
	at, size := 0, 2
	switch p.Proto {
	case ProtoTCP:
		at = tcpChecksum
	case ProtoUDP:
		at = udpChecksum
	case ProtoICMP, ProtoICMPv6:
		if p.IPv6 != (p.Proto == ProtoICMPv6) {
			return nil
		}
		at = icmpChecksum
	case ProtoSCTP:
		at, size = SCTPChecksum, 4
	default:
		return nil
	}
	t := f.From(p.L4)
	if p.Fragment == FragmentLater || len(t) < at+size {
		return nil
	}
	return t[at : at+size]
}

// FillChecksum computes the transport checksum of p anew, from the addresses
// that now stand in its header and p.Len. A half-made checksum is again made by
// half, except SCTP's, which no device is asked to finish: virtio_net_hdr cannot
// tell a CRC from a sum. Nothing is done to fragments.
func FillChecksum(f *Frame, p *Packet) {
	field := checksumField(f, p)
	if field == nil || p.Fragment != FragmentNone {
		return
	}
	covered := transport(f, p)
	switch {
	case p.Proto == ProtoSCTP:
		if f.partialAt(p) {
			f.Offload.Flags &^= OffloadNeedsCsum
		}
		fillCRC(covered)
	case f.partialAt(p):
		binary.BigEndian.PutUint16(field, Fold(pseudo(f, p, len(covered))))
	default:
		binary.BigEndian.PutUint16(field, 0)
		sum := Sum(covered, pseudo(f, p, len(covered)))
		binary.BigEndian.PutUint16(field, wireChecksum(p.Proto, ^Fold(sum)))
	}
}

// VerifyChecksum says whether the transport checksum of p is right. It is
// taken for right where there is nothing to verify: half made, absent from a UDP
// packet over IPv4, of a fragment, or of a protocol without one.
func VerifyChecksum(f *Frame, p *Packet) bool {
	field := checksumField(f, p)
	if field == nil || p.Fragment != FragmentNone || f.partialAt(p) {
		return true
	}
	covered := transport(f, p)
	switch {
	case p.Proto == ProtoSCTP:
		return binary.LittleEndian.Uint32(field) == crcOf(covered)
	case p.Proto == ProtoUDP && binary.BigEndian.Uint16(field) == 0:
		return !p.IPv6 // RFC 8200 section 8.1
	}
	return Fold(Sum(covered, pseudo(f, p, len(covered)))) == 0xffff
}

// transport is what the transport checksum of p covers besides the
// pseudo-header. UDP has a length of its own, which may end before the packet's.
func transport(f *Frame, p *Packet) []byte {
	t := f.From(p.L4)
	if end := int(p.L3) + int(p.Len) - int(p.L4); end >= 0 && end < len(t) {
		t = t[:end]
	}
	if p.Proto == ProtoUDP {
		if n := int(UDP(t).Len()); n >= UDPLen && n < len(t) {
			t = t[:n]
		}
	}
	return t
}

// pseudo is the sum of the pseudo-header of p as it now stands in the frame,
// for a transport packet of length bytes; 0 for ICMP, which has none.
func pseudo(f *Frame, p *Packet, length int) uint32 {
	h := f.From(p.L3)
	switch {
	case p.Proto == ProtoICMP:
		return 0
	case p.IPv6:
		return PseudoSum(IPv6(h).Src(), IPv6(h).Dst(), p.Proto, uint32(length))
	}
	return PseudoSum(IPv4(h).Src(), IPv4(h).Dst(), p.Proto, uint32(length))
}

// FinishChecksum completes a half-made checksum over the bytes that are there,
// to the end of the frame, and makes f a plain finished frame in that respect.
// It must not be used on a super-frame, whose pieces have checksums of their own.
func FinishChecksum(f *Frame) {
	if !f.ChecksumPartial() {
		return
	}
	f.Offload.Flags &^= OffloadNeedsCsum
	b, offset := f.Bytes(), int(f.Offload.CsumOffset)
	start := int(f.Offload.CsumStart)
	if start > len(b) {
		return
	}
	b = b[start:]
	switch {
	case offset == SCTPChecksum && len(b) >= SCTPLen:
		fillCRC(b)
	case offset+2 <= len(b):
		check := ^Fold(Sum(b, 0)) // the field holds the pseudo-header's share
		if offset == udpChecksum {
			check = wireChecksum(ProtoUDP, check)
		}
		binary.BigEndian.PutUint16(b[offset:], check)
	}
}

// castagnoli is the polynomial of SCTP's CRC32c, RFC 9260 appendix A.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crcOf is the CRC32c of an SCTP packet, computed as if its field were 0.
func crcOf(t []byte) uint32 {
	crc := crc32.Update(0, castagnoli, t[:SCTPChecksum])
	crc = crc32.Update(crc, castagnoli, zeros[:])
	return crc32.Update(crc, castagnoli, t[SCTPChecksum+4:])
}

var zeros [4]byte

// fillCRC writes the CRC32c of an SCTP packet, its bytes in reverse order as
// RFC 9260 appendix A has it.
func fillCRC(t []byte) { binary.LittleEndian.PutUint32(t[SCTPChecksum:], crcOf(t)) }
