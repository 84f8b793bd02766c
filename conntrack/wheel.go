package conntrack

import "uvs/dataplane/wire"

// Sizes of the wheel: steps of 64 ms (a listing shows whole seconds); slots of
// the four levels are 64 ms, 16.4 s, 70 min and 12.4 days long, the whole is
// 8.7 years.
const (
	wheelStep   Tick = 1 << wheelShift
	wheelShift       = 6
	wheelBits        = 8
	wheelSlots       = 1 << wheelBits
	wheelLevels      = 4

	inSlot  = 1 << 31                  // Conn.prev: first in the slot that the rest names
	dueSlot = wheelLevels * wheelSlots // the first of wheelLevels lists of what is due
)

// wheel keeps the conns of one worker by deadline. Only that worker touches it
// and the next and prev of its conns. Packets move deadlines without telling the
// wheel: a conn stands in the slot of a deadline it once had, which is never
// later than the one it has, unless it is in the worker's inbox.
type wheel struct {
	conns []Conn
	step  int64 // every slot up to this step was emptied
	count int
	heads [dueSlot + wheelLevels]Ref
}

// put places a conn, that is in no slot, by a deadline.
func (w *wheel) put(ref Ref, deadline Tick) {
	step := max(int64((deadline+wheelStep-1)>>wheelShift), w.step+1)
	level, ahead := 0, step-w.step
	for ahead >= wheelSlots && level < wheelLevels-1 {
		level, ahead = level+1, ahead>>wheelBits
	}
	i := int(step >> (level * wheelBits) & (wheelSlots - 1))
	w.link(ref, level*wheelSlots+i)
	w.count++
}

func (w *wheel) link(ref Ref, slot int) {
	c, head := &w.conns[ref], w.heads[slot]
	c.next, c.prev = head, inSlot|uint32(slot)
	if head != 0 {
		w.conns[head].prev = uint32(ref)
	}
	w.heads[slot] = ref
}

// take removes a conn from its slot; one that is in none stays.
func (w *wheel) take(ref Ref) {
	c := &w.conns[ref]
	switch {
	case c.prev == 0:
		return
	case c.prev&inSlot != 0:
		w.heads[c.prev&^inSlot] = c.next
	default:
		w.conns[c.prev].next = c.next
	}
	if c.next != 0 {
		w.conns[c.next].prev = c.prev
	}
	c.next, c.prev = 0, 0
	w.count--
}

// due takes the next conn whose slot came up by a time; 0: none is left.
// Each step and each conn costs one of the budget.
func (w *wheel) due(now Tick, budget *int) Ref {
	end := int64(now >> wheelShift)
	for *budget > 0 {
		for level := range wheelLevels {
			if ref := w.heads[dueSlot+level]; ref != 0 {
				*budget--
				w.take(ref)
				return ref
			}
		}
		if w.step >= end {
			return 0
		}
		if w.count == 0 {
			w.step = end
			return 0
		}
		*budget--
		w.advance()
	}
	return 0
}

// advance moves on by one step: the slot of every level that begins now is due.
func (w *wheel) advance() {
	w.step++
	for level := range wheelLevels {
		shift := level * wheelBits
		if w.step&(1<<shift-1) != 0 {
			return
		}
		slot := level*wheelSlots + int(w.step>>shift&(wheelSlots-1))
		if ref := w.heads[slot]; ref != 0 {
			w.heads[dueSlot+level], w.heads[slot] = ref, 0
			w.conns[ref].prev = inSlot | uint32(dueSlot+level)
		}
	}
}

// childTimeout is how long a conn whose time is up is kept at a time while it
// has children (the kernel's ip_vs_conn_expire: 60 s).
const childTimeout = 60 * Second

// runWheel ends what is due, some conns at a time: their buckets are touched
// together before the first is taken out of the index, so that these misses
// overlap (BenchmarkInsertExpire: a quarter less time).
func (w *Worker) runWheel(budget *int) {
	var due [32]Ref
	for n := len(due); n == len(due); {
		n = 0
		for n < len(due) {
			if due[n] = w.wheel.due(w.now, budget); due[n] == 0 {
				break
			}
			n++
		}
		touched := uint64(0)
		for _, ref := range due[:n] {
			if c := &w.t.conns[ref]; c.Deadline() <= w.now {
				touched += w.t.at(w.t.hashOf(c), 0).away.Load()
			}
		}
		w.touched = touched
		for _, ref := range due[:n] {
			w.expireDue(ref)
		}
	}
}

// expireDue treats a conn whose slot came up: it moved on, is kept for its
// children, or ends. One that ended already waits for who ended it, or for its
// children, to hand it in.
func (w *Worker) expireDue(ref Ref) {
	c := &w.t.conns[ref]
	for {
		word := c.word()
		held := w.keptForParent(c, word)
		switch {
		case !word.live():
			return
		case word.deadline() > w.now:
			w.wheel.put(ref, word.deadline())
			return
		case c.Children() > 0:
			if d := w.now + childTimeout; c.swap(word, word.withDeadline(d)) {
				w.wheel.put(ref, d)
				return
			}
		case held > w.now:
			if c.swap(word, word.withDeadline(held)) {
				w.wheel.put(ref, held)
				return
			}
		case w.reportsTimeout(c, word):
			d := w.now + clampTimeout(w.settings.Timeouts[TCPForgotten])
			if c.swap(word, word.withState(TCPForgotten).withDeadline(d)) {
				w.stateChanged(c, TCPEstablished, TCPForgotten)
				w.wheel.put(ref, d)
				w.reportTimeout(c)
				return
			}
		case c.swap(word, word&^flagLive):
			if w.unlink(ref, word, EndedByTimeout) {
				w.retireUnlinked(ref)
			}
			return
		}
	}
}

// keptForParent is how long an established conn is kept beyond its time for the
// controlling conn it depends on: an FTP transfer that stands still is not over
// while the client asks on the control connection how it is going. It is as long
// as that one's own packets last, less what it is kept at a time for its children,
// or the two would hold each other for ever.
func (w *Worker) keptForParent(c *Conn, word life) Tick {
	if c.control == 0 || word.state() != TCPEstablished {
		return 0
	}
	parent := w.t.conns[c.control].word()
	if !parent.live() || parent.state() != TCPEstablished {
		return 0
	}
	return parent.deadline() - childTimeout
}

// TimedOut is a conn that came to TCPForgotten in the last End.
type TimedOut struct {
	Client, VIP, Server      wire.Addr
	ClientPort, VPort, SPort uint16
	Method                   Method
	ServerID                 uint32
	ReturnHop                uint64
}

// MaxTimedOut is how many conns one End tells of. More that are due in the
// same turn end silently: a table that ages by the million has no ends waiting.
const MaxTimedOut = 32

// TimedOut are the conns whose ends the caller should tell; good until Begin.
func (w *Worker) TimedOut() []TimedOut { return w.timedOut[:w.numTimedOut] }

// reportsTimeout says whether a conn whose time is up is to be told of.
func (w *Worker) reportsTimeout(c *Conn, word life) bool {
	return w.settings.ResetForgotten && word.state() == TCPEstablished && w.numTimedOut < MaxTimedOut && !c.OnePacket()
}

func (w *Worker) reportTimeout(c *Conn) {
	w.timedOut[w.numTimedOut] = TimedOut{
		Client: c.client, VIP: c.vip, Server: c.server,
		ClientPort: c.clientPort, VPort: c.vport, SPort: c.sport,
		Method: c.Method(), ServerID: c.ServerID(), ReturnHop: c.ReturnHop(),
	}
	w.numTimedOut++
}

// readInbox reviews the conns others pointed out.
func (w *Worker) readInbox(budget *int) {
	for *budget > 0 {
		if w.pending == 0 {
			if w.inbox.Load() == 0 {
				return
			}
			w.pending = Ref(w.inbox.Swap(0))
		}
		*budget--
		w.review(w.popInbox())
	}
}

// popInbox takes the next conn off the stack; from now on it can be put there
// again.
func (w *Worker) popInbox() Ref {
	ref := w.pending
	word := &w.t.inboxLinks.Items[ref]
	w.pending = 0
	if next := word.Load(); next != linkEnd {
		w.pending = Ref(next)
	}
	word.Store(0)
	return ref
}

// review puts a conn where its deadline belongs, or hands it in if it ended.
func (w *Worker) review(ref Ref) {
	c := &w.t.conns[ref]
	word := c.word()
	switch {
	case c.children.Load() == unlinked:
		w.retireUnlinked(ref)
	case !word.live():
		// Who ended it is not done yet, or it has children: one of them will
		// point it out again.
	case c.OnePacket():
		w.end(ref, EndedByTimeout)
	default:
		w.wheel.take(ref)
		w.wheel.put(ref, word.deadline())
	}
}

// retireUnlinked retires a conn that nothing refers to any more. If it is on the stack
// once more, that is left to its next review, for a retired conn must not be on
// a stack.
func (w *Worker) retireUnlinked(ref Ref) {
	if w.t.inboxLinks.Items[ref].CompareAndSwap(0, linkEnd) {
		w.wheel.take(ref)
		w.retire(ref)
	}
}
