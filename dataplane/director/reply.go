package director

import (
	"uvs/fwd"
	"uvs/fwd/reply"
)

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
		return d.serverInitiated(p, &origin)
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
