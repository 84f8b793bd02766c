package conntrack

import (
	"fmt"
	"testing"

	"uvs/dataplane/wire"
)

// check walks everything in a table that no worker uses, and reports what does not fit
// together: index and conns, bytes of displaced, children, counts of servers, wheels, and
// whether every conn of the slab is in exactly one place.
func check(t testing.TB, tab *Table) {
	t.Helper()
	c := checker{tab: tab, where: make([]string, len(tab.conns))}
	for _, part := range []func() error{c.indexed, c.live, c.counted, c.stored, c.lost} {
		if err := part(); err != nil {
			t.Fatalf("table is broken: %v", err)
		}
	}
}

type checker struct {
	tab   *Table
	where []string // of each conn: the place that has its memory
}

// isIn records the place of a conn, and fails if it was found in another before.
func (k *checker) isIn(ref Ref, place string) error {
	if k.where[ref] != "" {
		return fmt.Errorf("conn %d is in %s and in %s", ref, k.where[ref], place)
	}
	k.where[ref] = place
	return nil
}

// indexed: every slot has a settled conn that belongs there, and no flow has two.
func (k *checker) indexed() error {
	t, flows, replies := k.tab, map[Entry]Ref{}, map[Query]Ref{}
	displaced := map[*bucket]uint64{}
	for i := range t.buckets {
		for j := range t.buckets[i].slots {
			s := slot(t.buckets[i].slots[j].Load())
			if s == 0 {
				continue
			}
			c := &t.conns[s.ref()]
			if s.tentative() || !c.loadStateWord().listed() {
				return fmt.Errorf("slot %#x has a conn that is not settled (word %#x)", uint64(s), c.stateWord.Load())
			}
			hash := t.hashOf(c)
			if c.overflowed() {
				first := hash
				if hash = t.flowOverflow(c, first); s != newSlot(s.ref(), hash) && c.translatesReplies() {
					hash = t.replyOverflow(c, first)
				} else {
					displaced[t.at(first, 0)] += 1 << overflowShift
				}
			}
			if s != newSlot(s.ref(), hash) {
				return fmt.Errorf("slot %#x should have tag %#x", uint64(s), uint64(tagOf(hash)))
			}
			place := k.placeOf(hash, i)
			if place < 0 {
				return fmt.Errorf("conn %d stands in bucket %d, which is not in its window", s.ref(), i)
			}
			if place > 0 {
				displaced[t.at(hash, 0)] += displacedByte(place)
			}
			if c.translatesReplies() {
				key := Query{
					Client: c.client, ClientPort: c.clientPort, Peer: c.server, PeerPort: c.sport, Proto: c.proto,
				}
				if other := replies[key]; other != 0 && other != s.ref() {
					return fmt.Errorf("conns %d and %d have the same replies: %+v", other, s.ref(), key)
				}
				replies[key] = s.ref()
			}
			if c.overflowed() && hash != t.flowOverflow(c, t.hashOf(c)) {
				continue // the slot for replies
			}
			key := Entry{
				Client: c.client, ClientPort: c.clientPort, VIP: c.vip, VPort: c.vport, Proto: c.proto,
				Template: c.Template(), NoClientPort: c.NoClientPort(),
			}
			if c.kind&kindNoServerPort != 0 {
				key.NoServerPort, key.VIP, key.VPort, key.Server = true, wire.Addr{}, 0, c.server
			}
			if other, twice := flows[key]; twice {
				return fmt.Errorf("conns %d and %d are of one flow: %+v", other, s.ref(), key)
			}
			flows[key] = s.ref()
		}
	}
	for i := range t.buckets {
		if b := &t.buckets[i]; b.displaced.Load() != displaced[b] {
			return fmt.Errorf("bucket %d counts %#x conns displaced, found %#x", i, b.displaced.Load(), displaced[b])
		}
	}
	return nil
}

func (k *checker) placeOf(hash uint64, bucket int) int {
	for place := range places {
		if k.tab.at(hash, place) == &k.tab.buckets[bucket] {
			return place
		}
	}
	return -1
}

// live: every live conn is found, and has as many children as it counts.
func (k *checker) live() error {
	t := k.tab
	children := map[Ref]int{}
	for ref := Ref(1); ref < Ref(t.firstUnused.Load()); ref++ {
		c := &t.conns[ref]
		if !c.loadStateWord().live() {
			continue
		}
		if c.control != 0 {
			children[c.control]++
		}
		q := Query{
			Client: c.client, Peer: c.vip, PeerPort: c.vport, Proto: c.proto, kind: c.kind & kindLookup,
			Dir: DirIn,
		}
		if c.kind&kindNoServerPort != 0 {
			q.Dir, q.Peer = DirOut, c.server
		}
		if found := t.find(&q, t.hashOf(c), c.clientPort); !c.OnePacket() && found != ref {
			return fmt.Errorf("conn %d is live, its flow finds %d", ref, found)
		}
		q.Dir, q.Peer, q.PeerPort = DirOut, c.server, c.sport
		if found := t.find(&q, t.hashOf(c), c.clientPort); c.translatesReplies() && !c.OnePacket() && found != ref {
			return fmt.Errorf("conn %d is live, its replies find %d", ref, found)
		}
	}
	for ref := Ref(1); ref < Ref(t.firstUnused.Load()); ref++ {
		if c := &t.conns[ref]; c.loadStateWord().live() && c.Children() != children[ref] {
			return fmt.Errorf("conn %d counts %d children, found %d", ref, c.Children(), children[ref])
		}
	}
	return nil
}

// counted: the counts of servers and of the table are those of the live conns.
func (k *checker) counted() error {
	t := k.tab
	want := make([][3]int32, len(t.counts))
	inUse, second, expected, sessions := int64(0), int64(0), int64(0), int64(0)
	for ref := Ref(1); ref < Ref(t.firstUnused.Load()); ref++ {
		c := &t.conns[ref]
		if !c.loadStateWord().live() {
			continue
		}
		inUse++
		if c.hasSecondSlot() {
			second++
		}
		if c.Expectation() {
			expected++
		}
		if n := c.session(); n != 0 {
			sessions++
			if word := t.sessions.words[n].Load(); word != uint64(ref)<<sessionShift {
				return fmt.Errorf("conn %d has session %d, whose word is %#x", ref, n, word)
			}
		}
		word := &want[c.ServerID()]
		switch {
		case c.Template():
			word[2]++
		case c.State().Active():
			word[0]++
		default:
			word[1]++
		}
	}
	for id := range want {
		n := t.Counts(uint32(id))
		if got := [3]int32{n.Active.Load(), n.Inactive.Load(), n.Templates.Load()}; got != want[id] {
			return fmt.Errorf("server %d counts %v active, inactive, templates; found %v", id, got, want[id])
		}
	}
	if got := t.secondSlots.Load(); got != second {
		return fmt.Errorf("table counts %d second slots, found %d", got, second)
	}
	credits := max(second-int64(t.max/freeSecondSlots), 0) + t.credits.Load() + int64(t.external.credits)
	for i := range t.workers {
		credits += int64(t.workers[i].credits)
	}
	if got := t.Stats().InUse; got != inUse || credits+inUse != int64(t.max) || t.expectations.Load() != expected ||
		t.sessions.inUse.Load() != sessions {
		return fmt.Errorf("table counts %d conns and %d credits of %d, "+
			"%d expectations, %d sessions; found %d, %d and %d",
			got, credits, t.max, t.expectations.Load(), t.sessions.inUse.Load(), inUse, expected, sessions)
	}
	return nil
}

// stored: follows every list of conns.
func (k *checker) stored() error {
	t := k.tab
	for i := range t.workers {
		w := &t.workers[i]
		if w.pending != 0 || w.inbox.Load() != 0 {
			return fmt.Errorf("worker %d has conns in its inbox", i)
		}
		if err := k.wheel(w); err != nil {
			return err
		}
		lists := []list{w.memory.ready}
		for _, b := range w.memory.limbo {
			lists = append(lists, b.list)
		}
		for _, q := range lists {
			n := 0
			for ref := q.head; n < q.n; ref, n = t.conns[ref].next, n+1 {
				if err := k.isIn(ref, "a list of free conns"); err != nil {
					return err
				}
			}
		}
		for ref := w.memory.unused; ref < w.memory.unusedEnd; ref++ {
			if err := k.isIn(ref, "a part never used"); err != nil {
				return err
			}
		}
	}
	for first := uint32(t.chunks.Load()); first != 0 && first != linkEnd; first = t.inboxLinks.Items[first].Load() {
		for ref := Ref(first); ref != 0; ref = t.conns[ref].next {
			if err := k.isIn(ref, "the common store"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *checker) wheel(w *Worker) error {
	count := 0
	for slot, head := range w.wheel.heads {
		before := inSlot | uint32(slot)
		for ref := head; ref != 0; ref = k.tab.conns[ref].next {
			c := &k.tab.conns[ref]
			if c.prev != before || c.worker() != w.id {
				return fmt.Errorf("conn %d of worker %d in slot %d of worker %d has prev %#x, want %#x",
					ref, c.worker(), slot, w.id, c.prev, before)
			}
			if err := k.isIn(ref, "a wheel"); err != nil {
				return err
			}
			before = uint32(ref)
			count++
		}
	}
	if count != w.wheel.count {
		return fmt.Errorf("wheel of worker %d counts %d conns, found %d", w.id, w.wheel.count, count)
	}
	return nil
}

// lost: every conn ever used is in one place, the live ones in a wheel. Ended conns
// that wait for their children may be in none.
func (k *checker) lost() error {
	for ref := Ref(1); ref < Ref(k.tab.firstUnused.Load()); ref++ {
		c := &k.tab.conns[ref]
		switch {
		case c.loadStateWord().live() && k.where[ref] != "a wheel":
			return fmt.Errorf("conn %d is live and in %q", ref, k.where[ref])
		case k.where[ref] == "" && c.Children() == 0:
			return fmt.Errorf("conn %d is lost (state word %#x)", ref, c.stateWord.Load())
		}
	}
	return nil
}
