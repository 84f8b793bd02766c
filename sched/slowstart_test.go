package sched

import (
	"sync/atomic"
	"testing"
)

// picksOfReturning schedules 100 connections a second for 12 s, none of which ends.
// Three servers have load connections each. The fourth comes back with none, and has
// a slow start of ramp ms. It returns the fourth's connections of each second.
func picksOfReturning(t *testing.T, name string, load int32, ramp int64) []int {
	servers := make([]Server, 4)
	for i := range servers {
		servers[i] = Server{ID: uint32(i), Weight: 4, Active: new(atomic.Int32), Inactive: new(atomic.Int32)}
		if i > 0 {
			servers[i].Active.Store(load)
		}
	}
	servers[0].SlowStartEnd = ramp
	p, err := New(name, 0, servers, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := NewCursor(name, servers, 0)
	perSecond := make([]int, 12)
	for i := range 1200 {
		f := anyFlow(i)
		f.Now = int64(i) * 10
		got := p.Pick(c, f)
		servers[got].Active.Add(1)
		if got == 0 {
			perSecond[i/100]++
		}
	}
	return perSecond
}

// TestSlowStart: a server that comes back among loaded ones would get every new
// connection. With a slow start of 10 s it gets few at first, then more, and after
// the end as many as without.
func TestSlowStart(t *testing.T) {
	for _, name := range []string{"lc", "wlc", "sed", "nq", "lblc", "lblcr", "twos"} {
		for _, load := range []int32{100, 5000} {
			without, with := picksOfReturning(t, name, load, 0), picksOfReturning(t, name, load, 10_000)
			t.Logf("%s, others at %d: per second without %v, with %v", name, load, without, with)
			if name != "twos" && without[0] < 90 {
				t.Errorf("%s: the test shows nothing: %d of 100 without slow start", name, without[0])
			}
			if with[0] > 15 {
				t.Errorf("%s, others at %d: %d of 100 in the first second", name, load, with[0])
			}
			if with[0]+with[1]+with[2] > with[4]+with[5]+with[6] {
				t.Errorf("%s, others at %d: no ramp: %v", name, load, with)
			}
			if late := with[10] + with[11]; load == 5000 && name != "twos" && late < 190 {
				t.Errorf("%s, others at %d: %d of 200 after slow start", name, load, late)
			}
		}
	}
}

// TestSlowStartAlone: a server in slow start gets all connections if no other server
// is eligible. Slow start refuses none.
func TestSlowStartAlone(t *testing.T) {
	for _, name := range []string{"lc", "wlc", "sed", "nq", "lblc", "lblcr", "twos"} {
		s := newService(t, name, 0, 1, 1)
		s.servers[s.at(1)].SlowStartEnd = 1 << 40
		s.edit(0, 0)
		if got, want := s.picks(20, true, anyFlow), "11111111111111111111"; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// TestShare: the share of a server in slow start, by time.
func TestShare(t *testing.T) {
	r := newSlowStarts([]Server{{SlowStartBegin: 1000, SlowStartEnd: 2000}, {}})
	for _, c := range []struct {
		server    int
		now, want int64
	}{
		{0, 900, 1},
		{0, 1000, 1},
		{0, 1500, 512},
		{0, 1999, 1022},
		{0, 2000, 1024},
		{0, 9999, 1024},
		{1, 1500, 1024},
	} {
		if got := r.share(c.server, c.now); got != c.want {
			t.Errorf("server %d at %d ms: got share %d, want %d", c.server, c.now, got, c.want)
		}
	}
	if r.lastEnd != 2000 {
		t.Errorf("slow starts over at %d, want 2000", r.lastEnd)
	}
}
