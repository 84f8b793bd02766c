package wire

// Protocol numbers (IANA) that the packet path knows by name.
const (
	ProtoICMP   = 1
	ProtoIPIP   = 4
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoIPv6   = 41
	ProtoGRE    = 47
	ProtoESP    = 50
	ProtoAH     = 51
	ProtoICMPv6 = 58
	ProtoSCTP   = 132
)

// TCP flags, byte 13 of the header (RFC 9293 section 3.1).
const (
	TCPFin = 1 << iota
	TCPSyn
	TCPRst
	TCPPsh
	TCPAck
	TCPUrg
	TCPEce
	TCPCwr
)

// MaxIPLen is the greatest length that an IP header can state, in bytes: 16 bits.
const MaxIPLen = 0xffff

// MinMSS is the smallest MSS that Linux uses, in bytes (sysctl tcp_min_snd_mss).
const MinMSS = 48

// Kind is the coarse type of a frame.
type Kind uint8

const (
	KindOther     Kind = iota // neither IP nor ARP
	KindARP                   // Ethernet/IPv4 ARP, RFC 826
	KindIP                    // IPv4 or IPv6 with sound headers
	KindBad                   // IP or ARP by its EtherType, but not sound: see Flaw
	KindOtherVLAN             // in a VLAN of no port; the director sets it, Parse does not
)

// Flaw is the reason why a frame is KindBad.
type Flaw uint8

const (
	FlawNone            Flaw = iota
	FlawRunt                 // shorter than its link header, or truncated by the ring
	FlawARP                  // ARP that is not Ethernet/IPv4 or too short
	FlawIPHeader             // version or header length impossible
	FlawIPLength             // the frame ends before the IP packet, or the packet ends inside its header
	FlawIPChecksum           // IPv4 header checksum wrong
	FlawMappedAddress        // an IPv4-mapped address in an IPv6 header
	FlawIPOption             // an IPv4 option with an impossible length
	FlawSourceRoute          // IPv4 source route, or IPv6 routing header with segments left
	FlawExtension            // the packet ends in an IPv6 extension header
	FlawManyExtensions       // more IPv6 extension headers than maxExtensions
	FlawTransport            // the packet ends in its transport header
	FlawTransportLength      // TCP data offset or UDP length impossible
	NumFlaw
)

// Fragment is the part of a datagram that a packet carries.
type Fragment uint8

const (
	FragmentNone  Fragment = iota // all of it
	FragmentFirst                 // the first fragment, which has the ports
	FragmentLater                 // any later one, which has none
)

// Packet is what parsing found in a frame. Offsets count in bytes from the start
// of the frame (Frame.Off at the time of parsing). A field's comment names the
// kind of packet for which it is valid.
type Packet struct {
	Src, Dst Addr // KindIP: addresses of the IP header

	// Ports in host order if HasPorts, else 0.
	SrcPort, DstPort uint16

	// Len is the length of the IP packet in bytes, header included. It is IPv4's
	// total length, but that of a GSO frame is its real length. KindIP.
	Len uint32

	L3 uint16 // offset of the IP or ARP header
	L4 uint16 // offset of the transport header. KindIP, not FragmentLater

	Kind     Kind
	Flaw     Flaw
	Fragment Fragment
	Proto    uint8 // transport protocol after any extension headers. KindIP
	IPv6     bool  // KindIP: family of the IP header
	TCPFlags uint8 // TCP: byte 13 of its header
	// Type and Code of ICMP or ICMPv6, else 0.
	ICMPType, ICMPCode uint8
}

// HasPorts reports whether p is TCP, UDP or SCTP and shows its ports, which all
// three have in the same place.
func (p *Packet) HasPorts() bool {
	return (p.Proto == ProtoTCP || p.Proto == ProtoUDP || p.Proto == ProtoSCTP) && p.Fragment != FragmentLater
}
