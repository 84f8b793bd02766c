package answer

import (
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// ErrorKind is why a packet cannot be forwarded, in the terms of ICMP.
type ErrorKind uint8

const (
	TimeExceeded    ErrorKind = iota // TTL or hop limit used up
	TooBig                           // longer than the MTU of the next link
	PortUnreachable                  // no service has the port
	HostUnreachable                  // no route to its server
	numErrorKind
)

// message is the type and code of an ICMP or ICMPv6 message.
type message struct{ kind, code uint8 }

// errors4 and errors6 are RFC 792 with RFC 1191, and RFC 4443.
var (
	errors4 = [numErrorKind]message{
		TimeExceeded:    {wire.ICMPTimeExceeded, 0},
		TooBig:          {wire.ICMPUnreachable, wire.ICMPCodeTooBig},
		PortUnreachable: {wire.ICMPUnreachable, wire.ICMPCodePort},
		HostUnreachable: {wire.ICMPUnreachable, wire.ICMPCodeHost},
	}
	errors6 = [numErrorKind]message{
		TimeExceeded:    {wire.ICMPv6TimeExceeded, 0},
		TooBig:          {wire.ICMPv6TooBig, 0},
		PortUnreachable: {wire.ICMPv6Unreachable, wire.ICMPv6CodePort},
		HostUnreachable: {wire.ICMPv6Unreachable, wire.ICMPv6CodeAddress},
	}
)

const (
	// maxError4 and maxError6 are the longest errors, IP header included: RFC
	// 1812 section 4.3.2.3, RFC 4443 section 2.4 (c).
	maxError4 = 576
	maxError6 = 1280

	// minLinkMTU is the least MTU that a link of IPv4 can have, RFC 791 section 3.2.
	minLinkMTU = 68

	// errorClass is the precedence INTERNETWORK CONTROL of IPv4 errors, RFC 1812
	// section 4.3.2.5.
	errorClass = 0xc0
)

// ICMPError turns the frame into an ICMP error about the packet in it, from src to the
// packet's source, back to where the frame came from. The error quotes the packet as it
// is in the frame, up to the longest error allowed. linkMTU is the MTU of the link that
// it leaves by. Only TooBig has an mtu. Afterwards p is no longer valid. It returns false
//   - about an error, a redirect or a later fragment
//   - about a packet with an address that is not that of one host
//   - if src is of the other family, or the frame has no room for the headers
func ICMPError(f *wire.Frame, p *wire.Packet, what ErrorKind, src wire.Addr, mtu uint32, linkMTU int) bool {
	if what >= numErrorKind || !mayAnswerError(f, p, src) {
		return false
	}
	if what != TooBig {
		mtu = 0
	}
	putError(f, p, what.message(p.IPv6), src, mtu, linkMTU)
	return true
}

// message returns the message of a family for the kind of error.
func (k ErrorKind) message(ipv6 bool) message { return wire.ByFamily(ipv6, errors4[k], errors6[k]) }

// mayAnswerError reports whether an error about the packet may be sent from src.
func mayAnswerError(f *wire.Frame, p *wire.Packet, src wire.Addr) bool {
	return p.Fragment != wire.FragmentLater && !wire.IsICMPError(p) && !isRedirect6(p) && answerable(f, p) &&
		src.Is4() != p.IPv6 && f.Headroom() >= fwd.IPLen(src)+wire.ICMPLen
}

// putError puts error m about the packet in front of the packet; see ICMPError.
func putError(f *wire.Frame, p *wire.Packet, m message, src wire.Addr, mtu uint32, linkMTU int) {
	header, longest, class := fwd.IPLen(src)+wire.ICMPLen, maxError6, uint8(0)
	if !p.IPv6 {
		longest, class = maxError4, errorClass
	}
	fwd.MoveLink(f, p, header)
	f.End = f.Off + int32(p.L3) + int32(min(header+int(p.Len), longest, max(linkMTU, minLinkMTU)))
	leaveBack(f)
	e := wire.ICMP(f.From(p.L3)[fwd.IPLen(src):])
	e.SetType(m.kind)
	e.SetCode(m.code)
	e.SetRest(mtu)
	ip := fwd.IPHeader{Src: src, Dst: p.Src, Proto: icmpOf(p), TTL: ownTTL, Class: class, DF: true}
	ip.PutWithChecksum(f, p.L3)
}

// isRedirect6 reports whether p is an ICMPv6 redirect. Like an error, it must not be
// answered by one: RFC 4443 section 2.4 (e.2).
func isRedirect6(p *wire.Packet) bool {
	return p.IPv6 && p.Proto == wire.ProtoICMPv6 && p.ICMPType == icmpv6Redirect
}

const icmpv6Redirect = 137 // RFC 4861 section 4.5

// icmpOf returns the protocol number of ICMP in p's family.
func icmpOf(p *wire.Packet) uint8 {
	return wire.ByFamily[uint8](p.IPv6, wire.ProtoICMP, wire.ProtoICMPv6)
}

// Echo turns an echo request into its reply: addresses swapped, data unchanged. It returns
// false for all else, for fragments, and if an address is not that of one host.
func Echo(f *wire.Frame, p *wire.Packet) bool {
	request := message{kind: wire.ByFamily[uint8](p.IPv6, wire.ICMPEcho, wire.ICMPv6Echo)}
	reply := message{kind: wire.ByFamily[uint8](p.IPv6, wire.ICMPEchoReply, wire.ICMPv6EchoReply)}
	got := message{p.ICMPType, p.ICMPCode}
	if p.Proto != icmpOf(p) || got != request || p.Fragment != wire.FragmentNone || f.IsGSO() || !answerable(f, p) {
		return false
	}
	wire.FinishChecksum(f)
	m := wire.ICMP(f.From(p.L4))
	m.SetType(reply.kind)
	check := wire.Update16(m.Checksum(), request.word(), reply.word())
	if check == 0 {
		check = 0xffff // as good as 0, and right for a message that is now all zeros, too
	}
	m.SetChecksum(check)
	swapAddresses(f, p)
	leaveBack(f)
	return true
}

// word returns the first word of the message for its checksum.
func (m message) word() uint16 { return uint16(m.kind)<<8 | uint16(m.code) }

// swapAddresses swaps the addresses of the IP header and sets a TTL of our own.
// Transport checksums stay right.
func swapAddresses(f *wire.Frame, p *wire.Packet) {
	ip := f.From(p.L3)
	if p.IPv6 {
		h := wire.IPv6(ip)
		h.SetSrc(p.Dst)
		h.SetDst(p.Src)
		h.SetHopLimit(ownTTL)
		return
	}
	h := wire.IPv4(ip)
	h.SetSrc(p.Dst)
	h.SetDst(p.Src)
	h.SetTTL(ownTTL)
	h.FillChecksum()
}
