package conntrack

import (
	"math/bits"
	"sync/atomic"
)

// bucket is one cache line of the index: seven slots, and for the conns whose
// home this bucket is, how many live elsewhere (one byte for each of the
// places farther on, so that a lookup goes only where something is).
type bucket struct {
	slots [slotsPerBucket]atomic.Uint64
	away  atomic.Uint64
}

const (
	slotsPerBucket = 7
	// places is in how many buckets a conn may stand: at home, next door, and
	// seven more spread over the index.
	places = 9
	// window is all the slots a conn may stand in.
	window = places * slotsPerBucket
)

// slot is one entry of the index; zero is empty.
//
//	bit 63                     32 31                          1  0
//	+----------------------------+-----------------------------+---+
//	| ref                        | tag, 31 bits of the hash    | t |
//	+----------------------------+-----------------------------+---+
//
// t: tentative, not yet to be found (see index.settle). A ref is in at most one
// slot, and once taken out is put in again only after a grace period, so a
// compare-and-swap on a slot's value means that very stay.
type slot uint64

const tentative slot = 1

func newSlot(ref Ref, hash uint64) slot { return slot(ref)<<32 | tagOf(hash) }

func tagOf(hash uint64) slot   { return slot(uint32(hash)) &^ tentative }
func (s slot) ref() Ref        { return Ref(s >> 32) }
func (s slot) tag() slot       { return s & 0xfffffffe }
func (s slot) tentative() bool { return s&tentative != 0 }
func (s slot) final() slot     { return s &^ tentative }

// index finds conns by the hash of their client's end.
type index struct {
	buckets []bucket // an even number
	conns   []Conn
}

// bucketsFor is how many buckets n conns need: at most 60 of 100 slots are
// taken when the table is full, so that a window is full about never.
func bucketsFor(n int) int { return (n*100/(60*slotsPerBucket) + 2) &^ 1 }

// home is the bucket where a conn of this hash stands if there is room.
func (x *index) home(hash uint64) int {
	hi, _ := bits.Mul64(hash, uint64(len(x.buckets)))
	return int(hi)
}

// at is the bucket of a place: 0 is home, 1 its neighbour in the pair of lines
// that processors fetch together, the others come from the hash's other half.
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

// awayByte is one conn at a place in bucket.away.
func awayByte(place int) uint64 { return 1 << (8 * (place - 1)) }

// isAway says whether away counts conns at a place.
func isAway(away uint64, place int) bool {
	return place == 0 || uint8(away>>(8*(place-1))) != 0
}

// position is where in the index a slot's value was seen.
type position struct {
	bucket *bucket
	slot   int
	place  int
}

func (p position) value() slot { return slot(p.bucket.slots[p.slot].Load()) }

// put writes a value into an empty slot of the window; ok is false if it is full.
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

// repeats says whether a place's bucket is that of an earlier place too, where
// it would be found first and counted as of that place.
func (x *index) repeats(hash uint64, place int, b *bucket) bool {
	for earlier := range place {
		if x.at(hash, earlier) == b {
			return true
		}
	}
	return false
}

// take removes a value from where it was seen; false: it is not there any more.
func (x *index) take(hash uint64, pos position, v slot) bool {
	if !pos.bucket.slots[pos.slot].CompareAndSwap(uint64(v), 0) {
		return false
	}
	if pos.place > 0 {
		x.at(hash, 0).away.Add(-awayByte(pos.place))
	}
	return true
}

// remove takes a conn out of the index, wherever it stands.
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

// find looks through a window for the settled conn that answers q.
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

// rival looks through a window for another conn of the same flow as c, which
// stands there as v: a settled one if there is, else a tentative one.
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

// insert enters a conn and returns the one that stands for its flow: ref
// itself or another worker's; 0: neither stayed, try again with a new conn.
// placed says whether ref was ever in the index, so that others may be reading
// it; full, that there was no room.
//
// Two workers may do this for one flow at once. Each puts its conn in as
// tentative, which lookups pass over, and only then looks through the whole
// window for rivals (settle):
//
//   - a settled rival stands, and the own conn goes;
//   - of two tentative ones the one with the smaller ref goes. If that is the own
//     one, the worker settles the rival itself instead of waiting for the
//     rival's worker;
//   - if there is no rival, the conn is settled by compare-and-swap.
//
// Two conns of one flow cannot both become settled. The look that settles the
// one put in later began when both were in, so it saw the earlier: settled, then
// the later went; or tentative, then by the second rule one of the two was
// taken out by compare-and-swap, and what is out cannot be settled, for that too
// is a compare-and-swap on the slot. (One after the other is possible: a settled
// rival ends, and another worker settles our conn before we take it out. Then it
// stands.) Every step that fails does so because
// another worker's succeeded (lock-free).
func (x *index) insert(ref Ref, hash uint64) (winner Ref, placed, full bool) {
	c := &x.conns[ref]
	own := newSlot(ref, hash) | tentative
	ownPos, ok := x.put(hash, own)
	if !ok {
		return 0, false, true
	}
	return x.yield(hash, own, ownPos, x.settle(c, hash, own, ownPos)), true, false
}

// yield takes the tentative conn v out for the winner, and returns who won after
// all: v, if another worker settled it after the winner had left.
func (x *index) yield(hash uint64, v slot, pos position, winner Ref) Ref {
	if winner != v.ref() && !x.take(hash, pos, v) && pos.value() == v.final() {
		return v.ref()
	}
	return winner
}

// settle makes v, which stands at pos, or a rival of it the conn of the flow of
// c, and returns it; 0: v was taken out by a rival's worker.
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
