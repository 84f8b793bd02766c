// Package wiretest builds frames for tests, and checks frames in tests. It builds
// them byte by byte and checks them with gopacket and a plain 16-bit checksum
// loop, so that it shares only the types with the code under test. A mistake in a
// description panics, because it is a mistake of the test.
package wiretest

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"

	"uvs/dataplane/wire"
)

// The default MAC addresses.
var (
	ClientMAC   = wire.MAC{2, 0, 0, 0, 0, 0xc}
	DirectorMAC = wire.MAC{2, 0, 0, 0, 0, 0xd}
)

// Packet describes a frame with an IP packet. The zero value of a field is the usual
// case: TCP, TTL 64, a complete checksum, no tags, no options.
type Packet struct {
	SrcMAC, DstMAC wire.MAC // zero: from ClientMAC to DirectorMAC
	VLANs          []uint16 // tags, outermost first; two make QinQ

	Src, Dst string // "10.0.0.1:80", "[2001:db8::1]:80", or without port
	Proto    uint8  // zero: TCP
	TTL, TOS uint8
	ID       uint16 // IPv4
	DF, MF   bool   // IPv4, or MF in an IPv6 fragment header
	Offset   int    // fragment offset in bytes; if not 0, there is no transport header
	Options  []byte // IPv4 options, a multiple of 4 bytes
	// Extensions are IPv6 extension headers. The first is of protocol Extension,
	// and the next header of the last must be Proto.
	Extensions []byte
	Extension  uint8

	TCPFlags   uint8
	Seq, Ack   uint32
	TCPOptions []byte // a multiple of 4 bytes

	ICMPType, ICMPCode uint8
	ICMPRest           uint32 // the second word: identifier and sequence, or MTU

	Payload []byte

	// NoChecksum leaves a UDP checksum 0. PartialChecksum makes a partial one, and
	// the Offload that describes it.
	NoChecksum, PartialChecksum bool
	// GSOSize, if not 0, makes a GSO frame with segments of GSOSize bytes and a
	// partial checksum.
	GSOSize uint16
}

// Frame builds the frame, with wire.Headroom bytes of headroom.
func (p Packet) Frame() wire.Frame {
	ip, l4 := p.ip()
	link := p.link()
	f := Frame(append(link, ip...))
	if p.PartialChecksum || p.GSOSize != 0 {
		f.Offload = wire.Offload{
			Flags: wire.OffloadNeedsCsum, CsumStart: uint16(len(link) + l4), CsumOffset: uint16(checksumAt(p.proto())),
			GSOSize: p.GSOSize, GSOType: p.gsoType(), HdrLen: uint16(len(f.Bytes()) - len(p.Payload)),
		}
	}
	return f
}

// Frame copies b, which begins with an Ethernet header, into a frame with
// wire.Headroom bytes before it and none after it.
func Frame(b []byte) wire.Frame {
	buf := append(make([]byte, wire.Headroom), b...)
	return wire.Frame{Buf: buf, Off: wire.Headroom, End: int32(len(buf)), Out: wire.NoPort}
}

// Quote returns the payload of an ICMP error about f: its IP packet, at most max bytes.
func Quote(f wire.Frame, max int) []byte {
	ip := f.Bytes()[14:]
	for tpid := f.Bytes()[12]; tpid == 0x81 || tpid == 0x88; ip = ip[4:] {
		tpid = ip[2]
	}
	return append([]byte(nil), ip[:min(max, len(ip))]...)
}

// ARP builds an ARP message in a frame. If targetMAC is zero, as in a request, the
// frame is a broadcast.
func ARP(operation uint16, senderMAC wire.MAC, sender string, targetMAC wire.MAC, target string) wire.Frame {
	b := make([]byte, wire.EthernetLen+wire.ARPLen)
	copy(b, targetMAC[:])
	if targetMAC.IsZero() {
		copy(b, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	}
	copy(b[6:], senderMAC[:])
	copy(b[12:], []byte{8, 6, 0, 1, 8, 0, 6, 4})
	binary.BigEndian.PutUint16(b[20:], operation)
	copy(b[22:], senderMAC[:])
	copy(b[28:], netip.MustParseAddr(sender).AsSlice())
	copy(b[32:], targetMAC[:])
	copy(b[38:], netip.MustParseAddr(target).AsSlice())
	return Frame(b)
}

// Solicitation builds a neighbour solicitation for target. Its destination is the
// solicited-node multicast address (RFC 4291 section 2.7.1).
func Solicitation(srcMAC wire.MAC, src, target string) wire.Frame {
	t := netip.MustParseAddr(target).As16()
	group := netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	return Packet{
		SrcMAC: srcMAC, DstMAC: wire.MAC{0x33, 0x33, 0xff, t[13], t[14], t[15]},
		Src: src, Dst: group.String(), Proto: wire.ProtoICMPv6, TTL: 255,
		ICMPType: wire.ICMPv6Solicit, Payload: append(append(t[:], 1, 1), srcMAC[:]...),
	}.Frame()
}

func (p *Packet) proto() uint8 {
	if p.Proto == 0 {
		return wire.ProtoTCP
	}
	return p.Proto
}

func (p *Packet) gsoType() uint8 {
	switch {
	case p.GSOSize == 0:
		return wire.GSONone
	case p.proto() == wire.ProtoUDP:
		return wire.GSOUDPL4
	case endpoint(p.Src).Addr().Is6():
		return wire.GSOTCPv6
	}
	return wire.GSOTCPv4
}

// endpoint parses an address with or without a port.
func endpoint(s string) netip.AddrPort {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 0)
	}
	return netip.MustParseAddrPort(s)
}

// link builds the Ethernet header and its tags.
func (p *Packet) link() []byte {
	src, dst := p.SrcMAC, p.DstMAC
	if src.IsZero() {
		src = ClientMAC
	}
	if dst.IsZero() {
		dst = DirectorMAC
	}
	b := append(dst[:], src[:]...)
	for i, vlan := range p.VLANs {
		tpid := uint16(0x8100)
		if i < len(p.VLANs)-1 {
			tpid = 0x88a8
		}
		b = binary.BigEndian.AppendUint16(b, tpid)
		b = binary.BigEndian.AppendUint16(b, vlan)
	}
	if endpoint(p.Src).Addr().Is6() {
		return append(b, 0x86, 0xdd)
	}
	return append(b, 8, 0)
}

// ip builds the IP packet. l4 is the offset of the transport header in it.
func (p *Packet) ip() (b []byte, l4 int) {
	src, dst := endpoint(p.Src), endpoint(p.Dst)
	transport := p.transport(src, dst)
	ttl := p.TTL
	if ttl == 0 {
		ttl = 64
	}
	if src.Addr().Is6() {
		b = append([]byte{0x60 | p.TOS>>4, p.TOS << 4, 0, 0, 0, 0, p.proto(), ttl},
			append(src.Addr().AsSlice(), dst.Addr().AsSlice()...)...)
		if len(p.Extensions) > 0 {
			b[6] = p.Extension
			b = append(b, p.Extensions...)
		}
		l4 = len(b)
		b = append(b, transport...)
		if n := len(b) - 40; n <= 0xffff {
			binary.BigEndian.PutUint16(b[4:], uint16(n))
		}
		return b, l4
	}
	l4 = 20 + len(p.Options)
	b = append(make([]byte, 20, l4+len(transport)), p.Options...)
	b[0], b[1], b[8], b[9] = uint8(0x40|l4/4), p.TOS, ttl, p.proto()
	if n := l4 + len(transport); n <= 0xffff {
		binary.BigEndian.PutUint16(b[2:], uint16(n))
	}
	binary.BigEndian.PutUint16(b[4:], p.ID)
	fragment := uint16(p.Offset / 8)
	if p.DF {
		fragment |= 0x4000
	}
	if p.MF {
		fragment |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], fragment)
	copy(b[12:], src.Addr().AsSlice())
	copy(b[16:], dst.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^sum16(b, 0))
	return append(b, transport...), l4
}

// transport builds the transport header and the payload. For a later fragment it
// returns only the payload.
func (p *Packet) transport(src, dst netip.AddrPort) []byte {
	if p.Offset > 0 {
		return p.Payload
	}
	var b []byte
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, src.Port()), dst.Port())
	switch p.proto() {
	case wire.ProtoTCP:
		b = binary.BigEndian.AppendUint32(ports, p.Seq)
		b = binary.BigEndian.AppendUint32(b, p.Ack)
		b = append(b, uint8(20+len(p.TCPOptions))<<2, p.TCPFlags, 0xff, 0xff, 0, 0, 0, 0)
		b = append(b, p.TCPOptions...)
	case wire.ProtoUDP:
		b = binary.BigEndian.AppendUint16(ports, uint16(8+len(p.Payload)))
		b = append(b, 0, 0)
	case wire.ProtoSCTP:
		b = append(ports, 0, 0, 0, 1, 0, 0, 0, 0)
	case wire.ProtoICMP, wire.ProtoICMPv6:
		b = binary.BigEndian.AppendUint32([]byte{p.ICMPType, p.ICMPCode, 0, 0}, p.ICMPRest)
	}
	b = append(b, p.Payload...)
	at := checksumAt(p.proto())
	switch {
	case at < 0 || p.NoChecksum:
	case p.proto() == wire.ProtoSCTP:
		binary.LittleEndian.PutUint32(b[at:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	case p.PartialChecksum || p.GSOSize != 0:
		binary.BigEndian.PutUint16(b[at:], pseudo16(src.Addr(), dst.Addr(), p.proto(), len(b)))
	default:
		sum := ^sum16(b, pseudo16(src.Addr(), dst.Addr(), p.proto(), len(b)))
		if p.proto() == wire.ProtoUDP && sum == 0 {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(b[at:], sum)
	}
	return b
}

// checksumAt returns the offset of the checksum in a transport header, -1 if it has none.
func checksumAt(proto uint8) int {
	switch proto {
	case wire.ProtoTCP:
		return 16
	case wire.ProtoUDP:
		return 6
	case wire.ProtoICMP, wire.ProtoICMPv6:
		return 2
	case wire.ProtoSCTP:
		return 8
	}
	return -1
}

// sum16 adds 16-bit words one by one, each time with its carry.
func sum16(b []byte, sum uint16) uint16 {
	for i := 0; i < len(b); i += 2 {
		word := uint16(b[i]) << 8
		if i+1 < len(b) {
			word |= uint16(b[i+1])
		}
		sum += word
		if sum < word {
			sum++
		}
	}
	return sum
}

// pseudo16 sums a pseudo-header that it writes out as bytes. ICMP over IPv4 has none: 0.
func pseudo16(src, dst netip.Addr, proto uint8, length int) uint16 {
	if proto == wire.ProtoICMP {
		return 0
	}
	b := append(src.AsSlice(), dst.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return sum16(append(b, 0, proto), 0)
}
