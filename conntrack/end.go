package conntrack

import "sync/atomic"

// EndReason is why a conn ended.
type EndReason uint8

const (
	EndedByTimeout EndReason = iota
	EndedByCaller            // Expire
	EndedByFlush
	EndedByDropEntry // the drop_entry defence
	EvictedHalfOpen  // evicted: half-open
	EvictedClosing   // evicted: closing
	EvictedIdle      // evicted: the longest idle found
	numEndReason
)

var endReasonNames = [numEndReason]string{"timeout", "caller", "flush", "drop_entry", "embryonic", "closing", "idle"}

// String returns the name of the reason in counters.
func (e EndReason) String() string {
	if e < numEndReason {
		return endReasonNames[e]
	}
	return "unknown"
}

// forced reports whether the end was asked for. Then a template that is left without
// children ends too (net/netfilter/ipvs/ip_vs_conn.c, ip_vs_conn_del).
func (e EndReason) forced() bool {
	return e == EndedByCaller || e == EndedByFlush || e == EndedByDropEntry
}

// Expire ends a conn now. A template that loses its last child this way ends too,
// unless it is assured (net/netfilter/ipvs/ip_vs_conn.c, ip_vs_conn_expire).
func (w *Worker) Expire(ref Ref) { w.end(ref, EndedByCaller) }

// end ends a conn, and reports whether it did: not if the conn had ended before.
func (r *reader) end(ref Ref, why EndReason) bool {
	c := &r.t.conns[ref]
	for {
		word := c.loadStateWord()
		if !word.live() {
			return false
		}
		if ended, noChildren := r.unlink(ref, word, why); ended {
			if noChildren {
				r.t.notify(ref)
			}
			return true
		}
	}
}

// unlink ends a conn and takes it out of the counts and the index, if its state word still is
// word. If a packet moved it meanwhile, or another reader ended it, ended is false and
// nothing has changed. noChildren reports whether no child is left. Then the caller has the
// conn retired (end: by notify); otherwise the last child notifies the worker.
func (r *reader) unlink(ref Ref, word stateWord, why EndReason) (ended, noChildren bool) {
	t := r.t
	c := &t.conns[ref]
	if !c.swap(word, word&^flagLive) {
		return false, false
	}
	t.count(c, word.state(), -1)
	if c.Expectation() {
		t.expectations.Add(-1)
	}
	if n := c.session(); n != 0 {
		t.sessions.end(n, ref)
	}
	if !c.OnePacket() {
		t.remove(t.hashOf(c), ref)
	}
	if c.hasSecondSlot() && t.secondSlots.Add(-1) >= int64(t.max/freeSecondSlots) {
		r.returnCredit() // the second slot's, which finishInsert took
	}
	if c.control != 0 {
		r.dropChild(c.control, why.forced())
	}
	r.ended[why].Add(1)
	r.returnCredit()
	return true, c.children.Or(unlinked) == 0
}

// addChild makes a conn the parent of one more and returns it, or 0 if it has ended.
func (r *reader) addChild(ref Ref) Ref {
	if ref == 0 {
		return 0
	}
	children := &r.t.conns[ref].children
	for {
		n := children.Load()
		if n&unlinked != 0 {
			return 0
		}
		if children.CompareAndSwap(n, n+1) {
			return ref
		}
	}
}

// dropChild takes a child from a parent. If forced, a template that is left without
// children ends as well, unless it is assured. In the kernel an ordinary parent does
// too, but here an FTP session goes on when one of its transfers is ended.
func (r *reader) dropChild(parent Ref, forced bool) {
	c := &r.t.conns[parent]
	switch n := c.children.Add(^uint32(0)); {
	case n == unlinked:
		r.t.notify(parent)
	case n == 0 && forced && c.State() == TemplateNone:
		r.end(parent, EndedByCaller)
	}
}

// count adds n to the server's count of conns in a state.
func (t *Table) count(c *Conn, s State, n int32) {
	counts := t.Counts(c.ServerID())
	switch {
	case c.Template():
		counts.Templates.Add(n)
	case s.Active():
		counts.Active.Add(n)
	default:
		counts.Inactive.Add(n)
	}
}

// A worker's inbox is a stack of conns, linked through Table.inboxLinks. The link of
// a conn that is in no inbox is 0. linkEnd is the link of the last conn in an inbox,
// and of a conn that must not be put into one: not yet inserted, or retired.
const linkEnd = 1<<32 - 1

// notify asks the conn's worker to review it: its deadline moved back, or it ended.
// If the conn is in the inbox already, the worker will see what the caller just did,
// because it clears the conn's link before it looks.
func (t *Table) notify(ref Ref) {
	if t.inboxLinks.Items[ref].CompareAndSwap(0, linkEnd) {
		t.enqueue(ref, &t.workers[t.conns[ref].worker()].inbox)
	}
}

// enqueue puts a conn into an inbox. The caller must have set its link to linkEnd.
func (t *Table) enqueue(ref Ref, inbox *atomic.Uint32) {
	for {
		top := inbox.Load()
		if top == 0 {
			t.inboxLinks.Items[ref].Store(linkEnd)
		} else {
			t.inboxLinks.Items[ref].Store(top)
		}
		if inbox.CompareAndSwap(top, uint32(ref)) {
			return
		}
	}
}
