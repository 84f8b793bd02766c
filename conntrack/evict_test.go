package conntrack

import "testing"

// fill inserts conns, each in a separate batch, and steps them by events.
func fill(t *testing.T, tab *Table, now Tick, from, n int, events ...Event) []Ref {
	t.Helper()
	w, refs := tab.Worker(0), make([]Ref, n)
	for i := range refs {
		w.Begin(now)
		f := tcpEntry(from + i)
		if refs[i], _ = w.Insert(&f); refs[i] == 0 {
			t.Fatalf("conn %d of %d refused: %+v", i, n, tab.Stats())
		}
		for _, ev := range events {
			w.Step(refs[i], DirIn, ev, nil)
		}
		w.End()
	}
	return refs
}

// TestEvictionOrder fills a table with half-open, closing and idle conns and inserts
// more. Conns are evicted in that order, of the idle ones the longest idle first. Conns
// with children are never evicted.
func TestEvictionOrder(t *testing.T) {
	tab := newTestTable(t, Config{Max: 200})
	w := tab.Worker(0)
	parent := fill(t, tab, 1000, 900, 1, EventSYN)[0]
	fill(t, tab, 2000, 0, 48, EventSYN)                      // half-open
	fill(t, tab, 2000, 50, 50, EventSYN, EventACK, EventRST) // closing
	idlest := fill(t, tab, 2000, 100, 50, EventSYN, EventACK)
	busy := fill(t, tab, 3000, 150, 50, EventSYN, EventACK)
	w.Begin(3500)
	child := tcpEntry(901)
	child.Control = parent
	ref, _ := w.Insert(&child)
	w.Step(ref, DirIn, EventSYN, nil)
	w.Step(ref, DirIn, EventACK, nil)
	w.End()
	for i := range 148 { // each becomes an established conn at once
		before := tab.Stats().Ended
		fill(t, tab, 4000, 1000+i, 1, EventSYN, EventACK)
		want := EvictedIdle
		switch {
		case i < 48:
			want = EvictedHalfOpen
		case i < 98:
			want = EvictedClosing
		}
		if after := tab.Stats().Ended; after[want] != before[want]+1 {
			t.Fatalf("conn %d more ended %v, before %v, want one more of %d", i, after, before, want)
		}
	}
	for name, refs := range map[string][]Ref{"idlest": idlest, "busy": busy} {
		live := 0
		for i, ref := range refs {
			c := &tab.conns[ref]
			f := tcpEntry(100 + i)
			if name == "busy" {
				f = tcpEntry(150 + i)
			}
			if c.Live() && c.client == f.Client {
				live++
			}
		}
		if want := map[string]int{"idlest": 0, "busy": 50}[name]; live != want {
			t.Errorf("%d of the %s conns are left, want %d", live, name, want)
		}
	}
	if !tab.conns[parent].Live() {
		t.Error("a conn with children was evicted")
	}
	if s := tab.Stats(); s.InUse != 200 || s.Full != 0 {
		t.Errorf("%d conns of 200, %d refused", s.InUse, s.Full)
	}
	reclaimAll(tab, 4000)
	check(t, tab)
}

// TestNothingToEvict: a table full of conns with children refuses more and counts that.
// When there is room, it accepts them again.
func TestNothingToEvict(t *testing.T) {
	tab := newTestTable(t, Config{Max: 2, slack: 8})
	w := tab.Worker(0)
	w.Begin(0)
	e := tcpEntry(1)
	p, _ := w.Insert(&e)
	child := tcpEntry(2)
	child.Control = p
	w.Insert(&child)
	g := tcpEntry(3)
	g.Control, _ = w.Insert(&child)
	if ref, _ := w.Insert(&g); ref != 0 {
		t.Errorf("a third conn got into a table for 2: %d", ref)
	}
	if s := tab.Stats(); s.Full != 1 || s.InUse != 2 {
		t.Errorf("stats say %+v", s)
	}
	w.End()
	reclaimAll(tab, 1)
	check(t, tab)
	w.Begin(2)
	w.Expire(lookup(w, clientQuery(&e)))
	if ref, created := w.Insert(&g); ref == 0 || !created {
		t.Errorf("no room after a conn ended: %d %v", ref, created)
	}
	w.End()
	reclaimAll(tab, 3)
	check(t, tab)
}

// TestFlood: 100 established conns with traffic survive twenty times the table's size of
// half-open ones.
func TestFlood(t *testing.T) {
	const size, established = 5000, 100
	tab := newTestTable(t, Config{Max: size})
	fill(t, tab, 0, 0, established, EventSYN, EventACK)
	w, q := tab.Worker(0), make([]Query, established)
	for i := range q {
		f := tcpEntry(i)
		q[i] = clientQuery(&f)
	}
	now := Tick(0)
	for i := 0; i < 20*size; now++ {
		w.Begin(now)
		for range 64 {
			f := tcpEntry(1000 + i)
			f.Client = clientAddr(1<<24 + uint64(i))
			i++
			if ref, created := w.Insert(&f); ref == 0 || !created {
				t.Fatalf("conn %d of the flood: %d %v", i, ref, created)
			} else {
				w.Step(ref, DirIn, EventSYN, nil)
			}
		}
		if now%100 == 0 {
			w.Lookup(q)
			for j := range q {
				if q[j].Ref == 0 {
					t.Fatalf("established conn %d is gone after %d of the flood: %+v", j, i, tab.Stats())
				}
				w.Step(q[j].Ref, DirIn, EventACK, nil)
			}
		}
		w.End()
	}
	s := tab.Stats()
	if s.InUse > size || s.Memory > s.Budget || s.Ended[EvictedClosing]+s.Ended[EvictedIdle] != 0 {
		t.Errorf("after the flood: %+v", s)
	}
	reclaimAll(tab, now)
	check(t, tab)
}

// TestFullIndex: Config.Max conns find slots in the index, and none is evicted for one.
func TestFullIndex(t *testing.T) {
	for _, size := range []int{1, 2, 3, 10, 1000, 200000} {
		tab := newTestTable(t, Config{Max: size, Seed: 1})
		fill(t, tab, 0, 0, size, EventSYN)
		if s := tab.Stats(); s.InUse != int64(size) {
			t.Errorf("%d conns of %d: %+v", s.InUse, size, s)
		}
	}
}

// TestDropEntry: drop_entry ends half-open conns, templates that are not assured, and of
// conns with n packets one in n. Conns idle for longer than a minute stay, and so do
// those with many packets.
func TestDropEntry(t *testing.T) {
	tab := newTestTable(t, Config{Max: 4000})
	fill(t, tab, 0, 0, 100, EventSYN, EventACK) // idle when the defence is on
	fill(t, tab, 70*Second, 100, 100, EventSYN)
	fill(t, tab, 70*Second, 200, 300, EventSYN, EventACK, EventACK)
	fill(t, tab, 70*Second, 500, 100, EventSYN, EventACK, EventACK, EventACK, EventACK, EventACK, EventACK, EventACK,
		EventACK)
	s := *DefaultSettings()
	s.DropEntry = ModeAlways
	tab.SetSettings(&s)
	for now := 71 * Second; now < 71*Second+40*Second; now += Second {
		runBatches(tab, now) // a 32nd of the table each second
	}
	left := map[string]int{}
	tab.Walk(nil, func(s *Snapshot) bool {
		switch n := int(s.InPackets); {
		case s.State == TCPSynRecv:
			left["half-open"]++
		case n == 2:
			left["idle"]++
		case n == 3:
			left["three"]++
		default:
			left["many"]++
		}
		return true
	})
	if left["half-open"] != 0 || left["idle"] != 100 || left["many"] != 100 || left["three"] < 150 ||
		left["three"] > 210 {
		t.Errorf("left are %v; want no half-open, 100 idle, 100 with many packets, about two thirds of 300", left)
	}
	reclaimAll(tab, 111*Second)
	check(t, tab)
}

// TestDropPacket: at a rate of 10 the 1st, 11th, 21st… new conn is dropped. Under
// ModeAuto this is only while room is short, and the more so the less room there is.
func TestDropPacket(t *testing.T) {
	tab := newTestTable(t, Config{Max: 100})
	w := tab.Worker(0)
	count := func(m Mode, reserve int) (dropped []int) {
		s := *DefaultSettings()
		s.DropPacket, s.AMReserve = m, reserve
		tab.SetSettings(&s)
		w.defence.packetCountdown = 0
		w.Begin(0)
		defer w.End()
		for i := range 30 {
			if w.DropPacket() {
				dropped = append(dropped, i+1)
			}
		}
		return dropped
	}
	if got := count(ModeAlways, 0); len(got) != 3 || got[0] != 1 || got[1] != 11 || got[2] != 21 {
		t.Errorf("dropped %v, want 1 11 21", got)
	}
	if got := count(ModeOff, 1000); len(got) != 0 {
		t.Errorf("dropped %v while off", got)
	}
	if got := count(ModeAuto, 10); len(got) != 0 {
		t.Errorf("dropped %v with enough room", got)
	}
	if got := count(ModeAuto, 150); len(got) != 10 {
		t.Errorf("dropped %v a third short of the reserve, want every third", got)
	}
}

// TestEvictionByServiceTimeouts: eviction takes the idle time of a conn by the timeouts
// of its service. A short timeout does not make busy conns look idle, nor a long one
// idle conns busy.
func TestEvictionByServiceTimeouts(t *testing.T) {
	short, long := IPVSTimeouts(), IPVSTimeouts()
	short[TCPEstablished], long[TCPEstablished] = 5*Second, 432000*Second
	for _, r := range []struct {
		sentence   string
		idle, busy *Timeouts
	}{
		{"the busy one's service has a short timeout", nil, &short},
		{"the idle one's service has a long timeout", &long, nil},
	} {
		tab := newTestTable(t, Config{Max: 2, Seed: 1})
		w := tab.Worker(0)
		enter := func(i int, now Tick, to *Timeouts) Ref { // tcpEntry(i) is server 1+i's
			tab.Counts(uint32(1 + i)).Timeouts.Store(to)
			w.Begin(now)
			defer w.End()
			e := tcpEntry(i)
			ref, _ := w.Insert(&e)
			w.Step(ref, DirIn, EventSYN, to)
			w.Step(ref, DirIn, EventACK, to)
			return ref
		}
		idle, busy := enter(0, 1000, r.idle), enter(1, 2000, r.busy)
		enter(2, 3000, nil)
		if w.Conn(idle).Live() || !w.Conn(busy).Live() {
			t.Errorf("%s: live are the idle one: %t, the busy one: %t; want the busy one only",
				r.sentence, w.Conn(idle).Live(), w.Conn(busy).Live())
		}
	}
}
