package sched

import "math/bits"

// twos draws two servers by weight and takes the one with less load.
type twos struct{ *least }

func newTwos(_ Flags, servers []Server, _ Options) (Picker, error) {
	return &twos{makeLeast(overhead, servers)}, nil
}

// Pick draws two numbers from 0 to the sum of all weights, both included. The
// servers lie on that line one after another, each as long as its weight; the
// 0 makes the first one likelier than its weight, as in IPVS.
func (t *twos) Pick(c *Cursor, f Flow) int {
	sum := t.sum(f.Now)
	if sum == 0 {
		return -1
	}
	a, b := c.below(sum+1), c.below(sum+1)
	near, end := t.locate(max(min(a, b), 1), 0, 0, f.Now)
	far := near
	if most := max(a, b); most > end {
		far, _ = t.locate(most, near+1, end, f.Now)
	}
	if a > b {
		near, far = far, near
	}
	return t.lighterOf(near, far, f.Now)
}

// sum is the weight of all together.
func (t *twos) sum(now int64) int64 {
	sum := int64(0)
	for i := range t.more {
		weight := t.more[i].open()
		if now < t.over {
			weight *= t.share(int(t.more[i].index), now)
		}
		sum += weight
	}
	return sum
}

// locate is the candidate, from i on, on which a number falls, and where that
// candidate ends; i begins at start. It is -1 for a number behind the last,
// which is so only if a server became overloaded meanwhile.
func (t *twos) locate(number int64, i int, start, now int64) (int, int64) {
	for end := start; i < len(t.more); i++ {
		weight := t.more[i].open()
		if now < t.over {
			weight *= t.share(int(t.more[i].index), now)
		}
		if end += weight; end >= number {
			return i, end
		}
	}
	return -1, number
}

// open is the weight of a server, 0 if it is not eligible. It is small enough
// to be put in line, which halves the time of twos.
func (s *particulars) open() int64 {
	if s.overload.Load() {
		return 0
	}
	return int64(s.weight)
}

// lighterOf is the one of the candidates a and b with less load, a if they are
// equal, as a list index.
func (t *twos) lighterOf(a, b int, now int64) int {
	if a < 0 {
		a, b = b, a
	}
	if a < 0 {
		return -1
	}
	if b >= 0 && t.weighed(b, now) < t.weighed(a, now)*margin {
		a = b
	}
	return int(t.more[a].index)
}

// weighed is the load of the candidate at i with its weight of the moment.
func (t *twos) weighed(i int, now int64) float64 {
	return t.load(i) * fullShare / float64(t.share(int(t.more[i].index), now))
}

// below draws a number from 0 to n-1.
func (c *Cursor) below(n int64) int64 {
	high, _ := bits.Mul64(c.draw(), uint64(n))
	return int64(high)
}
