package sched

import (
	"math/bits"
	"slices"
)

// position is a round-robin position. The low half is the ref of the server used
// last, 0 for none. The high half is wrr's level. The zero position is the start
// of the list at the highest level.
type position uint64

func newPosition(ref uint32, level int32) position { return position(level)<<32 | position(ref) }
func (p position) ref() uint32                     { return uint32(p) }
func (p position) level() int32                    { return int32(p >> 32) }

// rr picks the next eligible server after the one used last.
type rr struct {
	pool
	idIndex
	ids  []uint32
	tree maxTree
}

func newRR(_ Flags, servers []Server, _ Options) (Picker, error) {
	r := &rr{pool: newPool(servers), ids: make([]uint32, len(servers))}
	for i := range servers {
		r.ids[i] = servers[i].ID
	}
	r.idIndex = newIDIndex(r.ids)
	r.tree = newMaxTree(r.weight)
	return r, nil
}

// rebaseRR keeps the position at the server used last. If that is gone, it moves
// to the nearest server before it in the old list that is still there.
func rebaseRR(c *Cursor, old, new []Server) {
	last := position(c.position.Load()).ref()
	at := slices.IndexFunc(old, func(s Server) bool { return idPlus1(s.ID) == last })
	for at >= 0 && !slices.ContainsFunc(new, func(s Server) bool { return s.ID == old[at].ID }) {
		at--
	}
	p := position(0)
	if at >= 0 {
		p = newPosition(idPlus1(old[at].ID), 0)
	}
	c.position.Store(uint64(p))
}

// Pick advances the position, unless no server is eligible.
func (r *rr) Pick(c *Cursor, _ Flow) int {
	for {
		was := c.position.Load()
		last := r.find(position(was).ref())
		i := r.after(last, len(r.weight), 1)
		if i < 0 {
			i = r.after(-1, last+1, 1)
		}
		if i < 0 {
			return -1
		}
		if c.position.CompareAndSwap(was, uint64(newPosition(idPlus1(r.ids[i]), 0))) {
			return i
		}
	}
}

// after returns the first server after list index i, and before end, that has at
// least this weight and is not overloaded. -1: none.
func (r *rr) after(i, end int, weight int32) int {
	for {
		i = r.tree.firstAtLeast(i+1, weight)
		if i < 0 || i >= end {
			return -1
		}
		if !r.overload[i].Load() {
			return i
		}
	}
}

// wrr picks by levels, as ip_vs_wrr.c does. At a level all servers with at least
// that weight are picked, in list order. Then the level falls by gap, and from
// below 1 it returns to top. The kernel's struct ip_vs_wrr_mark calls the level
// cw, top mw and gap di.
type wrr struct {
	rr
	levels
}

// levels are the levels of wrr: top, top-gap, ... 1.
type levels struct {
	top int32 // highest weight - (gap-1); 0: no weight above 0
	gap int32 // greatest common divisor of the weights above 0
}

func newLevels(servers []Server) levels {
	var l levels
	for i := range servers {
		l = l.with(servers[i].weight())
	}
	return l
}

// with returns l with another server of weight w.
func (l levels) with(w int32) levels {
	if w <= 0 {
		return l
	}
	highest := max(w, l.top+l.gap-1)
	gap := gcd(w, l.gap)
	return levels{top: highest - (gap - 1), gap: gap}
}

func newWRR(f Flags, servers []Server, o Options) (Picker, error) {
	r, _ := newRR(f, servers, o)
	return &wrr{rr: *r.(*rr), levels: newLevels(servers)}, nil
}

func startWRR(c *Cursor, servers []Server, _ int) {
	c.position.Store(uint64(newPosition(0, newLevels(servers).top)))
}

// rebaseWRR moves the position to the start of the list, at an adjusted level.
// IPVS adjusts the level after every single command, so the result depends on
// their order. Of a list that changed at once, the level is adjusted after all
// deletions and edits, and again after each added server, oldest first.
func rebaseWRR(c *Cursor, old, new []Server) {
	level := position(c.position.Load()).level()
	inOld := make(map[uint32]bool, len(old))
	for i := range old {
		inOld[old[i].ID] = true
	}
	var l levels
	for i := range new {
		if inOld[new[i].ID] {
			l = l.with(new[i].weight())
		}
	}
	level = l.adjust(level)
	for i := len(new) - 1; i >= 0; i-- {
		if !inOld[new[i].ID] {
			l = l.with(new[i].weight())
			level = l.adjust(level)
		}
	}
	c.position.Store(uint64(newPosition(0, level)))
}

// adjust maps a level of an earlier list to a level of l.
func (l levels) adjust(level int32) int32 {
	switch {
	case level > l.top || level == 0:
		return l.top
	case l.gap > 1:
		return level/l.gap*l.gap + 1
	}
	return level
}

// Pick advances the position. Like the kernel's, it moves even if no server is
// eligible.
func (w *wrr) Pick(c *Cursor, _ Flow) int {
	if w.top == 0 {
		return -1
	}
	for {
		was := c.position.Load()
		i, next := w.step(position(was))
		if c.position.CompareAndSwap(was, uint64(next)) {
			return i
		}
	}
}

// step returns the server that follows position from, -1 for none, and the
// position after it.
func (w *wrr) step(from position) (int, position) {
	level := from.level()
	if level <= 0 || level > w.top { // a new Cursor, or the level of another list
		level = w.top
	}
	last := w.find(from.ref())
	if i := w.after(last, len(w.weight), level); i >= 0 {
		return i, newPosition(idPlus1(w.ids[i]), level)
	}
	lower := level - w.gap
	if lower <= 0 {
		lower = w.top
	}
	if i := w.after(-1, len(w.weight), lower); i >= 0 {
		return i, newPosition(idPlus1(w.ids[i]), lower)
	}
	// All servers with that weight are overloaded. The kernel walks on level by
	// level, which ends at the level of the heaviest of the other servers.
	if i := w.heaviest(); i >= 0 {
		return i, newPosition(idPlus1(w.ids[i]), w.weight[i]-(w.gap-1))
	}
	// The kernel gives up after a whole walk at level 1. It stops at the end of
	// the list if the level fell to 1 in this walk, and at the start of the list
	// if the walk began at level 1.
	if last >= 0 && level <= w.gap {
		return -1, newPosition(from.ref(), level)
	}
	return -1, newPosition(0, w.top)
}

// maxTree finds the next server, in list order, that has at least a given weight.
// It takes logarithmic time: a few heavy servers among many light ones do not make
// wrr walk the whole list for each pick. It is a tree of maxima, laid out as a
// heap. Node k has the children 2k and 2k+1, and the leaves are the weights.
type maxTree struct {
	node   []int32
	leaves int // a power of two; node[leaves] is the weight of server 0
}

func newMaxTree(weights []int32) maxTree {
	h := maxTree{leaves: 1}
	for h.leaves < len(weights) {
		h.leaves *= 2
	}
	h.node = make([]int32, 2*h.leaves)
	copy(h.node[h.leaves:], weights)
	for k := h.leaves - 1; k > 0; k-- {
		h.node[k] = max(h.node[2*k], h.node[2*k+1])
	}
	return h
}

// firstAtLeast returns the first list index from i on with at least this weight,
// which must be above 0. -1: none.
func (h *maxTree) firstAtLeast(i int, weight int32) int {
	if i >= h.leaves {
		return -1
	}
	k := h.leaves + i
	for h.node[k] < weight {
		// Continue at the next leaf, at the root of the largest subtree that
		// begins there. Behind the last leaf that is the root of the tree.
		k++
		k >>= bits.TrailingZeros(uint(k))
		if k == 1 {
			return -1
		}
	}
	for k < h.leaves {
		if k *= 2; h.node[k] < weight {
			k++
		}
	}
	return k - h.leaves
}

// gcd returns the greatest common divisor. gcd(a, 0) is a.
func gcd(a, b int32) int32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
