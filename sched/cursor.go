package sched

import "sync/atomic"

// Cursor is the state of a service's scheduler that survives a change of the
// server list. All workers share it, and Pick changes it without a lock. A Cursor
// belongs to one service and one scheduler: a service that changes its scheduler
// needs a new one.
type Cursor struct {
	scheduler *scheduler
	position  atomic.Uint64 // a position: rr, wrr
	draws     atomic.Uint64 // how many random numbers were drawn, times drawStep
	cache     cache         // lblc, lblcr
}

// NewCursor makes the Cursor of a service that begins to use a scheduler, one of
// Names, with these servers. vips is the number of destination addresses of the
// service, which bounds the memory of lblc and lblcr. 0: unknown, as for a
// firewall mark or a whole network.
func NewCursor(scheduler string, servers []Server, vips int) *Cursor {
	c := &Cursor{scheduler: find(scheduler)}
	if start := c.scheduler.start; start != nil {
		start(c, servers, vips)
	}
	return c
}

// Clone returns an independent copy of c. A simulation picks with it without
// changing the pick of the next client.
func (c *Cursor) Clone() *Cursor {
	n := &Cursor{scheduler: c.scheduler, cache: c.cache.clone()}
	n.position.Store(c.position.Load())
	n.draws.Store(c.draws.Load())
	return n
}

// Rebase adapts the Cursor to a changed list. The control plane calls it once for
// each command that added, edited or deleted servers, before it publishes the new
// Picker. A concurrent Pick may use the same position twice; it has no other
// effect.
func (c *Cursor) Rebase(old, new []Server) {
	if rebase := c.scheduler.rebase; rebase != nil {
		rebase(c, old, new)
	}
}

// drawStep is the increment of the SplitMix64 generator (Steele, Lea and Flood,
// "Fast splittable pseudorandom number generators", 2014): 2^64 divided by the
// golden ratio.
const drawStep = 0x9E3779B97F4A7C15

// draw returns the next random number. A new Cursor always gives the same sequence,
// so that a replayed capture picks the same servers.
func (c *Cursor) draw() uint64 {
	x := c.draws.Add(drawStep)
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
