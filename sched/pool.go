package sched

import (
	"cmp"
	"sync/atomic"
)

// A server without counters points to these, which never change.
var (
	noConns    atomic.Int32
	noOverload atomic.Bool
)

// pool is the part of a server list that most schedulers need, by list index.
type pool struct {
	weight   []int32 // 0 also for a server that is down
	overload []*atomic.Bool
}

func newPool(servers []Server) pool {
	p := pool{make([]int32, len(servers)), make([]*atomic.Bool, len(servers))}
	for i := range servers {
		p.weight[i] = servers[i].weight()
		p.overload[i] = cmp.Or(servers[i].Overload, &noOverload)
	}
	return p
}

// eligible reports whether server i may get a new connection.
func (p *pool) eligible(i int) bool {
	return p.weight[i] > 0 && !p.overload[i].Load()
}

// anyEligible reports whether any server is eligible.
func (p *pool) anyEligible() bool {
	for i := range p.weight {
		if p.eligible(i) {
			return true
		}
	}
	return false
}

// weight returns Weight, or 0 for a server that is down.
func (s *Server) weight() int32 {
	if s.Down {
		return 0
	}
	return s.Weight
}

// lastWeight returns the last weight above 0, also of a server that is down.
func (s *Server) lastWeight() int32 {
	if s.Weight > 0 {
		return s.Weight
	}
	return s.LastWeight
}

// idIndex maps server IDs to list indexes. It is an open-addressed hash table, at
// most half full.
type idIndex struct {
	slots []idSlot // their number is a power of two
	shift uint     // from a 32-bit product to a slot number
}

// idSlot is a slot of an idIndex.
type idSlot struct {
	ref   uint32 // see idPlus1; 0: the slot is empty
	index int32
}

// idPlus1 returns a server's ID plus 1: a ref. A ref of 0 means "no server".
func idPlus1(id uint32) uint32 { return id + 1 }

func newIDIndex(ids []uint32) idIndex {
	bits := uint(1)
	for 1<<bits < 2*len(ids) {
		bits++
	}
	x := idIndex{slots: make([]idSlot, 1<<bits), shift: 32 - bits}
	for i, id := range ids {
		m := idPlus1(id)
		at := x.first(m)
		for x.slots[at].ref != 0 {
			at = x.next(at)
		}
		x.slots[at] = idSlot{m, int32(i)}
	}
	return x
}

// find returns the list index of a server by its ref. -1: it is not in the list, or
// the ref is 0.
func (x *idIndex) find(r uint32) int {
	if r == 0 {
		return -1
	}
	for at := x.first(r); x.slots[at].ref != 0; at = x.next(at) {
		if x.slots[at].ref == r {
			return int(x.slots[at].index)
		}
	}
	return -1
}

// first and next give the order in which the slots are searched. 0x9E3779B1 is 2^32
// divided by the golden ratio (Fibonacci hashing): consecutive IDs hash to distant
// slots.
func (x *idIndex) first(m uint32) int { return int(m * 0x9E3779B1 >> x.shift) }
func (x *idIndex) next(at int) int    { return (at + 1) & (len(x.slots) - 1) }
