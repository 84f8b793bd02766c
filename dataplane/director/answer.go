package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// answer treats a packet that no conn can belong to.
func (d *Director) answer(t *Table, f *wire.Frame, p *wire.Packet) Verdict {
	if p.Fragment == wire.FragmentLater && d.forUs(t, f) && t.concerns(p) {
		return d.later(t, f, p)
	}
	if p.Proto == wire.ProtoICMPv6 && p.IPv6 {
		if target, ok := fwd.NeighborTarget(f, p); ok {
			return d.answerND(t, f, p, target)
		}
	}
	if wire.IsICMPError(p) && len(t.Tunnels) > 0 {
		if v, ok := d.tunnelError(t, f, p); ok {
			return v
		}
	}
	vip, ok := t.VIPs[p.Dst]
	switch {
	case !d.forUs(t, f):
		return t.elsewhere(f)
	case !ok:
		return NotOurs
	case !vip.Ours:
		return NotOurs
	}
	if v := t.badSource(f, p); v != NotOurs {
		return v
	}
	if fwd.EchoReply(f, p) {
		return AnsweredEcho
	}
	return DroppedVIPOther
}

// answerARP answers who-has for a VIP of ours with the hardware address of the
// port it was asked on; a probe (RFC 5227) for it is answered too, so that no
// other host takes the address.
func (d *Director) answerARP(t *Table, f *wire.Frame, p *wire.Packet) Verdict {
	op, _, target := fwd.ARPTarget(f, p)
	if op != fwd.ARPRequest || !t.VIPs[target].Ours || int(f.In) >= len(t.FIB.Ports) {
		return NotOurs
	}
	if v := t.badMAC(f); v != NotOurs {
		return v
	}
	if !fwd.ARPReply(f, p, t.FIB.Ports[f.In].MAC) {
		return NotOurs
	}
	return AnsweredARP
}

// answerND answers a neighbour solicitation for a VIP, also for one the host
// holds on another interface: it answers only for those of the interface asked
// (ndisc.c, ndisc_recv_ns), while for ARP any of its addresses will do.
func (d *Director) answerND(t *Table, f *wire.Frame, p *wire.Packet, target wire.Addr) Verdict {
	if _, ok := t.VIPs[target]; !ok || int(f.In) >= len(t.FIB.Ports) {
		return NotOurs
	}
	if held, ok := t.FIB.HostAddrs[target]; ok && held == t.FIB.Ports[f.In].Index && t.FIB.Ports[f.In].VLAN == 0 {
		return NotOurs
	}
	if v := t.badMAC(f); v != NotOurs {
		return v
	}
	if !fwd.NeighborAdvert(f, p, t.FIB.Ports[f.In].MAC) {
		return NotOurs
	}
	return AnsweredND
}

// noService treats a packet to a VIP and port without a service: the host's, if
// the host holds the address, else refused as a host would.
func (d *Director) noService(t *Table, f *wire.Frame, p *wire.Packet) Verdict {
	vip, ok := t.VIPs[p.Dst]
	switch {
	case !ok: // in the net of a rule
		return d.unknownReply(t, f, p)
	case !vip.Ours:
		return NotOurs
	}
	if v := t.badSource(f, p); v != NotOurs {
		return v
	}
	if p.Proto == wire.ProtoTCP {
		return d.reset(f, p, RefusedNoService)
	}
	return d.refuse(f, p, fwd.PortUnreachable, p.Dst, 0, RefusedNoService)
}

// noServer answers a connection that no server of its service can take.
func (d *Director) noServer(svc *Service, f *wire.Frame, p *wire.Packet) Verdict {
	if svc.Reset && p.Proto == wire.ProtoTCP {
		return d.reset(f, p, RefusedNoServer)
	}
	return d.refuse(f, p, fwd.PortUnreachable, p.Dst, 0, RefusedNoServer)
}

// unknownReply treats a packet that is neither to a VIP nor of a conn. If it
// comes from an end the guard hides from the host, the host cannot route it, so
// we do; everything else is the host's.
func (d *Director) unknownReply(t *Table, f *wire.Frame, p *wire.Packet) Verdict {
	if t.FIB.IsLocal(p.Dst) || !t.hides(p.Src, p.SrcPort, p.Proto) {
		return NotOurs
	}
	if fwd.ScopeOf(p.Dst) != fwd.ScopeHost {
		return DroppedBadDestination
	}
	origin, ok := t.origin(p)
	switch {
	case !ok:
		return d.stray(t, f, p)
	case origin.Ambiguous:
		if v := d.pass(t, f, p); v != PassedUnchanged {
			return v
		}
		return PassedAmbiguous
	case origin.Service != nil:
		return d.callOut(t, f, p, &origin)
	}
	return d.onePacketReply(t, f, p, &origin)
}

// stray treats a server's packet that belongs to nothing.
func (d *Director) stray(t *Table, f *wire.Frame, p *wire.Packet) Verdict {
	if t.Settings.RefuseReplies && !t.toVIP(p.Src) && !resets(f, p) {
		return d.refuse(f, p, fwd.PortUnreachable, t.FIB.onPort(f.In, !p.IPv6).Source, 0, RefusedReply)
	}
	return d.pass(t, f, p)
}

// resets says whether a packet ends a connection at once: an RST, an SCTP ABORT.
func resets(f *wire.Frame, p *wire.Packet) bool {
	return p.Proto == wire.ProtoTCP && p.TCPFlags&wire.TCPRst != 0 ||
		p.Proto == wire.ProtoSCTP && sctpEvent(f, p) == conntrack.EventAbort
}

// onePacketReply treats a datagram from a server of a one-packet service that
// translates replies: it goes to the client as from the service, by the host's
// routes and neighbours, as no conn remembers where the client is.
func (d *Director) onePacketReply(t *Table, f *wire.Frame, p *wire.Packet, o *ReplyService) Verdict {
	if fwd.Unsummed(f, p) {
		return DroppedUDP6NoChecksum
	}
	o.Counters.shards[d.worker].out(p.Len)
	way := t.FIB.NextHop(p.Dst)
	if v, ok := d.route(f, p, &way, o.VIP, ReturnedMasq); !ok {
		return v
	}
	fwd.FromServer(f, p, o.VIP, o.port(p))
	return ReturnedMasq
}

// port is the one that the service's client sees.
func (o *ReplyService) port(p *wire.Packet) uint16 {
	if o.VPort == 0 {
		return p.SrcPort
	}
	return o.VPort
}

// pass routes a packet on unchanged.
func (d *Director) pass(t *Table, f *wire.Frame, p *wire.Packet) Verdict {
	way := t.FIB.NextHop(p.Dst)
	self := t.FIB.onPort(f.In, !p.IPv6).Source
	v, _ := d.route(f, p, &way, self, PassedUnchanged)
	return v
}

// refuse answers a frame with an ICMP error from self, if one may be sent.
func (d *Director) refuse(f *wire.Frame, p *wire.Packet, what fwd.ErrorKind, self wire.Addr, mtu uint32, v Verdict) Verdict {
	f.MTU = 0
	switch {
	case p.Fragment == wire.FragmentLater:
		return DroppedUnanswered
	case d.limit.spent():
		return DroppedAnswerLimit
	case self.IsZero() || !fwd.ICMPError(f, p, what, self, mtu, d.fib.onPort(f.In, !p.IPv6).MTU):
		return DroppedUnanswered
	}
	d.limit.take()
	return v
}

// reset answers a TCP segment with RST; other protocols get silence.
func (d *Director) reset(f *wire.Frame, p *wire.Packet, v Verdict) Verdict {
	switch {
	case p.Proto != wire.ProtoTCP:
		return DroppedUnanswered
	case d.limit.spent():
		return DroppedAnswerLimit
	case !fwd.Reset(f, p):
		return DroppedUnanswered
	}
	d.limit.take()
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

// spent says that nothing may be sent now.
func (l *limiter) spent() bool { return l.tokens <= 0 }

// take pays for what is sent.
func (l *limiter) take() { l.tokens-- }
