package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd"
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

// noService treats a packet to a VIP and port without a service: the host's, if
// the host holds the address, else refused as a host would.
func (d *Director) noService(p *packet) Verdict {
	vip, ok := d.table.VIPs[p.Dst]
	switch {
	case !ok: // in the net of a rule
		return d.unmatchedReply(p)
	case !vip.Ours:
		return NotOurs
	}
	if v := d.table.martian(p); v != NotOurs {
		return v
	}
	if p.Proto == wire.ProtoTCP {
		return d.reset(p, RefusedNoService)
	}
	return d.refuse(p, reply.PortUnreachable, p.Dst, 0, RefusedNoService)
}

// noServer answers a connection that no server of its service can take.
func (d *Director) noServer(svc *Service, p *packet) Verdict {
	if svc.Reset && p.Proto == wire.ProtoTCP {
		return d.reset(p, RefusedNoServer)
	}
	return d.refuse(p, reply.PortUnreachable, p.Dst, 0, RefusedNoServer)
}

// unmatchedReply treats a packet that is neither to a VIP nor of a conn. If it
// comes from an end the guard hides from the host, the host cannot route it, so
// we do; everything else is the host's.
func (d *Director) unmatchedReply(p *packet) Verdict {
	if d.table.FIB.IsLocal(p.Dst) || !d.table.hidesFromHost(p.Src, p.SrcPort, p.Proto) {
		return NotOurs
	}
	if fwd.ScopeOf(p.Dst) != fwd.ScopeHost {
		return DroppedBadDestination
	}
	origin, ok := d.table.replyService(p)
	switch {
	case !ok:
		return d.refuseOrRoute(p)
	case origin.Ambiguous:
		if v := d.routeUnchanged(p); v != PassedUnchanged {
			return v
		}
		return PassedAmbiguous
	case origin.Service != nil:
		return d.callOut(p, &origin)
	}
	return d.onePacketReply(p, &origin)
}

// refuseOrRoute treats a server's packet that belongs to nothing.
func (d *Director) refuseOrRoute(p *packet) Verdict {
	if d.table.Settings.RefuseReplies && !d.table.toVIP(p.Src) && !abortsConn(p) {
		return d.refuse(p, reply.PortUnreachable, d.table.FIB.onLink(p.frame.In, !p.IPv6).Source, 0, RefusedReply)
	}
	return d.routeUnchanged(p)
}

// abortsConn says whether a packet ends a connection at once: an RST, an SCTP ABORT.
func abortsConn(p *packet) bool {
	return p.Proto == wire.ProtoTCP && p.TCPFlags&wire.TCPRst != 0 ||
		p.Proto == wire.ProtoSCTP && sctpEvent(p) == conntrack.EventAbort
}

// onePacketReply treats a datagram from a server of a one-packet service that
// translates replies: it goes to the client as from the service, by the host's
// routes and neighbours, as no conn remembers where the client is.
func (d *Director) onePacketReply(p *packet, o *ReplyService) Verdict {
	if fwd.UDP6NoChecksum(p.frame, &p.Packet) {
		return DroppedUDP6NoChecksum
	}
	o.Counters.shards[d.worker].out(p.Len)
	way := d.table.FIB.NextHop(p.Dst)
	if v, ok := d.route(p, &way, o.VIP, ReturnedMasq); !ok {
		return v
	}
	fwd.FromServer(p.frame, &p.Packet, o.VIP, o.vport(p))
	return ReturnedMasq
}

// vport is the one that the service's client sees.
func (o *ReplyService) vport(p *packet) uint16 {
	if o.VPort == 0 {
		return p.SrcPort
	}
	return o.VPort
}

// routeUnchanged routes a packet on unchanged.
func (d *Director) routeUnchanged(p *packet) Verdict {
	way := d.table.FIB.NextHop(p.Dst)
	self := d.table.FIB.onLink(p.frame.In, !p.IPv6).Source
	v, _ := d.route(p, &way, self, PassedUnchanged)
	return v
}

// refuse answers a frame with an ICMP error from self, if one may be sent.
func (d *Director) refuse(p *packet, what reply.ErrorKind, self wire.Addr, mtu uint32, v Verdict) Verdict {
	p.frame.MTU = 0
	switch {
	case p.Fragment == wire.FragmentLater:
		return DroppedUnanswered
	case d.answerLimit.empty():
		return DroppedAnswerLimit
	case self.IsZero() || !reply.ICMPError(p.frame, &p.Packet, what, self, mtu, d.table.FIB.onLink(p.frame.In, !p.IPv6).MTU):
		return DroppedUnanswered
	}
	d.answerLimit.spend()
	return v
}

// reset answers a TCP segment with RST; other protocols get silence.
func (d *Director) reset(p *packet, v Verdict) Verdict {
	switch {
	case p.Proto != wire.ProtoTCP:
		return DroppedUnanswered
	case d.answerLimit.empty():
		return DroppedAnswerLimit
	case !reply.Reset(p.frame, &p.Packet):
		return DroppedUnanswered
	}
	d.answerLimit.spend()
	return v
}

// limiter is a token bucket for what the director originates: 1000 a second
// with bursts of 100 for each worker, the order of the kernel's
// icmp_msgs_per_sec (1000 until 6.x) and icmp_msgs_burst (50).
type limiter struct {
	tokens int64
	last   conntrack.Tick
}

const (
	limitPerMS = 1
	limitBurst = 100
)

func (l *limiter) refill(now conntrack.Tick) {
	if d := int64(now - l.last); d > 0 {
		l.tokens = min(l.tokens+d*limitPerMS, limitBurst)
		l.last = now
	}
}

// empty says that nothing may be sent now.
func (l *limiter) empty() bool { return l.tokens <= 0 }

// spend pays for what is sent.
func (l *limiter) spend() { l.tokens-- }
