package conntrack

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/puzpuzpuz/xsync/v4"

	"uvs/dataplane/wire"
)

// benchTable is a table with conns of clients 0 to n-1. Benchmarks that want the same n
// share it.
type benchTable struct {
	*Table
	n int
}

var benchTables sync.Map // int: *benchTable

func filledTable(b *testing.B, n, workers int) *benchTable {
	b.Helper()
	key := [2]int{n, workers}
	if t, ok := benchTables.Load(key); ok {
		return t.(*benchTable)
	}
	benchTables.Range(func(k, t any) bool { // one at a time: they are large
		t.(*benchTable).Close()
		benchTables.Delete(k)
		return true
	})
	t, err := NewTable(Config{Max: n, Workers: workers, ServerIDs: 64})
	if err != nil {
		b.Fatal(err)
	}
	w := t.Worker(0)
	for i := 0; i < n; {
		w.Begin(1000)
		for end := min(i+64, n); i < end; i++ {
			flow := udpEntry(uint64(i))
			if ref, _ := w.Insert(&flow); ref == 0 {
				b.Fatalf("conn %d of %d refused", i, n)
			}
		}
		w.End()
	}
	bt := &benchTable{t, n}
	benchTables.Store(key, bt)
	return bt
}

// udpEntry returns the UDP conn of client i.
func udpEntry(i uint64) Entry {
	return Entry{
		Client: clientAddr(i), ClientPort: uint16(i), VIP: v4(9, 1), VPort: 53,
		Server: v4(1, 1), SPort: 53, Proto: wire.ProtoUDP, ServerID: 1,
	}
}

func clientAddr(i uint64) (a wire.Addr) {
	a[10], a[11] = 0xff, 0xff
	binary.BigEndian.PutUint32(a[12:], uint32(i))
	return a
}

func setClient(q *Query, i uint64) {
	q.Client, q.ClientPort = clientAddr(i), uint16(i)
}

func newQueries() []Query {
	q := make([]Query, 64)
	for i := range q {
		q[i] = Query{Peer: v4(9, 1), PeerPort: 53, Proto: wire.ProtoUDP, Dir: DirIn}
	}
	return q
}

// xorshift is random enough to defeat caches and costs a nanosecond.
type xorshift uint64

func (x *xorshift) next() uint64 {
	*x ^= *x << 13
	*x ^= *x >> 7
	*x ^= *x << 17
	return uint64(*x)
}

// lookups looks up random conns, count in all, in batches.
func (t *benchTable) lookups(worker, count, batch int) (missed int) {
	w, q, rnd := t.Worker(worker), newQueries(), xorshift(worker+1)<<32
	for done := 0; done < count; done += len(q) {
		for i := range q {
			setClient(&q[i], rnd.next()%uint64(t.n))
		}
		w.Begin(1000)
		for i := 0; i < len(q); i += batch {
			w.Lookup(q[i : i+batch])
		}
		w.End()
		for i := range q {
			if q[i].Ref == 0 {
				missed++
			}
		}
	}
	return missed
}

// BenchmarkLookup looks up random conns of a table with 1 million and one with
// 10 million, in batches of 64 and one by one.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1e6, 1e7} {
		for _, batch := range []int{64, 1} {
			b.Run(fmt.Sprintf("conns=%d/batch=%d", n, batch), func(b *testing.B) {
				t := filledTable(b, n, 1)
				b.ResetTimer()
				if missed := t.lookups(0, b.N, batch); missed > 0 {
					b.Fatalf("%d of %d not found", missed, b.N)
				}
			})
		}
	}
}

// BenchmarkLookupWorkers has one worker, and two, look up in the same table. The time is
// that of one lookup by all workers together.
func BenchmarkLookupWorkers(b *testing.B) {
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			t := filledTable(b, 1e6, 2)
			b.ResetTimer()
			var wg sync.WaitGroup
			for worker := range workers {
				wg.Go(func() { t.lookups(worker, b.N/workers, 64) })
			}
			wg.Wait()
		})
	}
}

// BenchmarkInsertExpire inserts conns into a table of a million while as many expire. One
// operation is one of each, with the lookup that misses and the step of the first
// packet, as the director does it.
func BenchmarkInsertExpire(b *testing.B) {
	const live, perBatch = 1_000_000, 64
	t, err := NewTable(Config{Max: live * 3 / 2, ServerIDs: 64})
	if err != nil {
		b.Fatal(err)
	}
	defer t.Close()
	s := DefaultSettings()
	s.Timeouts[UDPNormal] = live / perBatch // a batch each millisecond
	t.SetSettings(s)
	w, q, now, next := t.Worker(0), newQueries(), Tick(1000), uint64(0)
	run := func(count int) {
		for end := next + uint64(count); next < end; now++ {
			w.Begin(now)
			for i := range q {
				setClient(&q[i], (next+uint64(i))*0x9e3779b1) // clients in no order
			}
			w.Lookup(q)
			for range q {
				flow := udpEntry(next * 0x9e3779b1)
				next++
				ref, _ := w.Insert(&flow)
				w.Step(ref, DirIn, EventData, nil)
			}
			w.End()
		}
	}
	run(2 * live)
	b.ResetTimer()
	run(b.N)
	b.StopTimer()
	if got := t.Stats().InUse; got < live*9/10 || got > live*11/10 {
		b.Fatalf("%d conns live, want about %d", got, live)
	}
}

// BenchmarkStep steps conns, random ones of a million.
func BenchmarkStep(b *testing.B) {
	t := filledTable(b, 1e6, 1)
	w, q, rnd := t.Worker(0), newQueries(), xorshift(1)
	now := Tick(1000)
	for done := 0; done < b.N; done += len(q) {
		for i := range q {
			setClient(&q[i], rnd.next()%uint64(t.n))
		}
		now++
		w.Begin(now)
		w.Lookup(q)
		for i := range q {
			w.Step(q[i].Ref, DirIn, EventData, nil)
		}
		w.End()
	}
}

// BenchmarkDueAtOnce has 5 million conns due at the same moment. It reports the time to
// end one, and the mean and longest batch until all are gone. Each batch looks up other
// conns as well.
func BenchmarkDueAtOnce(b *testing.B) {
	const due, kept = 5_000_000, 64
	for range b.N {
		b.StopTimer()
		t, err := NewTable(Config{Max: due + kept, ServerIDs: 64})
		if err != nil {
			b.Fatal(err)
		}
		w, q := t.Worker(0), newQueries()
		long := IPVSTimeouts()
		long[UDPNormal] = MaxTimeout
		for i := 0; i < due+kept; {
			w.Begin(1000)
			for end := min(i+64, due+kept); i < end; i++ {
				flow := udpEntry(uint64(i) * 0x9e3779b1)
				ref, _ := w.Insert(&flow)
				if i >= due {
					setClient(&q[i-due], uint64(i)*0x9e3779b1)
					w.Step(ref, DirIn, EventData, &long)
				} else {
					w.Step(ref, DirIn, EventData, nil)
				}
			}
			w.End()
		}
		longest, batches := time.Duration(0), 0
		b.StartTimer()
		for begun := time.Now(); t.Stats().InUse > kept; batches++ {
			w.Begin(400 * Second)
			w.Lookup(q)
			for i := range q {
				w.Step(q[i].Ref, DirIn, EventData, &long)
			}
			w.End()
			now := time.Now()
			longest, begun = max(longest, now.Sub(begun)), now
		}
		b.ReportMetric(float64(longest.Nanoseconds()), "ns-longest-batch")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(batches), "ns/batch")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/due, "ns/conn")
		t.Close()
	}
}

// BenchmarkRivals looks up the same random flows in Go's map, in sync.Map, in xsync's
// concurrent map and in this table, to compare them.
func BenchmarkRivals(b *testing.B) {
	const n = 1e6
	type key struct {
		client, vip wire.Addr
		cport, port uint16
		proto       uint8
	}
	keyOf := func(i uint64) key {
		return key{clientAddr(i), v4(9, 1), uint16(i), 53, wire.ProtoUDP}
	}
	b.Run("table", func(b *testing.B) {
		t := filledTable(b, n, 1)
		b.ResetTimer()
		t.lookups(0, b.N, 64)
	})
	b.Run("map", func(b *testing.B) {
		m, rnd := make(map[key]*Conn, int(n)), xorshift(1)
		for i := range uint64(n) {
			m[keyOf(i)] = new(Conn)
		}
		b.ResetTimer()
		for range b.N {
			if m[keyOf(rnd.next()%n)].proto != 0 {
				b.Fatal("not empty")
			}
		}
	})
	b.Run("sync.Map", func(b *testing.B) {
		var m sync.Map
		rnd := xorshift(1)
		for i := range uint64(n) {
			m.Store(keyOf(i), new(Conn))
		}
		b.ResetTimer()
		for range b.N {
			if c, _ := m.Load(keyOf(rnd.next() % n)); c.(*Conn).proto != 0 {
				b.Fatal("not empty")
			}
		}
	})
	b.Run("xsync", func(b *testing.B) {
		m, rnd := xsync.NewMap[key, *Conn](), xorshift(1)
		for i := range uint64(n) {
			m.Store(keyOf(i), new(Conn))
		}
		b.ResetTimer()
		for range b.N {
			if c, _ := m.Load(keyOf(rnd.next() % n)); c.proto != 0 {
				b.Fatal("not empty")
			}
		}
	})
}

// BenchmarkMemory fills a table with 10 million conns. It reports how much the process
// grew for each, and how long a garbage collection takes then.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{10, 1e7} {
		b.Run(fmt.Sprintf("conns=%d", n), func(b *testing.B) {
			benchTables.Range(func(k, t any) bool {
				t.(*benchTable).Close()
				benchTables.Delete(k)
				return true
			})
			runtime.GC()
			before := residentBytes(b)
			filledTable(b, n, 1)
			grown := residentBytes(b) - before
			var m0, m1 runtime.MemStats
			runtime.ReadMemStats(&m0)
			b.ResetTimer()
			for range b.N {
				runtime.GC()
			}
			b.StopTimer()
			runtime.ReadMemStats(&m1)
			b.ReportMetric(float64(grown)/float64(n), "B/conn")
			b.ReportMetric(float64(m1.HeapAlloc), "heap-B")
			b.ReportMetric(float64(m1.PauseTotalNs-m0.PauseTotalNs)/float64(b.N), "ns-pause/op")
		})
	}
}

// residentBytes returns the process's resident set, second field of
// /proc/self/statm in pages (proc_pid_statm(5)).
func residentBytes(tb testing.TB) int {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Skip(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(raw))[1])
	if err != nil {
		tb.Fatal(err)
	}
	return pages * os.Getpagesize()
}
