package wire

import "encoding/binary"

// EtherTypes (IANA, IEEE 802 numbers) that the packet path knows.
const (
	EtherTypeIPv4 = 0x0800
	EtherTypeARP  = 0x0806
	EtherTypeVLAN = 0x8100 // IEEE 802.1Q tag
	EtherTypeIPv6 = 0x86dd
	EtherTypeQinQ = 0x88a8 // IEEE 802.1ad service tag, in front of a VLAN tag
)

const (
	EthernetLen = 14 // bytes of an untagged Ethernet header
	VLANLen     = 4  // bytes of a VLAN tag
	maxTags     = 2  // a service tag and a customer tag
)

// Ethernet is a frame from its first byte on: IEEE 802.3 section 3.1.1, with an
// optional tag, IEEE 802.1Q section 9.3:
//
//	 0                   6                  12      14
//	+-------------------+-------------------+-------+------
//	|    destination    |      source       | type  | ...
//	+-------------------+-------------------+-------+------
//	                                        12      14      16      18
//	                    +-------------------+-------+-------+-------+------
//	            tagged: |      source       | 0x8100|  tag  | type  | ...
//	                    +-------------------+-------+-------+-------+------
type Ethernet []byte

const (
	ethernetDst  = 0
	ethernetSrc  = 6
	ethernetType = 12
)

func (e Ethernet) Dst() MAC { return MAC(e[ethernetDst : ethernetDst+6]) }
func (e Ethernet) Src() MAC { return MAC(e[ethernetSrc : ethernetSrc+6]) }

// Type returns the EtherType after the addresses: that of the payload, or of a tag.
func (e Ethernet) Type() uint16 { return binary.BigEndian.Uint16(e[ethernetType:]) }

func (e Ethernet) SetDst(m MAC)     { copy(e[ethernetDst:ethernetDst+6], m[:]) }
func (e Ethernet) SetSrc(m MAC)     { copy(e[ethernetSrc:ethernetSrc+6], m[:]) }
func (e Ethernet) SetType(t uint16) { binary.BigEndian.PutUint16(e[ethernetType:], t) }

// linkHeader returns the length of the link header in bytes, tags included, and
// the EtherType of the payload. ok is false if the frame is shorter.
func linkHeader(b []byte) (length int, etherType uint16, ok bool) {
	if len(b) < EthernetLen {
		return 0, 0, false
	}
	length, etherType = EthernetLen, binary.BigEndian.Uint16(b[ethernetType:])
	for range maxTags {
		if etherType != EtherTypeVLAN && etherType != EtherTypeQinQ {
			break
		}
		length += VLANLen
		if len(b) < length {
			return 0, 0, false
		}
		etherType = binary.BigEndian.Uint16(b[length-2:])
	}
	return length, etherType, true
}
