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
		w.turn()
	}
	return 0
}

// turn moves on by one step: the slot of every level that begins now is due.
func (w *wheel) turn() {
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
func (l *Worker) runWheel(budget *int) {
	var due [32]Ref
	for n := len(due); n == len(due); {
		n = 0
		for n < len(due) {
			if due[n] = l.wheel.due(l.now, budget); due[n] == 0 {
				break
			}
			n++
		}
		touched := uint64(0)
		for _, ref := range due[:n] {
			if c := &l.t.conns[ref]; c.Deadline() <= l.now {
				touched += l.t.at(l.t.hashOf(c), 0).away.Load()
			}
		}
		l.touched = touched
		for _, ref := range due[:n] {
			l.expired(ref)
		}
	}
}

// expired treats a conn whose slot came up: it moved on, is kept for its
// children, or ends. One that ended already waits for who ended it, or for its
// children, to hand it in.
func (l *Worker) expired(ref Ref) {
	c := &l.t.conns[ref]
	for {
		w := c.word()
		held := l.heldUntil(c, w)
		switch {
		case !w.live():
			return
		case w.deadline() > l.now:
			l.wheel.put(ref, w.deadline())
			return
		case c.Children() > 0:
			if d := l.now + childTimeout; c.swap(w, w.withDeadline(d)) {
				l.wheel.put(ref, d)
				return
			}
		case held > l.now:
			if c.swap(w, w.withDeadline(held)) {
				l.wheel.put(ref, held)
				return
			}
		case l.tells(c, w):
			d := l.now + clampTimeout(l.settings.Timeouts[TCPForgotten])
			if c.swap(w, w.withState(TCPForgotten).withDeadline(d)) {
				l.stepped(c, TCPEstablished, TCPForgotten)
				l.wheel.put(ref, d)
				l.tell(c)
				return
			}
		case c.swap(w, w&^flagLive):
			if l.bury(ref, w, EndedByTimeout) {
				l.handIn(ref)
			}
			return
		}
	}
}

// heldUntil is how long an established conn is kept beyond its time for the
// controlling conn it depends on: an FTP transfer that stands still is not over
// while the client asks on the control connection how it is going. It is as long
// as that one's own packets last, less what it is kept at a time for its children,
// or the two would hold each other for ever.
func (l *Worker) heldUntil(c *Conn, w life) Tick {
	if c.control == 0 || w.state() != TCPEstablished {
		return 0
	}
	parent := l.t.conns[c.control].word()
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
func (l *Worker) TimedOut() []TimedOut { return l.forgotten[:l.told] }

// tells says whether a conn whose time is up is to be told of.
func (l *Worker) tells(c *Conn, w life) bool {
	return l.settings.ResetForgotten && w.state() == TCPEstablished && l.told < MaxTimedOut && !c.OnePacket()
}

func (l *Worker) tell(c *Conn) {
	l.forgotten[l.told] = TimedOut{
		Client: c.client, VIP: c.vip, Server: c.server,
		ClientPort: c.clientPort, VPort: c.vport, SPort: c.sport,
		Method: c.Method(), ServerID: c.ServerID(), ReturnHop: c.ReturnHop(),
	}
	l.told++
}

// readInbox reviews the conns others pointed out.
func (l *Worker) readInbox(budget *int) {
	for *budget > 0 {
		if l.mailed == 0 {
			if l.inbox.Load() == 0 {
				return
			}
			l.mailed = Ref(l.inbox.Swap(0))
		}
		*budget--
		l.review(l.nextMail())
	}
}

// nextMail takes the next conn off the stack; from now on it can be put there
// again.
func (l *Worker) nextMail() Ref {
	ref := l.mailed
	word := &l.t.mails.Items[ref]
	l.mailed = 0
	if next := word.Load(); next != mailClaimed {
		l.mailed = Ref(next)
	}
	word.Store(0)
	return ref
}

// review puts a conn where its deadline belongs, or hands it in if it ended.
func (l *Worker) review(ref Ref) {
	c := &l.t.conns[ref]
	w := c.word()
	switch {
	case c.children.Load() == unlinked:
		l.handIn(ref)
	case !w.live():
		// Who ended it is not done yet, or it has children: one of them will
		// point it out again.
	case c.OnePacket():
		l.end(ref, EndedByTimeout)
	default:
		l.wheel.take(ref)
		l.wheel.put(ref, w.deadline())
	}
}

// handIn retires a conn that nothing refers to any more. If it is on the stack
// once more, that is left to its next review, for a retired conn must not be on
// a stack.
func (l *Worker) handIn(ref Ref) {
	if l.t.mails.Items[ref].CompareAndSwap(0, mailClaimed) {
		l.wheel.take(ref)
		l.retire(ref)
	}
}
