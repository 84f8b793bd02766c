package fwd

import "uvs/dataplane/wire"

// LinkHeader is how a frame leaves: the port, and the MAC addresses of the next
// machine and of that port.
type LinkHeader struct {
	Port     uint16
	Dst, Src wire.MAC
}

// Apply writes the MAC addresses into the frame and makes it leave by the port.
// VLAN tags stay.
func (h *LinkHeader) Apply(f *wire.Frame) {
	e := wire.Ethernet(f.Bytes())
	e.SetDst(h.Dst)
	e.SetSrc(h.Src)
	f.Out = h.Port
}

// MoveLink moves the link header, with its VLAN tags, n bytes towards the start of
// the buffer (n < 0: towards its end). So the frame has n bytes more (fewer)
// between it and the rest. There must be room for them.
func MoveLink(f *wire.Frame, p *wire.Packet, n int) {
	from := int(f.Off)
	copy(f.Buf[from-n:], f.Buf[from:from+int(p.L3)])
	f.Off -= int32(n)
}

// SetEtherType writes the family of the packet after it into the link header.
func SetEtherType(f *wire.Frame, p *wire.Packet, ipv6 bool) {
	wire.Ethernet(f.From(p.L3 - wire.EthernetLen)).SetType(EtherType(ipv6))
}

// EtherType is that of a family.
func EtherType(ipv6 bool) uint16 {
	return wire.ByFamily[uint16](ipv6, wire.EtherTypeIPv4, wire.EtherTypeIPv6)
}
