package conntrack

import (
	"testing"

	"uvs/dataplane/wire"
)

// TestWalkAndFlush: a walk visits every conn once and stops when visit returns false. A
// flush ends the conns that match.
func TestWalkAndFlush(t *testing.T) {
	const conns = 3*walkChunk + 7
	tab := newTestTable(t, Config{Max: 2000, Workers: 2})
	for i := range conns {
		w := tab.Worker(i % 2)
		w.Begin(0)
		e := tcpEntry(i)
		ref, _ := w.Insert(&e)
		w.Step(ref, DirIn, EventSYN, nil)
		w.End()
	}
	seen := map[wire.Addr]int{}
	tab.Walk(nil, func(s *Snapshot) bool { seen[s.Client]++; return true })
	for i := range conns {
		if e := tcpEntry(i); seen[e.Client] != 1 {
			t.Errorf("conn %d is shown %d times", i, seen[e.Client])
		}
	}
	visits := 0
	tab.Walk(nil, func(*Snapshot) bool { visits++; return visits < 300 })
	if visits != 300 {
		t.Errorf("a walk stopped at the 300th conn made %d visits", visits)
	}
	ofServer3 := func(s *Snapshot) bool { return s.ServerID == 3 }
	matched := 0
	tab.Walk(ofServer3, func(s *Snapshot) bool { matched++; return ofServer3(s) })
	if got := tab.Flush(ofServer3); got != matched || matched == 0 {
		t.Errorf("flush ended %d conns, the walk shows %d", got, matched)
	}
	if total := tab.Counts(3).Total(); total != 0 {
		t.Errorf("server 3 has %d conns after the flush", total)
	}
	reclaimAll(tab, 0)
	if got := tab.Stats().InUse; got != int64(conns-matched) {
		t.Errorf("%d conns left, want %d", got, conns-matched)
	}
	check(t, tab)
}

// TestBucketsFor: the largest table that fits a machine has enough buckets.
func TestBucketsFor(t *testing.T) {
	for _, n := range []int{1, 1000, 1 << 20, 1 << 28} {
		if got := bucketsFor(n); got < n/slotsPerBucket || got > n/2+2 {
			t.Errorf("%d buckets for %d conns", got, n)
		}
	}
}

// TestConfig: NewTable refuses impossible sizes. A budget bounds the capacity, and is
// kept.
func TestConfig(t *testing.T) {
	for _, cfg := range []Config{
		{Workers: -1},
		{Workers: MaxWorkers + 1},
		{Max: -1},
		{Max: maxConns + 1},
		{Memory: -5},
		{Memory: 1000},
		{ServerIDs: -1},
	} {
		if tab, err := NewTable(cfg); err == nil {
			tab.Close()
			t.Errorf("%+v is accepted", cfg)
		}
	}
	for _, budget := range []int64{32 << 20, 1 << 30} {
		tab := newTestTable(t, Config{Memory: budget, Workers: 2})
		s := tab.Stats()
		if s.Budget > budget || int64(s.Capacity)*128 < budget/2 {
			t.Errorf("in %d bytes: %d conns, %d bytes when full", budget, s.Capacity, s.Budget)
		}
	}
	if s := newTestTable(t, Config{Memory: 1 << 30, Max: 100}).Stats(); s.Capacity != 100 {
		t.Errorf("capacity is %d, want 100", s.Capacity)
	}
	if s := newTestTable(t, Config{}).Stats(); s.Capacity != defaultMax {
		t.Errorf("capacity is %d by default, want %d", s.Capacity, defaultMax)
	}
	tab := newTestTable(t, Config{Max: 10, ServerIDs: 4})
	if tab.Counts(4) != tab.Counts(0) || tab.Counts(3) == tab.Counts(0) {
		t.Error("counts are not at stable addresses, or IDs out of range not at server 0's")
	}
}

// TestAllocations: a batch with lookups, inserts, steps and expiry allocates nothing.
func TestAllocations(t *testing.T) {
	tab := newTestTable(t, Config{Max: 1000})
	w, q, now, next := tab.Worker(0), make([]Query, 64), Tick(0), 0
	if got := testing.AllocsPerRun(200, func() {
		now += Second
		w.Begin(now)
		for i := range q {
			e := tcpEntry(next)
			next++
			q[i] = clientQuery(&e)
			ref, _ := w.Insert(&e)
			w.Step(ref, DirIn, EventSYN, nil)
		}
		w.Lookup(q)
		for i := range q {
			if i%2 == 0 {
				w.Expire(q[i].Ref)
			}
			w.Conn(q[i].Ref).SetReturnHop(uint64(i))
		}
		w.DropPacket()
		w.End()
	}); got != 0 {
		t.Errorf("a batch allocates %v times", got)
	}
}

// TestWalkLetsEpochsAdvance: a walk whose filter accepts nothing also leaves the epoch
// from time to time, so that memory is reclaimed however long the walk takes.
func TestWalkLetsEpochsAdvance(t *testing.T) {
	tab := newTestTable(t, Config{Max: 4 * walkSpan, Seed: 1})
	w := tab.Worker(0)
	w.Begin(0)
	for i := range 4 * walkSpan {
		e := tcpEntry(i)
		w.Insert(&e)
	}
	w.End()
	before := tab.epoch.Load()
	tab.Walk(func(*Snapshot) bool {
		w.Begin(0)
		w.End()
		return false
	}, func(*Snapshot) bool { return true })
	if moved := tab.epoch.Load() - before; moved < 3 {
		t.Errorf("the epoch moved %d times during a walk past %d conns, want 3 at least", moved, 4*walkSpan)
	}
}
