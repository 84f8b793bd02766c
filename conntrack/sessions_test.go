package conntrack

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// TestSessions: a conn gets a session on demand and keeps it. No other conn or worker
// gets it. When the conn ends, the session is free: at once, or when it is unlocked.
func TestSessions(t *testing.T) {
	tab := newTestTable(t, Config{Max: 16, Sessions: 2, Workers: 2})
	w, other := tab.Worker(0), tab.Worker(1)
	w.Begin(0)
	other.Begin(0)
	var refs [3]Ref
	for i := range refs {
		n := tcpEntry(i)
		n.Helped = true
		refs[i], _ = w.Insert(&n)
	}
	if n, busy := w.LockSession(refs[0]); n != 0 || busy || !w.Conn(refs[0]).Helped() {
		t.Errorf("a new conn has session %d, busy %v", n, busy)
	}
	first, _ := w.LockNewSession(refs[0])
	if n, busy := other.LockSession(refs[0]); n != 0 || !busy {
		t.Errorf("another worker got session %d of the first's %d, busy %v", n, first, busy)
	}
	w.UnlockSession(refs[0], first)
	if n, _ := other.LockSession(refs[0]); n != first {
		t.Errorf("unlocked it is %d, was %d", n, first)
	}
	second, _ := w.LockNewSession(refs[1])
	if n, busy := w.LockNewSession(refs[2]); first == 0 || second == 0 || first == second || n != 0 || busy {
		t.Errorf("two conns have sessions %d and %d of two, a third %d, busy %v", first, second, n, busy)
	}
	if s := tab.Stats(); s.Sessions != 2 || s.NoSession != 1 {
		t.Errorf("%d sessions in use, %d refused; want 2 and 1", s.Sessions, s.NoSession)
	}
	if n, busy := w.LockNewSession(refs[1]); n != 0 {
		t.Errorf("a conn that has a session got %d more, busy %v", n, busy)
	}
	if id := w.Conn(refs[1]).ServerID(); id != tcpEntry(1).ServerID {
		t.Errorf("with a session its server is %d", id)
	}
	w.UnlockSession(refs[1], second)
	w.Expire(refs[1])
	if n, _ := w.LockNewSession(refs[1]); n != 0 {
		t.Errorf("a conn that ended got session %d", n)
	}
	w.Expire(refs[0])
	if got := tab.Stats().Sessions; got != 1 {
		t.Errorf("%d sessions in use while one is locked whose conn ended", got)
	}
	other.UnlockSession(refs[0], first)
	if n, _ := w.LockNewSession(refs[2]); n != first && n != second {
		t.Errorf("a free session is not used again: %d", n)
	} else {
		w.UnlockSession(refs[2], n)
	}
	w.End()
	other.End()
	reclaimAll(tab, 0)
	check(t, tab)
}

// TestSessionsRace: workers lock sessions of the same few conns and end these. No two
// workers are in a session, and all sessions become free.
func TestSessionsRace(t *testing.T) {
	const workers, conns = 4, 6
	tab := newTestTable(t, Config{Max: 200, Workers: workers, Sessions: 3, slack: 2000})
	var users [4]atomic.Int32
	var got atomic.Int64
	for round := range rounds(600) {
		onAllWorkers(tab, func(w *Worker) {
			rnd := rand.New(rand.NewPCG(uint64(round), uint64(w.id)))
			for range 8 {
				w.Begin(Tick(round))
				f := tcpEntry(rnd.IntN(conns))
				ref, _ := w.Insert(&f)
				n, busy := w.LockSession(ref)
				if n == 0 && !busy {
					n, _ = w.LockNewSession(ref)
				}
				if rnd.IntN(3) == 0 {
					w.Expire(ref)
				}
				if n != 0 {
					if users[n].Add(1) != 1 {
						t.Errorf("session %d has two users", n)
					}
					got.Add(1)
					users[n].Add(-1)
					w.UnlockSession(ref, n)
				}
				w.End()
			}
		})
		if round%100 == 0 {
			reclaimAll(tab, Tick(round))
			check(t, tab)
		}
	}
	tab.Flush(func(*Snapshot) bool { return true })
	reclaimAll(tab, 1000)
	check(t, tab)
	if n := tab.Stats().Sessions; n != 0 || got.Load() == 0 {
		t.Errorf("%d sessions in use at the end, %d locked", n, got.Load())
	}
}
