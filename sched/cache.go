package sched

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	"uvs/dataplane/wire"
)

// cache keeps which servers an address lives on, for lblc and lblcr. It is a
// hash table of fixed size in which an address may lie in any of cacheWindow
// neighbouring slots. Where IPVS lets its cache grow past 16384 entries and has
// a timer trim it, here a new address takes the slot of the one in its window
// that was asked for longest ago.
//
// Nobody waits: a reader that meets a slot being written treats it as not
// there, a writer that meets another leaves the slot to that one. Either costs
// no more than one pick that is not remembered.
type cache struct {
	slots []slot // a power of two of them
	shift int    // from a 64-bit product to a slot number
}

const (
	// maxCached is how many addresses IPVS keeps (IP_VS_LBLC_TAB_SIZE*16).
	maxCached = 16384
	// cacheWindow is the number of slots an address can lie in. With the table
	// half full of random addresses fewer than one in a thousand windows is full.
	cacheWindow = 8
	// maxSetSize is the number of servers one address can live on. IPVS has no
	// limit; ours makes a slot two cache lines. Beyond it the oldest goes.
	maxSetSize = 24
)

// slot is one address with its servers, 128 bytes.
type slot struct {
	version atomic.Uint32             // 0: never used; odd: being written
	used    atomic.Uint32             // s, when last asked for
	changed atomic.Uint32             // s, when its servers last changed
	size    atomic.Uint32             // how many servers
	address [2]atomic.Uint64          // the VIP
	servers [maxSetSize]atomic.Uint32 // marks, oldest first
}

// entry is a consistent copy of a slot, and the right to overwrite it: see put.
type entry struct {
	slot    *slot  // nil: nothing can be kept at the moment
	version uint32 // of the slot when it was copied
	changed uint32
	size    int
	servers [maxSetSize]uint32
}

// newCache makes a cache for that many addresses, at most maxCached, 0: so many.
func newCache(addresses int) cache {
	if addresses <= 0 || addresses > maxCached {
		addresses = maxCached
	}
	size := max(cacheWindow, 2*addresses)
	width := bits.Len(uint(size - 1))
	return cache{slots: make([]slot, 1<<width), shift: 64 - width}
}

// clone copies the cache; an address that is being written meanwhile is left out.
func (c *cache) clone() cache {
	if c.slots == nil {
		return cache{}
	}
	n := cache{slots: make([]slot, len(c.slots)), shift: c.shift}
	var e entry
	for i := range c.slots {
		from, to := &c.slots[i], &n.slots[i]
		version := from.version.Load()
		to.address[0].Store(from.address[0].Load())
		to.address[1].Store(from.address[1].Load())
		to.used.Store(from.used.Load())
		if version&1 != 0 || !e.copy(from, version) {
			version = from.version.Load() &^ 1
			e.size = 0
		}
		to.changed.Store(e.changed)
		to.size.Store(uint32(e.size))
		for j := range e.size {
			to.servers[j].Store(e.servers[j])
		}
		to.version.Store(version)
	}
	return n
}

// find copies the servers of an address to e and says whether it is kept and
// was asked for within the last expiration seconds. If not, e has the slot to
// put it in.
func (c *cache) find(vip *wire.Addr, now, expiration uint32, e *entry) bool {
	if c.slots == nil {
		return false
	}
	high, low := addressWords(vip)
	at := int((high ^ low) * drawStep >> c.shift)
	oldest, busy := uint32(0), false
	for range cacheWindow {
		s := &c.slots[at]
		at = (at + 1) & (len(c.slots) - 1)

		version := s.version.Load()
		if version == 0 { // no address was ever pushed beyond this slot
			e.slot, e.version = s, version
			break
		}
		age := seconds(s.used.Load(), now)
		if s.address[0].Load() == high && s.address[1].Load() == low && version&1 == 0 {
			if e.copy(s, version) {
				if age > expiration {
					return false
				}
				s.touch(now)
				return true
			}
		}
		if version&1 != 0 || s.version.Load() != version {
			busy = true // it may be our address that is being written
		} else if e.slot == nil || age > oldest {
			e.slot, e.version, oldest = s, version, age
		}
	}
	if busy {
		e.slot = nil
	}
	return false
}

// copy fills e from s, unless s is no longer of that version when done.
func (e *entry) copy(s *slot, version uint32) bool {
	e.slot, e.version = s, version
	e.changed = s.changed.Load()
	e.size = min(int(s.size.Load()), maxSetSize)
	for i := range e.size {
		e.servers[i] = s.servers[i].Load()
	}
	return s.version.Load() == version
}

// touch notes that the address was asked for. Most of the time it is known
// already, and the cache line stays shared between the workers.
func (s *slot) touch(now uint32) {
	if s.used.Load() != now {
		s.used.Store(now)
	}
}

// put writes e, as changed at now, into its slot as the servers of vip, if
// nobody has written there since. It can be done again.
func (e *entry) put(vip *wire.Addr, now uint32) {
	s := e.slot
	if s == nil || !s.version.CompareAndSwap(e.version, e.version|1) {
		return
	}
	high, low := addressWords(vip)
	s.address[0].Store(high)
	s.address[1].Store(low)
	s.used.Store(now)
	s.changed.Store(now)
	s.size.Store(uint32(e.size))
	for i := range e.size {
		s.servers[i].Store(e.servers[i])
	}
	e.version = max(e.version+2, 2) // not 0 when it wraps
	s.version.Store(e.version)
}

// seconds is the time from then to now; 0 if another worker's clock, read a
// moment later, made then the later one.
func seconds(then, now uint32) uint32 { return uint32(max(int32(now-then), 0)) }

// addressWords is an address as two numbers.
func addressWords(a *wire.Addr) (high, low uint64) {
	return binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
}
