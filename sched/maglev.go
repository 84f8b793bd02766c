package sched

import (
	"fmt"
	"math/bits"
	"slices"
)

// TableSizes returns the possible sizes of mh's table: the kernel's primes for
// CONFIG_IP_VS_MH_TAB_INDEX 8 to 17, and 65537. That is the smaller size of the
// Maglev paper (Eisenbud et al., NSDI 2016, section 5.3).
func TableSizes() []int {
	return []int{251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 65537, 131071}
}

// DefaultTable is the kernel's default, index 12.
const DefaultTable = 4093

// permutation is the order in which a server fills the table: the slots next,
// next+skip, next+2*skip, ... As the size is prime, this is a permutation of all
// slots. In each round the server takes perRound free slots.
type permutation struct {
	next, skip uint32
	perRound   int32
}

// maglevTable fills a table of size slots (0: DefaultTable) with list indexes. In
// each round the servers take slots in list order, until no slot is free. The table
// is nil if no server ever had a weight.
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
	permutations := maglevPermutations(servers, uint32(size))
	if permutations == nil {
		return nil, nil
	}
	table := make([]uint16, size)
	taken := make([]bool, size)
	for free := size; ; {
		for i := range permutations {
			p := &permutations[i]
			for range p.perRound {
				for taken[p.next] {
					p.next = (p.next + p.skip) % uint32(size)
				}
				table[p.next], taken[p.next] = uint16(i), true
				if free--; free == 0 {
					return table, nil
				}
			}
		}
	}
}

// maglevPermutations returns the servers' permutations, nil if no server has slots at
// all. A server's slots per round are its last weight divided by the greatest common
// divisor. They are halved until the highest number has no more bits than half the table's
// index: 6 bits for 4093 slots, index 12 (ip_vs_mh.c, ip_vs_mh_shift_weight).
func maglevPermutations(servers []Server, size uint32) []permutation {
	var highest, divisor int32
	for i := range servers {
		if w := servers[i].lastWeight(); w > 0 {
			highest, divisor = max(highest, w), gcd(w, divisor)
		}
	}
	if divisor == 0 {
		return nil
	}
	index := bits.Len32(size - 2) // 2 below: 65537 counts as index 16, like 65521
	shift := max(bits.Len32(uint32(highest/divisor))-index/2, 0)

	permutations := make([]permutation, len(servers))
	for i := range servers {
		s := &servers[i]
		name := fold(&s.Addr) + uint32(s.Port)
		permutations[i] = permutation{next: slotKey.hash(name) % size, skip: skipKey.hash(name)%(size-1) + 1}
		if w := s.lastWeight(); w > 0 {
			permutations[i].perRound = max(w/divisor>>shift, 1)
		}
	}
	return permutations
}
