package director

import (
	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/wire"
)

// Fragments. Only the first of a datagram has ports. It is decided about like
// any packet and leaves a flow (frag.Flow); the others are given its ports
// and go the way these say, each on its own: nothing is put together. Those that
// come before the first wait for it in copies (frag.Queue).

// firstFragment decides about the first fragment of a datagram and leaves a note for the
// others.
func (d *Director) firstFragment(p *packet) Verdict {
	headers := p.Kind == wire.KindIP || p.Flaw == wire.FlawTransport || p.Flaw == wire.FlawTransportLength
	if !headers || !d.addressedToUs(p) || !d.table.mayBeOurs(p) {
		return d.decide(p)
	}
	x, ok := wire.ParseFragment(p.frame, &p.Packet)
	if !ok {
		return DroppedFragmentBad
	}
	key := fragmentKey(p, x.ID)
	switch d.frags.Begin(&key, rangeOf(&x), d.now, d.table.Settings.FragmentTime) {
	case frag.NoFlow:
		return DroppedFragmentLimit
	case frag.Duplicate:
		return DroppedFragmentTwice
	case frag.Overlap, frag.TooManyGaps:
		return DroppedFragmentOverlap
	}
	flow := frag.Flow{Proto: p.Proto, SrcPort: p.SrcPort, DstPort: p.DstPort}
	d.held.onePacketServer = 0
	v := d.decide(p)
	flow.Disposition, flow.Server = disposition(v), d.held.onePacketServer
	if d.frags.Finish(&key, flow, d.now) {
		d.held.remember(&key)
	}
	return v
}

// laterFragment treats a fragment other than the first: it follows the first, or waits
// for it.
func (d *Director) laterFragment(p *packet) Verdict {
	x, ok := wire.ParseFragment(p.frame, &p.Packet)
	if !ok {
		return DroppedFragmentBad
	}
	key := fragmentKey(p, x.ID)
	v := d.followFirst(p, &key, &x)
	if v == HeldFragment && !d.queue.Push(p.frame, &key, d.now, &d.table.Settings.Hold) {
		return DroppedFragmentLimit
	}
	return v
}

// followFirst sends a fragment after the first of its datagram. HeldFragment: nobody
// knows where that goes, yet.
func (d *Director) followFirst(p *packet, key *frag.Key, x *wire.FragmentInfo) Verdict {
	flow, result := d.frags.Follow(key, rangeOf(x), d.now)
	switch {
	case result == frag.NoFlow:
		return HeldFragment
	case flow.Disposition == frag.ToHost:
		return NotOurs
	case result == frag.Duplicate:
		return DroppedFragmentTwice
	case result != frag.OK:
		return DroppedFragmentOverlap
	case flow.Disposition == frag.Drop:
		return DroppedFragment
	}
	p.Proto, p.SrcPort, p.DstPort = flow.Proto, flow.SrcPort, flow.DstPort
	q := p.query
	fillQuery(q, &p.Packet, d.table.toVIP(p.Dst))
	if !d.lookup(q) && d.table.mayBeReply(q) {
		if r := reversed(q); d.lookup(&r) {
			*q = r
		}
	}
	switch {
	case q.Ref != 0 && d.conns.Conn(q.Ref).Expectation():
		return DroppedFragment // the first would have met it
	case q.Ref != 0 && q.Dir == conntrack.DirOut:
		return d.fromServer(p)
	case q.Ref != 0:
		return d.followConn(p)
	case flow.Server != 0 && q.Dir == conntrack.DirIn:
		return d.followOnePacket(p, flow.Server)
	case flow.Server != 0:
		return d.followOutbound(p)
	case d.table.fromServerAddr(p):
		return d.unmatchedReply(p)
	}
	return DroppedFragment // its conn has ended meanwhile
}

// followConn sends a client's fragment to the server of its conn.
func (d *Director) followConn(p *packet) Verdict {
	c := d.conns.Conn(p.query.Ref)
	server := d.table.server(c.ServerID())
	if !server.Available || c.State() == conntrack.TCPForgotten {
		return DroppedServerGone
	}
	return d.toServer(p, server)
}

// followOnePacket sends a client's fragment to the server that was picked for the
// first, of which one-packet scheduling left no conn, by a conn of the same kind.
func (d *Director) followOnePacket(p *packet, id uint32) Verdict {
	server := d.table.server(id)
	if !server.Available {
		return DroppedServerGone
	}
	d.entry = conntrack.Entry{
		Proto:  p.Proto,
		Client: p.Src, ClientPort: p.SrcPort,
		VIP: p.Dst, VPort: p.DstPort,
		Server: server.Addr, SPort: server.Port,
		Method: server.Method, ServerID: server.ID, ServiceID: server.Service,
		OnePacket: true,
	}
	if p.query.Ref, _ = d.conns.Insert(&d.entry); p.query.Ref == 0 {
		return DroppedTableFull
	}
	return d.toServer(p, server)
}

// followOutbound sends a server's fragment as from the service, as the first was, of
// whose call one-packet scheduling left no conn.
func (d *Director) followOutbound(p *packet) Verdict {
	origin, ok := d.table.replyService(p)
	if !ok {
		return DroppedServerGone
	}
	return d.onePacketReply(p, &origin)
}

// rangeOf is what a fragment has of its datagram.
func rangeOf(x *wire.FragmentInfo) frag.Range {
	return frag.Range{Start: x.Start, End: x.End, Last: !x.More}
}

// fragmentKey is what the fragment has in common with those of its datagram.
func fragmentKey(p *packet, id uint32) frag.Key {
	key := frag.Key{Src: p.Src, Dst: p.Dst, ID: id}
	if !p.IPv6 {
		key.Proto = p.Proto
	}
	return key
}

// disposition is what the first fragment's verdict means for the others.
func disposition(v Verdict) frag.Disposition {
	switch v {
	case NotOurs:
		return frag.ToHost
	case ForwardedMasq, ForwardedRoute, ForwardedTunnel, ReturnedMasq, ReturnedAsIs, PassedUnchanged, PassedAmbiguous:
		return frag.Forward
	}
	return frag.Drop
}

// mayBeOurs says whether a fragment may be of a flow of ours, as far as can be
// told without ports.
func (t *Table) mayBeOurs(p *packet) bool { return t.toVIP(p.Dst) || t.fromServerAddr(p) }

// fromServerAddr says whether answers of servers come from the packet's source, by
// whatever port. The guard keeps later fragments from there away from the host
// unless it let the first pass.
func (t *Table) fromServerAddr(p *packet) bool {
	if t.ServerAddrs[Endpoint{Addr: p.Src, Proto: p.Proto}] {
		return true
	}
	if len(t.ServerRanges) > 0 {
		src := p.Src.Netip()
		for i := range t.ServerRanges {
			if s := &t.ServerRanges[i]; s.Proto == p.Proto && s.Net.Contains(src) {
				return true
			}
		}
	}
	return false
}

// heldFragments brings fragments that were held together with what became of their
// first.
type heldFragments struct {
	// frames are to be sent after those of the batch; behind them is room for the
	// originator's.
	frames [maxReleased + maxProbes]wire.Frame
	n      int

	firsts  [MaxBatch]frag.Key // of firsts noted in this batch
	nFirsts int

	onePacketServer uint32 // server of the last packet of a one-packet service, to it or from it
	key             frag.Key
	packet          packet
}

const (
	// maxReleased bounds the held fragments sent in one turn; the rest follow in
	// the next ones.
	maxReleased = 2 * MaxBatch
	// lookupsPerBatch is how many held fragments a turn looks up whose first may have come
	// to another worker. A full hold is gone through in 64 turns.
	lookupsPerBatch = 64
)

// reset forgets the last batch.
func (r *heldFragments) reset() { r.n, r.nFirsts = 0, 0 }

// remember remembers a datagram whose first fragment has left a note.
func (r *heldFragments) remember(key *frag.Key) {
	r.firsts[r.nFirsts] = *key
	r.nFirsts++
}

// sendHeld sends held fragments after their firsts: those that came with this
// batch, and those noted since by other workers. behind says that there is more.
func (d *Director) sendHeld() (behind bool) {
	r := d.held
	behind = d.queue.Expire(d.now)
	for i := range r.firsts[:r.nFirsts] {
		d.releaseDatagram(&r.firsts[i])
	}
	for range min(lookupsPerBatch, d.queue.Len()) {
		if key := d.queue.Next(); key != nil && d.frags.Decided(key, d.now) {
			r.key = *key
			d.releaseDatagram(&r.key)
		}
	}
	return behind || r.n == maxReleased
}

// releaseDatagram sends the held fragments of a datagram as far as there is room.
func (d *Director) releaseDatagram(key *frag.Key) {
	r := d.held
	for r.n < maxReleased {
		f := &r.frames[r.n]
		if !d.queue.Pop(f, key) {
			return
		}
		if d.releaseFragment(f, key); f.Out != wire.NoPort {
			r.n++
			d.queue.Sent.Add(1)
		} else {
			d.queue.Stopped.Add(1)
		}
	}
}

// releaseFragment decides about a fragment that was held.
func (d *Director) releaseFragment(f *wire.Frame, key *frag.Key) {
	p := &d.held.packet
	p.frame = f
	wire.Parse(f, &p.Packet)
	x, ok := wire.ParseFragment(p.frame, &p.Packet)
	if !ok {
		return
	}
	// What was left to the host for its first fragment's sake has been kept from
	// it until that came.
	if v := d.followFirst(p, key, &x); v == NotOurs && d.table.fromServerAddr(p) && !d.table.FIB.IsLocal(p.Dst) {
		d.routeUnchanged(p)
	}
}
