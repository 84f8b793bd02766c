package wire

import "encoding/binary"

// IPv4Len is the length of an IPv4 header without options.
const IPv4Len = 20

// IPv4 is an IPv4 header and the bytes that follow it, RFC 791 section 3.1:
//
//	+-------+-------+---------------+-------------------------------+
//	|Version|  IHL  |      TOS      |         Total Length          | 0
//	+-------+-------+---------------+-----+-------------------------+
//	|        Identification         |Flags|    Fragment Offset      | 4
//	+---------------+---------------+-----+-------------------------+
//	|      TTL      |   Protocol    |        Header Checksum        | 8
//	+---------------+---------------+-------------------------------+
//	|                        Source Address                         | 12
//	+---------------------------------------------------------------+
//	|                      Destination Address                      | 16
//	+---------------------------------------------------------------+
//	|                    Options, up to 40 bytes                    | 20
//
// The Set methods only store. The Replace methods and DecTTL also update the
// header checksum.
type IPv4 []byte

const (
	ipv4VersionIHL = 0
	ipv4TOS        = 1
	ipv4Length     = 2
	ipv4ID         = 4
	ipv4Fragment   = 6
	ipv4TTL        = 8
	ipv4Protocol   = 9
	ipv4Checksum   = 10
	ipv4Src        = 12
	ipv4Dst        = 16
)

// Parts of the 16-bit word at offset 6: two flags and the fragment offset.
const (
	IPv4DF         = 0x4000 // don't fragment
	IPv4MF         = 0x2000 // more fragments
	ipv4OffsetMask = 0x1fff // in units of 8 bytes
)

// HeaderLen returns the length of the header in bytes, options included.
func (h IPv4) HeaderLen() int { return int(h[ipv4VersionIHL]&0xf) * 4 }

// TOS is DSCP and ECN, RFC 3168 section 5.
func (h IPv4) TOS() uint8 { return h[ipv4TOS] }

// TotalLen returns the length of header and payload in bytes.
func (h IPv4) TotalLen() uint16 { return binary.BigEndian.Uint16(h[ipv4Length:]) }

// ID returns the same in all fragments of a datagram.
func (h IPv4) ID() uint16 { return binary.BigEndian.Uint16(h[ipv4ID:]) }

func (h IPv4) DF() bool { return h.fragment()&IPv4DF != 0 }
func (h IPv4) MF() bool { return h.fragment()&IPv4MF != 0 }

// FragmentOffset returns the position of the payload in the datagram, in bytes.
func (h IPv4) FragmentOffset() int { return int(h.fragment()&ipv4OffsetMask) * 8 }

func (h IPv4) fragment() uint16 { return binary.BigEndian.Uint16(h[ipv4Fragment:]) }

func (h IPv4) TTL() uint8       { return h[ipv4TTL] }
func (h IPv4) Protocol() uint8  { return h[ipv4Protocol] }
func (h IPv4) Checksum() uint16 { return binary.BigEndian.Uint16(h[ipv4Checksum:]) }
func (h IPv4) Src() Addr        { return AddrFrom4(h[ipv4Src : ipv4Src+4]) }
func (h IPv4) Dst() Addr        { return AddrFrom4(h[ipv4Dst : ipv4Dst+4]) }

// SetVersionIHL writes version 4 and a header length in bytes, a multiple of 4.
func (h IPv4) SetVersionIHL(headerLen int) { h[ipv4VersionIHL] = 4<<4 | uint8(headerLen/4) }

func (h IPv4) SetTOS(v uint8)       { h[ipv4TOS] = v }
func (h IPv4) SetTotalLen(n uint16) { binary.BigEndian.PutUint16(h[ipv4Length:], n) }
func (h IPv4) SetID(id uint16)      { binary.BigEndian.PutUint16(h[ipv4ID:], id) }

// SetFragment writes the flags, IPv4DF or IPv4MF, and an offset in bytes, a multiple of 8.
func (h IPv4) SetFragment(flags uint16, offset int) {
	binary.BigEndian.PutUint16(h[ipv4Fragment:], flags|uint16(offset/8)&ipv4OffsetMask)
}

func (h IPv4) SetTTL(v uint8)       { h[ipv4TTL] = v }
func (h IPv4) SetProtocol(v uint8)  { h[ipv4Protocol] = v }
func (h IPv4) SetChecksum(c uint16) { binary.BigEndian.PutUint16(h[ipv4Checksum:], c) }
func (h IPv4) SetSrc(a Addr)        { copy(h[ipv4Src:ipv4Src+4], a[12:]) }
func (h IPv4) SetDst(a Addr)        { copy(h[ipv4Dst:ipv4Dst+4], a[12:]) }

// FillChecksum computes the header checksum.
func (h IPv4) FillChecksum() {
	h.SetChecksum(0)
	h.SetChecksum(^sumWords(h[:h.HeaderLen()]))
}

// DecTTL decrements the TTL, which must not be 0, and updates the checksum.
func (h IPv4) DecTTL() {
	old := binary.BigEndian.Uint16(h[ipv4TTL:])
	h[ipv4TTL]--
	h.SetChecksum(Update16(h.Checksum(), old, binary.BigEndian.Uint16(h[ipv4TTL:])))
}

func (h IPv4) ReplaceTOS(v uint8) {
	old := binary.BigEndian.Uint16(h[ipv4VersionIHL:])
	h[ipv4TOS] = v
	h.SetChecksum(Update16(h.Checksum(), old, binary.BigEndian.Uint16(h[ipv4VersionIHL:])))
}

func (h IPv4) ReplaceTotalLen(n uint16) {
	h.SetChecksum(Update16(h.Checksum(), h.TotalLen(), n))
	h.SetTotalLen(n)
}

func (h IPv4) ReplaceSrc(a Addr) { h.replaceAddr(ipv4Src, a) }
func (h IPv4) ReplaceDst(a Addr) { h.replaceAddr(ipv4Dst, a) }

func (h IPv4) replaceAddr(at int, a Addr) {
	field := h[at : at+4]
	h.SetChecksum(Update32(h.Checksum(), binary.BigEndian.Uint32(field), binary.BigEndian.Uint32(a[12:])))
	copy(field, a[12:])
}
