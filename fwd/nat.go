package fwd

import "uvs/dataplane/wire"

// ToServer changes the destination of the packet to addr and port and updates its
// checksums (see wire.ChecksumDelta). Fragments other than the first have no port. A
// packet of the other family than addr stays unchanged.
func ToServer(f *wire.Frame, p *wire.Packet, addr wire.Addr, port uint16) {
	if addr.Is4() == !p.IPv6 { // no packet changes its family
		setDst(f, p, addr, port).Apply(f, p)
	}
}

// FromServer changes the source of the packet as ToServer does its destination.
func FromServer(f *wire.Frame, p *wire.Packet, addr wire.Addr, port uint16) {
	if addr.Is4() == !p.IPv6 {
		setSrc(f, p, addr, port).Apply(f, p)
	}
}

// setDst rewrites the destination in the frame and in p, and returns the effect on
// the transport checksum.
func setDst(f *wire.Frame, p *wire.Packet, addr wire.Addr, port uint16) wire.ChecksumDelta {
	delta := wire.ChecksumDelta{}.Addr(p.Dst, addr)
	p.Dst = addr
	if ip := f.From(p.L3); p.IPv6 {
		wire.IPv6(ip).SetDst(addr)
	} else {
		wire.IPv4(ip).ReplaceDst(addr)
	}
	if p.HasPorts() {
		delta = delta.Port(p.DstPort, port)
		p.DstPort = port
		wire.UDP(f.From(p.L4)).SetDstPort(port)
	}
	return delta
}

// setSrc is setDst for the source.
func setSrc(f *wire.Frame, p *wire.Packet, addr wire.Addr, port uint16) wire.ChecksumDelta {
	delta := wire.ChecksumDelta{}.Addr(p.Src, addr)
	p.Src = addr
	if ip := f.From(p.L3); p.IPv6 {
		wire.IPv6(ip).SetSrc(addr)
	} else {
		wire.IPv4(ip).ReplaceSrc(addr)
	}
	if p.HasPorts() {
		delta = delta.Port(p.SrcPort, port)
		p.SrcPort = port
		wire.UDP(f.From(p.L4)).SetSrcPort(port)
	}
	return delta
}

// UDP6NoChecksum reports whether the packet is UDP over IPv6 without a checksum. Hosts
// drop it (RFC 8200 section 8.1) unless an application accepts it (RFC 6935). NAT
// would give it a checksum, so that it would look verified.
func UDP6NoChecksum(f *wire.Frame, p *wire.Packet) bool {
	return p.IPv6 && p.Proto == wire.ProtoUDP && p.Fragment != wire.FragmentLater &&
		!f.ChecksumPartial() && wire.UDP(f.From(p.L4)).Checksum() == 0
}
