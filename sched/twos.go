package sched

import "math/bits"

// twos draws two random servers by weight and picks the one with less load.
//
// IPVS draws a number from 0 to the sum of the weights, inclusive. Each eligible
// server has an interval of the length of its weight, in list order. The 0 makes
// the first one likelier than its weight.
type twos struct {
	*least
	cumulative []int64 // by candidate: the end of its interval, all servers included
	guide      []int32 // by number>>shift: the first candidate whose interval does not end before
	shift      uint    // makes 4 to 8 guide entries for each candidate
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

// Pick draws twice, independently. The first draw wins a tie.
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

// fastDraws is the number of attempts of drawCandidate before it reads all servers.
const fastDraws = 8

// drawCandidate returns a random candidate. -1: none is eligible.
//
// It draws from the intervals of all servers, and again if the server is not
// eligible. That gives the same probabilities as IPVS, without a look at every
// server. A server in slow start declines all but its share of the draws.
func (t *twos) drawCandidate(random *uint64, c *Cursor, now int64) int {
	for range fastDraws {
		at := t.locate(randomBelow(random, t.cumulative[len(t.cumulative)-1]+1))
		if at >= 0 && !t.details[at].overload.Load() &&
			(now >= t.lastEnd || c.chance(t.share(int(t.details[at].index), now))) {
			return at
		}
		*random = c.draw()
	}
	return t.drawEligible(random)
}

// locate returns the candidate whose interval contains a number. For 0 it is the
// first eligible one, -1 if there is none.
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

// drawEligible draws from the eligible servers only. It reads all servers twice.
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

// eligibleWeight returns the weight of a server, 0 if it is not eligible.
func (s *details) eligibleWeight() int64 {
	if s.overload.Load() {
		return 0
	}
	return int64(s.weight)
}

// loadNow returns the load of candidate at, by its current weight.
func (t *twos) loadNow(at int, now int64) float64 {
	load := t.candidates[at].load()
	if now < t.lastEnd {
		load *= fullShare / float64(t.share(int(t.details[at].index), now))
	}
	return load
}

// randomBelow returns a number from 0 to n-1. It takes it out of random, which keeps
// the rest of its randomness.
func randomBelow(random *uint64, n int64) int64 {
	number, rest := bits.Mul64(*random, uint64(n))
	*random = rest
	return int64(number)
}
