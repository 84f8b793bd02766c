package conntrack

import (
	"math/bits"
	"sync/atomic"

	"uvs/dataplane/keyhash"
	"uvs/dataplane/wire"
)

// The index finds a conn by the hash of protocol, client address and client port. One
// lookup with hash h:
//
//	bucket home(h): one cache line of seven slots and eight bytes
//	+------+------+------+------+------+------+------+---------------+
//	| slot | slot | slot | slot | slot | slot | slot |   displaced   |
//	+------+------+--+---+------+------+------+------+-------+-------+
//	                 |                                       |
//	     1. a slot with h's tag                3. otherwise, for each place
//	                 |                            i = 1 to 5 whose byte in
//	                 v                            displaced is not 0
//	     2. conns[ref] has the same                          |
//	        client, peer and kind:                           v
//	        found                              bucket at(h, i)
//	                                           +------+---- ... ----+------+
//	                                           | slot |             | slot |
//	                                           +------+---- ... ----+------+
//	                                           again 1 and 2
//
// These six buckets are the window of h. A byte of displaced counts the conns with this
// home that are at their place i, so that a lookup goes only where something is. In a
// full table 3 of 100 conns are displaced. One slot serves both directions, because
// packets of both directions carry the client.
//
// A client that uses many services from one port fills its window. Its further conns
// overflow: each has a slot in the window of a second hash, of h and the VIP. A server's
// packet shows the server instead of the VIP. So a conn by NAT has another slot, for the
// hash of h and the server. The upper 24 bits of displaced count the conns with this home
// that overflowed. While there are any, a lookup that misses in the home bucket searches
// the window of the second hash first.

// bucket is one cache line of the index.
type bucket struct {
	slots     [slotsPerBucket]atomic.Uint64
	displaced atomic.Uint64
}

// The number of overflowed conns is in the upper bits of bucket.displaced. maxOverflowed
// leaves room for one more of each worker.
const (
	overflowShift = 40
	maxOverflowed = 1<<24 - 1 - MaxWorkers
)

const (
	slotsPerBucket = 7
	// places is how many buckets a window has: the home, the neighbour of that, and
	// four more spread over the index.
	places = 6
)

// slot is one entry of the index; zero is empty.
//
//	bit 63                     32 31                          1  0
//	+----------------------------+-----------------------------+---+
//	| ref                        | tag, 31 bits of the hash    | t |
//	+----------------------------+-----------------------------+---+
//
// t: tentative, which lookups skip (see index.insert). A ref is in at most one slot of a
// window. A removed ref is inserted again only after a grace period, so the
// compare-and-swap has no ABA problem.
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
	key     keyhash.Key
	buckets []bucket // an even number
	conns   []Conn
}

// bucketsFor returns how many buckets n conns need. In a full table at most 60 of 100
// slots are taken, and a window is almost never full.
func bucketsFor(n int) int { return int(int64(n)*100/(60*slotsPerBucket)+2) &^ 1 }

// hash returns the hash by which the conns of a client endpoint are indexed. Templates
// have other hashes.
func (x *index) hash(client *wire.Addr, port uint16, proto uint8, template bool) uint64 {
	word := uint64(port) | uint64(proto)<<16
	if template {
		word |= 1 << 24
	}
	return x.key.Hash(client, word)
}

// hashOf returns the hash by which a conn is indexed.
func (x *index) hashOf(c *Conn) uint64 {
	return x.hash(&c.client, c.clientPort, c.proto, c.Template())
}

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

// displacedByte returns what one conn at a place adds to bucket.displaced.
func displacedByte(place int) uint64 { return 1 << (8 * (place - 1)) }

// countOverflowed adds n to the number of overflowed conns with this home, and returns
// the sum.
func (x *index) countOverflowed(hash uint64, n int) uint64 {
	return x.at(hash, 0).displaced.Add(uint64(n)<<overflowShift) >> overflowShift
}

// hasOverflowed reports whether conns with this home have overflowed.
func (x *index) hasOverflowed(hash uint64) bool {
	return x.at(hash, 0).displaced.Load()>>overflowShift != 0
}

// isDisplaced reports whether displaced counts conns at a place.
func isDisplaced(displaced uint64, place int) bool {
	return place == 0 || uint8(displaced>>(8*(place-1))) != 0
}

// overflowHash returns the second hash, of a conn's first and of the VIP or the server.
func (x *index) overflowHash(hash uint64, peer *wire.Addr, port uint16) uint64 {
	return x.key.Hash(peer, hash+uint64(port))
}

// flowOverflow returns the second hash by which packets that begin a flow find its
// conn: a client's, or a server's whose port is not known yet.
func (x *index) flowOverflow(c *Conn, hash uint64) uint64 {
	if c.kind&kindNoServerPort != 0 {
		return x.overflowHash(hash, &c.server, 0)
	}
	return x.overflowHash(hash, &c.vip, c.vport)
}

// replyOverflow returns the second hash by which replies find a conn by NAT.
func (x *index) replyOverflow(c *Conn, hash uint64) uint64 {
	return x.overflowHash(hash, &c.server, c.sport)
}

// position is the slot where a value was seen, in the window of a hash.
type position struct {
	bucket *bucket
	slot   int
	hash   uint64
}

func (p position) value() slot { return slot(p.bucket.slots[p.slot].Load()) }

// put writes a value into an empty slot of the window. ok is false if there is none.
func (x *index) put(hash uint64, v slot) (pos position, ok bool) {
	home := x.at(hash, 0)
	for place := range places {
		b := x.at(hash, place)
		if x.placeOf(hash, b) < place {
			continue
		}
		if place > 0 {
			home.displaced.Add(displacedByte(place))
		}
		for i := range b.slots {
			if b.slots[i].Load() == 0 && b.slots[i].CompareAndSwap(0, uint64(v)) {
				return position{b, i, hash}, true
			}
		}
		if place > 0 {
			home.displaced.Add(-displacedByte(place))
		}
	}
	return position{}, false
}

// placeOf returns the place of a bucket in a window: the first, if the bucket has
// several. Conns that stand in the bucket are counted at that place.
func (x *index) placeOf(hash uint64, b *bucket) (place int) {
	for x.at(hash, place) != b {
		place++
	}
	return place
}

// take removes a value from where it was seen, and reports whether it was still there.
func (x *index) take(pos position, v slot) bool {
	if !pos.bucket.slots[pos.slot].CompareAndSwap(uint64(v), 0) {
		return false
	}
	if place := x.placeOf(pos.hash, pos.bucket); place > 0 {
		x.at(pos.hash, 0).displaced.Add(-displacedByte(place))
	}
	return true
}

// remove takes a settled conn out of the index, wherever it stands.
func (x *index) remove(hash uint64, ref Ref) {
	c := &x.conns[ref]
	if !c.overflowed() {
		x.removeFrom(hash, ref)
		return
	}
	x.removeFrom(x.flowOverflow(c, hash), ref)
	if c.hasSecondSlot() {
		x.removeFrom(x.replyOverflow(c, hash), ref)
	}
	x.countOverflowed(hash, -1)
}

// removeFrom takes a conn out of a window. It, search and rivalIn are one loop written
// three times: an iterator would cost speed.
func (x *index) removeFrom(hash uint64, ref Ref) {
	v := newSlot(ref, hash)
	away := x.at(hash, 0).displaced.Load()
	for place := range places {
		if !isDisplaced(away, place) {
			continue
		}
		b := x.at(hash, place)
		for i := range b.slots {
			if slot(b.slots[i].Load()) == v {
				x.take(position{b, i, hash}, v)
				return
			}
		}
	}
}

// find searches for the settled conn that q finds: in the window of the second hash, if
// conns have overflowed, and in that of the first.
func (x *index) find(q *Query, hash uint64, port uint16) Ref {
	if x.hasOverflowed(hash) {
		peerPort := q.PeerPort
		if q.kind == kindNoServerPort {
			peerPort = 0
		}
		if ref := x.search(q, x.overflowHash(hash, &q.Peer, peerPort), port); ref != 0 {
			return ref
		}
	}
	return x.search(q, hash, port)
}

// search searches a window for the settled conn that q finds.
func (x *index) search(q *Query, hash uint64, port uint16) Ref {
	tag := tagOf(hash)
	away := x.at(hash, 0).displaced.Load()
	for place := range places {
		if !isDisplaced(away, place) {
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

// rival searches for a rival of c, whose slot is v. That is another conn of the same flow,
// or one whose replies clash, so that both must not be settled. It returns a settled one
// if there is one, else a tentative one.
func (x *index) rival(c *Conn, hash uint64, v slot) (found slot, where position) {
	found, where = x.rivalIn(c, hash, v, false)
	if !x.hasOverflowed(hash) {
		return found, where
	}
	if found == 0 || found.tentative() {
		if s, pos := x.rivalIn(c, x.flowOverflow(c, hash), v, false); s != 0 {
			found, where = s, pos
		}
	}
	if c.translatesReplies() && (found == 0 || found.tentative()) {
		if s, pos := x.rivalIn(c, x.replyOverflow(c, hash), v, false); s != 0 {
			found, where = s, pos
		}
	}
	return found, where
}

// rivalIn does what rival does, in one window. clashOnly leaves out those of the same
// flow.
func (x *index) rivalIn(c *Conn, hash uint64, v slot, clashOnly bool) (found slot, where position) {
	tag := tagOf(hash)
	away := x.at(hash, 0).displaced.Load()
	for place := range places {
		if !isDisplaced(away, place) {
			continue
		}
		b := x.at(hash, place)
		for i := range b.slots {
			s := slot(b.slots[i].Load())
			if s == 0 || s.tag() != tag || s.ref() == v.ref() {
				continue
			}
			if o := &x.conns[s.ref()]; !o.clashes(c) && (clashOnly || !o.sameFlow(c)) {
				continue
			}
			if found, where = s, (position{b, i, hash}); !s.tentative() {
				return found, where
			}
		}
	}
	return found, where
}

// insert returns the conn that stays: ref itself, another worker's conn of the same flow,
// or one that clashes. 0: neither stayed, and the caller tries again with a new conn.
// placed reports whether ref was ever in the index, where others may be reading it. full
// reports whether there was no room. If ref won and has overflowed, the caller calls
// insertReply.
//
// Two workers may do this for one flow at once, or for two flows that clash. Each puts
// its conn in as tentative, which lookups skip, and only then searches all windows for
// rivals (settle):
//
//   - A settled rival wins, and the worker takes its own conn out.
//   - Of two tentative conns the one with the smaller ref is taken out. If that is the
//     worker's own, it settles the rival itself instead of waiting for the rival's
//     worker.
//   - If there is no rival, the worker settles its conn by compare-and-swap.
//
// Two conns of one flow cannot both become settled. The search that settles the later
// one began when both were in, so it saw the earlier one. (If only one of them has
// overflowed, that was counted before it was put in. A worker whose search still saw
// the count 0 had put in its own conn before, where the other's search finds it.) If
// the earlier one was settled, the later one was taken out. If it was tentative, the
// second rule took one of the two out by compare-and-swap. A conn that is out cannot be
// settled, because that too is a compare-and-swap on the slot. One after the other is
// possible: a settled rival ends, and another worker settles this worker's conn before
// it is taken out. Then it stays.
//
// Every step that fails does so because another worker's succeeded (lock-free).
func (x *index) insert(ref Ref, hash uint64) (winner Ref, placed, full bool) {
	own := newSlot(ref, hash) | tentative
	pos, ok := x.put(hash, own)
	if !ok {
		if own, pos, ok = x.putOverflow(ref, hash); !ok {
			return 0, false, true
		}
	}
	return x.yield(own, pos, x.settle(hash, own, pos)), true, false
}

// putOverflow puts a conn that finds its window full into that of its second hash.
func (x *index) putOverflow(ref Ref, hash uint64) (own slot, pos position, ok bool) {
	c := &x.conns[ref]
	second := x.flowOverflow(c, hash)
	own = newSlot(ref, second) | tentative
	c.owner |= ownerOverflowed
	if x.countOverflowed(hash, 1) <= maxOverflowed {
		pos, ok = x.put(second, own)
	}
	if !ok {
		c.owner &^= ownerOverflowed
		x.countOverflowed(hash, -1)
	}
	return own, pos, ok
}

// insertReply enters a conn that has won and overflowed for its replies too. full reports
// whether there was no room. clash reports whether another conn has the same replies: a
// search that settles a conn cannot see replies that are not in yet. Of two that clash
// both may fail. The caller ends a conn that failed. Earlier replies are not found. That
// is harmless: the server has not had the first packet yet, unless another worker has
// another packet of the flow.
func (x *index) insertReply(ref Ref, hash uint64) (full, clash bool) {
	c := &x.conns[ref]
	second := x.replyOverflow(c, hash)
	own := newSlot(ref, second)
	pos, ok := x.put(second, own)
	if !ok {
		return true, false
	}
	if !c.Live() { // another worker has ended it, perhaps before the slot was in
		x.take(pos, own)
	}
	inFirst, _ := x.rivalIn(c, hash, own, true)
	inSecond, _ := x.rivalIn(c, second, own, true)
	return false, inFirst != 0 || inSecond != 0
}

// yield takes the tentative conn v out for the winner, and returns the conn that won in
// the end: v, if another worker settled it after the winner had left.
func (x *index) yield(v slot, pos position, winner Ref) Ref {
	if winner != v.ref() && !x.take(pos, v) && pos.value() == v.final() {
		return v.ref()
	}
	return winner
}

// settle settles v, whose slot is pos, or its rival, and returns the one that stays; 0: a
// rival's worker took v out.
func (x *index) settle(hash uint64, v slot, pos position) Ref {
	for {
		s, where := x.rival(&x.conns[v.ref()], hash, v)
		switch {
		case s == 0:
			b := &pos.bucket.slots[pos.slot]
			if b.CompareAndSwap(uint64(v), uint64(v.final())) || pos.value() == v.final() {
				return v.ref()
			}
			return 0
		case !s.tentative():
			x.take(pos, v)
			return s.ref()
		case s.ref() > v.ref():
			x.take(pos, v)
			v, pos = s, where
		default:
			x.take(where, s)
		}
	}
}
