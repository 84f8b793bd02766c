package wire

import (
	"encoding/binary"
	"hash/crc32"
)

// ChecksumDelta is the effect of a rewrite of addresses and ports on the transport
// checksum of a packet. Collect the changes, rewrite the headers, then Apply:
//
//	wire.ChecksumDelta{}.Addr(vip, rip).Port(vport, rport).Apply(f, p)
type ChecksumDelta struct {
	addrs, ports uint32 // sums of the new words minus the old ones
	portChanged  bool
}

// Addr adds the change of an address in the IP header.
func (x ChecksumDelta) Addr(old, new Addr) ChecksumDelta {
	x.addrs += uint32(^uint16(sumAddr(&old))) + sumAddr(&new)
	return x
}

// Port adds the change of a port in the transport header.
func (x ChecksumDelta) Port(old, new uint16) ChecksumDelta {
	x.ports += uint32(^old) + uint32(new)
	x.portChanged = x.portChanged || old != new
	return x
}

// Apply updates the transport checksum of p, whose headers are rewritten already.
// A wrong checksum stays wrong, as it must.
//
//   - A complete checksum changes by the difference of all words (RFC 1624).
//   - A partial checksum is the pseudo-header's sum, not complemented. It changes
//     by the difference of the addresses, with the opposite sign.
//   - UDP without a checksum gets a full one, as in IPVS. In a fragment it stays
//     without, because the rest of the datagram is elsewhere.
//   - ICMPv6's checksum covers the addresses. ICMP's covers neither addresses
//     nor ports.
//   - SCTP's CRC covers the ports, and is computed again if one changed. A
//     fragment keeps its CRC, which is then wrong: the caller must prevent that.
func (x ChecksumDelta) Apply(f *Frame, p *Packet) {
	field := checksumField(f, p)
	if field == nil || p.Proto == ProtoICMP {
		return
	}
	if p.Proto == ProtoSCTP {
		if x.portChanged {
			FillChecksum(f, p)
		}
		return
	}
	check := binary.BigEndian.Uint16(field)
	switch {
	case f.ChecksumPartialOf(p):
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

// wireChecksum returns the value of the checksum field for a complete checksum.
// UDP writes 0 as 0xffff, because 0 means that there is none (RFC 768).
func wireChecksum(proto uint8, check uint16) uint16 {
	if proto == ProtoUDP && check == 0 {
		return 0xffff
	}
	return check
}

// ChecksumPartialOf reports whether the partial checksum of f is that of p, and
// not of a packet inside p.
func (f *Frame) ChecksumPartialOf(p *Packet) bool {
	return f.ChecksumPartial() && f.Offload.CsumStart == p.L4
}

// checksumField returns the transport checksum of p. It is nil for a protocol
// that is not known here, and if the checksum is in another fragment.
func checksumField(f *Frame, p *Packet) []byte {
	at, size := 0, 2
	switch p.Proto {
	case ProtoTCP:
		at = tcpChecksum
	case ProtoUDP:
		at = UDPChecksum
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

// FillChecksum computes the transport checksum of p from p.Len and the addresses that
// are now in its header. A partial checksum stays partial. Only SCTP's is completed,
// because virtio_net_hdr cannot ask a device for a CRC. Fragments are left alone.
func FillChecksum(f *Frame, p *Packet) {
	field := checksumField(f, p)
	if field == nil || p.Fragment != FragmentNone {
		return
	}
	covered := transport(f, p)
	switch {
	case p.Proto == ProtoSCTP:
		if f.ChecksumPartialOf(p) {
			f.Offload.Flags &^= OffloadNeedsCsum
		}
		fillCRC(covered)
	case f.ChecksumPartialOf(p):
		binary.BigEndian.PutUint16(field, Fold(pseudo(f, p, len(covered))))
	default:
		binary.BigEndian.PutUint16(field, 0)
		sum := Sum(covered, pseudo(f, p, len(covered)))
		binary.BigEndian.PutUint16(field, wireChecksum(p.Proto, ^Fold(sum)))
	}
}

// FillTunnelChecksum computes the checksum at f.TunnelCsum, after the outer IP header
// of p. UDP's also covers the pseudo-header. Any other covers all bytes from its own
// header on (GRE: RFC 2784 section 2.1).
func FillTunnelChecksum(f *Frame, p *Packet) {
	switch t := f.From(p.L4); {
	case f.TunnelCsum == 0:
	case p.Proto == ProtoUDP:
		FillChecksum(f, p)
	default:
		binary.BigEndian.PutUint16(t[f.TunnelCsum:], 0)
		binary.BigEndian.PutUint16(t[f.TunnelCsum:], ^Fold(Sum(t, 0)))
	}
}

// VerifyChecksum reports whether the transport checksum of p is right. It returns
// true if there is nothing to verify: a partial checksum, none in a UDP packet
// over IPv4, a fragment, or a protocol without checksum.
func VerifyChecksum(f *Frame, p *Packet) bool {
	field := checksumField(f, p)
	if field == nil || p.Fragment != FragmentNone || f.ChecksumPartialOf(p) {
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

// transport returns the bytes that the transport checksum of p covers besides the
// pseudo-header. UDP's length field may end before the packet does.
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

// pseudo returns the sum of the pseudo-header of p, from the addresses that are
// now in the frame. length counts the bytes of transport header and payload. ICMP
// has no pseudo-header: 0.
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

// FinishChecksum completes the partial checksum of f, over the bytes from CsumStart
// to the end of the frame, and clears OffloadNeedsCsum. f must not be a GSO frame,
// because every segment needs another checksum.
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
		check := ^Fold(Sum(b, 0)) // the field holds the sum of the pseudo-header
		if offset == UDPChecksum {
			check = wireChecksum(ProtoUDP, check)
		}
		binary.BigEndian.PutUint16(b[offset:], check)
	}
}

// castagnoli is the polynomial of SCTP's CRC32c, RFC 9260 appendix A.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crcOf returns the CRC32c of an SCTP packet, computed with a checksum field of 0.
func crcOf(t []byte) uint32 {
	crc := crc32.Update(0, castagnoli, t[:SCTPChecksum])
	crc = crc32.Update(crc, castagnoli, zeros[:])
	return crc32.Update(crc, castagnoli, t[SCTPChecksum+4:])
}

var zeros [4]byte

// fillCRC writes the CRC32c of an SCTP packet, in the byte order of RFC 9260
// appendix A.
func fillCRC(t []byte) { binary.LittleEndian.PutUint32(t[SCTPChecksum:], crcOf(t)) }
