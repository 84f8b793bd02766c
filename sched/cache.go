package sched

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	"uvs/dataplane/wire"
)

// cache maps addresses to their servers, for lblc and lblcr. It is a hash table of
// fixed size: an address may be in any of cacheWindow adjacent slots. IPVS lets its
// cache grow beyond 16384 entries, and a timer trims it. Here a new address evicts
// the least recently used one of its window.
//
// The cache never blocks. A reader ignores a slot that is being written, and a
// writer gives up a slot that another one writes. Either costs at most one pick
// that the cache does not remember.
type cache struct {
	slots []slot // their number is a power of two
	shift int    // from a 64-bit product to a slot number
}

const (
	// maxCached is the number of addresses that IPVS keeps (IP_VS_LBLC_TAB_SIZE*16).
	maxCached = 16384
	// cacheWindow is the number of slots that an address may use. With the table
	// half full of random addresses, fewer than one in 1000 windows is full.
	cacheWindow = 8
	// maxSetSize is the number of servers that one address can have. IPVS has no
	// limit. This one makes a slot two cache lines; beyond it, the oldest server
	// is removed.
	maxSetSize = 24
)

// slot is one address with its servers, 128 bytes.
type slot struct {
	version atomic.Uint32             // 0: never used; odd: being written
	used    atomic.Uint32             // s, when last used
	changed atomic.Uint32             // s, when its servers last changed
	size    atomic.Uint32             // the number of servers
	address [2]atomic.Uint64          // the VIP
	servers [maxSetSize]atomic.Uint32 // refs, oldest first
}

// entry is a consistent copy of a slot, with which put can overwrite the slot.
type entry struct {
	slot    *slot  // nil: nothing can be stored now
	version uint32 // of the slot when it was copied
	changed uint32
	size    int
	servers [maxSetSize]uint32
}

func startCache(c *Cursor, _ []Server, vips int) { c.cache = newCache(vips) }

// newCache makes a cache for that many addresses, at most maxCached. 0: maxCached.
func newCache(addresses int) cache {
	if addresses <= 0 || addresses > maxCached {
		addresses = maxCached
	}
	size := max(cacheWindow, 2*addresses)
	width := bits.Len(uint(size - 1))
	return cache{slots: make([]slot, 1<<width), shift: 64 - width}
}

// clone copies the cache, without the addresses that are being written.
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

// find copies the servers of an address to e. It returns false if the address is not
// in the cache, or was not used for expiration seconds. Then e has the slot for it.
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
		if version == 0 { // a window is filled in order: no address is after this slot
			e.slot, e.version = s, version
			break
		}
		age := seconds(s.used.Load(), now)
		if s.address[0].Load() == high && s.address[1].Load() == low && version&1 == 0 && e.copy(s, version) {
			if age > expiration {
				return false
			}
			if s.used.Load() != now { // mostly equal: the cache line stays shared between the workers
				s.used.Store(now)
			}
			return true
		}
		if version&1 != 0 || s.version.Load() != version {
			busy = true // the writer may be writing this address
		} else if e.slot == nil || age > oldest {
			e.slot, e.version, oldest = s, version, age
		}
	}
	if busy {
		e.slot = nil
	}
	return false
}

// copy fills e from s. It returns false if s no longer has that version.
func (e *entry) copy(s *slot, version uint32) bool {
	e.slot, e.version = s, version
	e.changed = s.changed.Load()
	e.size = min(int(s.size.Load()), maxSetSize)
	for i := range e.size {
		e.servers[i] = s.servers[i].Load()
	}
	return s.version.Load() == version
}

// put writes e into its slot as the servers of vip, changed at now. It does nothing
// if the slot was written since find. It may be called again.
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

// seconds returns the time from then to now. It is 0 if then is later, as another
// worker may have read its clock later.
func seconds(then, now uint32) uint32 { return uint32(max(int32(now-then), 0)) }

// addressWords returns an address as two numbers.
func addressWords(a *wire.Addr) (high, low uint64) {
	return binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
}
