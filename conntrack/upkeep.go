package conntrack

import "uvs/dataplane/wire"

// batchBudget is how many conns an End reviews, and how many timers it treats. Ending
// a conn costs about 200 ns, so that upkeep takes some 50 us at most, about as long
// as a batch of packets.
const batchBudget = 256

// runWheel treats the due conns, some at a time. It touches all their buckets before it
// takes the first out of the index, so that the memory misses overlap
// (BenchmarkInsertExpire: a quarter less time).
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
				touched += w.t.at(w.t.hashOf(c), 0).displaced.Load()
			}
		}
		w.touched = touched
		for _, ref := range due[:n] {
			w.expireDue(ref)
		}
	}
}

// childTimeout is for how long at a time a due conn is kept while it has children
// (net/netfilter/ipvs/ip_vs_conn.c, ip_vs_conn_expire: 60 s).
const childTimeout = 60 * Second

// expireDue treats a conn whose slot came up. If its deadline has moved, or its children
// or its parent keep it, it goes back into the wheel. Otherwise it ends. If it has ended
// already, the goroutine that ended it, or its last child, has it retired.
func (w *Worker) expireDue(ref Ref) {
	c := &w.t.conns[ref]
	for {
		word := c.loadStateWord()
		kept := w.keptForParent(c, word)
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
		case kept > w.now:
			if c.swap(word, word.withDeadline(kept)) {
				w.wheel.put(ref, kept)
				return
			}
		case w.reportsTimeout(c, word):
			d := w.now + clampTimeout(w.settings.Timeouts[TCPForgotten])
			if c.swap(word, word.withState(TCPForgotten).withDeadline(d)) {
				w.stateChanged(c, word.state(), TCPForgotten)
				w.wheel.put(ref, d)
				w.reportTimeout(c)
				return
			}
		default:
			if ended, noChildren := w.unlink(ref, word, EndedByTimeout); ended {
				if noChildren {
					w.retireUnlinked(ref)
				}
				return
			}
		}
	}
}

// keptForParent returns until when a data connection that is idle is kept: as long as its
// control connection is. childTimeout is subtracted, so that the two do not keep each
// other for ever.
func (w *Worker) keptForParent(c *Conn, word stateWord) Tick {
	if c.control == 0 || word.state() != TCPEstablished {
		return 0
	}
	parent := w.t.conns[c.control].loadStateWord()
	if !parent.live() || parent.state() != TCPEstablished {
		return 0
	}
	return parent.deadline() - childTimeout
}

// TimedOut is a conn that the last End moved to TCPForgotten.
type TimedOut struct {
	Client, VIP, Server      wire.Addr
	ClientPort, VPort, SPort uint16
	Method                   Method
	ServerID                 uint32
	ReturnHop                uint64
}

// MaxTimedOut is how many conns one End reports. If more are due in the same batch, the
// others end silently: where conns time out by the million, no peers are waiting.
const MaxTimedOut = 32

// TimedOut returns the conns whose peers the caller should reset; good until Begin.
func (w *Worker) TimedOut() []TimedOut { return w.timedOut[:w.numTimedOut] }

// reportsTimeout reports whether a due conn is one for TimedOut.
func (w *Worker) reportsTimeout(c *Conn, word stateWord) bool {
	return w.settings.ResetForgotten && c.inUse(word) && w.numTimedOut < MaxTimedOut && !c.OnePacket()
}

// inUse reports whether an end of a TCP connection may still wait for the other:
// it is established or half-closed. Where the server's packets do not pass here, its
// FIN is not seen. A client that closes first acknowledges it, so its own FIN is its
// last packet only if the server has not closed.
func (c *Conn) inUse(word stateWord) bool {
	switch word.state() {
	case TCPEstablished, TCPCloseWait:
		return true
	case TCPFinWait:
		return !c.noOutput(word) || word&flagLastFIN != 0
	}
	return false
}

func (w *Worker) reportTimeout(c *Conn) {
	w.timedOut[w.numTimedOut] = TimedOut{
		Client: c.client, VIP: c.vip, Server: c.server,
		ClientPort: c.clientPort, VPort: c.vport, SPort: c.sport,
		Method: c.Method(), ServerID: c.ServerID(), ReturnHop: c.ReturnHop(),
	}
	w.numTimedOut++
}

// readInbox reviews the conns in the inbox.
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

// popInbox takes the next conn out of the inbox. From then on it can be queued again.
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

// review puts a conn where its deadline belongs, or retires it if it has ended.
func (w *Worker) review(ref Ref) {
	c := &w.t.conns[ref]
	word := c.loadStateWord()
	switch {
	case c.children.Load() == unlinked:
		w.retireUnlinked(ref)
	case !word.live():
		// Whoever ended it has not unlinked it yet, or it has children: one of
		// them will notify us again.
	case c.OnePacket():
		w.end(ref, EndedByTimeout)
	default:
		w.wheel.take(ref)
		w.wheel.put(ref, word.deadline())
	}
}

// retireUnlinked retires a conn that nothing refers to any more. If the conn is in the
// inbox again, its next review does it, because a retired conn must be in no inbox.
func (w *Worker) retireUnlinked(ref Ref) {
	if w.t.inboxLinks.Items[ref].CompareAndSwap(0, linkEnd) {
		w.wheel.take(ref)
		w.retire(ref)
	}
}
