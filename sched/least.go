package sched

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"
)

// least picks the server with the least load, and of equals the first in list order.
// The load is the cost divided by the weight. It is lc, wlc, sed and nq, and the
// wlc inside lblc and lblcr.
type least struct {
	measure
	equal      bool // weights do not matter: all are the same, or it is lc
	candidates []candidate
	details    []details // of the same servers, by the same index
	slowStarts
}

// candidate is the part of a server with a weight that every pick reads: 24 bytes, so
// that 1,000 servers and their counters fit into the first-level cache.
type candidate struct {
	active, inactive *atomic.Int32
	inverse          float64 // 1/weight
}

// details are the part that a pick reads only if the server may win.
type details struct {
	overload *atomic.Bool
	weight   int32 // above 0
	index    int32 // in the server list
}

// measure is the cost of a server's connections.
type measure uint8

const (
	// overhead is (active << 8) + active + inactive, for lc and wlc
	// (include/net/ip_vs.h, ip_vs_dest_conn_overhead).
	overhead measure = iota
	// delay is active + 1, the expected delay of a new connection, for sed.
	delay
	// queue is delay, but 0 for a server without active connections, so that the
	// first of those wins at once: nq.
	queue
)

// margin makes loads equal that differ only by rounding: a load is less than another
// only if it is below the other times margin. Loads have a relative rounding error
// of 2^-52. Different ones differ by 2^-47 at least, as long as cost < 2^31 (the
// kernel's int) and weight < 2^16.
const margin = 1 - 1.0/(1<<50)

func newLC(_ Flags, servers []Server, _ Options) (Picker, error) {
	l := makeLeast(overhead, servers)
	l.ignoreWeights()
	return l, nil
}

func newLeast(m measure) constructor {
	return func(_ Flags, servers []Server, _ Options) (Picker, error) { return makeLeast(m, servers), nil }
}

func makeLeast(m measure, servers []Server) *least {
	l := &least{measure: m, slowStarts: newSlowStarts(servers)}
	for i := range servers {
		s := &servers[i]
		if weight := s.weight(); weight > 0 {
			active, inactive := cmp.Or(s.Active, &noConns), cmp.Or(s.Inactive, &noConns)
			l.candidates = append(l.candidates, candidate{active, inactive, 1 / float64(weight)})
			l.details = append(l.details, details{cmp.Or(s.Overload, &noOverload), weight, int32(i)})
		}
	}
	if !slices.ContainsFunc(l.details, func(s details) bool { return s.weight != l.details[0].weight }) {
		l.ignoreWeights()
	}
	return l
}

// ignoreWeights makes the cost the load.
func (l *least) ignoreWeights() {
	l.equal = true
	for i := range l.candidates {
		l.candidates[i].inverse = 1
	}
}

// Pick compares the current loads.
func (l *least) Pick(c *Cursor, f Flow) int {
	if at := l.pickCandidate(c, f.Now); at >= 0 {
		return int(l.details[at].index)
	}
	return -1
}

// pickCandidate is Pick, but returns an index of l.candidates.
func (l *least) pickCandidate(c *Cursor, now int64) int {
	if now < l.lastEnd {
		return l.pickInSlowStart(c, now)
	}
	if l.equal {
		return l.cheapest()
	}
	best, limit := -1, math.Inf(1)
	for at := 0; at < len(l.candidates) && limit > 0; at++ {
		ahead, load := l.firstLighter(l.candidates[at:], limit)
		if ahead < 0 {
			break
		}
		at += ahead
		if !l.details[at].overload.Load() {
			best, limit = at, load*margin
		}
	}
	return best
}

// firstLighter returns the first in list with a load below limit, and its load. -1:
// there is none. This loop determines the cost of a pick, so it does only what it
// must: 1.0 µs for 1,000 servers. With the choice of measure, a cross multiplication
// and the overload flag in the loop it takes 1.9 µs. Equal weights, the usual case,
// use firstCheaper, which takes 0.9 µs.
func (m measure) firstLighter(list []candidate, limit float64) (int, float64) {
	if m == overhead {
		for i := range list {
			if load := list[i].load(); load < limit {
				return i, load
			}
		}
		return -1, 0
	}
	idle := int64(1)
	if m == queue {
		idle = 0
	}
	i := 0
	for ; i+1 < len(list); i += 2 { // two at a time: 6 % faster; for overhead it is not
		pair := list[i : i+2]
		one, two := pair[0].delay(idle), pair[1].delay(idle)
		if one < limit {
			return i, one
		}
		if two < limit {
			return i + 1, two
		}
	}
	if i < len(list) {
		if load := list[i].delay(idle); load < limit {
			return i, load
		}
	}
	return -1, 0
}

// delay returns the load by delay, with idle 1, or by queue, with idle 0.
func (s *candidate) delay(idle int64) float64 {
	cost := int64(s.active.Load()) + 1
	if cost == 1 {
		cost = idle
	}
	return float64(cost) * s.inverse
}

// load returns the load by overhead.
func (s *candidate) load() float64 {
	return float64(int64(s.overhead())) * s.inverse
}

// overhead returns 32 bits, as in the kernel: enough for 16 million active
// connections of one server.
func (s *candidate) overhead() uint32 {
	active := s.active.Load()
	return uint32(active<<8 + active + s.inactive.Load())
}

// cheapest is pickCandidate for equal weights.
func (l *least) cheapest() int {
	best, limit := -1, uint32(math.MaxUint32)
	for at := 0; at < len(l.candidates) && limit > 0; at++ {
		ahead, cost := l.firstCheaper(l.candidates[at:], limit)
		if ahead < 0 {
			break
		}
		at += ahead
		if !l.details[at].overload.Load() {
			best, limit = at, cost
		}
	}
	return best
}

// firstCheaper returns the first in list with a cost below limit, and its cost. -1:
// there is none. For delay and queue it compares only the active connections.
func (m measure) firstCheaper(list []candidate, limit uint32) (int, uint32) {
	if m == overhead {
		for i := range list {
			if cost := list[i].overhead(); cost < limit {
				return i, cost
			}
		}
		return -1, 0
	}
	for i := range list {
		if cost := uint32(list[i].active.Load()); cost < limit {
			return i, cost
		}
	}
	return -1, 0
}

// pickInSlowStart is pickCandidate while servers are in slow start. The weight of
// such a server is its share of the full weight. Even so it may be thousands of
// connections behind at first, and would win every pick until it has caught up. So
// it wins only with a probability of its share.
func (l *least) pickInSlowStart(c *Cursor, now int64) int {
	best, share := l.leastInSlowStart(now, true)
	if best < 0 || c.chance(share) {
		return best
	}
	if other, _ := l.leastInSlowStart(now, false); other >= 0 {
		return other
	}
	return best
}

// leastInSlowStart returns the least loaded candidate by current weights, and its
// share. If starters is false, it ignores servers in slow start.
func (l *least) leastInSlowStart(now int64, starters bool) (best int, share int64) {
	best, limit := -1, math.Inf(1)
	for i := range l.candidates {
		s := &l.details[i]
		part := l.share(int(s.index), now)
		if !starters && part < fullShare || s.overload.Load() {
			continue
		}
		_, load := l.firstLighter(l.candidates[i:i+1], math.Inf(1))
		if load *= fullShare / float64(part); load < limit {
			best, share, limit = i, part, load*margin
		}
	}
	return best, share
}
