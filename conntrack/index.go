package conntrack

import (
	"math/bits"
	"sync/atomic"
)

// The index finds a conn by the hash of protocol, client address and client port. One
// lookup with hash h:
//
//	bucket home(h): one cache line of seven slots and eight bytes
//	+------+------+------+------+------+------+------+---------------+
//	| slot | slot | slot | slot | slot | slot | slot |     away      |
//	+------+------+--+---+------+------+------+------+-------+-------+
//	                 |                                       |
//	     1. a slot with h's tag                3. otherwise, for each place
//	                 |                            i = 1 to 8 whose byte in
//	                 v                            away is not 0
//	     2. conns[ref] has the same                          |
//	        client, peer and kind:                           v
//	        found                              bucket at(h, i)
//	                                           +------+---- ... ----+------+
//	                                           | slot |             | slot |
//	                                           +------+---- ... ----+------+
//	                                           again 1 and 2
//
// These nine buckets are the window of h. A byte of away counts the conns with this
// home that stand at their place i, so that a lookup goes only where something is. When
// the table is full, 3 of 100 conns are away. One slot serves both directions, because
// the client stands in packets of both.

// bucket is one cache line of the index.
type bucket struct {
	slots [slotsPerBucket]atomic.Uint64
	away  atomic.Uint64
}

const (
	slotsPerBucket = 7
	// places is in how many buckets a conn may stand: its home, the neighbour of
	// that, and seven more spread over the index.
	places = 9
	// window is how many slots a conn may stand in.
	window = places * slotsPerBucket
)

// slot is one entry of the index; zero is empty.
//
//	bit 63                     32 31                          1  0
//	+----------------------------+-----------------------------+---+
//	| ref                        | tag, 31 bits of the hash    | t |
//	+----------------------------+-----------------------------+---+
//
// t: tentative, which lookups skip (see index.insert). A ref is in at most one slot.
// Once removed it comes back only after a grace period, so a compare-and-swap on a
// slot's value cannot mistake a later stay for this one.
type slot uint64

const tentative slot = 1

func newSlot(ref Ref, hash uint64) slot { return slot(ref)<<32 | tagOf(hash) }

func tagOf(hash uint64) slot   { return slot(uint32(hash)) &^ tentative }
func (s slot) ref() Ref        { return Ref(s >> 32) }
func (s slot) tag() slot       { return s & 0xfffffffe }
func (s slot) tentative() bool { return s&tentative != 0 }
func (s slot) final() slot     { return s &^ tentative }

// index finds conns by the hash of their client endpoint.
type index struct {
	buckets []bucket // an even number
	conns   []Conn
}

// bucketsFor returns how many buckets n conns need: so many that at most 60 of 100
// slots are taken when the table is full, and a window is almost never full.
func bucketsFor(n int) int { return (n*100/(60*slotsPerBucket) + 2) &^ 1 }

// home returns the bucket where a conn of this hash stands if there is room.
func (x *index) home(hash uint64) int {
	hi, _ := bits.Mul64(hash, uint64(len(x.buckets)))
	return int(hi)
}

// at returns the bucket of a place. 0 is home, 1 its neighbour in the pair of lines
// that processors fetch together. The others come from the hash's other half.
func (x *index) at(hash uint64, place int) *bucket {
	switch place {
	case 0:
		return &x.buckets[x.home(hash)]
	case 1:
		return &x.buckets[x.home(hash)^1]
	}
	h := bits.RotateLeft64(hash, 32) + uint64(place)*0x9e3779b97f4a7c15
	hi, _ := bits.Mul64(h, uint64(len(x.buckets)))
	return &x.buckets[hi]
}

// awayByte is what one conn at a place adds to bucket.away.
func awayByte(place int) uint64 { return 1 << (8 * (place - 1)) }

// isAway reports whether away counts conns at a place.
func isAway(away uint64, place int) bool {
	return place == 0 || uint8(away>>(8*(place-1))) != 0
}

// position is the slot where a value was seen.
type position struct {
	bucket *bucket
	slot   int
	place  int
}

func (p position) value() slot { return slot(p.bucket.slots[p.slot].Load()) }

// put writes a value into an empty slot of the window. ok is false if there is none.
func (x *index) put(hash uint64, v slot) (pos position, ok bool) {
	home := x.at(hash, 0)
	for place := range places {
		b := x.at(hash, place)
		if x.repeats(hash, place, b) {
			continue
		}
		if place > 0 {
			home.away.Add(awayByte(place))
		}
		for i := range b.slots {
			if b.slots[i].Load() == 0 && b.slots[i].CompareAndSwap(0, uint64(v)) {
				return position{b, i, place}, true
			}
		}
		if place > 0 {
			home.away.Add(-awayByte(place))
		}
	}
	return position{}, false
}

// repeats reports whether a place has the bucket of an earlier place, where conns
// would be found first and counted.
func (x *index) repeats(hash uint64, place int, b *bucket) bool {
	for earlier := range place {
		if x.at(hash, earlier) == b {
			return true
		}
	}
	return false
}

// take removes a value from where it was seen, and reports whether it was still there.
func (x *index) take(hash uint64, pos position, v slot) bool {
	if !pos.bucket.slots[pos.slot].CompareAndSwap(uint64(v), 0) {
		return false
	}
	if pos.place > 0 {
		x.at(hash, 0).away.Add(-awayByte(pos.place))
	}
	return true
}

// remove takes a conn out of the index, wherever it stands. It, find and rival are one
// loop written three times: an iterator would cost speed.
func (x *index) remove(hash uint64, ref Ref) {
	v := newSlot(ref, hash)
	away := x.at(hash, 0).away.Load()
	for place := range places {
		if !isAway(away, place) {
			continue
		}
		b := x.at(hash, place)
		for i := range b.slots {
			if slot(b.slots[i].Load()) == v {
				x.take(hash, position{b, i, place}, v)
				return
			}
		}
	}
}

// find searches a window for the settled conn that q finds.
func (x *index) find(q *Query, hash uint64, port uint16) Ref {
	tag := tagOf(hash)
	away := x.at(hash, 0).away.Load()
	for place := range places {
		if !isAway(away, place) {
			continue
		}
		b := x.at(hash, place)
		for i := range b.slots {
			s := slot(b.slots[i].Load())
			if s&0xffffffff == tag && s != 0 && x.conns[s.ref()].matches(q, port) {
				return s.ref()
			}
		}
	}
	return 0
}

// rival searches a window for another conn of the flow of c, which stands there as v:
// a settled one if there is one, else a tentative one.
func (x *index) rival(c *Conn, hash uint64, v slot) (found slot, where position) {
	tag := tagOf(hash)
	away := x.at(hash, 0).away.Load()
	for place := range places {
		if !isAway(away, place) {
			continue
		}
		b := x.at(hash, place)
		for i := range b.slots {
			s := slot(b.slots[i].Load())
			if s == 0 || s.tag() != tag || s.ref() == v.ref() || !x.conns[s.ref()].sameFlow(c) {
				continue
			}
			if found, where = s, (position{b, i, place}); !s.tentative() {
				return found, where
			}
		}
	}
	return found, where
}

// insert enters a conn and returns the winner, the conn that stands for its flow: ref or
// another worker's. 0: neither stayed, and the caller tries again with a new conn.
// placed reports whether ref was ever in the index, so that others may be reading it;
// full, whether there was no room.
//
// Two workers may do this for one flow at once. Each puts its conn in as tentative,
// which lookups skip, and only then searches the whole window for rivals (settle):
//
//   - A settled rival wins, and the worker takes its own conn out.
//   - Of two tentative conns the one with the smaller ref is taken out. If that is the
//     worker's own, it settles the rival itself instead of waiting for the rival's
//     worker.
//   - If there is no rival, the worker settles its conn by compare-and-swap.
//
// Two conns of one flow cannot both become settled. The search that settles the later
// one began when both were in, so it saw the earlier one. If that was settled, the later
// one was taken out. If it was tentative, by the second rule one of the two was taken
// out by compare-and-swap; and a conn that is out cannot be settled, because that too is
// a compare-and-swap on the slot. One after the other is possible: a settled rival ends,
// and another worker settles our conn before we take it out. Then ours stands.
//
// Every step that fails does so because another worker's succeeded (lock-free).
func (x *index) insert(ref Ref, hash uint64) (winner Ref, placed, full bool) {
	c := &x.conns[ref]
	own := newSlot(ref, hash) | tentative
	ownPos, ok := x.put(hash, own)
	if !ok {
		return 0, false, true
	}
	return x.yield(hash, own, ownPos, x.settle(c, hash, own, ownPos)), true, false
}

// yield takes the tentative conn v out for the winner, and returns who won in the end:
// v, if another worker settled it after the winner had left.
func (x *index) yield(hash uint64, v slot, pos position, winner Ref) Ref {
	if winner != v.ref() && !x.take(hash, pos, v) && pos.value() == v.final() {
		return v.ref()
	}
	return winner
}

// settle makes v, which stands at pos, or a rival of it the conn of the flow of c, and
// returns that conn; 0: a rival's worker took v out.
func (x *index) settle(c *Conn, hash uint64, v slot, pos position) Ref {
	for {
		s, where := x.rival(c, hash, v)
		switch {
		case s == 0:
			b := &pos.bucket.slots[pos.slot]
			if b.CompareAndSwap(uint64(v), uint64(v.final())) || pos.value() == v.final() {
				return v.ref()
			}
			return 0
		case !s.tentative():
			x.take(hash, pos, v)
			return s.ref()
		case s.ref() > v.ref():
			x.take(hash, pos, v)
			v, pos = s, where
		default:
			x.take(hash, where, s)
		}
	}
}
