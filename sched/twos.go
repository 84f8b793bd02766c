package sched

import "math/bits"

// twos draws two servers by weight and takes the one with less load.
//
// IPVS draws a number from 0 to the sum of the weights, both included. The
// eligible servers lie on that line one after another, each as long as its
// weight; the 0 makes the first one likelier than its weight.
type twos struct {
	*least
	cumulative []int64 // by candidate: where it ends on the line of all
	guide      []int32 // by number>>shift: the first candidate that does not end before
	shift      uint    // so that the guide has 4 to 8 times as many entries as there are candidates
}

func newTwos(_ Flags, servers []Server, _ Options) (Picker, error) {
	t := &twos{least: makeLeast(overhead, servers)}
	end := int64(0)
	for i := range t.details {
		end += int64(t.details[i].weight)
		t.cumulative = append(t.cumulative, end)
	}
	for end>>t.shift > 8*int64(len(t.cumulative)) {
		t.shift++
	}
	for i := range t.cumulative {
		for int64(len(t.guide))<<t.shift <= t.cumulative[i] {
			t.guide = append(t.guide, int32(i))
		}
	}
	return t, nil
}

// Pick draws twice, independently; the first draw wins a tie.
func (t *twos) Pick(c *Cursor, f Flow) int {
	if len(t.candidates) == 0 {
		return -1
	}
	random := c.draw()
	a := t.drawCandidate(&random, c, f.Now)
	if a < 0 {
		return -1
	}
	if b := t.drawCandidate(&random, c, f.Now); b >= 0 && t.loadNow(b, f.Now) < t.loadNow(a, f.Now)*margin {
		a = b
	}
	return int(t.details[a].index)
}

// fastDraws is how often drawn tries before it looks at all servers.
const fastDraws = 8

// drawCandidate is a random candidate; -1 if none is eligible.
//
// To draw from the line of all servers, and again if the number falls on one
// that is not eligible, gives the same odds as the line of the eligible ones
// without looking at every server. A server in slow start stands aside for all
// but its share of the draws.
func (t *twos) drawCandidate(random *uint64, c *Cursor, now int64) int {
	for range fastDraws {
		at := t.locate(randomBelow(random, t.cumulative[len(t.cumulative)-1]+1))
		if at >= 0 && !t.details[at].overload.Load() &&
			(now >= t.rampsEnd || c.chance(t.share(int(t.details[at].index), now))) {
			return at
		}
		*random = c.draw()
	}
	return t.drawEligible(random)
}

// locate is the candidate on which a number of the line falls; for 0 the first
// eligible one, -1 if there is none.
func (t *twos) locate(number int64) int {
	if number == 0 {
		for i := range t.details {
			if !t.details[i].overload.Load() {
				return i
			}
		}
		return -1
	}
	at := int(t.guide[number>>t.shift])
	for t.cumulative[at] < number {
		at++
	}
	return at
}

// drawEligible draws from the eligible servers only, by going through all twice.
func (t *twos) drawEligible(random *uint64) int {
	sum := int64(0)
	for i := range t.details {
		sum += t.details[i].eligibleWeight()
	}
	number, last := randomBelow(random, sum+1), -1
	for i := range t.details {
		if weight := t.details[i].eligibleWeight(); weight > 0 {
			last = i
			if number -= weight; number <= 0 {
				break
			}
		}
	}
	return last
}

// eligibleWeight is the weight of a server, 0 if it is not eligible.
func (s *details) eligibleWeight() int64 {
	if s.overload.Load() {
		return 0
	}
	return int64(s.weight)
}

// loadNow is the load of the candidate at, by its weight of the moment.
func (t *twos) loadNow(at int, now int64) float64 {
	load := t.candidates[at].load()
	if now < t.rampsEnd {
		load *= fullShare / float64(t.share(int(t.details[at].index), now))
	}
	return load
}

// randomBelow takes a number from 0 to n-1 out of a random one, which has as much
// less randomness left.
func randomBelow(random *uint64, n int64) int64 {
	number, rest := bits.Mul64(*random, uint64(n))
	*random = rest
	return int64(number)
}
