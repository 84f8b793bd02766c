package director

import (
	"sync/atomic"

	"uvs/conntrack"
	"uvs/dataplane/keyhash"
	"uvs/dataplane/wire"
)

// Policers limit how fast clients begin connections, for all services and workers. They
// take 512 KiB: 65536 clients in lines of eight slots, a cache line each. A slot has a
// tag of its client, and the theoretical arrival time of GCRA (ITU-T I.371): until then
// the client has used up its rate.
//
//	bit 63      44 43                        0
//	+-------------+--------------------------+
//	| tag, not 0  | microseconds (203 days)  |
//	+-------------+--------------------------+
//
// A client whose line is full takes the slot of the client that has used least of its
// rate. In a flood from more addresses than there are slots, clients are forgotten and
// may begin more than they should. The other error would be worse: strangers could use
// up an honest client's rate.
//
// Two clients of one line share a tag, and so a rate, in one case of a million. The
// hash is keyed, so clients cannot choose their line.
type Policers struct {
	lines [policerLines][8]atomic.Uint64 // first, so that they begin at cache lines
	key   keyhash.Key
}

// MaxRate is the highest Limit.Rate, because policers count in microseconds.
const MaxRate = 1e6

const (
	policerLines  = 1 << 13
	policerTries  = 4 // then the client may begin: others changed the slot each time
	policerSecond = 1e6
	policerShift  = 44
	policerMask   = 1<<policerShift - 1
)

// NewPolicers returns policers that have seen no client.
func NewPolicers() *Policers { return &Policers{key: keyhash.New(0)} }

// allow reports whether a client may begin one more connection with a service now, and
// counts it.
func (s *Policers) allow(service uint32, client *wire.Addr, now conntrack.Tick, rate uint32) bool {
	h := s.key.Hash(client, uint64(service))
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

// find returns the slot of a tag, or the one to take for it, and by how many
// microseconds that is ahead of now.
func (s *Policers) find(line *[8]atomic.Uint64, tag, now uint64) (slot *atomic.Uint64, used int64) {
	for i := range line {
		w := line[i].Load()
		ahead := int64((w-now)<<(64-policerShift)) >> (64 - policerShift)
		if ahead < 0 || ahead > policerSecond { // not used for long
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
