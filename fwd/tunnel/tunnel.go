// Package tunnel puts packets into tunnels: what IPVS's forwarding method tunnel
// does with ipip, gue and gre. All that depends on the encapsulation is in one value
// of the table in encapsulation.go. The option parser, the desired state, the
// director, the lab and the test server read it.
package tunnel

import (
	"github.com/cespare/xxhash/v2"

	"uvs/dataplane/wire"
	"uvs/fwd"
)

// Tunnel is the tunnel to one server. Its addresses are of one family, which need
// not be that of the packets.
type Tunnel struct {
	Src, Dst wire.Addr
	Type     Type
	Port     uint16 // UDP destination port, if the encapsulation is in UDP
	Checksum bool   // the tunnel's headers have a checksum, if the encapsulation knows one
	// IgnoreDF leaves DF off the outer header even if the inner one has it, so
	// that the outer packet may be fragmented (IPVS's pmtu_disc 0).
	IgnoreDF bool
}

// Overhead returns how many bytes Encap puts before the inner IP header.
func (t *Tunnel) Overhead() int { return fwd.IPLen(t.Dst) + encapsulations[t.Type].Len(t.Checksum) }

// Encap puts the tunnel's headers before the packet, whose TTL the caller has
// decremented already; afterwards p is no longer valid. Encap first finishes a
// partial checksum, except that of a GSO frame, which the link cuts up.
//
// The outer header has the inner TTL and DSCP, as in IPVS. It has the inner ECN, but
// CE becomes ECT(0) (RFC 3168 section 9.1.1, full functionality). It has DF if the
// inner has it and both are IPv4; otherwise it has an id.
//
// Encap returns false if there is no room for the headers before the frame, or the
// outer packet would be longer than IP allows.
func (t *Tunnel) Encap(f *wire.Frame, p *wire.Packet) bool {
	e, overhead := encapsulations[t.Type], t.Overhead()
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
	inner, proto := f.From(p.L3), wire.ByFamily[uint8](p.IPv6, wire.ProtoIPIP, wire.ProtoIPv6)
	ip := fwd.IPHeader{
		Src: t.Src, Dst: t.Dst, Proto: e.Proto(proto), TTL: fwd.TTL(f, p),
		Class: outerClass(trafficClass(inner)), DF: !p.IPv6 && !t.IgnoreDF && fwd.DontFragment(f, p),
	}
	if !ip.DF {
		ip.ID = datagramID(inner)
	}
	var flow uint16
	if ip.Proto == wire.ProtoUDP {
		flow = flowPort(f, p)
	}
	fwd.MoveLink(f, p, overhead)
	fwd.SetEtherType(f, p, !t.Dst.Is4())
	f.TunnelLen, f.TunnelCsum = uint8(overhead), 0
	outer := ip.Put(f, p.L3)
	b := f.From(outer.L4)
	if ip.Proto == wire.ProtoUDP {
		u := wire.UDP(b)
		u.SetSrcPort(flow)
		u.SetDstPort(t.Port)
		u.SetLen(fwd.LengthField(len(b)))
		u.SetChecksum(0)
		b = b[wire.UDPLen:]
	}
	e.Put(b, proto, t.Checksum)
	if t.Checksum {
		f.TunnelCsum = e.ChecksumOffset
		wire.FillTunnelChecksum(f, &outer)
	}
	return true
}

// QuotedInner finds the packet inside a packet of the tunnel that an ICMP error
// quotes: at is the offset of its IP header in the frame. It checks no checksum,
// because a quote is cut off. False if the quote ends before the inner packet.
func (t *Tunnel) QuotedInner(f *wire.Frame, outer *wire.Packet) (at int, ok bool) {
	at, end := int(outer.L4), int(outer.L3)+int(outer.Len)
	if outer.Proto == wire.ProtoUDP {
		at += wire.UDPLen
	}
	at += encapsulations[t.Type].QuotedLen(f.From(uint16(min(at, end)))[:max(end-at, 0)])
	return at, at < end
}

// trafficClass returns the TOS or traffic class of an IP packet: DSCP in the upper six bits,
// ECN below.
func trafficClass(ip []byte) uint8 {
	if ip[0]>>4 == 6 {
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

// outerClass returns the traffic class of the outer header; see Encap.
func outerClass(inner uint8) uint8 {
	if inner&ecnMask == ecnCE {
		return inner&^ecnMask | ecnECT0
	}
	return inner
}

// datagramID returns an IPv4 id for the packet: a hash of its headers, because workers
// would have to share a counter. The headers of two packets of a flow differ at least
// in id, sequence number or checksum. The ids of packets that a receiver reassembles at
// the same time collide no more often than random ids.
func datagramID(inner []byte) uint16 {
	const headers = 64 // of IPv4 and TCP with timestamps 52, of IPv6 and UDP 48
	return uint16(xxhash.Sum64(inner[:min(len(inner), headers)]))
}

// flowPort returns the UDP source port of a flow's packets in UDP, from the kernel's
// default ip_local_port_range, so that routers spread flows over their paths. It is the
// same for all fragments of a datagram.
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

// CombineECN carries the mark "congestion experienced" from the traffic class of
// an outer header to the inner packet of a tunnel, as its receiver must (RFC 6040
// section 4.2). False if the inner packet's sender does not know ECN: drop it.
func CombineECN(inner []byte, outer uint8) bool {
	c := trafficClass(inner)
	switch {
	case outer&ecnMask != ecnCE:
		return true
	case c&ecnMask == ecnNotECT:
		return false
	case inner[0]>>4 == 6:
		inner[1] |= ecnCE << 4 // the class is between the version and the flow label
	default:
		wire.IPv4(inner).ReplaceTOS(c | ecnCE)
	}
	return true
}
