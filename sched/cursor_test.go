package sched

import "testing"

// TestRebase: the next picks after the list changed in the middle of a walk.
func TestRebase(t *testing.T) {
	for _, c := range []struct {
		why     string
		sched   string
		weights []int32
		before  string
		change  func(*service)
		after   string
	}{
		{
			"rr continues after the server used last", "rr",
			[]int32{1, 1, 1},
			"21",
			func(s *service) { s.edit(0, 5) }, "0210",
		},
		{
			"rr, used server deleted: continues after the one before it", "rr",
			[]int32{1, 1, 1},
			"21",
			func(s *service) { s.del(1) }, "0202",
		},
		{
			"rr, first of the list used and deleted: from the start", "rr",
			[]int32{1, 1, 1},
			"2",
			func(s *service) { s.del(2) }, "1010",
		},
		{
			"rr, a new server comes after the wrap", "rr",
			[]int32{1, 1, 1},
			"21",
			func(s *service) { s.add(3, 1) }, "03210",
		},
		{
			"wrr starts at the head again, at the same level", "wrr",
			[]int32{4, 3, 2},
			"2100",
			func(s *service) { s.edit(2, 2) }, "0102102",
		},
		{
			"wrr, a level above the new top falls to it", "wrr",
			[]int32{6, 4},
			"",
			func(s *service) { s.edit(0, 2) }, "1",
		},
		{
			"wrr, all weights gone: none, and from the top when one is back", "wrr",
			[]int32{2, 0},
			"00",
			func(s *service) { s.edit(0, 0); s.edit(1, 3) }, "111",
		},
	} {
		s := newService(t, c.sched, 0, c.weights...)
		if got := s.picks(len(c.before), false, client); got != c.before {
			t.Errorf("%s: got %s before, want %s", c.why, got, c.before)
		}
		c.change(s)
		if got := s.picks(len(c.after), false, client); got != c.after {
			t.Errorf("%s: got %s after, want %s", c.why, got, c.after)
		}
	}
}

// TestRebaseAtOnce: a list that was set at once, as from a file, gives the same
// sequence as one whose servers were added one by one.
func TestRebaseAtOnce(t *testing.T) {
	for _, weights := range [][]int32{{1, 2, 4}, {6, 4}, {4, 3, 2}, {0, 5, 10}} {
		single := newService(t, "wrr", 0, weights...)
		whole := newService(t, "wrr", 0)
		whole.change(single.servers)
		if got, want := whole.picks(30, false, client), single.picks(30, false, client); got != want {
			t.Errorf("%v: got %s, one by one %s", weights, got, want)
		}
	}
}

// TestWRRSteps: one pick is a short walk, whatever the weights. With all heavy servers
// overloaded, the level falls to that of the others at once.
func TestWRRSteps(t *testing.T) {
	s := newService(t, "wrr", 0, 1<<30, 1, 7)
	s.servers[s.at(0)].Overload.Store(true)
	if got, want := s.picks(10, false, client), "2122222221"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.servers[s.at(1)].Overload.Store(true)
	s.servers[s.at(2)].Overload.Store(true)
	if got, want := s.picks(3, false, client), "---"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestMaxTree: firstAtLeast equals a walk over the weights.
func TestMaxTree(t *testing.T) {
	for n := range 40 {
		weights := make([]int32, n)
		for i := range weights {
			weights[i] = int32(i * 7919 % 11)
		}
		h := newMaxTree(weights)
		for from := range n + 3 {
			for least := int32(1); least < 12; least++ {
				want := -1
				for i := from; i < n; i++ {
					if weights[i] >= least {
						want = i
						break
					}
				}
				if got := h.firstAtLeast(from, least); got != want {
					t.Fatalf("%v from %d at least %d: got %d, want %d", weights, from, least, got, want)
				}
			}
		}
	}
}

// TestClone: with every scheduler a clone picks what the original would, and does not
// change the original.
func TestClone(t *testing.T) {
	for _, scheduler := range Names() {
		s := newService(t, scheduler, 0, 3, 1, 2)
		idle := func() {
			for i := range s.servers {
				s.servers[i].Inactive.Store(0)
			}
		}
		s.picks(5, false, client)
		original := s.cursor
		s.cursor = original.Clone()
		idle()
		cloned := s.picks(7, false, client)
		s.cursor = original
		idle()
		if got := s.picks(7, false, client); got != cloned {
			t.Errorf("%s: clone picked %s, the original then %s", scheduler, cloned, got)
		}
	}
}
