package sched

import "sync/atomic"

// Server counters that were left nil point here. Nobody writes them.
var (
	noConns    atomic.Int32
	noOverload atomic.Bool
)

// pool is the part of a server list that every scheduler needs, by list index.
type pool struct {
	weight   []int32 // 0 also for a server that is down
	overload []*atomic.Bool
}

func newPool(servers []Server) pool {
	p := pool{
		weight:   make([]int32, len(servers)),
		overload: make([]*atomic.Bool, len(servers)),
	}
	for i := range servers {
		p.weight[i] = servers[i].weight()
		p.overload[i] = orElse(servers[i].Overload, &noOverload)
	}
	return p
}

// eligible says whether server i may be given a new connection.
func (p *pool) eligible(i int) bool {
	return p.weight[i] > 0 && !p.overload[i].Load()
}

// anyEligible says whether there is one at all.
func (p *pool) anyEligible() bool {
	for i := range p.weight {
		if p.eligible(i) {
			return true
		}
	}
	return false
}

// weight is Weight, or 0 for a server that is down.
func (s *Server) weight() int32 {
	if s.Down {
		return 0
	}
	return s.Weight
}

// lastWeight is the last weight that was not 0, health notwithstanding.
func (s *Server) lastWeight() int32 {
	if s.Weight > 0 {
		return s.Weight
	}
	return s.LastWeight
}

// orElse returns p, or fallback for nil.
func orElse[T any](p, fallback *T) *T {
	if p == nil {
		return fallback
	}
	return p
}

// idIndex finds the index of a server in a list by its ID: an open-addressed hash
// table at most half full.
type idIndex struct {
	slots []idSlot // a power of two of them
	shift uint     // from a 32-bit product to a slot number
}

// idSlot is a slot of places; mark 0: empty.
type idSlot struct {
	ref   uint32 // see mark
	index int32
}

// ref is how a server is written down where 0 has to mean "no server".
func ref(id uint32) uint32 { return id + 1 }

func newIDIndex(ids []uint32) idIndex {
	bits := uint(1)
	for 1<<bits < 2*len(ids) {
		bits++
	}
	p := idIndex{slots: make([]idSlot, 1<<bits), shift: 32 - bits}
	for i, id := range ids {
		m := ref(id)
		at := p.first(m)
		for p.slots[at].ref != 0 {
			at = p.next(at)
		}
		p.slots[at] = idSlot{m, int32(i)}
	}
	return p
}

// find returns the index of the marked server, -1 if it is not listed or
// m is 0.
func (p *idIndex) find(r uint32) int {
	if r == 0 {
		return -1
	}
	for at := p.first(r); p.slots[at].ref != 0; at = p.next(at) {
		if p.slots[at].ref == r {
			return int(p.slots[at].index)
		}
	}
	return -1
}

// first and next are the order in which the slots are searched for m.
// 0x9E3779B1 is 2^32 divided by the golden ratio (Fibonacci hashing): IDs,
// which are given out in sequence, fall far from each other.
func (p *idIndex) first(m uint32) int { return int(m * 0x9E3779B1 >> p.shift) }
func (p *idIndex) next(at int) int    { return (at + 1) & (len(p.slots) - 1) }
