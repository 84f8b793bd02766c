package conntrack

// worth orders conns by what is lost when they go: lowest first.
type worth uint8

const (
	worthNothing worth = iota // half-open, or a single datagram nobody answered
	worthLittle               // closing
	worthMuch                 // anything else; the longest idle goes first
	worthAll                  // never evicted: has children, or not settled
)

var endingOfWorth = [...]EndReason{
	worthNothing: EndedForEmbryonic, worthLittle: EndedForClosing, worthMuch: EndedForIdle,
}

func (c *Conn) worth(w life) worth {
	s := w.state()
	switch {
	case !w.listed() || c.children.Load() != 0:
		return worthAll
	case embryonicStates>>s&1 != 0:
		return worthNothing
	case s == UDPNormal && w.in() <= 1 && w&flagReplied == 0:
		return worthNothing
	case closingStates>>s&1 != 0:
		return worthLittle
	}
	return worthMuch
}

// idle is how long ago the conn's deadline was set.
func (l *Worker) idle(c *Conn, w life) Tick {
	to := l.t.Counts(c.ServerID()).Timeouts.Load()
	if to == nil {
		to = &l.settings.Timeouts
	}
	return l.now + c.timeout(w.state(), to) - w.deadline()
}

// search is how many conns evict weighs: 24 KiB read in order, about 1 us. To
// find as many it passes over at most searchSpan of the slab, for free conns
// may lie in between.
const (
	search     = 256
	searchSpan = 32 * search
)

// victim is the least worthy conn seen so far.
type victim struct {
	ref     Ref
	worth   worth
	foreign bool // of another worker's wheel: its memory comes back later
	idle    Tick
}

// consider takes a conn as the victim if it is worth less than the one so far;
// of two worth the same, one of this worker, and the one idle for longer. False:
// there is no such conn.
func (v *victim) consider(l *Worker, ref Ref) bool {
	c := &l.t.conns[ref]
	w := c.word()
	worth := c.worth(w)
	if worth == worthAll || worth > v.worth {
		return w.listed()
	}
	next := victim{ref, worth, c.worker() != l.worker, l.idle(c, w)}
	switch {
	case v.ref == 0 || worth < v.worth:
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

// evict ends the least worthy of some conns, going round the slab from one
// call to the next: the first half-open one that was not touched this moment,
// else the closing one idle for longest, else the one idle for longest. False:
// none of them may go.
func (l *Worker) evict() bool {
	v, end := victim{worth: worthMuch}, Ref(l.t.fresh.Load())
	for weighed, passed := 0, min(searchSpan, int(end)); weighed < search && passed > 0; passed-- {
		if l.hand++; l.hand >= end {
			l.hand = 1
		}
		if v.consider(l, l.hand) {
			weighed++
		}
		if v.worth == worthNothing && v.idle > 0 && !v.foreign {
			break
		}
	}
	return v.ref != 0 && l.end(v.ref, endingOfWorth[v.worth])
}

// evictFrom ends the least worthy conn of a full window, of those of the same
// client's end if there are any: they are what can fill a window.
func (l *Worker) evictFrom(hash uint64) bool {
	own, any := victim{worth: worthMuch}, victim{worth: worthMuch}
	for place := range places {
		b := l.t.at(hash, place)
		for i := range b.slots {
			s := slot(b.slots[i].Load())
			if s == 0 || s.tentative() {
				continue
			}
			any.consider(l, s.ref())
			if s.tag() == tagOf(hash) {
				own.consider(l, s.ref())
			}
		}
	}
	if own.ref != 0 {
		any = own
	}
	return any.ref != 0 && l.end(any.ref, endingOfWorth[any.worth])
}
