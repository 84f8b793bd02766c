package sched

import (
	"cmp"
	"sync/atomic"
)

// heaviest returns the eligible server with the highest weight, and of equals the
// first in list order. -1: none is eligible.
func (p *pool) heaviest() int {
	best, highest := -1, int32(0)
	for i, w := range p.weight {
		if w > highest && !p.overload[i].Load() {
			best, highest = i, w
		}
	}
	return best
}

// fo (failover) picks the server with the highest weight.
type fo struct{ pool }

func newFO(_ Flags, servers []Server, _ Options) (Picker, error) {
	return &fo{newPool(servers)}, nil
}

func (p *fo) Pick(*Cursor, Flow) int { return p.heaviest() }

// ovf (overflow) picks the server with the highest weight of those that have no more
// active connections than their weight.
type ovf struct {
	pool
	active []*atomic.Int32
}

func newOVF(_ Flags, servers []Server, _ Options) (Picker, error) {
	p := &ovf{newPool(servers), make([]*atomic.Int32, len(servers))}
	for i := range servers {
		p.active[i] = cmp.Or(servers[i].Active, &noConns)
	}
	return p, nil
}

func (p *ovf) Pick(*Cursor, Flow) int {
	best, highest := -1, int32(0)
	for i, w := range p.weight {
		if w > highest && p.active[i].Load() <= w && !p.overload[i].Load() {
			best, highest = i, w
		}
	}
	return best
}
