package sched

import (
	"fmt"
	"math/bits"
	"slices"
)

// TableSizes are the sizes mh's table can have: the kernel's primes for
// CONFIG_IP_VS_MH_TAB_INDEX 8 to 17, and 65537, the smaller size of the Maglev
// paper (Eisenbud et al., NSDI 2016, section 5.3).
func TableSizes() []int {
	return []int{251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 65537, 131071}
}

// DefaultTable is the kernel's default, index 12.
const DefaultTable = 4093

// permutation is how a server fills the table: it tries the slots next, next+skip,
// next+2*skip, ... (a permutation of all, the size being prime) and takes
// turns free ones of them in each round.
type permutation struct {
	next, skip uint32
	perRound   int32
}

// maglevTable fills a table of size slots (0: DefaultTable) with list indexes:
// the servers take slots by turns, in list order, until none is free. It is
// nil if no server ever had a weight.
func maglevTable(servers []Server, size int) ([]uint16, error) {
	if size == 0 {
		size = DefaultTable
	}
	if !slices.Contains(TableSizes(), size) {
		return nil, fmt.Errorf("mh table of %d slots: must be one of %v", size, TableSizes())
	}
	if len(servers) > size {
		return nil, fmt.Errorf("%d servers in an mh table of %d slots: at most one each", len(servers), size)
	}
	seats, any := maglevPermutations(servers, uint32(size))
	if !any {
		return nil, nil
	}
	table := make([]uint16, size)
	taken := make([]bool, size)
	for free := size; ; {
		for i := range seats {
			s := &seats[i]
			for range s.perRound {
				for taken[s.next] {
					s.next = (s.next + s.skip) % uint32(size)
				}
				table[s.next], taken[s.next] = uint16(i), true
				if free--; free == 0 {
					return table, nil
				}
			}
		}
	}
}

// maglevPermutations are the servers' permutations and turns; any says whether there
// is a turn at all. A server's turns per round are its last weight over the
// greatest common divisor, halved until the highest takes no more bits than
// half the table's (ip_vs_mh_shift_weight; for 4093 slots, index 12, 6 bits).
func maglevPermutations(servers []Server, size uint32) (seats []permutation, any bool) {
	var highest, divisor int32
	for i := range servers {
		if w := servers[i].lastWeight(); w > 0 {
			highest, divisor = max(highest, w), gcd(w, divisor)
		}
	}
	if divisor == 0 {
		return nil, false
	}
	index := bits.Len32(size - 2) // 2 below: 65537 counts as index 16, like 65521
	shift := max(bits.Len32(uint32(highest/divisor))-index/2, 0)

	seats = make([]permutation, len(servers))
	for i := range servers {
		s := &servers[i]
		name := fold(&s.Addr) + uint32(s.Port)
		seats[i] = permutation{
			next: slotKey.hash(name) % size,
			skip: skipKey.hash(name)%(size-1) + 1,
		}
		if w := s.lastWeight(); w > 0 {
			seats[i].perRound = max(w/divisor>>shift, 1)
		}
	}
	return seats, true
}
