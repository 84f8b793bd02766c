package sched

import (
	"slices"
	"sync/atomic"
)

// Cursor is what a service's scheduler remembers from pick to pick and from
// one server list to the next. All workers share it; Pick changes it without a
// lock. One cursor belongs to one service and one scheduler: a service that
// changes its scheduler gets a new one.
type Cursor struct {
	scheduler string
	position  atomic.Uint64 // a turn: rr, wrr
	draws     atomic.Uint64 // how many random numbers were drawn, times drawStep
	cache     cache         // lblc, lblcr
}

// position says where rr or wrr stands: the server used last (its mark; 0: before
// the first) in the low half and wrr's level in the high half. The zero turn
// is the start of the list on the highest level.
type position uint64

func newPosition(mark uint32, level int32) position { return position(level)<<32 | position(mark) }
func (t position) ref() uint32                      { return uint32(t) }
func (t position) level() int32                     { return int32(t >> 32) }

// NewCursor makes the cursor of a service that begins to use scheduler, with
// the servers it has by then. vips is how many destination addresses the
// service may be asked for, which bounds the memory of lblc and lblcr; 0:
// unknown, as for a mark or a whole net.
func NewCursor(scheduler string, servers []Server, vips int) *Cursor {
	c := &Cursor{scheduler: scheduler}
	switch scheduler {
	case "wrr":
		c.position.Store(uint64(newPosition(0, newLevels(weights(servers)).top)))
	case "lblc", "lblcr":
		c.cache = newCache(vips)
	}
	return c
}

// Clone is a cursor that stands where c does and goes its own way from there,
// for questions that must not change what the next client gets.
func (c *Cursor) Clone() *Cursor {
	n := &Cursor{scheduler: c.scheduler, cache: c.cache.clone()}
	n.position.Store(c.position.Load())
	n.draws.Store(c.draws.Load())
	return n
}

// Rebase carries the cursor over to a changed list. The control side calls it
// once for each command that added, edited or deleted servers, before it
// publishes the new Picker. A pick at that very moment may take the same turn
// twice; nothing else can go wrong.
func (c *Cursor) Rebase(old, new []Server) {
	t := position(c.position.Load())
	switch c.scheduler {
	case "rr":
		t = newPosition(survivor(t.ref(), old, new), 0)
	case "wrr":
		t = newPosition(0, rebaseLevel(t.level(), old, new))
	case "":
		panic("sched: cursor not made by NewCursor")
	default:
		return
	}
	c.position.Store(uint64(t))
}

// survivor is the marked server if it is still listed, else the nearest one
// before it in the old list that is; 0 if there is none.
func survivor(r uint32, old, new []Server) uint32 {
	at := slices.IndexFunc(old, func(s Server) bool { return ref(s.ID) == r })
	for ; at >= 0; at-- {
		if listed(new, old[at].ID) {
			return ref(old[at].ID)
		}
	}
	return 0
}

// rebaseLevel is wrr's level after the list changed. IPVS settles the level
// after every single change, so that the servers already there when another
// is added matter: a list changed in one go is settled once after what was
// deleted and edited, and again after each server added, oldest first.
func rebaseLevel(level int32, old, new []Server) int32 {
	known := make(map[uint32]bool, len(old))
	for i := range old {
		known[old[i].ID] = true
	}
	var l levels
	for i := range new {
		if known[new[i].ID] {
			l = l.with(new[i].weight())
		}
	}
	level = l.settle(level)
	for i := len(new) - 1; i >= 0; i-- {
		if !known[new[i].ID] {
			l = l.with(new[i].weight())
			level = l.settle(level)
		}
	}
	return level
}

// settle moves a level of an earlier list to one of l.
func (l levels) settle(level int32) int32 {
	switch {
	case level > l.top || level == 0:
		return l.top
	case l.gap > 1:
		return level/l.gap*l.gap + 1
	}
	return level
}

func listed(servers []Server, id uint32) bool {
	return slices.ContainsFunc(servers, func(s Server) bool { return s.ID == id })
}

func weights(servers []Server) []int32 {
	list := make([]int32, len(servers))
	for i := range servers {
		list[i] = servers[i].weight()
	}
	return list
}

// drawStep is the increment of the SplitMix64 generator (Steele, Lea and Flood,
// "Fast splittable pseudorandom number generators", 2014): 2^64 divided by the
// golden ratio.
const drawStep = 0x9E3779B97F4A7C15

// draw returns the next random number. The same cursor gives the same numbers
// again, so that a replayed capture picks the same servers.
func (c *Cursor) draw() uint64 {
	x := c.draws.Add(drawStep)
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
