package sched

import "math/bits"

// twos draws two servers by weight and takes the one with less load.
type twos struct{ *least }

func newTwos(_ Flags, servers []Server, _ Options) (Picker, error) {
	return &twos{makeLeast(overhead, 0, servers)}, nil
}

// Pick draws two numbers from 0 to the sum of all weights, both included, and
// walks the list, taking weights off, to where each is used up; the 0 that is
// in it too makes the first server one likelier than its weight, as in IPVS.
func (t *twos) Pick(c *Cursor, f Flow) int {
	sum := int64(0)
	for i := range t.list {
		sum += t.weight(i, f.Now)
	}
	if sum == 0 {
		return -1
	}
	first, second := c.below(sum+1), c.below(sum+1)
	a, b := -1, -1
	for i := range t.list {
		w := t.weight(i, f.Now)
		if w == 0 {
			continue
		}
		first -= w
		second -= w
		if first <= 0 && a < 0 {
			a = i
		}
		if second <= 0 && b < 0 {
			b = i
		}
		if a >= 0 && b >= 0 {
			break
		}
	}
	return t.lighter(a, b, f.Now)
}

// weight is what the candidate at i weighs at the moment; 0: not eligible.
func (t *twos) weight(i int, now int64) int64 {
	s := &t.list[i]
	switch {
	case s.overload.Load():
		return 0
	case now < t.over:
		return int64(s.weight) * t.share(int(s.index), now)
	}
	return int64(s.weight)
}

// lighter is the one with less overhead for its weight of the candidates a and
// b, a if they are equal, as a list index. A draw that found nothing, because
// a server became overloaded meanwhile, leaves the other.
func (t *twos) lighter(a, b int, now int64) int {
	switch {
	case a < 0 && b < 0:
		return -1
	case a < 0:
		a = b
	case b >= 0 && t.weight(b, now)*t.cost(a) > t.weight(a, now)*t.cost(b):
		a = b
	}
	return int(t.list[a].index)
}

// cost is the formula's cost of the candidate at i.
func (l *least) cost(i int) int64 {
	s := &l.list[i]
	return l.active*int64(s.active.Load()) + l.inactive*int64(s.inactive.Load()) + l.plus
}

// below draws a number from 0 to n-1.
func (c *Cursor) below(n int64) int64 {
	high, _ := bits.Mul64(c.draw(), uint64(n))
	return int64(high)
}
