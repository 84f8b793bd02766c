package conntrack

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"uvs/dataplane/wire"
)

// together runs f for every worker of the table at once and waits for all.
func together(tab *Table, f func(l *Worker)) {
	var wg sync.WaitGroup
	for i := range tab.locals {
		wg.Go(func() { f(tab.Worker(i)) })
	}
	wg.Wait()
}

// effort is how often racing tests go round: less where all is slower.
func effort(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// TestInsertRace has all workers insert the same flows at the same time: each
// flow is fresh for one of them, and all get the same conn.
func TestInsertRace(t *testing.T) {
	const workers, flows = 4, 8
	tab := newTest(t, Config{Max: 200, Workers: workers, slack: 2000})
	var got [workers][flows]Ref
	var fresh [flows]atomic.Int32
	for round := range effort(1500) {
		var ready atomic.Int32
		together(tab, func(l *Worker) {
			l.Begin(Tick(round))
			ready.Add(1)
			for ready.Load() < workers {
				runtime.Gosched()
			}
			for i := range flows {
				n := flow(i)
				n.VPort = uint16(round)
				ref, isNew := l.Insert(&n)
				if isNew {
					fresh[i].Add(1)
				}
				got[l.worker][i] = ref
			}
			l.End()
		})
		for i := range flows {
			if n := fresh[i].Swap(0); n != 1 {
				t.Fatalf("round %d: flow %d is fresh for %d workers", round, i, n)
			}
			for w := range workers {
				if got[w][i] == 0 || got[w][i] != got[0][i] {
					t.Fatalf("round %d: flow %d is conn %d for worker %d, %d for worker 0", round, i, got[w][i], w, got[0][i])
				}
			}
			tab.Worker(i % workers).Begin(Tick(round))
			tab.Worker(i % workers).Expire(got[0][i])
			tab.Worker(i % workers).End()
		}
		quiet(tab, Tick(round))
		if round%100 == 0 {
			check(t, tab)
		}
	}
	check(t, tab)
}

// TestSettledMeanwhile plays a race of three by hand: a worker sees a settled
// rival of its conn; the rival ends; another worker, whose own conn has the
// smaller ref, settles the first one's. Then that conn stands.
func TestSettledMeanwhile(t *testing.T) {
	tab := newTest(t, Config{Max: 16, Workers: 2})
	l, n := tab.Worker(0), flow(1)
	l.Begin(0)
	rival, _ := l.Insert(&n)
	hash := tab.hashOf(l.Conn(rival))
	small, _ := l.prepare(&n)
	own, state := l.prepare(&n)
	v := newSlot(own, hash) | tentative
	pos, _ := tab.put(hash, v)
	if s, _ := tab.rival(l.Conn(own), hash, v); s.ref() != rival || s.tentative() {
		t.Fatalf("own conn sees %#x, want conn %d settled", uint64(s), rival)
	}
	l.Expire(rival)
	if winner, placed, _ := tab.insert(small, hash); winner != own || !placed {
		t.Fatalf("the other worker gets conn %d, want %d", winner, own)
	}
	l.abandon(small, true)
	if got := tab.yield(hash, v, pos, rival); got != own {
		t.Fatalf("conn %d wins, want %d, which the other worker uses", got, own)
	}
	l.settled(own, state)
	l.End()
	quiet(tab, 1)
	check(t, tab)
}

// TestStress has workers do everything to few flows in a table too small for
// them, while others list and flush, and checks within each turn what a turn
// may rely on: a conn found is of the flow asked for and stays so to the end of
// the turn, though it may end and its memory be wanted. Afterwards the whole
// table must fit together.
func TestStress(t *testing.T) {
	for _, c := range []struct {
		name          string
		max, flows    int
		workers       int
		slack, jitter int
	}{
		{"eviction all the time", 24, 200, 4, 1000, 50},
		{"one bucket or two", 4, 6, 4, 1000, 5},
		{"one flow", 64, 1, 4, 1000, 5},
		{"room for all", 600, 300, 3, 2000, 2000},
	} {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("%s/seed=%d", c.name, seed), func(t *testing.T) {
			tab := newTest(t, Config{Max: c.max, Workers: c.workers, slack: c.slack, MaxServers: 32, Seed: seed | 1})
			s := *DefaultSettings()
			for i := range s.Timeouts {
				s.Timeouts[i] = Tick(100 + 37*i)
			}
			s.DropEntry, s.SecureTCP = ModeAuto, ModeAuto
			tab.SetSettings(&s)
			var now, left atomic.Int64
			left.Store(int64(c.workers * effort(2000)))
			stop := make(chan struct{})
			var others sync.WaitGroup
			others.Go(func() { lister(tab, stop) })
			others.Go(func() { flusher(tab, stop, seed) })
			together(tab, func(l *Worker) {
				w := &stresser{t: t, l: l, flows: c.flows, rnd: rand.New(rand.NewPCG(seed, uint64(l.worker)))}
				for left.Add(-1) >= 0 {
					w.turn(Tick(now.Add(int64(w.rnd.IntN(c.jitter)))))
				}
			})
			close(stop)
			others.Wait()
			quiet(tab, Tick(now.Load()))
			check(t, tab)
			tab.Flush(func(*Snapshot) bool { return true })
			quiet(tab, Tick(now.Load()))
			check(t, tab)
			if s := tab.Stats(); s.InUse != 0 {
				t.Errorf("%d conns are left", s.InUse)
			}
			t.Logf("%+v", tab.Stats())
		})
	}
}

func lister(tab *Table, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
			tab.Walk(nil, func(s *Snapshot) bool { return s.Proto != 0 })
			runtime.Gosched()
		}
	}
}

func flusher(tab *Table, stop chan struct{}, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 99))
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
			id := uint32(1 + rnd.IntN(8))
			tab.Flush(func(s *Snapshot) bool { return s.ServerID == id })
		}
	}
}

// stresser is one worker of TestStress.
type stresser struct {
	t     *testing.T
	l     *Worker
	flows int
	rnd   *rand.Rand
	held  []heldConn
}

// heldConn is a conn this turn found, and the question that found it.
type heldConn struct {
	q   Query
	ref Ref
}

func (w *stresser) turn(now Tick) {
	w.l.Begin(now)
	w.held = w.held[:0]
	queries := make([]Query, 1+w.rnd.IntN(16))
	for i := range queries {
		n := w.flow()
		queries[i] = clientAsks(&n)
		if w.rnd.IntN(2) == 0 {
			queries[i] = serverAsks(&n)
		}
	}
	w.l.Lookup(queries)
	for _, q := range queries {
		w.hold(q, q.Ref)
		w.something(q)
	}
	if w.rnd.IntN(8) == 0 {
		runtime.Gosched()
	}
	for _, h := range w.held {
		if c := w.l.Conn(h.ref); !c.answers(&h.q, h.q.ClientPort) {
			w.t.Errorf("conn %d was found by %+v and is %+v before the turn is over", h.ref, h.q, c)
		}
	}
	w.l.End()
	runtime.Gosched()
}

func (w *stresser) hold(q Query, ref Ref) {
	if ref != 0 {
		if q.Template { // Lookup says so to itself
			q.kind = kindTemplate
		}
		w.held = append(w.held, heldConn{q, ref})
	}
}

func (w *stresser) flow() Entry {
	n := flow(w.rnd.IntN(w.flows))
	if n.Client[15]%3 == 0 {
		n.Proto = wire.ProtoUDP
	}
	return n
}

func (w *stresser) something(q Query) {
	l := w.l
	switch op := w.rnd.IntN(12); {
	case q.Ref == 0 || op == 0:
		n := w.flow()
		if w.rnd.IntN(3) == 0 {
			tmpl := template(w.rnd.IntN(8), 50)
			tmpl.Client[14] = 77
			n.Control, _ = l.Insert(&tmpl)
			w.hold(clientAsks(&tmpl), n.Control)
		}
		n.OnePacket = w.rnd.IntN(10) == 0
		ref, _ := l.Insert(&n)
		w.hold(clientAsks(&n), ref)
		if ref != 0 {
			l.Step(ref, DirIn, EventSYN, nil)
		}
	case op == 1:
		l.Expire(q.Ref)
		n := w.flow()
		ref, _ := l.Insert(&n) // may well get memory that was just wanted back
		w.hold(clientAsks(&n), ref)
	case op == 2:
		if p := l.Conn(q.Ref).Control(); p != 0 {
			if !l.Conn(p).Template() {
				w.t.Errorf("conn %d is controlled by %d, which is no template: %+v", q.Ref, p, l.Conn(p))
			}
			l.Renew(p, Tick(20+w.rnd.IntN(100)))
		}
	default:
		l.Step(q.Ref, q.Dir, Event(w.rnd.IntN(int(numEvent))), nil)
	}
}

// TestIdleWorker: a worker that never has a turn, or none any more, does not
// keep others from using memory again; one in a turn does, until its End.
func TestIdleWorker(t *testing.T) {
	tab := newTest(t, Config{Max: 8, Workers: 3, slack: 8})
	busy, holder := tab.Worker(0), tab.Worker(1)
	cycle := func(i int) bool {
		busy.Begin(Tick(i))
		n := flow(i)
		ref, _ := busy.Insert(&n)
		if ref != 0 {
			busy.Expire(ref)
		}
		busy.End()
		return ref != 0
	}
	for i := range 200 {
		if !cycle(i) {
			t.Fatalf("conn %d refused while all others are idle: %+v", i, tab.Stats())
		}
	}
	n := flow(1000)
	busy.Begin(200)
	ref, _ := busy.Insert(&n)
	busy.End()
	holder.Begin(200)
	if lookup(holder, clientAsks(&n)) != ref {
		t.Fatal("not found")
	}
	busy.Begin(200)
	busy.Expire(ref)
	busy.End()
	refused := 0
	for i := range 200 {
		if !cycle(1001 + i) {
			refused++
		}
		if q := clientAsks(&n); !holder.Conn(ref).answers(&q, q.ClientPort) {
			t.Fatalf("conn %d was used again in a turn that holds it", ref)
		}
	}
	if refused == 0 {
		t.Error("memory was used again all the time though a turn is open")
	}
	holder.End()
	for i := range 50 {
		cycle(2000 + i)
	}
	if !cycle(3000) {
		t.Errorf("conn refused after the turn: %+v", tab.Stats())
	}
	quiet(tab, 4000)
	check(t, tab)
}

// TestMemoryMoves: what one worker's conns left can be used by another, and a
// table that is filled again and again touches no more memory than at first.
func TestMemoryMoves(t *testing.T) {
	const size = 3000
	tab := newTest(t, Config{Max: size, Workers: 3, slack: 300})
	touched := uint64(0)
	for round := range 12 {
		l, now := tab.Worker(round%3), Tick(round)*100*Second
		for i := range size - 6*tab.chunk { // others may hold places
			l.Begin(now)
			f := flow(i)
			if ref, fresh := l.Insert(&f); ref == 0 || !fresh {
				t.Fatalf("round %d: conn %d: %d %v, %+v", round, i, ref, fresh, tab.Stats())
			}
			l.End()
		}
		turns(tab, now+90*Second)
		quiet(tab, now+90*Second)
		check(t, tab)
		if round == 2 {
			touched = tab.fresh.Load()
		}
	}
	if s := tab.Stats(); s.InUse != 0 || s.Full != 0 || tab.fresh.Load() > touched {
		t.Errorf("after all rounds: %+v, %d conns touched, %d after the first rounds", s, tab.fresh.Load(), touched)
	}
}

// TestSpareRace has workers give chunks to the common store and fetch them at
// once; no conn may be lost or given twice.
func TestSpareRace(t *testing.T) {
	tab := newTest(t, Config{Max: 64, Workers: 4, slack: 1000})
	together(tab, func(l *Worker) {
		for range effort(20000) {
			l.fetchSpare()
			for l.memory.ready.n < 2*tab.chunk && l.memory.fresh != l.memory.last || l.memory.ready.n == 0 {
				if l.memory.fresh == l.memory.last {
					if l.fetchFresh(); l.memory.fresh == l.memory.last {
						break
					}
				}
				l.memory.ready.push(tab.conns, l.memory.fresh)
				tab.mails.Items[l.memory.fresh].Store(mailClaimed)
				l.memory.fresh++
			}
			for l.memory.ready.n >= tab.chunk {
				l.giveSpare()
			}
		}
	})
	check(t, tab)
}
