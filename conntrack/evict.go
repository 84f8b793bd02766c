package conntrack

// evictionClass orders conns by what is lost when they are evicted: lowest first.
type evictionClass uint8

const (
	classHalfOpen evictionClass = iota // half-open, or a single datagram without a reply
	classClosing                       // closing
	classIdle                          // anything else; the longest idle goes first
	classNever                         // never evicted: has children, or not settled
)

var reasonOfClass = [...]EndReason{
	classHalfOpen: EvictedHalfOpen, classClosing: EvictedClosing, classIdle: EvictedIdle,
}

func (c *Conn) evictionClass(word stateWord) evictionClass {
	s := word.state()
	switch {
	case !word.listed() || c.children.Load() != 0:
		return classNever
	case halfOpenStates>>s&1 != 0:
		return classHalfOpen
	case s == UDPNormal && word.packetsIn() <= 1 && word&flagReplied == 0:
		return classHalfOpen
	case closingStates>>s&1 != 0:
		return classClosing
	}
	return classIdle
}

// idle returns how long ago the conn's deadline was set. timeouts are the table's.
func (r *reader) idle(c *Conn, word stateWord, timeouts *Timeouts) Tick {
	if own := r.t.Counts(c.ServerID()).Timeouts.Load(); own != nil {
		timeouts = own
	}
	return r.now + c.timeout(word.state(), timeouts) - word.deadline()
}

// evictSample is how many conns evict weighs: 24 KiB read in order, about 1 us. To
// find as many it passes over at most evictSpan of the slab, for free conns
// may lie in between.
const (
	evictSample = 256
	evictSpan   = 32 * evictSample
)

// victim is the conn of the lowest class seen so far.
type victim struct {
	ref     Ref
	class   evictionClass
	foreign bool // of another worker's wheel: its memory comes back later
	idle    Tick
}

// consider makes a conn the victim if its class is lower than that of the victim so
// far. Of two in one class it prefers one of this worker, then the one idle for longer.
// It reports whether the conn is live and settled.
func (v *victim) consider(w *Worker, ref Ref) bool {
	c := &w.t.conns[ref]
	word := c.loadStateWord()
	class := c.evictionClass(word)
	if class == classNever || class > v.class {
		return word.listed()
	}
	next := victim{ref, class, c.worker() != w.id, w.idle(c, word, &w.settings.Timeouts)}
	switch {
	case v.ref == 0 || class < v.class:
		*v = next
	case next.foreign != v.foreign:
		if v.foreign {
			*v = next
		}
	case next.idle > v.idle:
		*v = next
	}
	return true
}

// evict ends one conn of the lowest class among some, and reports whether it did. From
// call to call it goes round the slab (a clock). It takes the first half-open conn that
// has been idle for at least one tick, else the closing one that has been idle for
// longest, else any that has.
func (w *Worker) evict() bool {
	v, end := victim{class: classIdle}, Ref(w.t.firstUnused.Load())
	for considered, passed := 0, min(evictSpan, int(end)); considered < evictSample && passed > 0; passed-- {
		if w.clockHand++; w.clockHand >= end {
			w.clockHand = 1
		}
		if v.consider(w, w.clockHand) {
			considered++
		}
		if v.class == classHalfOpen && v.idle > 0 && !v.foreign {
			break
		}
	}
	return v.ref != 0 && w.end(v.ref, reasonOfClass[v.class])
}

// evictFrom ends one conn of the lowest class in a full window, for a conn that finds
// no room in that of its second hash either. It prefers conns with the hash of the new
// one, because the conns of one client port fill a window.
func (w *Worker) evictFrom(hash uint64) bool {
	own, any := victim{class: classIdle}, victim{class: classIdle}
	for place := range places {
		b := w.t.at(hash, place)
		for i := range b.slots {
			s := slot(b.slots[i].Load())
			if s == 0 || s.tentative() {
				continue
			}
			any.consider(w, s.ref())
			if s.tag() == tagOf(hash) {
				own.consider(w, s.ref())
			}
		}
	}
	if own.ref != 0 {
		any = own
	}
	return any.ref != 0 && w.end(any.ref, reasonOfClass[any.class])
}
