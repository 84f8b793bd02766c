package conntrack

import "uvs/dataplane/wire"

// Dir is the direction of a packet.
type Dir uint8

const (
	DirNone Dir = iota // not a packet of any conn; Lookup skips it
	DirIn              // from a client
	DirOut             // from a server
)

// Opposite returns the other direction.
func (d Dir) Opposite() Dir { return DirIn + DirOut - d }

// Index returns 0 for DirIn and 1 for DirOut.
func (d Dir) Index() int { return int(d - DirIn) }

// Query finds the conn of a packet. DirIn looks for proto, client and VIP. DirOut
// looks for proto, client and server (MethodNAT) or VIP (other methods, whose
// servers reply as the VIP).
type Query struct {
	Client, Peer         wire.Addr // the client, and the other endpoint as the packet shows it
	ClientPort, PeerPort uint16
	Proto                uint8
	Dir                  Dir
	Template             bool // finds a template
	Ref                  Ref  // the result; 0: no conn

	bucket uint32 // scratch of Lookup, as what follows
	hash   uint64
	kind   uint8 // what Conn.kind has to be under kindLookup
	_      [7]byte
}

// Lookup finds the conns of a batch of queries, as the diagram in index.go shows. It
// makes short passes, so that their memory misses overlap: hash all, touch all buckets,
// find the tags, touch the conns, compare. The passes that touch are loops of a few
// instructions, because a processor overlaps what fits into its window of instructions.
// BenchmarkLookup: 2 to 3 times as fast as one by one.
func (w *Worker) Lookup(queries []Query) {
	t := w.t
	for i := range queries {
		q := &queries[i]
		q.hash = t.hash(&q.Client, q.ClientPort, q.Proto, q.Template)
		q.bucket = uint32(t.home(q.hash))
		if q.kind = 0; q.Template {
			q.kind = kindTemplate
		}
	}
	touched := uint64(0)
	for i := range queries {
		touched += t.buckets[queries[i].bucket].displaced.Load()
	}
	for i := range queries {
		q := &queries[i]
		q.Ref = t.buckets[q.bucket].candidate(tagOf(q.hash))
	}
	for i := range queries {
		c := &t.conns[queries[i].Ref]
		touched += uint64(c.proto) + c.stateWord.Load()
	}
	w.touched = touched
	for i := range queries {
		q := &queries[i]
		if q.Dir == DirNone {
			q.Ref = 0
		} else if q.Ref == 0 || !t.conns[q.Ref].matches(q, q.ClientPort) {
			q.Ref = w.lookupSlow(q)
		}
	}
}

// Find returns the conn of one query that has a direction, 0 if there is none.
func (w *Worker) Find(q *Query) Ref {
	q.hash = w.t.hash(&q.Client, q.ClientPort, q.Proto, q.Template)
	if q.kind = 0; q.Template {
		q.kind = kindTemplate
	}
	return w.lookupSlow(q)
}

// candidate returns a settled conn in the bucket with a tag, 0 if there is none. It
// looks at every slot, so that there is no branch to mispredict.
func (b *bucket) candidate(tag slot) Ref {
	found := slot(0)
	for i := range b.slots {
		if s := slot(b.slots[i].Load()); uint32(s) == uint32(tag) {
			found = s
		}
	}
	return found.ref()
}

// lookupSlow searches further when the candidate does not match: in the whole window, then
// for an expectation of the packet's sender.
func (w *Worker) lookupSlow(q *Query) Ref {
	t := w.t
	if ref := t.find(q, q.hash, q.ClientPort); ref != 0 || q.Template || t.expectations.Load() == 0 {
		return ref
	}
	if q.Dir == DirOut {
		q.kind = kindNoServerPort
		return t.find(q, q.hash, q.ClientPort)
	}
	q.kind = kindNoClientPort
	return t.find(q, t.hash(&q.Client, 0, q.Proto, false), 0)
}
