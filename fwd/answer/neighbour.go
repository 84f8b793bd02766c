package answer

import (
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// allNodes is ff02::1, where an advertisement goes that has no single receiver.
var (
	allNodes    = wire.Addr{0: 0xff, 1: 2, 15: 1}
	allNodesMAC = wire.MAC{0x33, 0x33, 0, 0, 0, 1} // RFC 2464 section 7
)

// solicitedNode is the prefix of the multicast groups that solicitations go to,
// ff02::1:ff00:0/104, RFC 4291 section 2.7.1.
var solicitedNode = [13]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff}

// NeighbourTarget returns the address that a neighbour solicitation asks for. ok is
// false for anything else, and for an invalid one: RFC 4861 section 7.1.1.
func NeighbourTarget(f *wire.Frame, p *wire.Packet) (target wire.Addr, ok bool) {
	if p.Kind != wire.KindIP || !p.IPv6 || p.Proto != wire.ProtoICMPv6 || p.Fragment != wire.FragmentNone ||
		p.ICMPType != wire.ICMPv6Solicit || p.ICMPCode != 0 || fwd.TTL(f, p) != 255 {
		return target, false
	}
	m := f.From(p.L4)
	if len(m) < wire.NeighbourLen || !wire.VerifyChecksum(f, p) {
		return target, false
	}
	hasMAC, ok := neighbourOptions(m[wire.NeighbourLen:])
	probe := p.Src.IsZero() // duplicate address detection, RFC 4862 section 5.4
	if !ok || probe && (hasMAC || [13]byte(p.Dst[:13]) != solicitedNode) {
		return target, false
	}
	target = wire.Neighbour(m).Target()
	return target, !target.Is4() && isHost(target) && (probe || isHost(p.Src))
}

// neighbourOptions walks the options of a solicitation (RFC 4861 section 4.6:
// type, length in units of 8 bytes). ok reports whether all have a length and end
// with the packet or before.
func neighbourOptions(o []byte) (hasMAC, ok bool) {
	for len(o) > 0 {
		if len(o) < wire.NeighbourOptionLen || o[1] == 0 || len(o) < int(o[1])*8 {
			return false, false
		}
		hasMAC = hasMAC || o[0] == wire.OptionSourceMAC
		o = o[int(o[1])*8:]
	}
	return hasMAC, true
}

// NeighbourAdvert turns a neighbour solicitation into the advertisement that its
// target is at mac: solicited, and overriding what the receiver knows. A host may probe
// for an address to use. The answer to it goes to all nodes and is not solicited, so
// that the host gives the address up (RFC 4861 section 7.2.4). It returns false for
// anything else, and without room for the option.
func NeighbourAdvert(f *wire.Frame, p *wire.Packet, mac wire.MAC) bool {
	target, ok := NeighbourTarget(f, p)
	const length = wire.IPv6Len + wire.NeighbourLen + wire.NeighbourOptionLen
	if !ok || !stretch(f, p, length) {
		return false
	}
	ip := fwd.IPHeader{Src: target, Dst: p.Src, Proto: wire.ProtoICMPv6, TTL: 255}
	back := fwd.LinkHeader{Port: f.In, Dst: wire.Ethernet(f.Bytes()).Src(), Src: mac}
	flags := uint8(wire.NeighbourSolicited | wire.NeighbourOverride)
	if p.Src.IsZero() {
		ip.Dst, back.Dst, flags = allNodes, allNodesMAC, wire.NeighbourOverride
	}
	leaveBy(&back, f)
	m := f.From(p.L3)[wire.IPv6Len:]
	wire.ICMP(m).SetType(wire.ICMPv6Advertise)
	wire.ICMP(m).SetCode(0)
	n := wire.Neighbour(m)
	n.SetFlags(flags)
	n.SetTarget(target)
	n.SetOption(wire.OptionTargetMAC, mac)
	ip.PutWithChecksum(f, p.L3)
	return true
}

// stretch makes room for an IP packet of length bytes in place of the frame's. It uses
// the end of the buffer first and then its headroom.
func stretch(f *wire.Frame, p *wire.Packet, length int) bool {
	end := int(f.Off) + int(p.L3) + length
	if short := end - len(f.Buf); short > 0 {
		if f.Headroom() < short {
			return false
		}
		fwd.MoveLink(f, p, short)
		end = len(f.Buf)
	}
	f.End = int32(end)
	return true
}
