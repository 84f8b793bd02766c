package wire

import "encoding/binary"

// IPv6Len is the length of an IPv6 header without extension headers.
const IPv6Len = 40

// Extension headers (IANA protocol numbers) that the parser walks to find the
// transport header. ESP and AH count as transports, because the headers after
// them are encrypted or authenticated.
const (
	ProtoHopByHop    = 0
	ProtoRouting     = 43
	ProtoFragment    = 44
	ProtoNoNext      = 59
	ProtoDestOptions = 60
)

// IPv6 is an IPv6 header and the bytes that follow it, RFC 8200 section 3:
//
//	+-------+---------------+---------------------------------------+
//	|Version| Traffic Class |              Flow Label               | 0
//	+-------+---------------+-------+---------------+---------------+
//	|        Payload Length         |  Next Header  |   Hop Limit   | 4
//	+-------------------------------+---------------+---------------+
//	|                   Source Address, 16 bytes                    | 8
//	+---------------------------------------------------------------+
//	|                 Destination Address, 16 bytes                 | 24
//	+---------------------------------------------------------------+
type IPv6 []byte

const (
	ipv6PayloadLength = 4
	ipv6NextHeader    = 6
	ipv6HopLimit      = 7
	ipv6Src           = 8
	ipv6Dst           = 24
)

// TrafficClass is DSCP and ECN, RFC 3168 section 5.
func (h IPv6) TrafficClass() uint8 { return uint8(binary.BigEndian.Uint16(h) >> 4) }

// PayloadLen returns the number of bytes after the header, extensions included.
func (h IPv6) PayloadLen() uint16 { return binary.BigEndian.Uint16(h[ipv6PayloadLength:]) }

func (h IPv6) NextHeader() uint8 { return h[ipv6NextHeader] }
func (h IPv6) HopLimit() uint8   { return h[ipv6HopLimit] }
func (h IPv6) Src() Addr         { return Addr(h[ipv6Src : ipv6Src+16]) }
func (h IPv6) Dst() Addr         { return Addr(h[ipv6Dst : ipv6Dst+16]) }

// SetVersionClassFlow writes version 6, a traffic class and a flow label.
func (h IPv6) SetVersionClassFlow(class uint8, flow uint32) {
	binary.BigEndian.PutUint32(h, 6<<28|uint32(class)<<20|flow&0xfffff)
}

func (h IPv6) SetPayloadLen(n uint16) { binary.BigEndian.PutUint16(h[ipv6PayloadLength:], n) }
func (h IPv6) SetNextHeader(v uint8)  { h[ipv6NextHeader] = v }
func (h IPv6) SetHopLimit(v uint8)    { h[ipv6HopLimit] = v }
func (h IPv6) SetSrc(a Addr)          { copy(h[ipv6Src:ipv6Src+16], a[:]) }
func (h IPv6) SetDst(a Addr)          { copy(h[ipv6Dst:ipv6Dst+16], a[:]) }

// extensions walks the extension headers of an IPv6 packet. All but the fragment
// header begin like this (RFC 8200 sections 4.2 to 4.6):
//
//	+---------------+---------------+---------------------------
//	|  Next Header  |  Hdr Ext Len  |  8*(Hdr Ext Len)+6 bytes
//	+---------------+---------------+---------------------------
//
// and the fragment header is
//
//	+---------------+---------------+-------------------------+-+-+-+
//	|  Next Header  |   Reserved    |     Fragment Offset     |Res|M| 0
//	+---------------+---------------+-------------------------+---+-+
//	|                        Identification                         | 4
//	+---------------------------------------------------------------+
type extensions struct {
	b     []byte // the IPv6 packet
	proto uint8  // of the header at b[at:]
	at    int

	routed     bool // a routing header has segments left
	fragment   Fragment
	fragmentAt int // offset of the fragment header; 0: there is none
}

// segmentsLeft is the offset, in a routing header, of the number of hosts that the
// packet must still visit. The checksum covers the address of the last one, not
// the address in the IPv6 header (RFC 8200 section 4.4).
const segmentsLeft = 3

const (
	fragmentLen     = 8
	fragmentOffset  = 2
	fragmentID      = 4
	fragmentMore    = 1 // the M flag, in the word of the offset
	fragmentOffMask = 0xfff8
)

// walk moves at to the transport header. In a later fragment, it stops after the
// fragment header.
func (x *extensions) walk() Flaw {
	for range maxExtensions {
		length := 0
		switch x.proto {
		case ProtoHopByHop, ProtoRouting, ProtoDestOptions:
			if len(x.b) < x.at+8 {
				return FlawExtension
			}
			x.routed = x.routed || x.proto == ProtoRouting && x.b[x.at+segmentsLeft] != 0
			length = (int(x.b[x.at+1]) + 1) * 8
		case ProtoFragment:
			if len(x.b) < x.at+fragmentLen || x.fragmentAt != 0 {
				return FlawExtension // RFC 8200 section 4.1: at most once; a nested fragment hides its flow
			}
			length = fragmentLen
			x.readFragment()
		default:
			return FlawNone
		}
		if len(x.b) < x.at+length {
			return FlawExtension
		}
		x.proto = x.b[x.at]
		x.at += length
		if x.fragment == FragmentLater {
			return FlawNone
		}
	}
	switch x.proto {
	case ProtoHopByHop, ProtoRouting, ProtoDestOptions, ProtoFragment:
		return FlawManyExtensions
	}
	return FlawNone
}

// readFragment reads the fragment header at b[at:]. Offset 0 without the M flag is
// a whole packet, RFC 6946.
func (x *extensions) readFragment() {
	x.fragmentAt = x.at
	word := binary.BigEndian.Uint16(x.b[x.at+fragmentOffset:])
	switch {
	case word&fragmentOffMask != 0:
		x.fragment = FragmentLater
	case word&fragmentMore != 0:
		x.fragment = FragmentFirst
	}
}

// FragmentInfo is the part of a fragment's headers that places it in its datagram.
type FragmentInfo struct {
	// ID is the same in all fragments of a datagram, as are their addresses.
	ID uint32
	// Start and End delimit the payload's bytes, Start included and End not. They
	// count from the end of the headers that every fragment repeats.
	Start, End int
	More       bool // more fragments follow
}

// ParseFragment reads the fragment headers of p, which must be KindIP or have
// FlawTransport or FlawTransportLength. It returns false for a fragment that no
// sender makes (RFC 791 section 3.2, RFC 8200 section 4.5): without payload, ending
// beyond MaxIPLen, or neither the last nor a multiple of eight bytes.
func ParseFragment(f *Frame, p *Packet) (x FragmentInfo, ok bool) {
	b := f.Bytes()[p.L3:]
	if uint32(len(b)) < p.Len || p.Fragment == FragmentNone {
		return FragmentInfo{}, false
	}
	b = b[:p.Len]
	length := 0
	if p.IPv6 {
		w := extensions{b: b, proto: IPv6(b).NextHeader(), at: IPv6Len}
		if w.walk() != FlawNone || w.fragmentAt == 0 {
			return FragmentInfo{}, false
		}
		h := b[w.fragmentAt:]
		word := binary.BigEndian.Uint16(h[fragmentOffset:])
		x.ID, x.More = binary.BigEndian.Uint32(h[fragmentID:]), word&fragmentMore != 0
		x.Start, length = int(word&fragmentOffMask), len(h)-fragmentLen
	} else {
		h := IPv4(b)
		x.ID, x.More = uint32(h.ID()), h.MF()
		x.Start, length = h.FragmentOffset(), len(b)-h.HeaderLen()
	}
	x.End = x.Start + length
	return x, length > 0 && x.End <= MaxIPLen && (!x.More || length%8 == 0)
}
