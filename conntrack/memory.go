package conntrack

// memory is a worker's store of free conns, and of retired ones that wait to become
// free. Conns on a list are linked through Conn.next.
type memory struct {
	ready             list
	unused, unusedEnd Ref // the worker's part of the slab that was never used

	// limbo has the conns that were retired in the latest three epochs, by epoch
	// modulo 3. Two epochs later their grace period is over.
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

// allocate takes a conn to fill. It prefers one that was used before, so that the
// table touches no more memory than it ever needed at once.
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

// retire puts a conn that cannot be found any more in limbo for a grace period.
func (w *Worker) retire(ref Ref) {
	epoch := w.t.epoch.Load()
	b := &w.memory.limbo[epoch%3]
	if b.epoch != epoch {
		w.memory.ready.join(w.t.conns, &b.list) // retired three epochs ago at least
		b.epoch = epoch
	}
	b.push(w.t.conns, ref)
}

// reclaim makes the conns ready whose grace period is over, and returns chunks to the
// common store if there are too many. This is bounded, because the budget bounds what
// a batch ends.
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
// linked through Conn.next, chunks through the inbox link of their first conn.
// Table.chunks has the first conn of the top chunk in its lower half. Its upper half
// counts changes, so that a top that left and came back is noticed (ABA).

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
			below = linkEnd // a retired conn's link stays set
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

// takeUnused takes a part of the slab that was never used.
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

// takeCredit takes the right to insert one conn. There are Config.Max of them. A
// reader fetches some at a time from Table.credits. It may owe credits, because a
// conn with a second slot in the index may take another when it is in.
func (r *reader) takeCredit() bool {
	for free := &r.t.credits; r.credits <= 0; {
		n := free.Load()
		if n <= 0 {
			return false
		}
		if got := min(n, int64(r.t.chunkSize)); free.CompareAndSwap(n, n-got) {
			r.credits += int(got)
		}
	}
	r.credits--
	return true
}

func (r *reader) returnCredit() {
	r.credits++
	if r.credits > 2*r.t.chunkSize {
		r.credits -= r.t.chunkSize
		r.t.credits.Add(int64(r.t.chunkSize))
	}
}
