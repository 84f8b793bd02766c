package fwd

import (
	"encoding/binary"

	"uvs/dataplane/wire"
)

// GUEPort is the UDP port of GUE (IANA).
const GUEPort = 6080

// The headers between outer and inner IP header. GUE is a UDP header and,
// draft-ietf-intarea-gue-09 section 3:
//
//	+---+-+---------+---------------+-------------------------------+
//	| 0 |C|  Hlen   | Proto (4, 41) |            Flags              | 0
//	+---+-+---------+---------------+-------------------------------+
//
// GRE is, RFC 2784 section 2, the second row only if C is set:
//
//	+-+-----------------------+-----+-------------------------------+
//	|C|     Reserved (0)      | Ver |          EtherType            | 0
//	+-+-----------------------+-----+-------------------------------+
//	|           Checksum            |          Reserved             | 4
//	+-------------------------------+-------------------------------+
const (
	gueLen         = 4
	greLen         = 4
	greChecksumLen = 4
	greChecksumBit = 0x8000 // of the first word
)

// shimLen is the length of the headers between the IP headers.
func (t *Tunnel) shimLen() int {
	switch {
	case t.Type == GUE:
		return wire.UDPLen + gueLen
	case t.Type == GRE && t.Checksum:
		return greLen + greChecksumLen
	case t.Type == GRE:
		return greLen
	}
	return 0
}

// putShim writes the headers behind the outer IP header, which is written
// already. Checksums are those of the frame as it is: whoever cuts up a
// super-frame makes them anew for the pieces.
func (t *Tunnel) putShim(f *wire.Frame, outer, inner *wire.Packet, flow uint16) {
	b := f.From(outer.L4)
	switch t.Type {
	case GUE:
		u := wire.UDP(b)
		u.SetSrcPort(flow)
		u.SetDstPort(t.Port)
		u.SetLen(statable(len(b)))
		u.SetChecksum(0)
		copy(b[wire.UDPLen:], []byte{0, protoOf(inner), 0, 0})
		if t.Checksum {
			wire.FillChecksum(f, outer)
		}
	case GRE:
		flags := uint16(0)
		if t.Checksum {
			flags = greChecksumBit
			binary.BigEndian.PutUint32(b[greLen:], 0)
		}
		binary.BigEndian.PutUint16(b, flags)
		binary.BigEndian.PutUint16(b[2:], etherType(inner.IPv6))
		if t.Checksum {
			binary.BigEndian.PutUint16(b[greLen:], ^wire.Fold(wire.Sum(b, 0)))
		}
	}
}

// shimIn finds the packet in tunnel packet p: how many bytes behind p's IP header
// it starts, and its protocol number. ok is false if p is no tunnel packet that
// Encap could have made, or its checksum is wrong.
func shimIn(f *wire.Frame, p *wire.Packet) (n int, proto uint8, ok bool) {
	b := f.From(p.L4)
	switch {
	case p.Proto == wire.ProtoUDP && p.DstPort == GUEPort && len(b) >= wire.UDPLen+gueLen:
		gue := b[wire.UDPLen:]
		n, proto = wire.UDPLen+gueLen, gue[1]
		// RFC 6935 lets tunnels over IPv6 go without a UDP checksum.
		ok = gue[0] == 0 && gue[2] == 0 && gue[3] == 0 &&
			(wire.UDP(b).Checksum() == 0 || wire.VerifyChecksum(f, p))
	case p.Proto == wire.ProtoGRE && len(b) >= greLen:
		n, proto, ok = greIn(b)
	default:
		proto, ok = p.Proto, true
	}
	return n, proto, ok && (proto == wire.ProtoIPIP || proto == wire.ProtoIPv6)
}

// greIn is shimIn for GRE.
func greIn(b []byte) (n int, proto uint8, ok bool) {
	switch binary.BigEndian.Uint16(b) {
	case 0:
		n = greLen
	case greChecksumBit:
		n = greLen + greChecksumLen
		if len(b) < n || wire.Fold(wire.Sum(b, 0)) != 0xffff {
			return 0, 0, false
		}
	default:
		return 0, 0, false
	}
	switch binary.BigEndian.Uint16(b[2:]) {
	case wire.EtherTypeIPv4:
		return n, wire.ProtoIPIP, true
	case wire.EtherTypeIPv6:
		return n, wire.ProtoIPv6, true
	}
	return 0, 0, false
}
