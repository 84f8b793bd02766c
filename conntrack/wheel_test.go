package conntrack

import (
	"math/rand/v2"
	"testing"

	"uvs/dataplane/wire"
)

// TestWheel puts conns in by deadlines of every size. Each is due at its time and within
// one step, whatever the strides of time.
func TestWheel(t *testing.T) {
	const n = 500
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	for _, start := range []Tick{1 << 36, 0, 1, 255 * wheelStep, 65535*wheelStep - 3} {
		spans := []int64{int64(Second), 20 * int64(Second), 5000 * int64(Second), int64(MaxTimeout)}
		if start < 1<<36 {
			spans = spans[:3]
		}
		w := &wheel{conns: make([]Conn, n+1), step: int64(start >> wheelShift)}
		deadlines := make([]Tick, n+1)
		for ref := Ref(1); ref <= n; ref++ {
			deadlines[ref] = start + 1 + Tick(rnd.Int64N(spans[rnd.IntN(len(spans))]))
			w.put(ref, deadlines[ref])
		}
		gone := 0
		for now := start; gone < n; now += Tick(rnd.Int64N([]int64{3, 100, 100000, 1e9}[rnd.IntN(4)])) {
			budget := 1 << 30
			for ref := w.due(now, &budget); ref != 0; ref = w.due(now, &budget) {
				if deadlines[ref] > now {
					w.put(ref, deadlines[ref]) // from a coarser level
					continue
				}
				deadlines[ref] = -1
				gone++
			}
			for ref := range deadlines {
				if d := deadlines[ref]; d > 0 && d <= now-wheelStep {
					t.Fatalf("seed %d, start %d: conn of %d is not due at %d", seed, start, d, now)
				}
			}
		}
		if w.count != 0 {
			t.Errorf("wheel counts %d conns after the last", w.count)
		}
	}
}

// TestWheelTake takes conns out of the middle, head and end of a slot.
func TestWheelTake(t *testing.T) {
	for _, out := range []Ref{1, 2, 3} {
		w := &wheel{conns: make([]Conn, 4)}
		for ref := Ref(1); ref <= 3; ref++ {
			w.put(ref, 1000)
		}
		w.take(out)
		w.take(out)
		left, budget := map[Ref]bool{}, 1000
		for ref := w.due(5000, &budget); ref != 0; ref = w.due(5000, &budget) {
			left[ref] = true
		}
		if len(left) != 2 || left[out] || w.count != 0 {
			t.Errorf("without %d the slot has %v, the wheel counts %d", out, left, w.count)
		}
	}
}

// TestManyDueAtOnce: if very many conns are due at the same moment, no batch ends more
// than its budget. Conns inserted meanwhile live, and in the end all due ones are gone.
func TestManyDueAtOnce(t *testing.T) {
	const due = 50000
	tab := newTestTable(t, Config{Max: 2 * due})
	fill(t, tab, 0, 0, due, EventSYN)
	w, before, created := tab.Worker(0), tab.Stats(), 0
	for batch := 0; ; batch++ {
		w.Begin(61 * Second)
		f := tcpEntry(due + batch)
		ref, _ := w.Insert(&f)
		created++
		w.Step(ref, DirIn, EventSYN, nil)
		busy := w.End()
		s := tab.Stats()
		if n := s.Ended[EndedByTimeout] - before.Ended[EndedByTimeout]; n > batchBudget {
			t.Fatalf("batch %d ended %d conns, its budget is %d", batch, n, batchBudget)
		}
		if before = s; !busy {
			break
		}
		if batch > due {
			t.Fatalf("still behind after %d batches: %+v", batch, s)
		}
	}
	if s := tab.Stats(); s.InUse != int64(created) || s.Ended[EndedByTimeout] != due {
		t.Errorf("of %d due %d ended; %d conns are left, want %d", due, s.Ended[EndedByTimeout], s.InUse, created)
	}
	reclaimAll(tab, 61*Second)
	check(t, tab)
}

// TestBurstThenSilence: a flow of 500 datagrams a second ends after its timeout, whatever
// its rate was.
func TestBurstThenSilence(t *testing.T) {
	tab := newTestTable(t, Config{Max: 16})
	w, e, now := tab.Worker(0), tcpEntry(1), Tick(0)
	e.Proto = wire.ProtoUDP
	for ; now < 400*Second; now += 2 {
		w.Begin(now)
		ref, _ := w.Insert(&e)
		w.Step(ref, DirIn, EventData, nil)
		w.End()
	}
	last := now - 2
	runBatches(tab, last+300*Second-1)
	if s := tab.Stats(); s.InUse != 1 || s.Inserted != 1 {
		t.Errorf("before its timeout: %+v", s)
	}
	runBatches(tab, last+300*Second+wheelStep)
	if s := tab.Stats(); s.InUse != 0 {
		t.Errorf("after its timeout: %+v", s)
	}
}
