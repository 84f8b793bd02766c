package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
)

// Process decides about up to MaxBatch frames at the time now. Frames that are
// to be sent have their Out set and are rewritten in place; verdicts[i] says
// what became of frames[i]. behind says that the connection table has more
// upkeep due, so the next call should not wait for frames.
func (d *Director) Process(now conntrack.Tick, t *Table, frames []wire.Frame, verdicts []Verdict) (behind bool) {
	d.now, d.table = now, t
	d.conns.Begin(now)
	d.answerLimit.refill(now)
	d.held.reset()
	for i := range frames {
		frames[i].Out = wire.NoPort
		p := &d.packets[i]
		p.frame = &frames[i]
		wire.Parse(p.frame, &p.Packet)
		if p.L3 > wire.EthernetLen {
			t.untag(p)
		}
		d.buildQuery(p)
	}
	d.conns.Lookup(d.queries[:len(frames)])
	for i := range frames {
		if p := &d.packets[i]; p.Fragment == wire.FragmentFirst {
			verdicts[i] = d.firstFragment(p)
		} else {
			verdicts[i] = d.decide(p)
		}
	}
	waiting := d.queue.Len() != 0 && d.sendHeld()
	if t.FIB.vlans != nil {
		t.tag(frames, verdicts)
	}
	return d.conns.End() || waiting
}

// buildQuery prepares the question whose conn packet i belongs to. The packet's
// direction is known by its destination: a VIP is called by a client, any other
// address may be a client that is answered. An ICMP error asks for the packet
// it quotes.
func (d *Director) buildQuery(p *packet) {
	p.query.Ref, p.query.Dir = 0, conntrack.DirNone
	if p.Kind != wire.KindIP || p.Fragment == wire.FragmentLater || !d.addressedToUs(p) {
		return
	}
	switch {
	case p.HasPorts():
		fillQuery(p.query, &p.Packet, d.table.toVIP(p.Dst))
	case wire.IsICMPError(&p.Packet):
		if !wire.ParseQuoted(p.frame, &p.Packet, p.inner) || !ofConn(p.inner) || p.inner.Src != p.Dst {
			return // errors go to the source of what they quote
		}
		// A quoted reply (from a VIP) belongs to the conn of the request it
		// answered, and the error travels as that request did.
		fillQuery(p.query, p.inner, !d.table.toVIP(p.inner.Src))
		p.query.Dir = p.query.Dir.Opposite()
	case isIPsec(p.Proto):
		fillQuery(p.query, &p.Packet, d.table.toVIP(p.Dst))
	}
}

// fillQuery writes the question for a packet on its way to a VIP or from a server.
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

// addressedToUs says whether the frame is addressed to this machine alone: to the
// hardware address of the port it came in by.
func (d *Director) addressedToUs(p *packet) bool {
	return int(p.frame.In) < len(d.table.FIB.Ports) && wire.MAC(p.frame.Buf[p.frame.Off:p.frame.Off+6]) == d.table.FIB.Ports[p.frame.In].MAC
}

// toVIP says whether a packet to this address goes to a service rather than
// back to a client, as far as the address tells.
func (t *Table) toVIP(addr wire.Addr) bool {
	_, vip := t.VIPs[addr]
	return vip || t.Marks != nil && t.Marks.covers(addr)
}

// covers says whether an address is a destination of a rule whose mark has a
// service.
func (m *Marks) covers(addr wire.Addr) bool { return m.Nets.Contains(addr.Netip()) }

// decide decides about frame i.
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
	switch {
	case p.query.Dir == conntrack.DirNone:
		return d.untracked(p)
	case p.query.Ref == 0:
		return d.miss(p)
	case !ofConn(&p.Packet):
		return d.relayError(p)
	case p.query.Dir == conntrack.DirOut:
		return d.fromServer(p)
	case !d.conns.Conn(p.query.Ref).Live():
		return d.miss(p) // perhaps a frame before this one in the batch ended it
	}
	return d.established(p)
}

var flawVerdicts = [wire.NumFlaw]Verdict{
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

// miss treats a packet whose conn the batch's lookup did not find.
func (d *Director) miss(p *packet) Verdict {
	if d.table.mayBeReply(p.query) {
		if r := reversed(p.query); d.lookup(&r) {
			*p.query = r
			if ofConn(&p.Packet) {
				return d.fromServer(p)
			}
			return d.relayError(p)
		}
	}
	if !ofConn(&p.Packet) {
		return d.unmatchedError(p)
	}
	if p.query.Dir == conntrack.DirOut {
		return d.unmatchedReply(p)
	}
	// A frame before this one in the batch may have made the conn meanwhile.
	if d.lookup(p.query) {
		return d.established(p)
	}
	return d.newConn(p)
}

// lookup asks a question now, and says whether there is a conn.
func (d *Director) lookup(q *conntrack.Query) bool {
	d.single[0] = *q
	d.conns.Lookup(d.single[:])
	q.Ref = d.single[0].Ref
	return q.Ref != 0
}

// mayBeReply says whether a question that was asked on the way in may have been
// about a packet on its way out: the net of a rule may contain clients.
func (t *Table) mayBeReply(q *conntrack.Query) bool {
	if t.Marks == nil || q.Dir != conntrack.DirIn {
		return false
	}
	_, vip := t.VIPs[q.Peer]
	return !vip
}

// reversed is the question about the same packet on its way the other way.
func reversed(q *conntrack.Query) conntrack.Query {
	r := *q
	r.Dir = q.Dir.Opposite()
	r.Client, r.ClientPort, r.Peer, r.PeerPort = q.Peer, q.PeerPort, q.Client, q.ClientPort
	return r
}
