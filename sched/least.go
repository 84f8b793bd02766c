package sched

import "sync/atomic"

// formula says what a server's connections cost:
// active*Active + inactive*Inactive + plus.
type formula struct{ active, inactive, plus int64 }

var (
	// overhead is the kernel's (active << 8) + total, total being active and
	// inactive together (ip_vs_dest_conn_overhead in net/ip_vs.h).
	overhead = formula{active: 257, inactive: 1}
	// expected is the delay a new connection would meet: (active + 1).
	expected = formula{active: 1, plus: 1}
)

// least picks the server with the lowest cost per weight, the first in list
// order of several: lc, wlc, sed and nq, and wlc's part in lblc and lblcr.
type least struct {
	formula
	idleFirst bool // nq: the first server without an active connection wins at once
	list      []candidate
	ramps
}

// candidate is a server that may be eligible. 32 bytes: two share a cache line.
type candidate struct {
	active, inactive *atomic.Int32
	overload         *atomic.Bool
	weight           int32 // above 0
	index            int32 // in the server list
}

// Variants of least.
const (
	weightless = 1 << iota // lc: no weight counts, except 0
	idleFirst              // nq
)

func newLeast(f formula, variant int) func(Flags, []Server, Options) (Picker, error) {
	return func(_ Flags, servers []Server, _ Options) (Picker, error) {
		return makeLeast(f, variant, servers), nil
	}
}

func makeLeast(f formula, variant int, servers []Server) *least {
	l := &least{formula: f, idleFirst: variant&idleFirst != 0, ramps: newRamps(servers)}
	for i := range servers {
		s := &servers[i]
		weight := s.weight()
		if weight == 0 {
			continue
		}
		if variant&weightless != 0 {
			weight = 1
		}
		l.list = append(l.list, candidate{
			active:   orElse(s.Active, &noConns),
			inactive: orElse(s.Inactive, &noConns),
			overload: orElse(s.Overload, &noOverload),
			weight:   weight,
			index:    int32(i),
		})
	}
	return l
}

// Pick compares the loads of the moment.
func (l *least) Pick(c *Cursor, f Flow) int {
	if at := l.choose(c, f.Now); at >= 0 {
		return int(l.list[at].index)
	}
	return -1
}

// choose is Pick, but returns an index of l.list.
func (l *least) choose(c *Cursor, now int64) int {
	if now < l.over {
		return l.starting(c, now)
	}
	return l.settled()
}

// settled is the winner by full weights, as an index of l.list.
//
// Loads are compared by cross multiplication; 1/0, the infinite load, stands
// for no server. The overload flag is read last, of the few servers that beat
// all before them.
func (l *least) settled() int {
	best, bestCost, bestWeight := -1, int64(1), int64(0)
	f := l.formula
	for i := range l.list {
		s := &l.list[i]
		active, weight := int64(s.active.Load()), int64(s.weight)
		if active == 0 && l.idleFirst && !s.overload.Load() {
			return i
		}
		cost := f.active*active + f.inactive*int64(s.inactive.Load()) + f.plus
		if cost*bestWeight < bestCost*weight && !s.overload.Load() {
			best, bestCost, bestWeight = i, cost, weight
		}
	}
	return best
}

// starting is the winner while servers are in slow start. Their weights are
// what they are of the full ones by now, so that they get no further ahead
// than that share of the load. Behind it they still are at first, by thousands
// of connections perhaps, and would get every new one until level: so even
// then each wins only that share of the times.
func (l *least) starting(c *Cursor, now int64) int {
	best, share := l.atShares(now, true)
	if best < 0 || c.chance(share) {
		return best
	}
	if other, _ := l.atShares(now, false); other >= 0 {
		return other
	}
	return best
}

// atShares is settled with the weights of the moment, and the winner's share.
// If starters is false servers in slow start are left out.
func (l *least) atShares(now int64, starters bool) (best int, share int64) {
	best, bestCost, bestWeight := -1, int64(1), int64(0)
	f := l.formula
	for i := range l.list {
		s := &l.list[i]
		part := l.share(int(s.index), now)
		if !starters && part < fullShare || s.overload.Load() {
			continue
		}
		active, weight := int64(s.active.Load()), int64(s.weight)*part
		if active == 0 && l.idleFirst {
			return i, part
		}
		cost := f.active*active + f.inactive*int64(s.inactive.Load()) + f.plus
		if cost*bestWeight < bestCost*weight {
			best, bestCost, bestWeight, share = i, cost, weight, part
		}
	}
	return best, share
}
