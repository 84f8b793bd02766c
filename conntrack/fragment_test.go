package conntrack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"uvs/dataplane/wire"
)

// What runs keep in mind against one byte of memory for every byte of the
// datagram: the same is new, twice or overlapping, until a datagram is refused.
func TestRunsAgainstBytes(t *testing.T) {
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var r runs
		var seen [512]bool
		total, scattered := 0, false
		length := 8 * (2 + rng.IntN(40))
		for range 60 {
			x := Extent{Start: 8 * rng.IntN(length/8+2)}
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
			want := FitNew
			switch {
			case all:
				want = FitTwice
			case some, total != 0 && (x.End > total || x.Last), x.Last && beyond:
				want = FitOverlap
			}
			got := r.add(x)
			if got == FitScattered && want == FitNew && r.n == maxRuns {
				scattered = true
				break
			}
			if got != want {
				t.Fatalf("seed %d: %+v is %d to %+v, want %d", seed, x, got, r, want)
			}
			if got == FitOverlap {
				break
			}
			if got == FitNew {
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
		if r.whole() != whole {
			t.Fatalf("seed %d: whole is %t, want %t: %+v", seed, r.whole(), whole, r)
		}
	}
}

// Any order of up to sixteen pieces, and any of more that does not leave more
// than eight gaps, is followed to the end.
func TestRunsFollowEveryOrder(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		n := 1 + rng.IntN(16)
		var r runs
		for _, i := range rng.Perm(n) {
			if fit := r.add(Extent{Start: 1480 * i, End: 1480 * (i + 1), Last: i == n-1}); fit != FitNew {
				t.Fatalf("seed %d: piece %d of %d: %d", seed, i, n, fit)
			}
		}
		if !r.whole() {
			t.Fatalf("seed %d: %d pieces are not the whole: %+v", seed, n, r)
		}
	}
}

// heldTwin is a fragment as the slow twin of a Hold keeps it.
type heldTwin struct {
	key   FragmentKey
	until Tick
	bytes []byte
}

// A Hold against a list: what is taken out is what was put in, oldest of its
// datagram first; what the list has and the hold has not was displaced or
// expired, and is older than all the hold has; limits are kept.
func TestHoldAgainstList(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		tab := newTest(t, Config{Max: 16})
		h := tab.Worker(0).Hold()
		limits := HoldLimits{Time: 100, Bytes: 1 << (14 + rng.IntN(7)), Source: 1 << 13}
		var list []heldTwin
		now, added, taken := Tick(0), 0, 0
		for range 4000 {
			now += Tick(rng.IntN(2))
			key := FragmentKey{ID: uint32(rng.IntN(40)), Proto: 17}
			key.Src[15] = byte(rng.IntN(20))
			switch rng.IntN(4) {
			case 0, 1:
				b := make([]byte, wire.Headroom+34+rng.IntN(1500))
				binary.BigEndian.PutUint64(b[len(b)-8:], rng.Uint64())
				f := wire.Frame{Buf: b, Off: wire.Headroom, End: int32(len(b)), In: uint16(key.Src[15])}
				if h.Add(&f, &key, now, &limits) {
					list = append(list, heldTwin{key, now + limits.Time, bytes.Clone(f.Bytes())})
					added++
				}
			case 2:
				h.Expire(now)
			case 3:
				var f wire.Frame
				if !h.Take(&f, &key) {
					continue
				}
				taken++
				i := 0
				for ; i < len(list); i++ {
					if list[i].key == key && bytes.Equal(list[i].bytes, f.Bytes()) {
						break
					}
				}
				if i == len(list) || f.In != uint16(key.Src[15]) || f.Off != wire.Headroom {
					t.Fatalf("seed %d: took what was never put in: %+v", seed, f)
				}
				for _, older := range list[:i] { // left, all of them
					if older.key == key {
						list[i].until = min(list[i].until, older.until)
					}
				}
				list = append(list[:i], list[i+1:]...)
			}
			used := 0
			for n := h.tail; n != h.head; n++ {
				used += int(h.record(n).size)
			}
			if used > limits.Bytes || uint64(used) != h.write-h.start {
				t.Fatalf("seed %d: %d bytes are held of %d, %d by its own account", seed, used, limits.Bytes, h.write-h.start)
			}
			for i := range h.sources {
				if int(h.sources[i]) > limits.Source+4096 {
					t.Fatalf("seed %d: %d bytes are held of one source, want %d", seed, h.sources[i], limits.Source)
				}
			}
		}
		s := tab.Fragments()
		if got := int(s.Held) + int(s.Expired) + int(s.Displaced) + taken; got != added {
			t.Errorf("seed %d: %d held, %d accounted for: %+v and %d taken", seed, added, got, s, taken)
		}
		for h.Len() > 0 {
			h.displace()
		}
		for i := range h.sources {
			if h.sources[i] != 0 {
				t.Fatalf("seed %d: %d bytes of a source are held in an empty hold", seed, h.sources[i])
			}
		}
		for i := range h.lists {
			if h.lists[i] != (heldList{}) {
				t.Fatalf("seed %d: a list is left in an empty hold", seed)
			}
		}
	}
}

// Workers that meet in the same notes see whole notes only, and of the
// fragments of a datagram each is new to exactly one of them.
func TestNotesOfManyWorkers(t *testing.T) {
	const workers, datagrams, pieces = 4, 500, 12
	tab := newTest(t, Config{Max: 16, Workers: workers})
	var fresh [workers]int
	var wg sync.WaitGroup
	for w := range workers {
		l := tab.Worker(w)
		l.Begin(1)
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 3))
			for d := range datagrams {
				key := FragmentKey{ID: uint32(d)}
				binary.BigEndian.PutUint32(key.Src[12:], uint32(d))
				port := uint16(d)
				if l.OpenNote(&key, Extent{End: 8}, Second) == FitNew {
					fresh[w]++
				}
				l.CloseNote(&key, Note{Fate: FateFollowed, SrcPort: port, DstPort: ^port, Server: uint32(port) * 3})
				for range pieces {
					i := 1 + rng.IntN(pieces)
					note, fit := l.FollowNote(&key, Extent{Start: 8 * i, End: 8*i + 8})
					if fit == FitNew {
						fresh[w]++
					}
					if fit != FitNone && (note.SrcPort != port || note.DstPort != ^port || note.Server != uint32(port)*3) {
						t.Errorf("datagram %d has the note %+v", d, note)
					}
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range fresh {
		sum += n
	}
	held := 0
	for i := range tab.notes.sets.Items {
		for j := range tab.notes.sets.Items[i].notes {
			n := &tab.notes.sets.Items[i].notes[j]
			for _, r := range n.runs.list[:n.runs.n] {
				held += int(r.end-r.start) / 8
			}
		}
	}
	if n := tab.Fragments().Forgotten; n != 0 || sum != held || sum < datagrams*pieces/2 {
		t.Errorf("%d pieces were new to somebody, %d are in the notes; %d notes were displaced", sum, held, n)
	}
}

// A source that begins datagrams without end displaces its own notes and those
// of few others; nearly all others stay.
func TestNotesOfOneSource(t *testing.T) {
	tab := newTest(t, Config{Max: 16})
	l := tab.Worker(0)
	l.Begin(1)
	const others = 1000
	honest := func(i int) *FragmentKey {
		key := FragmentKey{ID: uint32(i), Proto: 17}
		binary.BigEndian.PutUint32(key.Src[12:], uint32(i))
		return &key
	}
	for i := range others {
		l.OpenNote(honest(i), Extent{End: 8}, 5*Second)
		l.CloseNote(honest(i), Note{Fate: FateFollowed})
	}
	for i := range 100_000 {
		key := &FragmentKey{ID: uint32(i), Src: wire.Addr{1}}
		l.OpenNote(key, Extent{End: 8}, 5*Second)
		l.CloseNote(key, Note{Fate: FateFollowed})
	}
	own := 0
	for i := range 100_000 { // of which the newest are left
		if l.HasNote(&FragmentKey{ID: uint32(i), Src: wire.Addr{1}}) {
			own++
		}
	}
	if own != sourceSets*noteWays {
		t.Errorf("the source has %d notes, want %d", own, sourceSets*noteWays)
	}
	lost := 0
	for i := range others {
		if !l.HasNote(honest(i)) {
			lost++
		}
	}
	if lost > others/50 {
		t.Errorf("one source displaced the notes of %d of %d others", lost, others)
	}
}

// Fragments cost no allocation.
func TestFragmentAllocations(t *testing.T) {
	tab := newTest(t, Config{Max: 16})
	l := tab.Worker(0)
	f := wire.Frame{Buf: make([]byte, 1600), Off: 96, End: 1600}
	limits := &HoldLimits{Time: Second, Bytes: MaxHold, Source: MaxHold}
	key := FragmentKey{Proto: 17}
	if got := testing.AllocsPerRun(1000, func() {
		key.ID++
		l.Begin(Tick(key.ID))
		l.OpenNote(&key, Extent{End: 8}, Second)
		l.CloseNote(&key, Note{Fate: FateFollowed})
		l.Hold().Add(&f, &key, l.now, limits)
		l.Hold().Next()
		l.Hold().Expire(l.now)
		l.HasNote(&key)
		l.FollowNote(&key, Extent{Start: 8, End: 16})
		var out wire.Frame
		l.Hold().Take(&out, &key)
		l.End()
	}); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}
