package conntrack

// memory is a worker's store of conns to fill, and of those that wait to become
// so. Conns on a list are linked through Conn.next.
type memory struct {
	ready       list
	fresh, last Ref // the worker's piece of the slab never used: fresh up to last-1

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
func (l *Worker) allocate() Ref {
	t, m := l.t, &l.memory
	if m.ready.n == 0 {
		l.reclaim()
	}
	if m.ready.n == 0 && m.fresh == m.last {
		if !l.fetchSpare() {
			l.fetchFresh()
		}
	}
	if m.fresh < m.last && m.ready.n == 0 {
		m.fresh++
		return m.fresh - 1
	}
	return m.ready.pop(t.conns)
}

// retire puts a conn that nobody can find any more in limbo.
func (l *Worker) retire(ref Ref) {
	epoch := l.t.epoch.Load()
	b := &l.memory.limbo[epoch%3]
	if b.epoch != epoch {
		l.memory.ready.join(l.t.conns, &b.list) // retired three epochs ago or more
		b.epoch = epoch
	}
	b.push(l.t.conns, ref)
}

// reclaim makes conns ready whose grace period is over, and hands chunks of
// too many on to the common store. What a turn ends is bounded by its budget, so
// this is.
func (l *Worker) reclaim() {
	t, m := l.t, &l.memory
	epoch := t.epoch.Load()
	for i := range m.limbo {
		if b := &m.limbo[i]; b.n > 0 && b.epoch+2 <= epoch {
			m.ready.join(t.conns, &b.list)
		}
	}
	for m.ready.n > 2*t.chunk {
		l.giveSpare()
	}
}

// The common store of free conns is a stack of chunks. The conns of a chunk are
// linked through Conn.next, chunks through the mail word of their first conn.
// Table.spare has the top chunk's first conn in its lower half and, so that a
// top that went and came back is not taken for the same, a count in its upper.

func (l *Worker) giveSpare() {
	t := l.t
	var chunk list
	for range t.chunk {
		chunk.push(t.conns, l.memory.ready.pop(t.conns))
	}
	for {
		top := t.spare.Load()
		below := uint32(top)
		if below == 0 {
			below = mailClaimed // retired conns stay claimed
		}
		t.mails.Items[chunk.head].Store(below)
		if t.spare.CompareAndSwap(top, (top>>32+1)<<32|uint64(chunk.head)) {
			return
		}
	}
}

func (l *Worker) fetchSpare() bool {
	t, ready := l.t, &l.memory.ready
	for {
		top := t.spare.Load()
		first := Ref(top)
		if first == 0 {
			return false
		}
		below := t.mails.Items[first].Load()
		if below == mailClaimed {
			below = 0
		}
		if !t.spare.CompareAndSwap(top, (top>>32+1)<<32|uint64(below)) {
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

// fetchFresh takes a piece of the slab that was never used.
func (l *Worker) fetchFresh() {
	t := l.t
	for {
		from := t.fresh.Load()
		to := min(from+uint64(t.chunk), uint64(len(t.conns)))
		if from == to {
			return
		}
		if t.fresh.CompareAndSwap(from, to) {
			l.memory.fresh, l.memory.last = Ref(from), Ref(to)
			return
		}
	}
}
