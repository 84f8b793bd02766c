package director

import (
	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/wire"
)

// MaxBatch is the most frames Process takes at once. Sixteen and more make no
// difference to sendmmsg; sixty-four let the table's memory misses overlap.
const MaxBatch = 64

// Director decides about the frames of one worker.
type Director struct {
	conns  *conntrack.Worker
	frags  *frag.Table
	queue  *frag.Queue // of fragments that came before their first
	worker int
	limit  limiter
	own    *originator
	pieces *reunion
	now    conntrack.Tick // of the batch in hand
	fib    *FIB           // likewise

	// Scratch of one batch, indexed as the frames are.
	packets [MaxBatch]wire.Packet
	quoted  [MaxBatch]wire.Packet // the packet inside an ICMP error
	queries [MaxBatch]conntrack.Query

	// What an ICMP error about a tunnel quotes: the tunnel's packet, that in it.
	outer, inner wire.Packet

	// Arguments that would move to the heap as locals.
	fresh conntrack.Entry
	again [1]conntrack.Query

	helping helping
}

// New makes the director of a worker over its parts of the connection table and
// the fragment table.
func New(conns *conntrack.Worker, frags *frag.Table, worker int) *Director {
	d := &Director{conns: conns, frags: frags, queue: frags.Queue(worker), worker: worker, limit: limiter{tokens: limitBurst}, own: newOriginator(), pieces: new(reunion)}
	d.helping.d = d
	return d
}

// Process decides about up to MaxBatch frames at the time now. Frames that are
// to be sent have their Out set and are rewritten in place; verdicts[i] says
// what became of frames[i]. behind says that the connection table has more
// upkeep due, so the next call should not wait for frames.
func (d *Director) Process(now conntrack.Tick, t *Table, frames []wire.Frame, verdicts []Verdict) (behind bool) {
	d.now, d.fib = now, t.FIB
	d.conns.Begin(now)
	d.limit.refill(now)
	d.pieces.reset()
	queries := d.queries[:len(frames)]
	for i := range frames {
		frames[i].Out = wire.NoPort
		wire.Parse(&frames[i], &d.packets[i])
		if d.packets[i].L3 > wire.EthernetLen {
			t.enter(&frames[i], &d.packets[i])
		}
		d.ask(t, &frames[i], i)
	}
	d.conns.Lookup(queries)
	for i := range frames {
		if d.packets[i].Fragment == wire.FragmentFirst {
			verdicts[i] = d.first(t, &frames[i], i)
		} else {
			verdicts[i] = d.act(t, &frames[i], i)
		}
	}
	waiting := d.queue.Len() != 0 && d.reunite(t)
	if t.FIB.vlans != nil {
		t.leave(frames, verdicts)
	}
	return d.conns.End() || waiting
}

// ask prepares the question whose conn packet i belongs to. The packet's
// direction is known by its destination: a VIP is called by a client, any other
// address may be a client that is answered. An ICMP error asks for the packet
// it quotes.
func (d *Director) ask(t *Table, f *wire.Frame, i int) {
	p, q := &d.packets[i], &d.queries[i]
	q.Ref, q.Dir = 0, conntrack.DirNone
	if p.Kind != wire.KindIP || p.Fragment == wire.FragmentLater || !d.forUs(t, f) {
		return
	}
	switch {
	case p.HasPorts():
		fill(q, p, t.toVIP(p.Dst))
	case wire.IsICMPError(p):
		in := &d.quoted[i]
		if !wire.ParseQuoted(f, p, in) || !ofConn(in) || in.Src != p.Dst {
			return // errors go to the source of what they quote
		}
		// A quoted reply (from a VIP) belongs to the conn of the request it
		// answered, and the error travels as that request did.
		fill(q, in, !t.toVIP(in.Src))
		q.Dir = q.Dir.Opposite()
	case isIPsec(p.Proto):
		fill(q, p, t.toVIP(p.Dst))
	}
}

// fill writes the question for a packet on its way to a VIP or from a server.
func fill(q *conntrack.Query, p *wire.Packet, toVIP bool) {
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

// forUs says whether the frame is addressed to this machine alone: to the
// hardware address of the port it came in by.
func (d *Director) forUs(t *Table, f *wire.Frame) bool {
	return int(f.In) < len(t.FIB.Ports) && wire.MAC(f.Buf[f.Off:f.Off+6]) == t.FIB.Ports[f.In].MAC
}

// act decides about frame i.
func (d *Director) act(t *Table, f *wire.Frame, i int) Verdict {
	p, q := &d.packets[i], &d.queries[i]
	switch p.Kind {
	case wire.KindARP:
		return d.answerARP(t, f, p)
	case wire.KindBad:
		return flawVerdict[p.Flaw]
	case wire.KindOther:
		return NotOurs
	case wire.KindOtherVLAN:
		return NotOursVLAN
	}
	switch {
	case q.Dir == conntrack.DirNone:
		return d.answer(t, f, p)
	case q.Ref == 0:
		return d.miss(t, f, i)
	case !ofConn(p):
		return d.forwardError(t, f, i)
	case q.Dir == conntrack.DirOut:
		return d.fromServer(t, f, p, q.Ref)
	case !d.conns.Conn(q.Ref).Live():
		return d.miss(t, f, i) // perhaps a frame before this one in the batch ended it
	}
	return d.known(t, f, p, q)
}

var flawVerdict = [wire.NumFlaw]Verdict{
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
