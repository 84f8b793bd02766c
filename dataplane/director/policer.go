package director

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	"uvs/conntrack"
	"uvs/dataplane/wire"
)

// Policers remember how fast clients begin connections, for all services and
// workers, in 512 KiB whatever happens: 65536 clients in lines of eight slots, a
// cache line each. A slot holds the time at which its client has used up what
// it may (GCRA, ITU-T I.371) and a tag of who it is:
//
//	bit 63      44 43                        0
//	+-------------+--------------------------+
//	| tag, not 0  | microseconds (203 days)  |
//	+-------------+--------------------------+
//
// A client whose line is full takes the slot of the one nearest to having all it
// may. So under a flood from more addresses than there are slots, clients are
// forgotten and begin anew: it errs towards letting through, for the other way
// strangers could use up what an honest client may. That two clients of a line
// have the same tag, and share what one may, happens to one pair in a million.
// The hash is keyed, so nobody can choose who meets whom.
type Policers struct {
	secret [4]uint64
	lines  [policerLines][8]atomic.Uint64
}

// MaxRate is the highest Limit.Rate: policers count in microseconds.
const MaxRate = 1e6

const (
	policerLines  = 1 << 13
	policerTries  = 4 // a slot that others change as often is given up: let through
	policerSecond = 1e6
	policerShift  = 44
	policerMask   = 1<<policerShift - 1
)

// NewPolicers makes policers that know nobody.
func NewPolicers() *Policers {
	p := new(Policers)
	var raw [32]byte
	rand.Read(raw[:]) // never fails (crypto/rand since Go 1.24)
	for i := range p.secret {
		p.secret[i] = binary.LittleEndian.Uint64(raw[8*i:])
	}
	return p
}

// allow says whether a client may begin one more connection with a service.
func (s *Policers) allow(service uint32, client *wire.Addr, now conntrack.Tick, rate uint32) bool {
	h := s.hash(service, client)
	line, tag := &s.lines[h%policerLines], max(h>>policerShift, 1)
	us, cost := uint64(now)*1000, int64(policerSecond/rate)
	for range policerTries {
		slot, used := s.find(line, tag, us)
		old := slot.Load()
		if old>>policerShift != tag {
			used = 0
		}
		if used > policerSecond-cost {
			return false
		}
		if slot.CompareAndSwap(old, tag<<policerShift|(us+uint64(used+cost))&policerMask) {
			return true
		}
	}
	return true
}

// find is the slot of a tag, or the one to take for it, with the microseconds
// it is ahead of now.
func (s *Policers) find(line *[8]atomic.Uint64, tag, now uint64) (slot *atomic.Uint64, used int64) {
	for i := range line {
		w := line[i].Load()
		ahead := int64((w-now)<<(64-policerShift)) >> (64 - policerShift)
		if ahead < 0 || ahead > policerSecond { // long ago
			ahead = 0
		}
		if w>>policerShift == tag {
			return &line[i], ahead
		}
		if slot == nil || ahead < used {
			slot, used = &line[i], ahead
		}
	}
	return slot, used
}

// hash is keyed multiplication, as that of conntrack's secret.
func (s *Policers) hash(service uint32, client *wire.Addr) uint64 {
	h, l := bits.Mul64(binary.LittleEndian.Uint64(client[:8])+s.secret[0], binary.LittleEndian.Uint64(client[8:])+s.secret[1])
	a, b := bits.Mul64(h^s.secret[2], l+uint64(service)^s.secret[3])
	return a ^ b
}
