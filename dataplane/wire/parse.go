package wire

import "encoding/binary"

// maxExtensions bounds the walk over IPv6 extension headers. RFC 8200 section
// 4.1 recommends each of the five kinds once, destination options twice.
const maxExtensions = 8

// maxOffset bounds the distance of an IP header from the start of its frame. Even
// after maxExtensions headers of 2 KiB, the transport header is then within
// reach of Packet's 16-bit offsets.
const maxOffset = 0x8000

// Completeness is how much of an IP packet must be there.
type Completeness uint8

const (
	Whole  Completeness = iota // all of it, with sound headers
	Quoted                     // its IP header and 8 bytes, as an ICMP error quotes it
)

// Parse classifies frame f and writes every field of p. If f is KindIP or
// KindARP, Parse moves f.End to the end of the IP packet or ARP message: link
// padding is neither counted nor sent on.
//
// A GSO frame may be longer than its IP header can state. Then IPv4's total
// length or IPv6's payload length is 0, and the packet ends where the frame ends.
func Parse(f *Frame, p *Packet) {
	*p = Packet{Kind: KindBad}
	b := f.Bytes()
	off, etherType, ok := linkHeader(b)
	if !ok {
		p.Flaw = FlawRunt
		return
	}
	switch etherType {
	case EtherTypeIPv4:
		p.Flaw = parseIPv4(b, off, p, f.IsGSO(), Whole)
	case EtherTypeIPv6:
		p.Flaw = parseIPv6(b, off, p, f.IsGSO(), Whole)
	case EtherTypeARP:
		parseARP(f, off, p)
		return
	default:
		p.Kind = KindOther
		return
	}
	if p.Flaw == FlawNone {
		p.Kind = KindIP
		f.End = f.Off + int32(p.L3) + int32(p.Len)
	}
}

// parseARP accepts ARP for Ethernet and IPv4 at off.
func parseARP(f *Frame, off int, p *Packet) {
	h := ARP(f.Bytes()[off:])
	if len(h) < ARPLen || !h.isEthernetIPv4() {
		p.Flaw = FlawARP
		return
	}
	p.Kind, p.L3 = KindARP, uint16(off)
	f.End = f.Off + int32(off) + ARPLen
}

// ParseIPAt parses the IPv4 or IPv6 packet at offset off of f: the inner packet of a
// tunnel (Whole), or one that an ICMP error quotes (Quoted). It writes every field
// of inner. Offsets count from the start of f.
func ParseIPAt(f *Frame, off int, inner *Packet, need Completeness) Flaw {
	*inner = Packet{Kind: KindBad}
	b := f.Bytes()
	switch {
	case off < 0 || off >= len(b) || off > maxOffset:
		inner.Flaw = FlawIPHeader
	case b[off]>>4 == 6:
		inner.Flaw = parseIPv6(b, off, inner, f.IsGSO(), need)
	default:
		inner.Flaw = parseIPv4(b, off, inner, f.IsGSO(), need)
	}
	if inner.Flaw == FlawNone {
		inner.Kind = KindIP
	}
	return inner.Flaw
}

// ParseQuoted parses the packet that the ICMP error p of frame f quotes into inner.
// The quote must have the IP header and 8 bytes, which include the ports; inner.Len
// is the length of the quote. Its checksums are not verified, because routers
// quote packets that they have already changed. It returns false if
//   - p is not an ICMP error, or is a fragment
//   - p is a redirect, which is about the routes of one host
//   - the quote is too short, or of a fragment other than the first
func ParseQuoted(f *Frame, p *Packet, inner *Packet) bool {
	if !IsICMPError(p) || p.Fragment != FragmentNone || !p.IPv6 && p.ICMPType == ICMPRedirect {
		*inner = Packet{Kind: KindBad, Flaw: FlawTransport}
		return false
	}
	return ParseIPAt(f, int(p.L4)+ICMPLen, inner, Quoted) == FlawNone && inner.Fragment != FragmentLater
}

// parseIPv4 parses the IPv4 packet at off of frame b. gso reports whether b is a
// GSO frame.
func parseIPv4(b []byte, off int, p *Packet, gso bool, need Completeness) Flaw {
	h := b[off:]
	if len(h) < IPv4Len {
		return FlawIPLength
	}
	hl := int(h[ipv4VersionIHL]&0xf) * 4
	if h[ipv4VersionIHL]>>4 != 4 || hl < IPv4Len {
		return FlawIPHeader
	}
	if hl > len(h) {
		return FlawIPLength
	}
	length := int(binary.BigEndian.Uint16(h[ipv4Length:]))
	if length == 0 && gso || need == Quoted && (length < hl || length > len(h)) {
		length = len(h) // no length is stated, or the quote is shorter than the packet
	}
	if length < hl || length > len(h) {
		return FlawIPLength
	}
	if need == Whole && sumWords(h[:hl]) != 0xffff {
		return FlawIPChecksum
	}
	if hl > IPv4Len && need == Whole {
		if flaw := parseOptions(h[IPv4Len:hl]); flaw != FlawNone {
			return flaw
		}
	}
	p.L3, p.Len = uint16(off), uint32(length)
	p.Src = AddrFrom4(h[ipv4Src : ipv4Src+4])
	p.Dst = AddrFrom4(h[ipv4Dst : ipv4Dst+4])
	p.Proto = h[ipv4Protocol]
	if fragment := binary.BigEndian.Uint16(h[ipv4Fragment:]); fragment&(IPv4MF|ipv4OffsetMask) != 0 {
		if fragment&ipv4OffsetMask != 0 {
			p.Fragment = FragmentLater
			return FlawNone
		}
		p.Fragment = FragmentFirst
	}
	return parseTransport(h[hl:length], off+hl, p, need)
}

// parseOptions checks the options of an IPv4 header. A source route is refused even
// if it has no address left, as hosts and routers do by default (RFC 7126 sections
// 4.3 and 4.4).
func parseOptions(o []byte) Flaw {
	for n := OptionLen(o); n != 0; n = OptionLen(o) {
		switch {
		case o[0] == optionLooseRoute || o[0] == optionStrictRoute:
			return FlawSourceRoute
		case n < 0:
			return FlawIPOption
		}
		o = o[n:]
	}
	return FlawNone
}

// OptionLen returns the length of the first option of an IPv4 or TCP header (RFC 791 and
// RFC 9293, section 3.1 of each). An option is a type, the length of the whole option,
// and its data. The options end and no-operation are a type only. 0: the options end
// here. -1: its length is impossible.
func OptionLen(o []byte) int {
	switch {
	case len(o) == 0 || o[0] == optionEnd:
		return 0
	case o[0] == OptionNop:
		return 1
	case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o):
		return -1
	}
	return int(o[1])
}

// Types of options: the first two of IPv4 and TCP, the others of IPv4.
const (
	optionEnd         = 0
	OptionNop         = 1
	optionCopied      = 0x80 // flag: the option belongs in every fragment
	optionLooseRoute  = 131
	optionStrictRoute = 137
)

// parseIPv6 is parseIPv4 for IPv6.
func parseIPv6(b []byte, off int, p *Packet, gso bool, need Completeness) Flaw {
	h := b[off:]
	if len(h) < IPv6Len {
		return FlawIPLength
	}
	if h[0]>>4 != 6 {
		return FlawIPHeader
	}
	length := IPv6Len + int(binary.BigEndian.Uint16(h[ipv6PayloadLength:]))
	if length == IPv6Len && gso || need == Quoted && (length == IPv6Len || length > len(h)) {
		length = len(h) // no length is stated, or the quote is shorter than the packet
	}
	if length > len(h) {
		return FlawIPLength
	}
	p.IPv6 = true
	p.L3, p.Len = uint16(off), uint32(length)
	p.Src = Addr(h[ipv6Src : ipv6Src+16])
	p.Dst = Addr(h[ipv6Dst : ipv6Dst+16])
	if p.Src.Is4() || p.Dst.Is4() {
		return FlawMappedAddress // Addr would take it for IPv4; RFC 4291 section 2.5.5.2 is for inside a host
	}
	x := extensions{b: h[:length], proto: h[ipv6NextHeader], at: IPv6Len}
	if flaw := x.walk(); flaw != FlawNone {
		return flaw
	}
	if x.routed && need == Whole {
		return FlawSourceRoute
	}
	p.Proto, p.Fragment = x.proto, x.fragment
	if p.Fragment == FragmentLater {
		return FlawNone
	}
	return parseTransport(h[x.at:length], off+x.at, p, need)
}

// parseTransport parses the transport header at t[0]. t ends with the IP packet,
// and off is the offset of t in the frame.
func parseTransport(t []byte, off int, p *Packet, need Completeness) Flaw {
	p.L4 = uint16(off)
	switch p.Proto {
	case ProtoTCP, ProtoUDP, ProtoSCTP:
		if len(t) < 8 {
			return FlawTransport
		}
		p.SrcPort = binary.BigEndian.Uint16(t)
		p.DstPort = binary.BigEndian.Uint16(t[2:])
	case ProtoICMP, ProtoICMPv6:
		if p.IPv6 != (p.Proto == ProtoICMPv6) {
			return FlawNone // ICMP of the other family means nothing
		}
		if len(t) < ICMPLen {
			return FlawTransport
		}
		p.ICMPType, p.ICMPCode = t[icmpType], t[icmpCode]
		return FlawNone
	default:
		return FlawNone
	}
	flaw := FlawTransport
	switch {
	case p.Proto == ProtoTCP:
		if len(t) >= TCPLen {
			p.TCPFlags = t[tcpFlags]
			if hl := int(t[tcpDataOffset]>>4) * 4; hl >= TCPLen && hl <= len(t) {
				return FlawNone
			}
			flaw = FlawTransportLength
		}
	case p.Proto == ProtoUDP:
		// The first fragment states the length of the whole datagram.
		flaw = FlawTransportLength
		length := int(binary.BigEndian.Uint16(t[udpLength:]))
		if length >= UDPLen && (length <= len(t) || p.Fragment == FragmentFirst) {
			return FlawNone
		}
	case len(t) >= SCTPLen:
		return FlawNone
	}
	if need == Quoted {
		return FlawNone
	}
	return flaw
}
