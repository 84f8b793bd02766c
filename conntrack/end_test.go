package conntrack

import (
	"runtime"
	"sync/atomic"
	"testing"
)

// TestUnlinkOutdated: a state word that was read before a packet moved the conn, or
// before another reader ended it, ends nothing.
func TestUnlinkOutdated(t *testing.T) {
	for name, change := range map[string]func(*Worker, Ref){
		"a packet moved it":       func(w *Worker, ref Ref) { w.Step(ref, DirIn, EventACK, nil) },
		"another worker ended it": func(w *Worker, ref Ref) { w.Expire(ref) },
		"a flush ended it":        func(w *Worker, _ Ref) { w.t.Flush(func(*Snapshot) bool { return true }) },
	} {
		tab := newTestTable(t, Config{Max: 16, Workers: 2})
		w, other, e := tab.Worker(0), tab.Worker(1), tcpEntry(1)
		w.Begin(0)
		other.Begin(0)
		ref, _ := w.Insert(&e)
		w.Step(ref, DirIn, EventSYN, nil)
		c := w.Conn(ref)
		word := c.loadStateWord()
		change(other, ref)
		changed := c.loadStateWord()
		if ended, _ := w.unlink(ref, word, EndedByTimeout); ended || c.loadStateWord() != changed || changed == word {
			t.Errorf("%s: ended %v, word was %#x, then %#x, and is %#x", name, ended, word, changed, c.loadStateWord())
		}
		w.End()
		other.End()
		reclaimAll(tab, 0)
		check(t, tab)
	}
}

// TestEndRace has one worker step conns while they end in every way at once: the
// worker that inserted them finds them due, another expires them, and a flush ends
// them. Each conn ends once, and no count keeps a trace of it.
func TestEndRace(t *testing.T) {
	const workers, conns = 4, 8
	tab := newTestTable(t, Config{Max: 200, Workers: workers, slack: 2000, ServerIDs: 16})
	s := *DefaultSettings()
	for i := range s.Timeouts {
		s.Timeouts[i] = Second
	}
	tab.SetSettings(&s)
	for round := range rounds(3000) {
		now, refs := Tick(round)*10*Second, [conns]Ref{}
		due := now + Second + wheelStep
		runBatches(tab, now)
		w := tab.Worker(0)
		w.Begin(now)
		for i := range refs {
			e := tcpEntry(i)
			refs[i], _ = w.Insert(&e)
			w.Step(refs[i], DirIn, EventSYN, nil)
		}
		w.End()
		var ready, ending atomic.Int32
		ending.Store(workers - 1)
		onAllWorkers(tab, func(w *Worker) {
			w.Begin([workers]Tick{due, now, due, due}[w.id])
			for ready.Add(1); ready.Load() < workers; {
				runtime.Gosched()
			}
			for n := 0; w.id == 1 && ending.Load() > 0; n++ {
				w.Step(refs[n%conns], DirIn, []Event{EventACK, EventRST, EventSYN}[n%3], nil)
			}
			for i, ref := range refs {
				switch {
				case w.id == 2 && i%2 == 0:
					w.Expire(ref)
				case w.id == 3 && i%4 < 2:
					e := tcpEntry(i)
					tab.Flush(func(s *Snapshot) bool { return s.Client == e.Client })
				}
			}
			ending.Add(-1)
			w.End()
		})
		for i := 0; i < conns; i += 2 {
			if tab.conns[refs[i]].Live() {
				t.Fatalf("round %d: conn %d is live after Expire", round, refs[i])
			}
		}
		reclaimAll(tab, due)
		check(t, tab)
	}
	t.Logf("%+v", tab.Stats())
}
