package conntrack

import "sync/atomic"

// participant takes part in the table's grace periods and ends conns: a worker's
// Local, or Table.external for all other goroutines.
type participant struct {
	t   *Table
	now Tick

	_     [64]byte
	epoch atomic.Uint64 // the epoch of the open turn; 0: none is open
	_     [56]byte

	credits  int // credits for conns this party holds
	inserted atomic.Uint64
	full     atomic.Uint64
	ended    [numEndReason]atomic.Uint64
}

// firstEpoch is what epochs begin with, so that 0 can mean no turn.
const firstEpoch = 3

// advanceEpoch begins a new epoch if every open turn began in this one. What
// was out of the index before epoch e+1 began can be read by no turn that is
// open in epoch e+2.
func (t *Table) advanceEpoch() {
	now := t.epoch.Load()
	for i := range t.workers {
		if r := t.workers[i].epoch.Load(); r != 0 && r != now {
			return
		}
	}
	if r := t.external.epoch.Load(); r != 0 && r != now {
		return
	}
	t.epoch.CompareAndSwap(now, now+1)
}

// EndReason is why a conn ended.
type EndReason uint8

const (
	EndedByTimeout EndReason = iota
	EndedByCaller            // Expire
	EndedByFlush
	EndedByDropEntry  // the drop_entry defence
	EndedForEmbryonic // evicted: half-open
	EndedForClosing   // evicted: closing
	EndedForIdle      // evicted: the longest idle found
	numEndReason
)

var endReasonNames = [numEndReason]string{"timeout", "caller", "flush", "drop_entry", "embryonic", "closing", "idle"}

// String is the ending's name for people and metrics.
func (e EndReason) String() string {
	if e < numEndReason {
		return endReasonNames[e]
	}
	return "unknown"
}

// forced says whether an ending is somebody's will, so that it concerns a
// controlling conn as well (the kernel's ip_vs_conn_del).
func (e EndReason) forced() bool {
	return e == EndedByCaller || e == EndedByFlush || e == EndedByDropEntry
}

// count adds to the server's count that a conn in a state belongs to.
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

// end ends a conn if it is live.
func (p *participant) end(ref Ref, why EndReason) bool {
	c := &p.t.conns[ref]
	for {
		word := c.word()
		if !word.live() {
			return false
		}
		if c.swap(word, word&^flagLive) {
			if p.unlink(ref, word, why) {
				p.t.notify(ref)
			}
			return true
		}
	}
}

// unlink takes a conn that this party ended (w is its life before) out of the
// counts and the index. Its memory can be retired if alone is true, else its
// last child will see to it.
func (p *participant) unlink(ref Ref, word life, why EndReason) (alone bool) {
	t := p.t
	c := &t.conns[ref]
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
	if c.control != 0 {
		p.dropChild(c.control, why.forced())
	}
	p.ended[why].Add(1)
	p.returnCredit()
	return c.children.Or(unlinked) == 0
}

// addChild makes ref a parent of one more conn and returns it, or 0 if it ended.
func (p *participant) addChild(ref Ref) Ref {
	if ref == 0 {
		return 0
	}
	children := &p.t.conns[ref].children
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
// children ends as well, unless it is assured. (In the kernel a conn does, too;
// but an FTP session goes on when one of its transfers is forgotten.)
func (p *participant) dropChild(parent Ref, forced bool) {
	c := &p.t.conns[parent]
	switch n := c.children.Add(^uint32(0)); {
	case n == unlinked:
		p.t.notify(parent)
	case n == 0 && forced && c.State() == TemplateNone:
		p.end(parent, EndedByCaller)
	}
}

// takeCredit takes a place for one more conn: in all, parties hand out
// Config.Max. They fetch them from the common store some at a time.
func (p *participant) takeCredit() bool {
	if p.credits == 0 {
		left := &p.t.credits
		for {
			n := left.Load()
			if n <= 0 {
				return false
			}
			got := min(n, int64(p.t.chunkSize))
			if left.CompareAndSwap(n, n-got) {
				p.credits = int(got)
				break
			}
		}
	}
	p.credits--
	return true
}

func (p *participant) returnCredit() {
	p.credits++
	if p.credits > 2*p.t.chunkSize {
		p.credits -= p.t.chunkSize
		p.t.credits.Add(int64(p.t.chunkSize))
	}
}

// Mail. A conn that the owner of its wheel slot should look at (its deadline
// moved back, or it ended) is pushed on the owner's stack, linked through
// Table.inboxLinks. The word of a conn that is not on a stack is 0.
const (
	// linkEnd is the word of the last conn of a stack, and of one that is
	// not to be pushed: not published yet, or retired.
	linkEnd = 1<<32 - 1
)

// notify asks the conn's worker to review it. If it is on the stack already, the
// worker will see what the caller just did: it clears the word before it looks.
func (t *Table) notify(ref Ref) {
	if t.inboxLinks.Items[ref].CompareAndSwap(0, linkEnd) {
		t.enqueue(ref, &t.workers[t.conns[ref].worker()].inbox)
	}
}

// enqueue pushes a conn whose word the caller claimed.
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
