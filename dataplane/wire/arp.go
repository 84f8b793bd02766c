package wire

import "encoding/binary"

// ARPLen is the length of an ARP message for Ethernet and IPv4 in bytes.
const ARPLen = 28

// ARP operations, RFC 826.
const (
	ARPRequest = 1
	ARPReply   = 2
)

// ARP is an ARP message for Ethernet and IPv4, RFC 826:
//
//	+-------------------------------+-------------------------------+
//	|      Hardware Type (1)        |    Protocol Type (0x0800)     | 0
//	+---------------+---------------+-------------------------------+
//	| HW Length (6) |Proto Len (4)  |          Operation            | 4
//	+---------------+---------------+-------------------------------+
//	|     Sender Hardware Address, 6 bytes     | Sender IP, 4 bytes | 8, 14
//	+------------------------------------------+--------------------+
//	|     Target Hardware Address, 6 bytes     | Target IP, 4 bytes | 18, 24
//	+------------------------------------------+--------------------+
type ARP []byte

const (
	arpOperation = 6
	arpSenderMAC = 8
	arpSenderIP  = 14
	arpTargetMAC = 18
	arpTargetIP  = 24

	// arpEthernetIPv4 is the value of the first six bytes.
	arpEthernetIPv4 = 1<<32 | EtherTypeIPv4<<16 | 6<<8 | 4
)

func (h ARP) isEthernetIPv4() bool { return binary.BigEndian.Uint64(h)>>16 == arpEthernetIPv4 }

func (h ARP) Operation() uint16 { return binary.BigEndian.Uint16(h[arpOperation:]) }
func (h ARP) SenderMAC() MAC    { return MAC(h[arpSenderMAC : arpSenderMAC+6]) }
func (h ARP) SenderIP() Addr    { return AddrFrom4(h[arpSenderIP : arpSenderIP+4]) }
func (h ARP) TargetMAC() MAC    { return MAC(h[arpTargetMAC : arpTargetMAC+6]) }
func (h ARP) TargetIP() Addr    { return AddrFrom4(h[arpTargetIP : arpTargetIP+4]) }

// SetEthernetIPv4 writes the types and lengths of ARP for Ethernet and IPv4.
func (h ARP) SetEthernetIPv4() {
	binary.BigEndian.PutUint32(h, arpEthernetIPv4>>16)
	binary.BigEndian.PutUint16(h[4:], arpEthernetIPv4&0xffff)
}

func (h ARP) SetOperation(v uint16) { binary.BigEndian.PutUint16(h[arpOperation:], v) }
func (h ARP) SetSenderMAC(m MAC)    { copy(h[arpSenderMAC:arpSenderMAC+6], m[:]) }
func (h ARP) SetSenderIP(a Addr)    { copy(h[arpSenderIP:arpSenderIP+4], a[12:]) }
func (h ARP) SetTargetMAC(m MAC)    { copy(h[arpTargetMAC:arpTargetMAC+6], m[:]) }
func (h ARP) SetTargetIP(a Addr)    { copy(h[arpTargetIP:arpTargetIP+4], a[12:]) }
