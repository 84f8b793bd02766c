package frag

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
)

// The ranges of a datagram against a bool for each of its bytes: both call the
// same fragments new, duplicate or overlapping, until the datagram is refused.
func TestRangesAgainstBytes(t *testing.T) {
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var r ranges
		var seen [512]bool
		total, scattered := 0, false
		length := 8 * (2 + rng.IntN(40))
		for range 60 {
			x := Range{Start: 8 * rng.IntN(length/8+2)}
			if x.End = x.Start + 8*(1+rng.IntN(4)); x.Start < length && rng.IntN(4) > 0 {
				x.End = min(x.End, length)
			}
			x.Last = x.End >= length && rng.IntN(8) > 0
			some, all := false, true
			for i := x.Start; i < x.End; i++ {
				some, all = some || seen[i], all && seen[i]
			}
			beyond := false
			for i := x.End; i < len(seen); i++ {
				beyond = beyond || seen[i]
			}
			want := OK
			switch {
			case all:
				want = Duplicate
			case some, total != 0 && (x.End > total || x.Last), x.Last && beyond:
				want = Overlap
			}
			got := r.add(x)
			if got == TooManyGaps && want == OK && r.n == maxRanges {
				scattered = true
				break
			}
			if got != want {
				t.Fatalf("seed %d: %+v is %d to %+v, want %d", seed, x, got, r, want)
			}
			if got == Overlap {
				break
			}
			if got == OK {
				for i := x.Start; i < x.End; i++ {
					seen[i] = true
				}
				if x.Last {
					total = x.End
				}
			}
		}
		whole := total > 0 && !scattered
		for i := range total {
			whole = whole && seen[i]
		}
		if r.complete() != whole {
			t.Fatalf("seed %d: whole is %t, want %t: %+v", seed, r.complete(), whole, r)
		}
	}
}

// Up to sixteen fragments are tracked to the end in every order, because they leave
// at most eight gaps.
func TestRangesInEveryOrder(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		n := 1 + rng.IntN(16)
		var r ranges
		for _, i := range rng.Perm(n) {
			if result := r.add(Range{Start: 1480 * i, End: 1480 * (i + 1), Last: i == n-1}); result != OK {
				t.Fatalf("seed %d: fragment %d of %d: %d", seed, i, n, result)
			}
		}
		if !r.complete() {
			t.Fatalf("seed %d: %d fragments are not complete: %+v", seed, n, r)
		}
	}
}

// queued is a fragment as the slow twin of a Queue keeps it.
type queued struct {
	key      Key
	deadline conntrack.Tick
	bytes    []byte
}

// A Queue against a list. What is popped was pushed, the oldest of its datagram
// first. What the list has and the queue has not was evicted or expired, and is
// older than all that the queue has. Limits are kept.
func TestQueueAgainstList(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		tab := New(1, 0)
		q := tab.Queue(ForFirst, 0)
		limits := Limits{Timeout: 100, Bytes: 1 << (14 + rng.IntN(7)), Source: 1 << 13}
		var twin []queued
		now, pushed, popped := conntrack.Tick(0), 0, 0
		for range 4000 {
			now += conntrack.Tick(rng.IntN(2))
			key := Key{ID: uint32(rng.IntN(40)), Proto: 17}
			key.Src[15] = byte(rng.IntN(20))
			switch rng.IntN(4) {
			case 0, 1:
				b := make([]byte, wire.Headroom+34+rng.IntN(1500))
				binary.BigEndian.PutUint64(b[len(b)-8:], rng.Uint64())
				f := wire.Frame{Buf: b, Off: wire.Headroom, End: int32(len(b)), In: uint16(key.Src[15])}
				if q.Push(&f, &key, now, &limits) {
					twin = append(twin, queued{key, now + limits.Timeout, bytes.Clone(f.Bytes())})
					pushed++
				}
			case 2:
				q.Expire(now)
			case 3:
				var f wire.Frame
				if !q.Pop(&f, &key) {
					continue
				}
				popped++
				i := 0
				for ; i < len(twin); i++ {
					if twin[i].key == key && bytes.Equal(twin[i].bytes, f.Bytes()) {
						break
					}
				}
				if i == len(twin) || f.In != uint16(key.Src[15]) || f.Off != wire.Headroom {
					t.Fatalf("seed %d: popped what was never pushed: %+v", seed, f)
				}
				for _, older := range twin[:i] { // all of them are gone
					if older.key == key {
						twin[i].deadline = min(twin[i].deadline, older.deadline)
					}
				}
				twin = append(twin[:i], twin[i+1:]...)
			}
			used := 0
			for n := q.tail; n != q.head; n++ {
				used += int(q.entry(n).size)
			}
			if used > limits.Bytes || uint64(used) != q.write-q.start {
				t.Fatalf("seed %d: %d bytes are queued of %d, %d by its own account", seed, used, limits.Bytes,
					q.write-q.start)
			}
			for i := range q.sources {
				if int(q.sources[i]) > limits.Source+4096 {
					t.Fatalf("seed %d: %d bytes are queued of one source, want %d", seed, q.sources[i], limits.Source)
				}
			}
		}
		s := tab.Stats(ForFirst)
		if got := int(s.Waiting) + int(s.Expired) + int(s.Evicted) + popped; got != pushed {
			t.Errorf("seed %d: %d pushed, %d accounted for: %+v and %d popped", seed, pushed, got, s, popped)
		}
		for q.Len() > 0 {
			q.removeOldest()
		}
		for i := range q.sources {
			if q.sources[i] != 0 {
				t.Fatalf("seed %d: an empty queue has %d bytes of a source", seed, q.sources[i])
			}
		}
		for i := range q.lists {
			if q.lists[i] != (list{}) {
				t.Fatalf("seed %d: a list is left in an empty queue", seed)
			}
		}
	}
}

// Workers that use the same flows see complete flows only, and each fragment of a
// datagram is new to exactly one of them.
func TestFlowsOfManyWorkers(t *testing.T) {
	const workers, datagrams, fragments = 4, 500, 12
	const now = 1
	tab := New(workers, 0)
	var isNew [workers]int
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 3))
			for d := range datagrams {
				key := Key{ID: uint32(d)}
				binary.BigEndian.PutUint32(key.Src[12:], uint32(d))
				port := uint16(d)
				if tab.Begin(&key, Range{End: 8}, now, conntrack.Second) == OK {
					isNew[w]++
				}
				tab.Finish(&key, Flow{Disposition: Forward, SrcPort: port, DstPort: ^port, Server: uint32(port) * 3},
					now)
				for range fragments {
					i := 1 + rng.IntN(fragments)
					flow, result := tab.Follow(&key, Range{Start: 8 * i, End: 8*i + 8}, now)
					if result == OK {
						isNew[w]++
					}
					if result != NoFlow && (flow.SrcPort != port || flow.DstPort != ^port ||
						flow.Server != uint32(port)*3) {
						t.Errorf("datagram %d has the flow %+v", d, flow)
					}
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range isNew {
		sum += n
	}
	tracked := 0
	for i := range tab.sets {
		for j := range tab.sets[i].flows {
			d := &tab.sets[i].flows[j]
			for _, r := range d.ranges.list[:d.ranges.n] {
				tracked += int(r.end-r.start) / 8
			}
		}
	}
	if n := tab.EvictedFlows(); n != 0 || sum != tracked || sum < datagrams*fragments/2 {
		t.Errorf("%d fragments were new to a worker, %d are in the flows; %d flows were evicted", sum, tracked, n)
	}
}

// A source that begins datagrams without end evicts its own flows and those of few
// others; nearly all others stay.
func TestFlowsOfOneSource(t *testing.T) {
	tab := New(1, 0)
	const others, now = 1000, 1
	honest := func(i int) *Key {
		key := Key{ID: uint32(i), Proto: 17}
		binary.BigEndian.PutUint32(key.Src[12:], uint32(i))
		return &key
	}
	for i := range others {
		tab.Begin(honest(i), Range{End: 8}, now, 5*conntrack.Second)
		tab.Finish(honest(i), Flow{Disposition: Forward}, now)
	}
	for i := range 100_000 {
		key := &Key{ID: uint32(i), Src: wire.Addr{1}}
		tab.Begin(key, Range{End: 8}, now, 5*conntrack.Second)
		tab.Finish(key, Flow{Disposition: Forward}, now)
	}
	own := 0
	for i := range 100_000 { // the newest are left
		if tab.Decided(&Key{ID: uint32(i), Src: wire.Addr{1}}, now) {
			own++
		}
	}
	if own != sourceSets*setFlows {
		t.Errorf("the source has %d flows, want %d", own, sourceSets*setFlows)
	}
	lost := 0
	for i := range others {
		if !tab.Decided(honest(i), now) {
			lost++
		}
	}
	if lost > others/50 {
		t.Errorf("one source evicted the flows of %d of %d others", lost, others)
	}
}

// Fragments cost no allocation.
func TestAllocations(t *testing.T) {
	tab := New(1, 0)
	q := tab.Queue(ForFirst, 0)
	f := wire.Frame{Buf: make([]byte, 1600), Off: 96, End: 1600}
	limits := &Limits{Timeout: conntrack.Second, Bytes: MaxQueue, Source: MaxQueue}
	key := Key{Proto: 17}
	if got := testing.AllocsPerRun(1000, func() {
		key.ID++
		now := conntrack.Tick(key.ID)
		tab.Begin(&key, Range{End: 8}, now, conntrack.Second)
		tab.Finish(&key, Flow{Disposition: Forward}, now)
		q.Push(&f, &key, now, limits)
		q.Next()
		q.Expire(now)
		tab.Decided(&key, now)
		tab.Follow(&key, Range{Start: 8, End: 16}, now)
		var out wire.Frame
		q.Pop(&out, &key)
	}); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

// Memory counts the places that New makes. On machines of 32 bits some are smaller.
func TestMemory(t *testing.T) {
	size := func(v any) int64 { return int64(reflect.TypeOf(v).Elem().Size()) }
	tab := New(1, 0)
	q := tab.Queue(ForFirst, 0)
	queue := size(q.bytes)*int64(len(q.bytes)) + size(q.entries)*int64(len(q.entries)) +
		size(q.lists)*int64(len(q.lists)) + size(q.sources)*int64(len(q.sources))
	want := size(tab.sets)*int64(len(tab.sets)) + int64(numUse)*queue
	if got := Memory(1); got < want || got > want+want/20 {
		t.Errorf("%d bytes, want %d", got, want)
	}
}
