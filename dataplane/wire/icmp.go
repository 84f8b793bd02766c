package wire

import "encoding/binary"

// ICMPLen is the length of an ICMP or ICMPv6 header in bytes: type, code, checksum
// and four bytes whose meaning depends on the type.
const ICMPLen = 8

// ICMP types, RFC 792.
const (
	ICMPEchoReply    = 0
	ICMPUnreachable  = 3
	ICMPSourceQuench = 4
	ICMPRedirect     = 5
	ICMPEcho         = 8
	ICMPTimeExceeded = 11
	ICMPParameter    = 12
)

// ICMPv6 types: RFC 4443, and neighbour discovery of RFC 4861.
const (
	ICMPv6Unreachable  = 1
	ICMPv6TooBig       = 2
	ICMPv6TimeExceeded = 3
	ICMPv6Parameter    = 4
	ICMPv6Echo         = 128 // the lowest type that is not an error
	ICMPv6EchoReply    = 129
	ICMPv6Solicit      = 135 // neighbour solicitation
	ICMPv6Advertise    = 136 // neighbour advertisement
)

// Codes of ICMPUnreachable (RFC 792, RFC 1812) and ICMPv6Unreachable (RFC 4443).
const (
	ICMPCodeHost   = 1
	ICMPCodePort   = 3
	ICMPCodeTooBig = 4 // fragmentation needed and DF set

	ICMPv6CodeAddress = 3
	ICMPv6CodePort    = 4
)

// IsICMPError reports whether p is an ICMP error of the family of its IP header. No
// error may be sent about an error: RFC 1122 section 3.2.2, RFC 4443 sections 2.1 and
// 2.4.
func IsICMPError(p *Packet) bool {
	if p.Kind != KindIP || p.Fragment == FragmentLater {
		return false
	}
	if p.IPv6 {
		return p.Proto == ProtoICMPv6 && p.ICMPType < ICMPv6Echo
	}
	if p.Proto != ProtoICMP {
		return false
	}
	switch p.ICMPType {
	case ICMPUnreachable, ICMPSourceQuench, ICMPRedirect, ICMPTimeExceeded, ICMPParameter:
		return true
	}
	return false
}

// ICMP is an ICMP or ICMPv6 message, RFC 792 and RFC 4443 section 2.1:
//
//	+---------------+---------------+-------------------------------+
//	|     Type      |     Code      |           Checksum            | 0
//	+---------------+---------------+-------------------------------+
//	|  Rest: unused, identifier and sequence, MTU, by type          | 4
//	+---------------------------------------------------------------+
//	|  Errors: the start of the packet. Echo: data.                 | 8
type ICMP []byte

const (
	icmpType     = 0
	icmpCode     = 1
	icmpChecksum = 2
	icmpRest     = 4
)

func (h ICMP) Type() uint8      { return h[icmpType] }
func (h ICMP) Code() uint8      { return h[icmpCode] }
func (h ICMP) Checksum() uint16 { return binary.BigEndian.Uint16(h[icmpChecksum:]) }

// Rest returns the second word. ICMPv6TooBig has the MTU there, and ICMPCodeTooBig has
// it in the lower half (RFC 1191 section 4).
func (h ICMP) Rest() uint32 { return binary.BigEndian.Uint32(h[icmpRest:]) }

func (h ICMP) SetType(v uint8)      { h[icmpType] = v }
func (h ICMP) SetCode(v uint8)      { h[icmpCode] = v }
func (h ICMP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(h[icmpChecksum:], c) }
func (h ICMP) SetRest(v uint32)     { binary.BigEndian.PutUint32(h[icmpRest:], v) }

// Neighbour is a neighbour solicitation or advertisement, RFC 4861 sections 4.3
// and 4.4, in its usual form with one link-layer address option (section 4.6.1):
//
//	+---------------+---------------+-------------------------------+
//	|  Type 135/136 |    Code 0     |           Checksum            | 0
//	+-+-+-+---------+---------------+-------------------------------+
//	|R|S|O|  Reserved                                               | 4
//	+-+-+-+---------------------------------------------------------+
//	|                   Target Address, 16 bytes                    | 8
//	+---------------+---------------+-------------------------------+
//	|Option Type 1/2|  Length (1)   |  Link-Layer Address, 6 bytes  | 24
//	+---------------+---------------+-------------------------------+
type Neighbour []byte

const (
	NeighbourLen       = 24 // without options
	NeighbourOptionLen = 8  // one link-layer address option

	neighbourTarget = 8
)

// Flags of an advertisement: solicited, replaces the cached address.
const (
	NeighbourSolicited = 0x40
	NeighbourOverride  = 0x20
)

// Options that carry a hardware address, RFC 4861 section 4.6.
const (
	OptionSourceMAC = 1 // in a solicitation
	OptionTargetMAC = 2 // in an advertisement
)

// Target returns the address that is solicited or advertised.
func (h Neighbour) Target() Addr { return Addr(h[neighbourTarget : neighbourTarget+16]) }

func (h Neighbour) SetTarget(a Addr) { copy(h[neighbourTarget:neighbourTarget+16], a[:]) }

// SetFlags writes the flags of an advertisement and clears the reserved bits.
func (h Neighbour) SetFlags(v uint8) { ICMP(h).SetRest(uint32(v) << 24) }

// SetOption writes the option of kind OptionSourceMAC or OptionTargetMAC. h must
// have NeighbourOptionLen bytes after NeighbourLen.
func (h Neighbour) SetOption(kind uint8, m MAC) {
	o := h[NeighbourLen : NeighbourLen+NeighbourOptionLen]
	o[0], o[1] = kind, NeighbourOptionLen/8
	copy(o[2:], m[:])
}
