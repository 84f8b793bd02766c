package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
)

// Process decides about up to MaxBatch frames at the time now. It rewrites frames in
// place and sets the Out of those that are to be sent; verdicts[i] is what became of
// frames[i]. more reports whether upkeep, queued fragments or packets that waited are
// due, so that the next call should not wait for frames. A panic ends only the frame
// that it was about (DroppedFault); see Faults.
func (d *Director) Process(now conntrack.Tick, t *Table, frames []wire.Frame, verdicts []Verdict) (more bool) {
	d.now, d.table = now, t
	d.conns.Begin(now)
	d.answerLimits.all.refill(now)
	d.released.reset()
	d.unresolved.toResolve = d.unresolved.toResolve[:0]
	d.faults, d.progress = d.faults[:0], progress{}
	for !d.advance(frames, verdicts) { // a panic ends advance
	}
	return d.progress.more
}

// advance does what is left to do about a batch, and returns true.
func (d *Director) advance(frames []wire.Frame, verdicts []Verdict) bool {
	defer d.recoverFault(frames, verdicts)
	b := &d.progress
	if b.phase == phaseParse {
		for i := b.at; i < len(frames); i++ {
			b.at = i
			d.parse(&frames[i], &d.packets[i])
		}
		b.next()
	}
	if b.phase == phaseQuery {
		for i := b.at; i < len(frames); i++ {
			b.at = i
			d.buildQuery(&d.packets[i])
		}
		b.next()
	}
	if b.phase == phaseLookup {
		d.conns.Lookup(d.queries[:len(frames)])
		b.next()
	}
	if b.phase == phaseDecide {
		for i := b.at; i < len(frames); i++ {
			b.at = i
			verdicts[i] = d.decideAny(&d.packets[i])
		}
		b.next()
	}
	d.finish(frames, verdicts)
	return true
}

// parse begins a packet with what its frame says.
func (d *Director) parse(f *wire.Frame, p *packet) {
	f.Out = wire.NoPort
	p.frame = f
	wire.Parse(f, &p.Packet)
	if p.L3 > wire.EthernetLen {
		d.table.untag(p)
	}
}

// decideAny decides about a packet, which may be a fragment.
func (d *Director) decideAny(p *packet) Verdict {
	if p.Fragment == wire.FragmentFirst {
		return d.firstFragment(p)
	}
	return d.decide(p)
}

// finish does what is left to do after the last frame. What is sent here stands in three
// queues. Each must not grow once it has been looked at: packets of removed servers may
// come to wait for a next hop, which may send first fragments.
func (d *Director) finish(frames []wire.Frame, verdicts []Verdict) {
	b := &d.progress
	if b.phase == phaseWaiting {
		b.more = d.waitingPackets.Len() != 0 && d.releaseWaiting()
		b.next()
	}
	if b.phase == phaseUnresolved {
		if len(d.unresolved.list) != 0 {
			b.more = d.resumeUnresolved() || b.more
		}
		b.next()
	}
	if b.phase == phaseQueued {
		if d.queuedFragments.Len() != 0 {
			b.more = d.sendQueued() || b.more
		}
		b.next()
	}
	if b.phase == phaseTag {
		if d.table.FIB.vlans != nil {
			d.table.tag(frames, verdicts)
		}
		b.next()
	}
	if b.phase == phaseEnd {
		b.more = d.conns.End() || b.more
	}
}

// buildQuery makes the query for the packet's conn. The destination gives the
// direction: a packet to a VIP comes from a client, any other may be a server's reply.
// The query of an ICMP error is for the packet that it quotes.
func (d *Director) buildQuery(p *packet) {
	p.query.Ref, p.query.Dir = 0, conntrack.DirNone
	if p.Kind != wire.KindIP || p.Fragment == wire.FragmentLater || !d.isForDirector(p) {
		return
	}
	switch {
	case hasConnKey(&p.Packet):
		fillQuery(p.query, &p.Packet, d.table.toVIP(&p.Dst))
	case wire.IsICMPError(&p.Packet):
		if !wire.ParseQuoted(p.frame, &p.Packet, p.inner) || !hasConnKey(p.inner) || p.inner.Src != p.Dst {
			return // an error goes to the source of what it quotes
		}
		// A quoted reply, which came from a VIP, belongs to the conn of the request
		// that it answered, and the error travels in that request's direction.
		fillQuery(p.query, p.inner, !d.table.toVIP(&p.inner.Src))
		p.query.Dir = p.query.Dir.Opposite()
	}
}

// fillQuery makes the query for a packet to a VIP, or from a server. ESP and AH ask for
// the IKE flow of their addresses.
func fillQuery(q *conntrack.Query, p *wire.Packet, toVIP bool) {
	q.Proto = p.Proto
	if toVIP {
		q.Dir = conntrack.DirIn
		q.Client, q.ClientPort = p.Src, p.SrcPort
		q.Peer, q.PeerPort = p.Dst, p.DstPort
	} else {
		q.Dir = conntrack.DirOut
		q.Client, q.ClientPort = p.Dst, p.DstPort
		q.Peer, q.PeerPort = p.Src, p.SrcPort
	}
	if isIPsec(p.Proto) {
		q.Proto, q.ClientPort, q.PeerPort = wire.ProtoUDP, wire.PortIKE, wire.PortIKE
	}
}

// isForDirector reports whether the frame is addressed to the hardware address of the
// port that it came in by.
func (d *Director) isForDirector(p *packet) bool {
	f, ports := p.frame, d.table.FIB.Ports
	return int(f.In) < len(ports) && wire.MAC(f.Buf[f.Off:f.Off+6]) == ports[f.In].MAC
}

// toVIP reports whether packets to the address go to a service rather than back to a
// client, as far as the address shows.
func (t *Table) toVIP(addr *wire.Addr) bool {
	_, vip := t.vip(addr)
	return vip || t.Marks != nil && t.Marks.covers(addr)
}

// covers reports whether the address is a destination of a rule whose mark has a
// service.
func (m *Marks) covers(addr *wire.Addr) bool { return m.nets.Lookup(addr) != nil }

// decide decides about a packet by its kind and by what the lookup found.
func (d *Director) decide(p *packet) Verdict {
	switch p.Kind {
	case wire.KindARP:
		return d.answerARP(p)
	case wire.KindBad:
		return flawVerdicts[p.Flaw]
	case wire.KindOther:
		return NotOurs
	case wire.KindOtherVLAN:
		return NotOursVLAN
	}
	if d.table.Standby != StandbyNone {
		if v, ok := d.standby(p); ok {
			return v
		}
	}
	switch {
	case p.query.Dir == conntrack.DirNone:
		return d.untracked(p)
	case p.query.Ref == 0:
		return d.miss(p)
	case !hasConnKey(&p.Packet):
		return d.relayError(p)
	case p.query.Dir == conntrack.DirOut:
		return d.fromServer(p)
	case !d.conns.Conn(p.query.Ref).Live():
		return d.miss(p) // an earlier frame of the batch may have ended it
	}
	return d.fromClient(p)
}

var flawVerdicts = [wire.NumFlaw]Verdict{
	wire.FlawNone:            DroppedFault, // recoverFault
	wire.FlawRunt:            DroppedRunt,
	wire.FlawARP:             DroppedBadARP,
	wire.FlawIPHeader:        DroppedBadIPHeader,
	wire.FlawIPLength:        DroppedBadIPLength,
	wire.FlawIPChecksum:      DroppedBadIPChecksum,
	wire.FlawMappedAddress:   DroppedMappedAddress,
	wire.FlawIPOption:        DroppedBadIPOption,
	wire.FlawSourceRoute:     DroppedSourceRoute,
	wire.FlawExtension:       DroppedBadExtension,
	wire.FlawManyExtensions:  DroppedManyExtensions,
	wire.FlawTransport:       DroppedBadTransport,
	wire.FlawTransportLength: DroppedBadTransportLength,
}

// miss handles a packet whose conn the lookup of the batch did not find.
func (d *Director) miss(p *packet) Verdict {
	if d.table.mayBeReply(p.query) {
		if r := reversed(p.query); d.lookup(&r) {
			*p.query = r
			return d.decide(p)
		}
	}
	if !hasConnKey(&p.Packet) {
		return d.unmatchedError(p)
	}
	if p.query.Dir == conntrack.DirOut {
		return d.unmatchedReply(p)
	}
	// An earlier frame of the batch may have made the conn.
	if d.lookup(p.query) {
		return d.fromClient(p)
	}
	return d.newConn(p)
}

// lookup sets the query's Ref and reports whether there is a conn.
func (d *Director) lookup(q *conntrack.Query) bool {
	q.Ref = d.conns.Find(q)
	return q.Ref != 0
}

// find returns the conn of one query; 0: none.
func (d *Director) find(q conntrack.Query) conntrack.Ref { return d.conns.Find(&q) }

// mayBeReply reports whether a query made for a client's packet may belong to a server's
// packet: the net of a mark rule may contain clients.
func (t *Table) mayBeReply(q *conntrack.Query) bool {
	if t.Marks == nil || q.Dir != conntrack.DirIn {
		return false
	}
	_, vip := t.vip(&q.Peer)
	return !vip
}

// reversed returns the query for the same packet as one of the other direction.
func reversed(q *conntrack.Query) conntrack.Query {
	r := *q
	r.Dir = q.Dir.Opposite()
	r.Client, r.ClientPort, r.Peer, r.PeerPort = q.Peer, q.PeerPort, q.Client, q.ClientPort
	return r
}
