package conntrack

// memory is a worker's store of conns to fill, and of those that wait to become
// so. Conns on a list are linked through Conn.next.
type memory struct {
	ready             list
	unused, unusedEnd Ref // the worker's piece of the slab never used: fresh up to last-1

	// limbo has the conns that were retired in one of the latest three epochs
	// (epoch modulo 3). Two epochs later nobody reads them.
	limbo [3]struct {
		list
		epoch uint64
	}
}

// list is a queue of conns, linked through Conn.next.
type list struct {
	head, tail Ref
	n          int
}

func (q *list) push(conns []Conn, ref Ref) {
	conns[ref].next = 0
	if q.n == 0 {
		q.head = ref
	} else {
		conns[q.tail].next = ref
	}
	q.tail = ref
	q.n++
}

func (q *list) pop(conns []Conn) Ref {
	if q.n == 0 {
		return 0
	}
	ref := q.head
	q.head = conns[ref].next
	q.n--
	return ref
}

// join moves all of o to the end of q.
func (q *list) join(conns []Conn, o *list) {
	if o.n == 0 {
		return
	}
	if q.n == 0 {
		*q = *o
	} else {
		conns[q.tail].next = o.head
		q.tail = o.tail
		q.n += o.n
	}
	*o = list{}
}

// allocate takes a conn to fill: one that was used before if there is one, so
// that the table touches no more memory than it ever needed at once.
func (w *Worker) allocate() Ref {
	t, m := w.t, &w.memory
	if m.ready.n == 0 {
		w.reclaim()
	}
	if m.ready.n == 0 && m.unused == m.unusedEnd {
		if !w.takeChunk() {
			w.takeUnused()
		}
	}
	if m.unused < m.unusedEnd && m.ready.n == 0 {
		m.unused++
		return m.unused - 1
	}
	return m.ready.pop(t.conns)
}

// retire puts a conn that nobody can find any more in limbo.
func (w *Worker) retire(ref Ref) {
	epoch := w.t.epoch.Load()
	b := &w.memory.limbo[epoch%3]
	if b.epoch != epoch {
		w.memory.ready.join(w.t.conns, &b.list) // retired three epochs ago or more
		b.epoch = epoch
	}
	b.push(w.t.conns, ref)
}

// reclaim makes conns ready whose grace period is over, and hands chunks of
// too many on to the common store. What a turn ends is bounded by its budget, so
// this is.
func (w *Worker) reclaim() {
	t, m := w.t, &w.memory
	epoch := t.epoch.Load()
	for i := range m.limbo {
		if b := &m.limbo[i]; b.n > 0 && b.epoch+2 <= epoch {
			m.ready.join(t.conns, &b.list)
		}
	}
	for m.ready.n > 2*t.chunkSize {
		w.returnChunk()
	}
}

// The common store of free conns is a stack of chunks. The conns of a chunk are
// linked through Conn.next, chunks through the mail word of their first conn.
// Table.chunks has the top chunk's first conn in its lower half and, so that a
// top that went and came back is not taken for the same, a count in its upper.

func (w *Worker) returnChunk() {
	t := w.t
	var chunk list
	for range t.chunkSize {
		chunk.push(t.conns, w.memory.ready.pop(t.conns))
	}
	for {
		top := t.chunks.Load()
		below := uint32(top)
		if below == 0 {
			below = linkEnd // retired conns stay claimed
		}
		t.inboxLinks.Items[chunk.head].Store(below)
		if t.chunks.CompareAndSwap(top, (top>>32+1)<<32|uint64(chunk.head)) {
			return
		}
	}
}

func (w *Worker) takeChunk() bool {
	t, ready := w.t, &w.memory.ready
	for {
		top := t.chunks.Load()
		first := Ref(top)
		if first == 0 {
			return false
		}
		below := t.inboxLinks.Items[first].Load()
		if below == linkEnd {
			below = 0
		}
		if !t.chunks.CompareAndSwap(top, (top>>32+1)<<32|uint64(below)) {
			continue
		}
		*ready = list{head: first}
		for ref := first; ref != 0; ref = t.conns[ref].next {
			ready.tail = ref
			ready.n++
		}
		return true
	}
}

// takeUnused takes a piece of the slab that was never used.
func (w *Worker) takeUnused() {
	t := w.t
	for {
		from := t.firstUnused.Load()
		to := min(from+uint64(t.chunkSize), uint64(len(t.conns)))
		if from == to {
			return
		}
		if t.firstUnused.CompareAndSwap(from, to) {
			w.memory.unused, w.memory.unusedEnd = Ref(from), Ref(to)
			return
		}
	}
}
