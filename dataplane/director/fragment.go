package director

import (
	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/wire"
)

// firstFragment decides about the first fragment of a datagram and records where the
// others go.
func (d *Director) firstFragment(p *packet) Verdict {
	headers := p.Kind == wire.KindIP || p.Flaw == wire.FlawTransport || p.Flaw == wire.FlawTransportLength
	if !headers || !d.isForDirector(p) || !d.table.mayBeOfService(p) {
		return d.decide(p)
	}
	info, ok := wire.ParseFragment(p.frame, &p.Packet)
	if !ok {
		return DroppedFragmentBad
	}
	key := fragmentKey(p, info.ID)
	if p != &d.unresolved.packet {
		if r := d.frags.Begin(&key, rangeOf(&info), d.now, d.table.Settings.FragmentTime); r != frag.OK {
			return fragmentVerdicts[r]
		}
	}
	flow := frag.Flow{Proto: p.Proto, SrcPort: p.SrcPort, DstPort: p.DstPort}
	d.onePacketServer = 0
	v := d.decide(p)
	if v == HeldNoNeighbour {
		return v // what becomes of the others is decided when it is handled again
	}
	flow.Disposition, flow.Server = disposition(v), d.onePacketServer
	if d.frags.Finish(&key, flow, d.now) {
		d.released.remember(&key)
	}
	return v
}

// fragmentVerdicts are the verdicts for fragments that do not fit.
var fragmentVerdicts = [...]Verdict{
	frag.NoFlow: DroppedFragmentLimit, frag.Duplicate: DroppedFragmentTwice,
	frag.Overlap: DroppedFragmentOverlap, frag.TooManyGaps: DroppedFragmentOverlap,
}

// laterFragment handles a fragment that is not the first: it follows the first, or is
// queued for it.
func (d *Director) laterFragment(p *packet) Verdict {
	info, ok := wire.ParseFragment(p.frame, &p.Packet)
	if !ok {
		return DroppedFragmentBad
	}
	key := fragmentKey(p, info.ID)
	v := d.followFirst(p, &key, &info)
	if v == HeldFragment && !d.queuedFragments.Push(p.frame, &key, d.now, &d.table.Settings.Queue) {
		return DroppedFragmentLimit
	}
	return v
}

// followFirst sends a fragment where the first of its datagram went. HeldFragment: the
// first has not come.
func (d *Director) followFirst(p *packet, key *frag.Key, info *wire.FragmentInfo) Verdict {
	flow, result := d.frags.Follow(key, rangeOf(info), d.now)
	switch {
	case result == frag.NoFlow:
		return HeldFragment
	case flow.Disposition == frag.ToHost:
		return NotOurs
	case result != frag.OK:
		return fragmentVerdicts[result]
	case flow.Disposition == frag.Drop:
		return DroppedFragment
	}
	p.Proto, p.SrcPort, p.DstPort = flow.Proto, flow.SrcPort, flow.DstPort
	q := p.query
	fillQuery(q, &p.Packet, d.table.toVIP(&p.Dst))
	if !d.lookup(q) && d.table.mayBeReply(q) {
		if r := reversed(q); d.lookup(&r) {
			*q = r
		}
	}
	if d.table.Standby != StandbyNone {
		if v, ok := d.standby(p); ok {
			return v
		}
	}
	switch {
	case q.Ref != 0 && d.conns.Conn(q.Ref).Expectation():
		return DroppedFragment // the first would have made it a conn
	case q.Ref != 0 && q.Dir == conntrack.DirOut:
		return d.fromServer(p)
	case q.Ref != 0:
		return d.followConn(p)
	case flow.Server != 0 && q.Dir == conntrack.DirIn:
		return d.followOnePacket(p, flow.Server, d.table.server(flow.Server).Port)
	case flow.Server != 0:
		return d.followOutbound(p)
	case d.table.fromServerAddr(p):
		return d.unmatchedReply(p)
	}
	return DroppedFragment // the conn of the first has ended
}

// followConn sends a client's fragment to the server of its conn.
func (d *Director) followConn(p *packet) Verdict {
	c := d.conns.Conn(p.query.Ref)
	server := d.table.server(c.ServerID())
	if !server.servesConns() || c.State() == conntrack.TCPForgotten {
		return DroppedServerGone
	}
	return d.toServer(p, server)
}

// followOnePacket sends a client's packet to a port of the server that was chosen before,
// for the first fragment or before it waited. One-packet scheduling left no conn, so it
// makes another.
func (d *Director) followOnePacket(p *packet, id uint32, port uint16) Verdict {
	server := d.table.server(id)
	if !server.InService {
		return DroppedServerGone
	}
	d.onePacketServer = id
	d.entry = conntrack.Entry{
		Proto:  p.Proto,
		Client: p.Src, ClientPort: p.SrcPort,
		VIP: p.Dst, VPort: p.DstPort,
		Server: server.Addr, SPort: port,
		Method: server.Method, ServerID: server.ID,
		OnePacket: true,
	}
	if p.query.Ref, _ = d.conns.Insert(&d.entry); p.query.Ref == 0 {
		return DroppedTableFull
	}
	return d.toServer(p, server)
}

// followOutbound sends a server's fragment with the service's address, as the first was
// sent. One-packet scheduling left no conn of it.
func (d *Director) followOutbound(p *packet) Verdict {
	svc, ok := d.table.replyService(p)
	if !ok {
		return DroppedServerGone
	}
	return d.onePacketReply(p, &svc)
}

// rangeOf returns which bytes of its datagram a fragment has.
func rangeOf(info *wire.FragmentInfo) frag.Range {
	return frag.Range{Start: info.Start, End: info.End, Last: !info.More}
}

// fragmentKey returns what the fragments of a datagram have in common (RFC 791 section
// 3.2, RFC 8200 section 4.5).
func fragmentKey(p *packet, id uint32) frag.Key {
	key := frag.Key{Src: p.Src, Dst: p.Dst, ID: id}
	if !p.IPv6 {
		key.Proto = p.Proto
	}
	return key
}

// disposition returns what the first fragment's verdict means for the others.
func disposition(v Verdict) frag.Disposition {
	switch v {
	case NotOurs:
		return frag.ToHost
	case ForwardedMasq, ForwardedRoute, ForwardedTunnel, ReturnedMasq, ReturnedAsIs, PassedUnchanged, PassedAmbiguous:
		return frag.Forward
	}
	return frag.Drop
}

// mayBeOfService reports whether a fragment may be of a service's flow, as far as its
// addresses show.
func (t *Table) mayBeOfService(p *packet) bool { return t.toVIP(&p.Dst) || t.fromServerAddr(p) }

// fromServerAddr reports whether the packet comes from an address of servers. The guard
// keeps later fragments from there away from the host, unless it let the first pass.
func (t *Table) fromServerAddr(p *packet) bool {
	if e := (Endpoint{Addr: p.Src, Proto: p.Proto}); t.ReplySourceAddrs.Shard(e.Shard())[e] > 0 {
		return true
	}
	if len(t.ReplySourceRanges) > 0 {
		src := p.Src.Netip()
		for i := range t.ReplySourceRanges {
			if s := &t.ReplySourceRanges[i]; s.Proto == p.Proto && s.Net.Contains(src) {
				return true
			}
		}
	}
	return false
}

// released is what Originate sends: fragments, keep-alives and packets that waited.
type released struct {
	// frames[:n] are to be sent after those of the batch. Originate appends its keep-alives.
	frames [maxReleased + maxKeepAlives]wire.Frame
	n      int

	firsts  [MaxBatch]frag.Key // first fragments of this batch
	nFirsts int

	key    frag.Key
	packet packet
}

const (
	// maxReleased bounds the queued fragments that are sent with one batch; the rest
	// follow with the next.
	maxReleased = 2 * MaxBatch
	// lookupsPerBatch is how many queued fragments a batch looks up, because another
	// worker may have got their first. 64 batches go through a full queue.
	lookupsPerBatch = 64
)

// reset begins a batch.
func (r *released) reset() { r.n, r.nFirsts = 0, 0 }

// remember records a datagram whose first fragment came in this batch.
func (r *released) remember(key *frag.Key) {
	r.firsts[r.nFirsts] = *key
	r.nFirsts++
}

// sendQueued sends queued fragments whose firsts came in this batch, or came to other
// workers since the last batch. more reports whether there are more.
func (d *Director) sendQueued() (more bool) {
	released := &d.released
	more = d.queuedFragments.Expire(d.now)
	for i := range released.firsts[:released.nFirsts] {
		d.releaseDatagram(&released.firsts[i])
	}
	for range min(lookupsPerBatch, d.queuedFragments.Len()) {
		if key := d.queuedFragments.Next(); key != nil && d.frags.Decided(key, d.now) {
			released.key = *key
			d.releaseDatagram(&released.key)
		}
	}
	return more || released.n == maxReleased
}

// releaseDatagram sends the queued fragments of a datagram, as far as there is room.
func (d *Director) releaseDatagram(key *frag.Key) {
	released := &d.released
	for released.n < maxReleased {
		f := &released.frames[released.n]
		if !d.queuedFragments.Pop(f, key) {
			return
		}
		if d.releaseFragment(f, key); f.Out != wire.NoPort {
			released.n++
			d.queuedFragments.Sent.Add(1)
		} else {
			d.queuedFragments.Stopped.Add(1)
		}
	}
}

// releaseFragment decides about a queued fragment.
func (d *Director) releaseFragment(f *wire.Frame, key *frag.Key) {
	p := &d.released.packet
	p.frame = f
	wire.Parse(f, &p.Packet)
	info, ok := wire.ParseFragment(p.frame, &p.Packet)
	if !ok {
		return
	}
	// The guard kept this fragment from the host while its first was unknown. If that
	// was the host's, the fragment must be routed now.
	if v := d.followFirst(p, key, &info); v == NotOurs && d.table.fromServerAddr(p) && !d.table.FIB.IsLocal(p.Dst) {
		d.routeUnchanged(p)
	}
}
