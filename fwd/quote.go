package fwd

import (
	"encoding/binary"

	"uvs/dataplane/wire"
)

// ErrorToServer turns a client-side ICMP error p about a reply into one about
// what the server sent: it goes to addr, and the packet in that it quotes comes
// from addr and port. Every checksum that is there is repaired, that of the
// quoted packet too.
func ErrorToServer(f *wire.Frame, p, in *wire.Packet, addr wire.Addr, port uint16) {
	if addr.Is4() == p.IPv6 || in.IPv6 != p.IPv6 {
		return
	}
	before := body(f, p)
	applyQuoted(setSrc(f, in, addr, port), f, in)
	fixBody(f, p, before)
	setDst(f, p, addr, 0).Apply(f, p)
}

// ErrorFromServer turns a server-side ICMP error p about a request into one
// about what the client sent: it comes from the VIP, even if a router on the way
// sent it, and the packet in that it quotes went to vip and vport.
func ErrorFromServer(f *wire.Frame, p, in *wire.Packet, vip wire.Addr, vport uint16) {
	if vip.Is4() == p.IPv6 || in.IPv6 != p.IPv6 {
		return
	}
	before := body(f, p)
	applyQuoted(setDst(f, in, vip, vport), f, in)
	fixBody(f, p, before)
	setSrc(f, p, vip, 0).Apply(f, p)
}

// body is the folded sum of what an ICMP error carries behind its header.
func body(f *wire.Frame, p *wire.Packet) uint16 {
	return wire.Fold(wire.Sum(f.From(p.L4)[wire.ICMPLen:], 0))
}

// fixBody repairs the checksum of an ICMP error after its body has changed,
// unless the checksum is only half made and will be finished over the new body.
func fixBody(f *wire.Frame, p *wire.Packet, before uint16) {
	if f.ChecksumPartial() && f.Offload.CsumStart == p.L4 {
		return
	}
	m := wire.ICMP(f.From(p.L4))
	m.SetChecksum(wire.Update16(m.Checksum(), before, body(f, p)))
}

// applyQuoted repairs the transport checksum of a quoted packet. One that is
// cut off is like a first fragment: what its checksum covers is not all at
// hand, so that it can be repaired but not made anew.
func applyQuoted(fix wire.ChecksumDelta, f *wire.Frame, in *wire.Packet) {
	q := *in
	if isCutOff(f, in) {
		q.Fragment = wire.FragmentFirst
	}
	fix.Apply(f, &q)
}

// isCutOff says whether less of the quoted packet is there than it claims.
func isCutOff(f *wire.Frame, in *wire.Packet) bool {
	return StatedLen(f, in) != int(in.Len)
}

// QuotedSeq is the sequence number of the TCP segment that an ICMP error quotes;
// ok is false if it quotes no such thing. The eight bytes that are always quoted
// have it (RFC 792).
func QuotedSeq(f *wire.Frame, in *wire.Packet) (seq uint32, ok bool) {
	if in.Proto != wire.ProtoTCP || in.Fragment == wire.FragmentLater {
		return 0, false
	}
	b := f.From(in.L4)
	if len(b) < quotedTCP {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[quotedSeq:]), true
}

// SetQuotedSeq changes that number, and repairs the checksums of the error p and,
// if it is there, of the quoted segment.
func SetQuotedSeq(f *wire.Frame, p, in *wire.Packet, seq uint32) {
	before, old := body(f, p), binary.BigEndian.Uint32(f.From(in.L4)[quotedSeq:])
	binary.BigEndian.PutUint32(f.From(in.L4)[quotedSeq:], seq)
	// To a checksum a word is a word, whether of a port or of a number.
	applyQuoted(wire.ChecksumDelta{}.Port(uint16(old>>16), uint16(seq>>16)).Port(uint16(old), uint16(seq)), f, in)
	fixBody(f, p, before)
}

// Of a TCP header an ICMP error quotes eight bytes at least: ports and the
// sequence number (RFC 9293 section 3.1).
const (
	quotedSeq = 4
	quotedTCP = 8
)
