package director

import (
	"uvs/dataplane/wire"
	"uvs/fwd/reply"
)

// untracked treats a packet that no conn can belong to.
func (d *Director) untracked(p *packet) Verdict {
	if p.Fragment == wire.FragmentLater && d.addressedToUs(p) && d.table.mayBeOurs(p) {
		return d.laterFragment(p)
	}
	if p.Proto == wire.ProtoICMPv6 && p.IPv6 {
		if target, ok := reply.NeighbourTarget(p.frame, &p.Packet); ok {
			return d.answerND(p, target)
		}
	}
	if wire.IsICMPError(&p.Packet) && len(d.table.Tunnels) > 0 {
		if v, ok := d.tunnelError(p); ok {
			return v
		}
	}
	vip, ok := d.table.VIPs[p.Dst]
	switch {
	case !d.addressedToUs(p):
		return d.table.notToUs(p)
	case !ok:
		return NotOurs
	case !vip.Ours:
		return NotOurs
	}
	if v := d.table.martian(p); v != NotOurs {
		return v
	}
	if reply.Echo(p.frame, &p.Packet) {
		return AnsweredEcho
	}
	return DroppedVIPOther
}

// answerARP answers who-has for a VIP of ours with the hardware address of the
// port it was asked on; a probe (RFC 5227) for it is answered too, so that no
// other host takes the address.
func (d *Director) answerARP(p *packet) Verdict {
	op, _, target := reply.ARPTarget(p.frame, &p.Packet)
	if op != wire.ARPRequest || !d.table.VIPs[target].Ours || int(p.frame.In) >= len(d.table.FIB.Ports) {
		return NotOurs
	}
	if v := d.table.martianMAC(p); v != NotOurs {
		return v
	}
	if !reply.ARP(p.frame, &p.Packet, d.table.FIB.Ports[p.frame.In].MAC) {
		return NotOurs
	}
	return AnsweredARP
}

// answerND answers a neighbour solicitation for a VIP, also for one the host
// holds on another interface: it answers only for those of the interface asked
// (ndisc.c, ndisc_recv_ns), while for ARP any of its addresses will do.
func (d *Director) answerND(p *packet, target wire.Addr) Verdict {
	if _, ok := d.table.VIPs[target]; !ok || int(p.frame.In) >= len(d.table.FIB.Ports) {
		return NotOurs
	}
	if held, ok := d.table.FIB.HostAddrs[target]; ok && held == d.table.FIB.Ports[p.frame.In].Index && d.table.FIB.Ports[p.frame.In].VLAN == 0 {
		return NotOurs
	}
	if v := d.table.martianMAC(p); v != NotOurs {
		return v
	}
	if !reply.NeighbourAdvert(p.frame, &p.Packet, d.table.FIB.Ports[p.frame.In].MAC) {
		return NotOurs
	}
	return AnsweredND
}
