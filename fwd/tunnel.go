package fwd

import (
	"github.com/cespare/xxhash/v2"

	"uvs/dataplane/wire"
)

// Encapsulation is what a tunnel has between the outer and the inner IP header.
type Encapsulation uint8

const (
	IPIP Encapsulation = iota // nothing: RFC 2003, RFC 2473, RFC 4213
	GUE                       // a UDP header and four bytes: draft-ietf-intarea-gue
	GRE                       // four bytes, or eight with a checksum: RFC 2784
)

func (e Encapsulation) String() string {
	switch e {
	case IPIP:
		return "ipip"
	case GUE:
		return "gue"
	case GRE:
		return "gre"
	}
	return "unknown"
}

// Tunnel is the way to one server by encapsulation. Its addresses are of one
// family, which need not be that of the packets.
type Tunnel struct {
	Src, Dst wire.Addr
	Type     Encapsulation
	Port     uint16 // GUE: UDP destination port
	Checksum bool   // GUE: with a UDP checksum; GRE: with a checksum
	// IgnoreDF leaves DF off the outer header whatever the inner one says, so
	// that the outer packet may be fragmented (IPVS's pmtu_disc 0).
	IgnoreDF bool
}

// Overhead is how many bytes Encap puts before the inner IP header.
func (t *Tunnel) Overhead() int { return ipLen(t.Dst) + t.shimLen() }

// Encap puts the tunnel's headers before the packet, whose TTL has been
// decremented already; afterwards p does not hold any longer. A half-made
// checksum is finished first, except that of a super-frame, which the link cuts
// up.
//
// The outer header has the inner TTL and DSCP, as in IPVS; the inner ECN except
// that CE becomes ECT(0) (RFC 3168 section 9.1.1, full functionality); DF if the
// inner has it and both are IPv4; and an id unless it has DF.
//
// False if there is no room for the headers before the frame, or the outer
// packet would be longer than any can be.
func (t *Tunnel) Encap(f *wire.Frame, p *wire.Packet) bool {
	overhead := t.Overhead()
	if p.Kind != wire.KindIP || f.Headroom() < overhead || t.Src.Is4() != t.Dst.Is4() ||
		!f.IsGSO() && overhead+int(p.Len) > wire.MaxIPLen {
		return false
	}
	if f.IsGSO() {
		f.Offload.CsumStart += uint16(overhead)
		f.Offload.HdrLen += uint16(overhead)
	} else {
		wire.FinishChecksum(f)
		f.Offload = wire.Offload{}
	}
	ip := ipHeader{
		src: t.Src, dst: t.Dst,
		proto: t.proto(p),
		ttl:   ttl(f, p),
		class: outerClass(class(f, p)),
		df:    !p.IPv6 && !t.IgnoreDF && DontFragment(f, p),
	}
	if !ip.df {
		ip.id = datagramID(f.From(p.L3))
	}
	var flow uint16
	if t.Type == GUE {
		flow = flowPort(f, p)
	}
	moveLink(f, p, overhead)
	setEtherType(f, p, !t.Dst.Is4())
	f.TunnelLen = uint8(overhead)
	outer := ip.put(f, p.L3)
	t.putShim(f, &outer, p, flow)
	return true
}

// proto is the protocol of the outer header.
func (t *Tunnel) proto(p *wire.Packet) uint8 {
	switch t.Type {
	case GUE:
		return wire.ProtoUDP
	case GRE:
		return wire.ProtoGRE
	}
	return protoOf(p)
}

// protoOf is the protocol number of p's family inside another IP packet.
func protoOf(p *wire.Packet) uint8 {
	if p.IPv6 {
		return wire.ProtoIPv6
	}
	return wire.ProtoIPIP
}

// class is TOS or traffic class: DSCP in the upper six bits, ECN below.
func class(f *wire.Frame, p *wire.Packet) uint8 {
	ip := f.From(p.L3)
	if p.IPv6 {
		return wire.IPv6(ip).TrafficClass()
	}
	return wire.IPv4(ip).TOS()
}

// ECN codepoints, RFC 3168 section 5.
const (
	ecnMask   = 3
	ecnNotECT = 0
	ecnECT0   = 2
	ecnCE     = 3
)

func outerClass(inner uint8) uint8 {
	if inner&ecnMask == ecnCE {
		return inner&^ecnMask | ecnECT0
	}
	return inner
}

// datagramID is an IPv4 id for the packet: not a count, which workers would
// have to share, but a hash of its headers. They differ from packet to packet
// of one flow at least by id, sequence number or checksum; two packets that the
// network has to reassemble at once agree in it as rarely as in a random one.
func datagramID(inner []byte) uint16 {
	const headers = 64 // of IPv4 and TCP with timestamps 52, of IPv6 and UDP 48
	return uint16(xxhash.Sum64(inner[:min(len(inner), headers)]))
}

// flowPort is the UDP source port of a flow's GUE packets, from the kernel's
// default ip_local_port_range, so that routers spread flows over their paths.
// All fragments of a datagram have the same.
func flowPort(f *wire.Frame, p *wire.Packet) uint16 {
	const first, last = 32768, 60999
	ip := f.From(p.L3)
	addrs := ip[12:20]
	if p.IPv6 {
		addrs = ip[8:40]
	}
	hash := xxhash.Sum64(addrs)
	if p.HasPorts() && p.Fragment == wire.FragmentNone {
		hash ^= xxhash.Sum64(f.From(p.L4)[:4])
	}
	return uint16(first + hash%(last-first+1))
}

// Decap takes the packet in a tunnel packet (IPIP, GUE to GUEPort, GRE) out of
// it: the frame then holds the inner packet, and p does not hold any longer. It
// is what a server does with our packets. A CE mark of the outer header is
// passed on to the inner one (RFC 6040 section 4.2).
//
// False for what is no such packet, for fragments, and for one marked CE whose
// inner packet cannot say so (the RFC: drop it).
func Decap(f *wire.Frame, p *wire.Packet) bool {
	if p.Kind != wire.KindIP || p.Fragment != wire.FragmentNone {
		return false
	}
	shim, proto, ok := shimIn(f, p)
	var in wire.Packet
	at := int(p.L4) + shim
	if !ok || wire.ParseIPAt(f, at, &in, wire.Whole) != wire.FlawNone || protoOf(&in) != proto {
		return false
	}
	if class(f, p)&ecnMask == ecnCE && !markCE(f, &in) {
		return false
	}
	moveLink(f, p, int(p.L3)-at)
	setEtherType(f, p, in.IPv6)
	f.TunnelLen = 0
	taken := in.L3 - p.L3
	f.Offload.CsumStart -= min(f.Offload.CsumStart, taken)
	f.Offload.HdrLen -= min(f.Offload.HdrLen, taken)
	return true
}

// markCE sets CE, unless the packet's sender does not know ECN.
func markCE(f *wire.Frame, p *wire.Packet) bool {
	c := class(f, p)
	if c&ecnMask == ecnNotECT {
		return false
	}
	if ip := f.From(p.L3); p.IPv6 {
		ip[1] |= ecnCE << 4 // the class is between the version and the flow label
	} else {
		wire.IPv4(ip).ReplaceTOS(c | ecnCE)
	}
	return true
}
