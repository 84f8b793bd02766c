package director

import (
	"uvs/fwd"
	"uvs/fwd/answer"
)

// unmatchedReply handles a packet that is neither to a VIP nor of a conn. The guard
// hides packets from servers' ports from the host, which therefore cannot route them;
// the director does. Everything else is the host's.
func (d *Director) unmatchedReply(p *packet) Verdict {
	switch {
	case d.table.FIB.IsLocal(p.Dst):
		return NotOurs
	case !d.table.hidesFromHost(p.Src, p.SrcPort, p.Proto):
		return d.checkDirectFlow(p)
	}
	switch {
	case fwd.ScopeOf(p.Dst) != fwd.ScopeHost:
		return DroppedBadDestination
	case !d.table.maySend(p):
		return DroppedReversePath
	}
	svc, ok := d.table.replyService(p)
	switch {
	case !ok:
		return d.refuseOrRoute(p)
	case svc.Ambiguous:
		if v := d.routeUnchanged(p); v != PassedUnchanged {
			return v
		}
		return PassedAmbiguous
	case svc.Service != nil:
		return d.serverInitiated(p, &svc)
	}
	return d.onePacketReply(p, &svc)
}

// refuseOrRoute handles a server's packet that belongs to no service: port unreachable
// under nat_icmp_send, else it is routed.
func (d *Director) refuseOrRoute(p *packet) Verdict {
	if d.table.Settings.NATICMPSend && !d.table.toVIP(&p.Src) && !abortsConn(p) {
		self := d.table.FIB.onLink(p.frame.In, !p.IPv6).Source
		return d.answerError(p, answer.PortUnreachable, self, 0, RefusedReply)
	}
	return d.routeUnchanged(p)
}

// onePacketReply handles a datagram from a server of a one-packet service that
// translates replies. It goes to the client with the service's address. The host's
// routes and neighbours say where that is, because no conn does.
func (d *Director) onePacketReply(p *packet, o *ReplyService) Verdict {
	if v := dropForNAT(p, p.SrcPort, o.vport(p)); v != NoVerdict {
		return v
	}
	if p != &d.unresolved.packet {
		o.Counters.shards[d.worker].out(p.Len)
	}
	hop := d.table.FIB.NextHop(p.Dst)
	if v, ok := d.route(p, &hop, o.VIP, ReturnedMasq); !ok {
		return v
	}
	fwd.FromServer(p.frame, &p.Packet, o.VIP, o.vport(p))
	return ReturnedMasq
}

// vport returns the port that the service's client sees.
func (o *ReplyService) vport(p *packet) uint16 {
	if o.VPort == 0 {
		return p.SrcPort
	}
	return o.VPort
}

// routeUnchanged sends a packet on as the host would have, if the host forwards what comes
// in by the port.
func (d *Director) routeUnchanged(p *packet) Verdict {
	if in := &d.table.FIB.Ports[p.frame.In]; p.IPv6 && !in.Forwards6 || !p.IPv6 && !in.Forwards4 {
		return DroppedNotForwarding
	}
	hop := d.table.FIB.NextHop(p.Dst)
	self := d.table.FIB.onLink(p.frame.In, !p.IPv6).Source
	v, _ := d.route(p, &hop, self, PassedUnchanged)
	return v
}
