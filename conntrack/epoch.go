package conntrack

import "sync/atomic"

// reader reads conns and may end them: a Worker, or Table.external for all
// goroutines that are not workers.
//
// Conns are reused by epoch-based reclamation. A reader may read conns only while
// its epoch word is set: from Begin to End, or from enter to exit. A conn that was taken
// out of the index is retired with the epoch of that moment, and reclaimed after a grace
// period: two epochs later (memory.go). The package comment has the proof.
type reader struct {
	t   *Table
	now Tick

	_     [64]byte
	epoch atomic.Uint64 // the table's, when the open batch began; 0: none is open
	_     [56]byte

	credits  int // how many conns it may still insert; see takeCredit
	inserted atomic.Uint64
	full     atomic.Uint64
	ended    [numEndReason]atomic.Uint64
}

// firstEpoch is not 0, so that 0 can mean that no batch is open.
const firstEpoch = 3

// advanceEpoch begins a new epoch if every open batch began in this one. A conn retired
// in epoch e has no reader in epoch e+2.
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

// enter begins reading by a goroutine that is not a worker, and exit ends it.
func (t *Table) enter() {
	t.externalMu.Lock()
	t.external.now = Tick(t.clock.Load())
	t.external.epoch.Store(t.epoch.Load())
}

func (t *Table) exit() {
	t.external.epoch.Store(0)
	t.credits.Add(int64(t.external.credits))
	t.external.credits = 0
	t.externalMu.Unlock()
}
