package director

import (
	"uvs/dataplane/wire"
	"uvs/fwd/answer"
)

// untracked handles a packet that shows no conn by itself, such as a later fragment or a ping.
func (d *Director) untracked(p *packet) Verdict {
	if p.Fragment == wire.FragmentLater && d.isForDirector(p) && d.table.mayBeOfService(p) {
		return d.laterFragment(p)
	}
	if p.Proto == wire.ProtoICMPv6 && p.IPv6 {
		if target, ok := answer.NeighbourTarget(p.frame, &p.Packet); ok {
			return d.answerND(p, target)
		}
	}
	if wire.IsICMPError(&p.Packet) && d.table.Tunnels.Len() > 0 {
		if v, ok := d.tunnelError(p); ok {
			return v
		}
	}
	vip, ok := d.table.vip(&p.Dst)
	switch {
	case !d.isForDirector(p):
		return d.table.notForDirector(p)
	case !ok || !vip.DirectorOnly:
		return NotOurs
	}
	if v := d.table.martian(p); v != NoVerdict {
		return v
	}
	if answer.Echo(p.frame, &p.Packet) {
		return AnsweredEcho
	}
	return DroppedVIPOther
}

// answerARP answers an ARP request for a VIP that is the director's alone, with the
// hardware address of the port that it came in by. It answers a probe (RFC 5227) too, so
// that no other host takes the address.
func (d *Director) answerARP(p *packet) Verdict {
	op, _, target := answer.ARPTarget(p.frame, &p.Packet)
	vip, _ := d.table.vip(&target)
	if op != wire.ARPRequest || !vip.DirectorOnly || vip.Silent || int(p.frame.In) >= len(d.table.FIB.Ports) {
		return NotOurs
	}
	if v := d.table.martianMAC(p); v != NoVerdict {
		return v
	}
	if !answer.ARP(p.frame, &p.Packet, d.table.FIB.Ports[p.frame.In].MAC) {
		return NotOurs
	}
	return AnsweredARP
}

// answerND answers a neighbour solicitation for a VIP. It answers also for a VIP that
// the host holds on another interface. The host answers only for addresses of the
// interface that is asked (net/ipv6/ndisc.c, ndisc_recv_ns), while for ARP it answers
// for all.
func (d *Director) answerND(p *packet, target wire.Addr) Verdict {
	if vip, ok := d.table.vip(&target); !ok || vip.Silent || int(p.frame.In) >= len(d.table.FIB.Ports) {
		return NotOurs
	}
	port := &d.table.FIB.Ports[p.frame.In]
	if holder, ok := d.table.FIB.HostAddrs[target]; ok && holder == port.Index && port.VLAN == 0 {
		return NotOurs
	}
	if v := d.table.martianMAC(p); v != NoVerdict {
		return v
	}
	if !answer.NeighbourAdvert(p.frame, &p.Packet, port.MAC) {
		return NotOurs
	}
	return AnsweredND
}
