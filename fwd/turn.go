package fwd

import "uvs/dataplane/wire"

// This file makes answers of our own out of the frame that called for them.

// sendOwn sends a frame that is of our own making by the hop: nothing the link
// said of the frame it was made of holds.
func (h *LinkHeader) sendOwn(f *wire.Frame) {
	f.Offload, f.MTU, f.TunnelLen = wire.Offload{}, 0, 0
	h.Apply(f)
}

// turnRound sends the frame back to the machine and port it came from.
func turnRound(f *wire.Frame) {
	e := wire.Ethernet(f.Bytes())
	back := LinkHeader{Port: f.In, Dst: e.Src(), Src: e.Dst()}
	back.sendOwn(f)
}

// answerable says whether the packet came from one host to one host, so that it
// may be answered: RFC 1812 section 4.3.2.7, RFC 1122 section 3.2.2, RFC 4443
// section 2.4 (e). Directed broadcasts are known by their MAC address.
func answerable(f *wire.Frame, p *wire.Packet) bool {
	e := wire.Ethernet(f.Bytes())
	return p.Kind == wire.KindIP && !e.Dst().IsGroup() && !e.Src().IsGroup() &&
		isHost(p.Src, p.IPv6) && !isLoopback(p.Src) && isHost(p.Dst, p.IPv6)
}

// Scope says what may be at an address.
type Scope uint8

const (
	ScopeHost        Scope = iota // one host, to be reached from anywhere
	ScopeLink                     // one host, from its own link only: fe80::/10 (RFC 4291 section 2.5.6)
	ScopeLoopback                 // the host itself: 127/8, ::1
	ScopeUnspecified              // nobody: 0/8 (RFC 1122 section 3.2.1.3), ::
	ScopeGroup                    // many: 224/4, 255.255.255.255, ff00::/8
	ScopeReserved                 // nobody yet: 240/4 (RFC 1112 section 4)
	NumScope
)

// ScopeOf is the scope of an address of a packet. 169.254/16 counts as any
// other, as it does to Linux when it routes.
func ScopeOf(a wire.Addr) Scope {
	switch {
	case isLoopback(a):
		return ScopeLoopback
	case !a.Is4():
		switch {
		case a.IsZero():
			return ScopeUnspecified
		case a[0] == 0xff:
			return ScopeGroup
		case a[0] == 0xfe && a[1]&0xc0 == 0x80:
			return ScopeLink
		}
	case a[12] == 0:
		return ScopeUnspecified
	case a[12]&0xf0 == 224, [4]byte(a[12:]) == [4]byte{255, 255, 255, 255}:
		return ScopeGroup
	case a[12] >= 240:
		return ScopeReserved
	}
	return ScopeHost
}

// isHost says whether a can be the address of one host in a packet of the
// family: not unspecified, and neither multicast nor, in IPv4, of the blocks 0/8,
// 224/4 and 240/4 (RFC 1122 section 3.2.1.3, RFC 4291 section 2.4).
func isHost(a wire.Addr, ipv6 bool) bool {
	if ipv6 {
		return a[0] != 0xff && !a.IsZero()
	}
	return a[12] != 0 && a[12] < 224
}

func isLoopback(a wire.Addr) bool {
	return a.Is4() && a[12] == 127 || a == wire.Addr{15: 1}
}

// moveLink moves the link header, with its VLAN tags, n bytes forward (n < 0:
// back), so that the frame has n bytes more (fewer) between it and the rest.
// There must be room for them.
func moveLink(f *wire.Frame, p *wire.Packet, n int) {
	from := int(f.Off)
	copy(f.Buf[from-n:], f.Buf[from:from+int(p.L3)])
	f.Off -= int32(n)
}

// setEtherType says which family follows the link header.
func setEtherType(f *wire.Frame, p *wire.Packet, ipv6 bool) {
	wire.Ethernet(f.From(p.L3 - wire.EthernetLen)).SetType(etherType(ipv6))
}

func etherType(ipv6 bool) uint16 {
	if ipv6 {
		return wire.EtherTypeIPv6
	}
	return wire.EtherTypeIPv4
}
