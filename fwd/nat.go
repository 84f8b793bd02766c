package fwd

import "uvs/dataplane/wire"

// ToServer sends the packet to addr and port instead of where the client sent
// it and repairs its checksums as wire.ChecksumDelta says. Fragments other than the first
// have no port to change.
func ToServer(f *wire.Frame, p *wire.Packet, addr wire.Addr, port uint16) {
	if addr.Is4() != p.IPv6 { // no packet changes its family
		setDst(f, p, addr, port).Apply(f, p)
	}
}

// FromServer lets the packet come from addr and port instead of from its
// server. Otherwise as ToServer.
func FromServer(f *wire.Frame, p *wire.Packet, addr wire.Addr, port uint16) {
	if addr.Is4() != p.IPv6 {
		setSrc(f, p, addr, port).Apply(f, p)
	}
}

// setDst rewrites the destination in the frame and in p, and returns what that
// does to the transport checksum.
func setDst(f *wire.Frame, p *wire.Packet, addr wire.Addr, port uint16) wire.ChecksumDelta {
	fix := wire.ChecksumDelta{}.Addr(p.Dst, addr)
	p.Dst = addr
	if ip := f.From(p.L3); p.IPv6 {
		wire.IPv6(ip).SetDst(addr)
	} else {
		wire.IPv4(ip).ReplaceDst(addr)
	}
	if p.HasPorts() {
		fix = fix.Port(p.DstPort, port)
		p.DstPort = port
		wire.UDP(f.From(p.L4)).SetDstPort(port)
	}
	return fix
}

// setSrc is setDst for the source.
func setSrc(f *wire.Frame, p *wire.Packet, addr wire.Addr, port uint16) wire.ChecksumDelta {
	fix := wire.ChecksumDelta{}.Addr(p.Src, addr)
	p.Src = addr
	if ip := f.From(p.L3); p.IPv6 {
		wire.IPv6(ip).SetSrc(addr)
	} else {
		wire.IPv4(ip).ReplaceSrc(addr)
	}
	if p.HasPorts() {
		fix = fix.Port(p.SrcPort, port)
		p.SrcPort = port
		wire.UDP(f.From(p.L4)).SetSrcPort(port)
	}
	return fix
}

// Unsummed says whether the packet is UDP over IPv6 without a checksum. Hosts
// drop that (RFC 8200 section 8.1) unless an application of theirs wants it
// (RFC 6935), and translating it would make it look verified.
func Unsummed(f *wire.Frame, p *wire.Packet) bool {
	return p.IPv6 && p.Proto == wire.ProtoUDP && p.Fragment != wire.FragmentLater &&
		!f.ChecksumPartial() && wire.UDP(f.From(p.L4)).Checksum() == 0
}
