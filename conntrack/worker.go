package conntrack

import "sync/atomic"

// Worker is one worker's handle of the table. Its methods are for that worker's
// goroutine. All but Begin and TimedOut are called between Begin and End, which enclose a
// batch. A worker must run some batches each second, even if no packets come. Otherwise
// the conns that it inserted do not expire in time.
type Worker struct {
	reader
	id           int
	settings     *Settings
	machine      *machine
	belowReserve bool // the table has room for fewer conns than Settings.AMReserve
	wheel        wheel
	memory       memory
	clockHand    Ref    // the conn that evict looked at last
	pending      Ref    // the rest of the inbox that was taken last
	insertQuery  Query  // scratch of Insert
	setPortEntry Entry  // scratch of SetPort
	touched      uint64 // sums what loops only touch, so that the compiler keeps them
	defence      defence

	timedOut    [MaxTimedOut]TimedOut
	numTimedOut int
	_           [64]byte
	inbox       atomic.Uint32 // top of the stack of conns to review; see notify
	_           [60]byte
}

func (w *Worker) init(t *Table, worker int) {
	w.t, w.id = t, worker
	w.settings, w.machine = t.Settings(), normalMachine
	w.wheel.conns = t.conns
	w.clockHand = Ref(len(t.conns) / len(t.workers) * worker) // each worker starts in its own part
}

// Begin opens a batch. What is found from here on stays readable until End.
func (w *Worker) Begin(now Tick) {
	t := w.t
	w.now = max(w.now, now)
	w.numTimedOut = 0
	if int64(w.now) > t.clock.Load() {
		t.clock.Store(int64(w.now))
	}
	w.settings = t.settings.Load()
	w.belowReserve = t.credits.Load() < int64(w.settings.reserve(t.max))
	w.machine = normalMachine
	if w.settings.SecureTCP.on(w.belowReserve) {
		w.machine = secureMachine
	}
	w.epoch.Store(t.epoch.Load())
}

// End closes the batch and does the worker's share of upkeep, within a budget: due
// timers, conns that other workers want reviewed, memory without readers. more reports
// whether more is due, so that the next batch should not wait for frames.
func (w *Worker) End() (more bool) {
	reviews, timers := batchBudget, batchBudget
	w.readInbox(&reviews)
	w.runWheel(&timers)
	w.dropEntries(&timers)
	w.readInbox(&reviews) // those that this upkeep ended
	w.epoch.Store(0)
	w.t.advanceEpoch()
	w.reclaim()
	return reviews <= 0 || timers <= 0
}

// Conn returns the conn of a Ref; good until End.
func (w *Worker) Conn(ref Ref) *Conn { return &w.t.conns[ref] }

// Timeout returns how long a conn is kept in a state. timeouts is the service's; nil: the
// table's.
func (w *Worker) Timeout(s State, timeouts *Timeouts) Tick {
	if timeouts == nil {
		timeouts = &w.settings.Timeouts
	}
	return timeouts[s]
}
