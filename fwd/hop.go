package fwd

import "uvs/dataplane/wire"

// LinkHeader is how a frame leaves: the port, and the MAC addresses of the next
// machine and of that port.
type LinkHeader struct {
	Port     uint16
	Dst, Src wire.MAC
}

// Apply puts the hop's MAC addresses on the frame, which leaves by its port.
// VLAN tags stay.
func (h *LinkHeader) Apply(f *wire.Frame) {
	e := wire.Ethernet(f.Bytes())
	e.SetDst(h.Dst)
	e.SetSrc(h.Src)
	f.Out = h.Port
}

// ttl is the packet's TTL (RFC 791) or hop limit (RFC 8200).
func ttl(f *wire.Frame, p *wire.Packet) uint8 {
	ip := f.Bytes()[p.L3:]
	if p.IPv6 {
		return wire.IPv6(ip).HopLimit()
	}
	return wire.IPv4(ip).TTL()
}

// TTLExpired says whether the packet may not be forwarded any further: its TTL
// or hop limit is 1 or less.
func TTLExpired(f *wire.Frame, p *wire.Packet) bool { return ttl(f, p) <= 1 }

// DecTTL takes one off the TTL or hop limit, which must not be 0.
func DecTTL(f *wire.Frame, p *wire.Packet) {
	ip := f.Bytes()[p.L3:]
	if p.IPv6 {
		h := wire.IPv6(ip)
		h.SetHopLimit(h.HopLimit() - 1)
		return
	}
	wire.IPv4(ip).DecTTL()
}

// DontFragment says whether a router must not fragment the packet: IPv4 with
// DF set, and all of IPv6.
func DontFragment(f *wire.Frame, p *wire.Packet) bool {
	return p.IPv6 || wire.IPv4(f.Bytes()[p.L3:]).DF()
}

// TooLong says whether, with outer bytes of tunnel header before it, an IP
// packet longer than mtu would leave. A super-frame is judged by its segments.
func TooLong(f *wire.Frame, p *wire.Packet, mtu, outer int) bool {
	n := int(p.Len)
	if f.IsGSO() && f.Offload.GSOSize != 0 && p.Fragment != wire.FragmentLater {
		n = min(n, headerLen(f, p)+int(f.Offload.GSOSize))
	}
	return n+outer > mtu
}

// headerLen is the length of the IP and transport headers that every segment of a
// super-frame repeats.
func headerLen(f *wire.Frame, p *wire.Packet) int {
	n := int(p.L4) - int(p.L3) - wire.JumboLen(f, p)
	if p.Proto == wire.ProtoTCP {
		return n + wire.TCP(f.Bytes()[p.L4:]).HeaderLen()
	}
	return n + wire.UDPLen
}
