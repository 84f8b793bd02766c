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

// first decides about the first fragment of a datagram and leaves a note for the
// others.
func (d *Director) first(p *packet) Verdict {
	headers := p.Kind == wire.KindIP || p.Flaw == wire.FlawTransport || p.Flaw == wire.FlawTransportLength
	if !headers || !d.forUs(p) || !d.table.concerns(p) {
		return d.act(p)
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
	d.pieces.picked = 0
	v := d.act(p)
	flow.Disposition, flow.Server = disposition(v), d.pieces.picked
	if d.frags.Finish(&key, flow, d.now) {
		d.pieces.noted(&key)
	}
	return v
}

// later treats a fragment other than the first: it follows the first, or waits
// for it.
func (d *Director) later(p *packet) Verdict {
	x, ok := wire.ParseFragment(p.frame, &p.Packet)
	if !ok {
		return DroppedFragmentBad
	}
	key := fragmentKey(p, x.ID)
	v := d.follow(p, &key, &x)
	if v == HeldFragment && !d.queue.Push(p.frame, &key, d.now, &d.table.Settings.Hold) {
		return DroppedFragmentLimit
	}
	return v
}

// follow sends a fragment after the first of its datagram. HeldFragment: nobody
// knows where that goes, yet.
func (d *Director) follow(p *packet, key *frag.Key, x *wire.FragmentInfo) Verdict {
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
	fill(q, &p.Packet, d.table.toVIP(p.Dst))
	if !d.found(q) && d.table.ambiguous(q) {
		if r := reversed(q); d.found(&r) {
			*q = r
		}
	}
	switch {
	case q.Ref != 0 && d.conns.Conn(q.Ref).Expectation():
		return DroppedFragment // the first would have met it
	case q.Ref != 0 && q.Dir == conntrack.DirOut:
		return d.fromServer(p)
	case q.Ref != 0:
		return d.likeFirst(p)
	case flow.Server != 0 && q.Dir == conntrack.DirIn:
		return d.likeOnePacket(p, flow.Server)
	case flow.Server != 0:
		return d.likeCallOut(p)
	case d.table.speaks(p):
		return d.unknownReply(p)
	}
	return DroppedFragment // its conn has ended meanwhile
}

// likeFirst sends a client's fragment to the server of its conn.
func (d *Director) likeFirst(p *packet) Verdict {
	c := d.conns.Conn(p.query.Ref)
	server := d.table.server(c.ServerID())
	if !server.Available || c.State() == conntrack.TCPForgotten {
		return DroppedServerGone
	}
	return d.toServer(p, server)
}

// likeOnePacket sends a client's fragment to the server that was picked for the
// first, of which one-packet scheduling left no conn, by a conn of the same kind.
func (d *Director) likeOnePacket(p *packet, id uint32) Verdict {
	server := d.table.server(id)
	if !server.Available {
		return DroppedServerGone
	}
	d.fresh = conntrack.Entry{
		Proto:  p.Proto,
		Client: p.Src, ClientPort: p.SrcPort,
		VIP: p.Dst, VPort: p.DstPort,
		Server: server.Addr, SPort: server.Port,
		Method: server.Method, ServerID: server.ID, ServiceID: server.Service,
		OnePacket: true,
	}
	if p.query.Ref, _ = d.conns.Insert(&d.fresh); p.query.Ref == 0 {
		return DroppedTableFull
	}
	return d.toServer(p, server)
}

// likeCallOut sends a server's fragment as from the service, as the first was, of
// whose call one-packet scheduling left no conn.
func (d *Director) likeCallOut(p *packet) Verdict {
	origin, ok := d.table.origin(p)
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

// concerns says whether a fragment may be of a flow of ours, as far as can be
// told without ports.
func (t *Table) concerns(p *packet) bool { return t.toVIP(p.Dst) || t.speaks(p) }

// speaks says whether answers of servers come from the packet's source, by
// whatever port. The guard keeps later fragments from there away from the host
// unless it let the first pass.
func (t *Table) speaks(p *packet) bool {
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

// reunion brings fragments that were held together with what became of their
// first.
type reunion struct {
	// frames are to be sent after those of the batch; behind them is room for the
	// originator's.
	frames [maxReunited + maxOwn]wire.Frame
	n      int

	opened  [MaxBatch]frag.Key // of firsts noted in this batch
	nOpened int

	picked uint32 // server of the last packet of a one-packet service, to it or from it
	key    frag.Key
	packet packet
}

const (
	// maxReunited bounds the held fragments sent in one turn; the rest follow in
	// the next ones.
	maxReunited = 2 * MaxBatch
	// sweeps is how many held fragments a turn looks up whose first may have come
	// to another worker. A full hold is gone through in 64 turns.
	sweeps = 64
)

// reset forgets the last batch.
func (r *reunion) reset() { r.n, r.nOpened = 0, 0 }

// noted remembers a datagram whose first fragment has left a note.
func (r *reunion) noted(key *frag.Key) {
	r.opened[r.nOpened] = *key
	r.nOpened++
}

// reunite sends held fragments after their firsts: those that came with this
// batch, and those noted since by other workers. behind says that there is more.
func (d *Director) reunite() (behind bool) {
	r := d.pieces
	behind = d.queue.Expire(d.now)
	for i := range r.opened[:r.nOpened] {
		d.fetch(&r.opened[i])
	}
	for range min(sweeps, d.queue.Len()) {
		if key := d.queue.Next(); key != nil && d.frags.Decided(key, d.now) {
			r.key = *key
			d.fetch(&r.key)
		}
	}
	return behind || r.n == maxReunited
}

// fetch sends the held fragments of a datagram as far as there is room.
func (d *Director) fetch(key *frag.Key) {
	r := d.pieces
	for r.n < maxReunited {
		f := &r.frames[r.n]
		if !d.queue.Pop(f, key) {
			return
		}
		if d.release(f, key); f.Out != wire.NoPort {
			r.n++
			d.queue.Sent.Add(1)
		} else {
			d.queue.Stopped.Add(1)
		}
	}
}

// release decides about a fragment that was held.
func (d *Director) release(f *wire.Frame, key *frag.Key) {
	p := &d.pieces.packet
	p.frame = f
	wire.Parse(f, &p.Packet)
	x, ok := wire.ParseFragment(p.frame, &p.Packet)
	if !ok {
		return
	}
	// What was left to the host for its first fragment's sake has been kept from
	// it until that came.
	if v := d.follow(p, key, &x); v == NotOurs && d.table.speaks(p) && !d.table.FIB.IsLocal(p.Dst) {
		d.pass(p)
	}
}
