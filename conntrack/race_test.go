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

// onAllWorkers runs f for every worker of the table at once and waits for all.
func onAllWorkers(tab *Table, f func(w *Worker)) {
	var wg sync.WaitGroup
	for i := range tab.workers {
		wg.Go(func() { f(tab.Worker(i)) })
	}
	wg.Wait()
}

// rounds returns how often a racing test repeats: n, or less with -short.
func rounds(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// TestInsertRace has all workers insert the same flows at the same time. Each flow is
// created by one of them, and all get the same conn.
func TestInsertRace(t *testing.T) {
	const workers, flows = 4, 8
	tab := newTestTable(t, Config{Max: 200, Workers: workers, slack: 2000})
	var got [workers][flows]Ref
	var created [flows]atomic.Int32
	for round := range rounds(1500) {
		var ready atomic.Int32
		onAllWorkers(tab, func(w *Worker) {
			w.Begin(Tick(round))
			ready.Add(1)
			for ready.Load() < workers {
				runtime.Gosched()
			}
			for i := range flows {
				n := tcpEntry(i)
				n.VPort = uint16(round)
				ref, isNew := w.Insert(&n)
				if isNew {
					created[i].Add(1)
				}
				got[w.id][i] = ref
			}
			w.End()
		})
		for i := range flows {
			if n := created[i].Swap(0); n != 1 {
				t.Fatalf("round %d: flow %d was created by %d workers", round, i, n)
			}
			for worker := range workers {
				if got[worker][i] == 0 || got[worker][i] != got[0][i] {
					t.Fatalf("round %d: flow %d is conn %d for worker %d, %d for worker 0", round, i, got[worker][i],
						worker, got[0][i])
				}
			}
			tab.Worker(i % workers).Begin(Tick(round))
			tab.Worker(i % workers).Expire(got[0][i])
			tab.Worker(i % workers).End()
		}
		reclaimAll(tab, Tick(round))
		if round%100 == 0 {
			check(t, tab)
		}
	}
	check(t, tab)
}

// TestSettledMeanwhile replays a race of three. A worker sees a settled rival of its
// conn. The rival ends. Another worker, whose conn has the smaller ref, settles the
// first worker's conn. Then that conn stands.
func TestSettledMeanwhile(t *testing.T) {
	tab := newTestTable(t, Config{Max: 16, Workers: 2})
	w, e := tab.Worker(0), tcpEntry(1)
	w.Begin(0)
	rival, _ := w.Insert(&e)
	hash := tab.hashOf(w.Conn(rival))
	small, _ := w.newConn(&e)
	own, state := w.newConn(&e)
	v := newSlot(own, hash) | tentative
	pos, _ := tab.put(hash, v)
	if s, _ := tab.rival(w.Conn(own), hash, v); s.ref() != rival || s.tentative() {
		t.Fatalf("own conn sees %#x, want conn %d settled", uint64(s), rival)
	}
	w.Expire(rival)
	if winner, placed, _ := tab.insert(small, hash); winner != own || !placed {
		t.Fatalf("the other worker gets conn %d, want %d", winner, own)
	}
	w.undoInsert(small, true)
	if got := tab.yield(v, pos, rival); got != own {
		t.Fatalf("conn %d wins, want %d, which the other worker uses", got, own)
	}
	w.finishInsert(own, state)
	w.End()
	reclaimAll(tab, 1)
	check(t, tab)
}

// TestStress has workers do everything with few flows in a table too small for them,
// while others list and flush. It checks within each batch what a batch may rely on: a
// conn that was found is of the query's flow, and stays so until the end of the batch,
// though it may end and its memory be wanted. At the end the whole table must fit
// together.
func TestStress(t *testing.T) {
	for _, c := range []struct {
		name          string
		max, flows    int
		workers       int
		slack, jitter int
		onePort       bool
	}{
		{"eviction all the time", 24, 200, 4, 1000, 50, false},
		{"one bucket or two", 4, 6, 4, 1000, 5, false},
		{"one flow", 64, 1, 4, 1000, 5, false},
		{"room for all", 600, 300, 3, 2000, 2000, false},
		{"one client port", 600, 200, 4, 2000, 200, true},
		{"one client port, eviction all the time", 60, 200, 4, 1000, 50, true},
	} {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("%s/seed=%d", c.name, seed), func(t *testing.T) {
			tab := newTestTable(t, Config{
				Max: c.max, Workers: c.workers, slack: c.slack, ServerIDs: 32,
				Seed: seed | 1,
			})
			s := *DefaultSettings()
			for i := range s.Timeouts {
				s.Timeouts[i] = Tick(100 + 37*i)
			}
			s.DropEntry, s.SecureTCP = ModeAuto, ModeAuto
			tab.SetSettings(&s)
			var now, left atomic.Int64
			left.Store(int64(c.workers * rounds(2000)))
			stop := make(chan struct{})
			var others sync.WaitGroup
			others.Go(func() { lister(tab, stop) })
			others.Go(func() { flusher(tab, stop, seed) })
			onAllWorkers(tab, func(w *Worker) {
				rnd := rand.New(rand.NewPCG(seed, uint64(w.id)))
				st := &stresser{t: t, w: w, flows: c.flows, onePort: c.onePort, rnd: rnd}
				for left.Add(-1) >= 0 {
					st.batch(Tick(now.Add(int64(st.rnd.IntN(c.jitter)))))
				}
			})
			close(stop)
			others.Wait()
			reclaimAll(tab, Tick(now.Load()))
			check(t, tab)
			tab.Flush(func(*Snapshot) bool { return true })
			reclaimAll(tab, Tick(now.Load()))
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
	t       *testing.T
	w       *Worker
	flows   int
	onePort bool // all flows are of one client port, and clash in pairs
	rnd     *rand.Rand
	found   []foundConn
}

// foundConn is a conn that this batch found, and the query that found it.
type foundConn struct {
	q   Query
	ref Ref
}

func (s *stresser) batch(now Tick) {
	s.w.Begin(now)
	s.found = s.found[:0]
	queries := make([]Query, 1+s.rnd.IntN(16))
	for i := range queries {
		e := s.randomEntry()
		queries[i] = clientQuery(&e)
		if s.rnd.IntN(2) == 0 {
			queries[i] = serverQuery(&e)
		}
	}
	s.w.Lookup(queries)
	for _, q := range queries {
		s.remember(q, q.Ref)
		s.randomOp(q)
	}
	if s.rnd.IntN(8) == 0 {
		runtime.Gosched()
	}
	for _, h := range s.found {
		if c := s.w.Conn(h.ref); !c.matches(&h.q, h.q.ClientPort) {
			s.t.Errorf("conn %d was found by %+v and is %+v before the batch is over", h.ref, h.q, c)
		}
	}
	s.w.End()
	runtime.Gosched()
}

func (s *stresser) remember(q Query, ref Ref) {
	if ref != 0 {
		if q.Template { // as Lookup sets it
			q.kind = kindTemplate
		}
		s.found = append(s.found, foundConn{q, ref})
	}
}

func (s *stresser) randomEntry() Entry {
	i := s.rnd.IntN(s.flows)
	e := tcpEntry(i)
	if s.onePort {
		e = tcpEntry(0)
		e.VPort, e.SPort, e.ServerID = uint16(i), uint16(i/2), uint32(1+i%8)
		if i%5 == 0 {
			e.Method = MethodDR
		}
		return e
	}
	if e.Client[15]%3 == 0 {
		e.Proto = wire.ProtoUDP
	}
	return e
}

func (s *stresser) randomOp(q Query) {
	w := s.w
	switch op := s.rnd.IntN(12); {
	case q.Ref == 0 || op == 0:
		e := s.randomEntry()
		if s.rnd.IntN(3) == 0 {
			tmpl := templateEntry(s.rnd.IntN(8), 50)
			tmpl.Client[14] = 77
			e.Control, _ = w.Insert(&tmpl)
			s.remember(clientQuery(&tmpl), e.Control)
		}
		e.OnePacket = s.rnd.IntN(10) == 0
		ref, _ := w.Insert(&e)
		s.remember(clientQuery(&e), ref)
		if ref != 0 {
			w.Step(ref, DirIn, EventSYN, nil)
		}
	case op == 1:
		w.Expire(q.Ref)
		e := s.randomEntry()
		ref, _ := w.Insert(&e) // may get the memory of the one that ended, if that is reclaimed too early
		s.remember(clientQuery(&e), ref)
	case op == 2:
		if p := w.Conn(q.Ref).Control(); p != 0 {
			if !w.Conn(p).Template() {
				s.t.Errorf("conn %d is controlled by %d, which is no template: %+v", q.Ref, p, w.Conn(p))
			}
			w.Renew(p, Tick(20+s.rnd.IntN(100)))
		}
	default:
		w.Step(q.Ref, q.Dir, Event(s.rnd.IntN(int(numEvent))), nil)
	}
}

// TestIdleWorker: a worker that runs no batches does not keep others from reclaiming
// memory. One with an open batch does, until its End.
func TestIdleWorker(t *testing.T) {
	tab := newTestTable(t, Config{Max: 8, Workers: 3, slack: 8})
	busy, reader := tab.Worker(0), tab.Worker(1)
	cycle := func(i int) bool {
		busy.Begin(Tick(i))
		e := tcpEntry(i)
		ref, _ := busy.Insert(&e)
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
	e := tcpEntry(1000)
	busy.Begin(200)
	ref, _ := busy.Insert(&e)
	busy.End()
	reader.Begin(200)
	if lookup(reader, clientQuery(&e)) != ref {
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
		if q := clientQuery(&e); !reader.Conn(ref).matches(&q, q.ClientPort) {
			t.Fatalf("conn %d was used again in a batch that found it", ref)
		}
	}
	if refused == 0 {
		t.Error("memory was used again all the time though a batch is open")
	}
	reader.End()
	for i := range 50 {
		cycle(2000 + i)
	}
	if !cycle(3000) {
		t.Errorf("conn refused after the batch: %+v", tab.Stats())
	}
	reclaimAll(tab, 4000)
	check(t, tab)
}

// TestMemoryIsShared: one worker can use the memory of another's ended conns. A table
// that is filled again and again touches no more memory than at first.
func TestMemoryIsShared(t *testing.T) {
	const size = 3000
	tab := newTestTable(t, Config{Max: size, Workers: 3, slack: 300})
	touched := uint64(0)
	for round := range 12 {
		w, now := tab.Worker(round%3), Tick(round)*100*Second
		for i := range size - 6*tab.chunkSize { // other workers may have credits
			w.Begin(now)
			f := tcpEntry(i)
			if ref, created := w.Insert(&f); ref == 0 || !created {
				t.Fatalf("round %d: conn %d: %d %v, %+v", round, i, ref, created, tab.Stats())
			}
			w.End()
		}
		runBatches(tab, now+90*Second)
		reclaimAll(tab, now+90*Second)
		check(t, tab)
		if round == 2 {
			touched = tab.firstUnused.Load()
		}
	}
	if s := tab.Stats(); s.InUse != 0 || s.Full != 0 || tab.firstUnused.Load() > touched {
		t.Errorf("after all rounds: %+v, %d conns touched, %d after the first rounds", s, tab.firstUnused.Load(),
			touched)
	}
}

// TestChunkRace has workers return chunks to the common store and take them at the same
// time. No conn may be lost or taken twice.
func TestChunkRace(t *testing.T) {
	tab := newTestTable(t, Config{Max: 64, Workers: 4, slack: 1000})
	onAllWorkers(tab, func(w *Worker) {
		for range rounds(20000) {
			w.takeChunk()
			for w.memory.ready.n < 2*tab.chunkSize && w.memory.unused != w.memory.unusedEnd || w.memory.ready.n == 0 {
				if w.memory.unused == w.memory.unusedEnd {
					if w.takeUnused(); w.memory.unused == w.memory.unusedEnd {
						break
					}
				}
				w.memory.ready.push(tab.conns, w.memory.unused)
				tab.inboxLinks.Items[w.memory.unused].Store(linkEnd)
				w.memory.unused++
			}
			for w.memory.ready.n >= tab.chunkSize {
				w.returnChunk()
			}
		}
	})
	check(t, tab)
}
