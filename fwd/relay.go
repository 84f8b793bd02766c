package fwd

import "uvs/dataplane/wire"

// ReportedMTU is what an ICMP error says the next link takes (RFC 1191 section
// 4, RFC 4443 section 3.2), if it is about a packet that was too long. It is 0 of
// routers that know no path MTU discovery.
func ReportedMTU(f *wire.Frame, p *wire.Packet) (mtu int, ok bool) {
	if !p.IPv6 && (p.ICMPType != wire.ICMPUnreachable || p.ICMPCode != wire.ICMPCodeTooBig) ||
		p.IPv6 && p.ICMPType != wire.ICMPv6TooBig {
		return 0, false
	}
	rest := wire.ICMP(f.From(p.L4)).Rest()
	if !p.IPv6 {
		return int(rest & 0xffff), true
	}
	return int(min(rest, wire.MaxIPLen)), true
}

// QuotedInner finds the packet in a tunnel packet of ours that an ICMP error
// quotes: where it begins in the frame. A quote is cut off, so no checksum is
// looked at. False if it is no tunnel packet, or cut off before.
func QuotedInner(f *wire.Frame, outer *wire.Packet) (at int, ok bool) {
	at = int(outer.L4)
	b := f.From(outer.L4)[:int(outer.Len)-int(outer.L4-outer.L3)]
	switch outer.Proto {
	case wire.ProtoIPIP, wire.ProtoIPv6:
	case wire.ProtoUDP:
		at += wire.UDPLen + gueLen
	case wire.ProtoGRE:
		if at += greLen; len(b) > 0 && b[0]&(greChecksumBit>>8) != 0 {
			at += greChecksumLen
		}
	default:
		return 0, false
	}
	return at, at-int(outer.L4) < len(b)
}

// StatedLen is the length that a packet's header states, of which an ICMP error
// quotes only a part.
func StatedLen(f *wire.Frame, p *wire.Packet) int {
	ip := f.From(p.L3)
	if p.IPv6 {
		return wire.IPv6Len + int(wire.IPv6(ip).PayloadLen())
	}
	return int(wire.IPv4(ip).TotalLen())
}

// ErrorFromTunnel turns ICMP error p, which is about a tunnel packet with packet
// in inside, into one about in: from src to in's source, with the mtu that in
// should have had, or 0; link is the MTU of the link it leaves by. Afterwards
// neither p nor in holds any longer. The frame has no way yet.
//
// False, and the frame untouched, if in must not be answered (see ICMPError).
func ErrorFromTunnel(f *wire.Frame, p, in *wire.Packet, src wire.Addr, mtu uint32, link int) bool {
	if !refusable(f, in, src) {
		return false
	}
	m := relayed(f, p, in)
	taken := in.L3 - p.L3
	moveLink(f, p, -int(taken))
	in.L3, in.L4 = in.L3-taken, in.L4-taken
	setEtherType(f, in, in.IPv6)
	putError(f, in, m, src, mtu, link)
	return true
}

// relayed is what the sender of in is told of error p. Type and code stay if both
// are of one family, as in IPVS; but not those of a parameter problem, which points
// into headers that are not in's. Of that, and of what the families do not have in
// common, it learns that its server cannot be reached (RFC 2473 section 8, RFC
// 4213 section 3.4).
func relayed(f *wire.Frame, p, in *wire.Packet) message {
	parameter := uint8(wire.ICMPParameter)
	if p.IPv6 {
		parameter = wire.ICMPv6Parameter
	}
	if _, tooBig := ReportedMTU(f, p); tooBig {
		return TooBig.message(in.IPv6)
	}
	if p.IPv6 != in.IPv6 || p.ICMPType == parameter {
		return HostUnreachable.message(in.IPv6)
	}
	return message{p.ICMPType, p.ICMPCode}
}
