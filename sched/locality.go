package sched

import (
	"math"
	"slices"
	"time"
)

// locality keeps a destination address on the server that got it first (lblc)
// or on a set of servers that grows with their load (lblcr); a server for it is
// found as by wlc. It is for servers that are caches, behind a service that
// stands for many addresses: a net or a mark.
type locality struct {
	*least     // wlc, over the servers with a weight
	idIndex    // by ID, indexes of least.candidates
	ids        []uint32
	replicate  bool   // lblcr
	expiration uint32 // s
}

func newLBLC(_ Flags, servers []Server, o Options) (Picker, error) {
	return newLocality(servers, o, false), nil
}

func newLBLCR(_ Flags, servers []Server, o Options) (Picker, error) {
	return newLocality(servers, o, true), nil
}

func newLocality(servers []Server, o Options, replicate bool) *locality {
	l := &locality{least: makeLeast(overhead, servers), replicate: replicate}
	for i := range l.candidates {
		l.ids = append(l.ids, servers[l.details[i].index].ID)
	}
	l.idIndex = newIDIndex(l.ids)
	if o.Expiration == 0 {
		o.Expiration = DefaultExpiration
	}
	l.expiration = uint32(o.Expiration / time.Second)
	return l
}

// Pick returns a server the address is on already, unless there is none or it
// is busy; else wlc's, which the address is on from then on.
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
	l.assign(&e, &f, now, ref(l.ids[at]))
	return int(l.details[at].index)
}

// leastInSet is the server to use of those in e, as a candidate; -1: none. lblc
// has one and takes it even if it is overloaded; lblcr takes the least loaded
// that is not, of several the one added last.
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

// shrink takes the most loaded server out of a set of several that has not
// changed for the expiration time.
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

// busy says whether the candidate has more active connections than its weight
// while another has fewer than half of its own.
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

// assign puts the address on the marked server: alone with lblc, too with
// lblcr. A full set loses the server added first.
func (l *locality) assign(e *entry, f *Flow, now uint32, m uint32) {
	switch {
	case slices.Contains(e.servers[:e.size], m):
		return
	case !l.replicate:
		e.size = 0
	case e.size == maxSetSize:
		copy(e.servers[:], e.servers[1:])
		e.size--
	}
	e.servers[e.size] = m
	e.size++
	e.put(&f.VIP, now)
}
