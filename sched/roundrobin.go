package sched

import "math/bits"

// rr gives each server its turn: the next eligible one after the last used.
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

// Pick moves the cursor on, unless no server is eligible.
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
		if c.position.CompareAndSwap(was, uint64(newPosition(ref(r.ids[i]), 0))) {
			return i
		}
	}
}

// after is the first server past list index i, and before end, whose weight
// is at least least and that is not overloaded; -1 if there is none.
func (r *rr) after(i, end int, least int32) int {
	for {
		i = r.tree.firstAtLeast(i+1, least)
		if i < 0 || i >= end {
			return -1
		}
		if !r.overload[i].Load() {
			return i
		}
	}
}

// wrr lets the servers take turns at falling levels: at level cw all with a
// weight of at least cw, in list order; then cw falls by gap, and below 1 it
// starts again from top.
type wrr struct {
	rr
	levels
}

// levels are the levels wrr goes through: top, top-gap, ... 1.
type levels struct {
	top int32 // highest weight - (gap-1); 0: no weight above 0
	gap int32 // greatest common divisor of the weights above 0
}

func newLevels(weights []int32) levels {
	var l levels
	for _, w := range weights {
		l = l.with(w)
	}
	return l
}

// with is l after a server of weight w came in.
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
	w := &wrr{rr: *r.(*rr)}
	w.levels = newLevels(w.weight)
	return w, nil
}

// Pick moves the cursor on. Where nobody is eligible the kernel's cursor moves
// too, and so does this one.
func (w *wrr) Pick(c *Cursor, _ Flow) int {
	if w.top == 0 {
		return -1
	}
	for {
		was := c.position.Load()
		i, now := w.step(position(was))
		if c.position.CompareAndSwap(was, uint64(now)) {
			return i
		}
	}
}

// step says whose turn it is after t, -1 for nobody's, and the turn that is.
func (w *wrr) step(from position) (int, position) {
	level := from.level()
	if level <= 0 || level > w.top { // fresh, or left by another list
		level = w.top
	}
	last := w.find(from.ref())
	if i := w.after(last, len(w.weight), level); i >= 0 {
		return i, newPosition(ref(w.ids[i]), level)
	}
	lower := w.below(level)
	if i := w.after(-1, len(w.weight), lower); i >= 0 {
		return i, newPosition(ref(w.ids[i]), lower)
	}
	// All servers heavy enough are overloaded. Walking on level by level would
	// end where the heaviest of the others comes in.
	if i := w.heaviest(); i >= 0 {
		return i, newPosition(ref(w.ids[i]), w.weight[i]-(w.gap-1))
	}
	// The kernel gives up after a whole walk at level 1: at the end of the
	// list if it came down to that level, at its start if it began on it.
	if last >= 0 && level <= w.gap {
		return -1, newPosition(from.ref(), level)
	}
	return -1, newPosition(0, w.top)
}

// below is the level after level.
func (l levels) below(level int32) int32 {
	if level -= l.gap; level > 0 {
		return level
	}
	return l.top
}

// maxTree finds the next server in list order with at least a given weight in
// logarithmic time, so that a few heavy servers among many light ones do not
// make wrr walk the whole list for each pick. It is a tree of maxima laid out
// as a heap: node k has the children 2k and 2k+1, the leaves are the weights.
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

// firstAtLeast is the first list index from i on with a weight of at least least,
// which must be above 0; -1 if there is none.
func (h *maxTree) firstAtLeast(i int, least int32) int {
	if i >= h.leaves {
		return -1
	}
	k := h.leaves + i
	for h.node[k] < least {
		// On to the right neighbour, as the root of the largest subtree that
		// begins there. Past the last one that is the root of all.
		k++
		k >>= bits.TrailingZeros(uint(k))
		if k == 1 {
			return -1
		}
	}
	for k < h.leaves {
		if k *= 2; h.node[k] < least {
			k++
		}
	}
	return k - h.leaves
}

// gcd is the greatest common divisor; gcd(a, 0) is a.
func gcd(a, b int32) int32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
