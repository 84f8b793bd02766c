package sched

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// locality sends a destination address always to the same server (lblc), or to a set
// of servers that grows with their load (lblcr). It finds a server for a new
// address as wlc does. It is made for cache servers of a service with many
// addresses, such as a network or a firewall mark.
type locality struct {
	*least     // wlc over the servers with a weight
	idIndex    // indexes of candidates
	ids        []uint32
	replicate  bool   // lblcr
	expiration uint32 // s
}

func newLocality(replicate bool) constructor {
	return func(_ Flags, servers []Server, o Options) (Picker, error) {
		l := &locality{least: makeLeast(overhead, servers), replicate: replicate}
		for i := range l.candidates {
			l.ids = append(l.ids, servers[l.details[i].index].ID)
		}
		l.idIndex = newIDIndex(l.ids)
		l.expiration = uint32(cmp.Or(o.Expiration, DefaultExpiration) / time.Second)
		return l, nil
	}
}

// Pick returns the server of the address, if it has one that is not busy. Else it
// picks one as wlc does, and assigns the address to it.
func (l *locality) Pick(c *Cursor, f Flow) int {
	now := uint32(f.Now / 1000)
	var e entry
	at := -1
	if c.cache.find(&f.VIP, now, l.expiration, &e) {
		at = l.leastInSet(&e)
		l.shrink(&e, &f, now)
	} else {
		e.size = 0
	}
	if at >= 0 && !l.busy(at) {
		return int(l.details[at].index)
	}
	if at = l.pickCandidate(c, f.Now); at < 0 {
		return -1
	}
	l.assign(&e, &f, now, idPlus1(l.ids[at]))
	return int(l.details[at].index)
}

// leastInSet returns the server of e to use, as a candidate. -1: none. lblc has one
// server, and uses it even if it is overloaded. lblcr uses the least loaded of the
// others, and of equals the one added last.
func (l *locality) leastInSet(e *entry) int {
	best, limit := -1, math.Inf(1)
	for i := e.size - 1; i >= 0; i-- {
		at := l.find(e.servers[i])
		if at < 0 || l.replicate && l.details[at].overload.Load() {
			continue
		}
		if load := l.candidates[at].load(); load < limit {
			best, limit = at, load*margin
		}
	}
	return best
}

// shrink removes the most loaded server from a set of several that has not changed
// for the expiration time.
func (l *locality) shrink(e *entry, f *Flow, now uint32) {
	if e.size < 2 || seconds(e.changed, now) <= l.expiration {
		return
	}
	most, limit := -1, -1.0
	for i := e.size - 1; i >= 0; i-- {
		at := l.find(e.servers[i])
		if at < 0 {
			continue
		}
		if load := l.candidates[at].load(); load*margin > limit {
			most, limit = i, load
		}
	}
	if most >= 0 {
		copy(e.servers[most:], e.servers[most+1:e.size])
		e.size--
		e.put(&f.VIP, now)
	}
}

// busy reports whether the candidate has more active connections than its weight,
// while another has fewer than half of its weight.
func (l *locality) busy(at int) bool {
	if l.candidates[at].active.Load() <= l.details[at].weight {
		return false
	}
	for i := range l.candidates {
		if 2*int64(l.candidates[i].active.Load()) < int64(l.details[i].weight) {
			return true
		}
	}
	return false
}

// assign assigns the address to the server r, a ref: with lblc to it alone, with
// lblcr also. A full set loses the server added first.
func (l *locality) assign(e *entry, f *Flow, now, r uint32) {
	switch {
	case slices.Contains(e.servers[:e.size], r):
		return
	case !l.replicate:
		e.size = 0
	case e.size == maxSetSize:
		copy(e.servers[:], e.servers[1:])
		e.size--
	}
	e.servers[e.size] = r
	e.size++
	e.put(&f.VIP, now)
}
