package fwd

import "uvs/dataplane/wire"

// ReportedMTU returns the MTU of the next link that an ICMP error reports (RFC 1191
// section 4, RFC 4443 section 3.2). ok is false if the error is not about a packet that
// was too long. Routers without path MTU discovery report 0.
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

// TotalLen returns the length of the packet by its IP header, header included.
// An ICMP error quotes only a part of it.
func TotalLen(f *wire.Frame, p *wire.Packet) int {
	ip := f.From(p.L3)
	if p.IPv6 {
		return wire.IPv6Len + int(wire.IPv6(ip).PayloadLen())
	}
	return int(wire.IPv4(ip).TotalLen())
}

// ErrorToServer turns ICMP error p, about a reply as the client sees it, into an error
// about the packet as the server sent it. The error goes to addr, and inner, the packet
// that it quotes, comes from addr and port. All checksums that are there stay right, that
// of the quoted packet too.
func ErrorToServer(f *wire.Frame, p, inner *wire.Packet, addr wire.Addr, port uint16) {
	if addr.Is4() == p.IPv6 || inner.IPv6 != p.IPv6 {
		return
	}
	before := bodySum(f, p)
	updateQuotedChecksum(setSrc(f, inner, addr, port), f, inner)
	updateErrorChecksum(f, p, before)
	setDst(f, p, addr, 0).Apply(f, p)
}

// ErrorFromServer turns ICMP error p, about a request as the server sees it, into an error
// about the packet as the client sent it. The error comes from the VIP, and inner, the
// packet that it quotes, went to vip and vport.
func ErrorFromServer(f *wire.Frame, p, inner *wire.Packet, vip wire.Addr, vport uint16) {
	if vip.Is4() == p.IPv6 || inner.IPv6 != p.IPv6 {
		return
	}
	before := bodySum(f, p)
	updateQuotedChecksum(setDst(f, inner, vip, vport), f, inner)
	updateErrorChecksum(f, p, before)
	setSrc(f, p, vip, 0).Apply(f, p)
}

// bodySum returns the folded sum of what follows the header of an ICMP error.
func bodySum(f *wire.Frame, p *wire.Packet) uint16 {
	return wire.Fold(wire.Sum(f.From(p.L4)[wire.ICMPLen:], 0))
}

// updateErrorChecksum updates the checksum of an ICMP error whose body has changed. A partial
// checksum stays: the device will finish it over the new body.
func updateErrorChecksum(f *wire.Frame, p *wire.Packet, before uint16) {
	if f.ChecksumPartialOf(p) {
		return
	}
	m := wire.ICMP(f.From(p.L4))
	m.SetChecksum(wire.Update16(m.Checksum(), before, bodySum(f, p)))
}

// updateQuotedChecksum updates the transport checksum of a quoted packet. One that is cut
// off is like a first fragment: without all bytes that it covers, the checksum can be
// updated but not computed.
func updateQuotedChecksum(delta wire.ChecksumDelta, f *wire.Frame, inner *wire.Packet) {
	q := *inner
	if TotalLen(f, inner) != int(inner.Len) {
		q.Fragment = wire.FragmentFirst
	}
	delta.Apply(f, &q)
}

// QuotedSeq returns the sequence number of the TCP segment that an ICMP error quotes; ok
// is false if it quotes no TCP segment. The eight bytes that every error quotes contain
// it (RFC 792).
func QuotedSeq(f *wire.Frame, inner *wire.Packet) (seq uint32, ok bool) {
	if inner.Proto != wire.ProtoTCP || inner.Fragment == wire.FragmentLater {
		return 0, false
	}
	t := wire.TCP(f.From(inner.L4))
	if len(t) < 8 {
		return 0, false
	}
	return t.Seq(), true
}

// SetQuotedSeq changes that number, and updates the checksums of the error p and, if
// it is there, of the quoted segment.
func SetQuotedSeq(f *wire.Frame, p, inner *wire.Packet, seq uint32) {
	t := wire.TCP(f.From(inner.L4))
	before, old := bodySum(f, p), t.Seq()
	t.SetSeq(seq)
	// A checksum sums words, whether they are ports or half a sequence number.
	delta := wire.ChecksumDelta{}.Port(uint16(old>>16), uint16(seq>>16)).Port(uint16(old), uint16(seq))
	updateQuotedChecksum(delta, f, inner)
	updateErrorChecksum(f, p, before)
}
