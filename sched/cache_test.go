package sched

import (
	"encoding/binary"
	"reflect"
	"sync"
	"testing"

	"uvs/dataplane/wire"
)

// vip returns the n-th of many addresses.
func vip(n uint32) wire.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 0x0a000000+n)
	return wire.AddrFrom4(b[:])
}

// putRef stores one ref for an address.
func putRef(c *cache, a wire.Addr, now, m uint32) {
	var e entry
	if !c.find(&a, now, 1<<30, &e) {
		e.size = 0
	}
	e.servers[0], e.size = m, 1
	e.put(&a, now)
}

// getRef returns the ref of an address. 0: it is not in the cache.
func getRef(c *cache, a wire.Addr, now, expiration uint32) uint32 {
	var e entry
	if !c.find(&a, now, expiration, &e) || e.size != 1 {
		return 0
	}
	return e.servers[0]
}

// TestCacheCapacity: the cache keeps nearly as many addresses as IPVS.
func TestCacheCapacity(t *testing.T) {
	if size := reflect.TypeFor[slot]().Size(); size != 128 {
		t.Errorf("a slot has %d bytes, want 128", size)
	}
	c := newCache(0)
	for n := range uint32(maxCached) {
		putRef(&c, vip(n*7919), 0, n+1)
	}
	lost := 0
	for n := range uint32(maxCached) {
		if got := getRef(&c, vip(n*7919), 0, 10); got == 0 {
			lost++
		} else if got != n+1 {
			t.Fatalf("%v: got ref %d, want %d", vip(n*7919), got, n+1)
		}
	}
	if lost > maxCached/1000 {
		t.Errorf("%d of %d addresses lost", lost, maxCached)
	}
}

// TestCacheEvicts: a full window evicts the least recently used address, and keeps
// one that was used meanwhile.
func TestCacheEvicts(t *testing.T) {
	c := newCache(1)
	for n := range uint32(cacheWindow) {
		putRef(&c, vip(n), n, n+1)
	}
	if getRef(&c, vip(0), 100, 1000) != 1 {
		t.Fatal("the first address is not kept")
	}
	putRef(&c, vip(99), 101, 100)
	for n, want := range map[uint32]uint32{0: 1, 1: 0, 2: 3, 99: 100} {
		if got := getRef(&c, vip(n), 101, 1000); got != want {
			t.Errorf("%v: got ref %d, want %d", vip(n), got, want)
		}
	}
}

// TestCacheExpires: an address expires when it was not used for the expiration time.
// A clock that is a little behind does no harm.
func TestCacheExpires(t *testing.T) {
	c := newCache(1)
	putRef(&c, vip(1), 1000, 7)
	for _, s := range []struct {
		now, want uint32
		why       string
	}{
		{1100, 7, "used in time"},
		{1099, 7, "used by a worker whose clock is a second behind"},
		{1199, 7, "in time after the last use"},
		{1300, 0, "too late"},
		{1301, 0, "a late use does not renew it"},
	} {
		if got := getRef(&c, vip(1), s.now, 100); got != s.want {
			t.Errorf("%d s, %s: got ref %d, want %d", s.now, s.why, got, s.want)
		}
	}
}

// TestCacheConcurrent: workers that write the same slots never read a server of
// another address.
func TestCacheConcurrent(t *testing.T) {
	c := newCache(8)
	var wg sync.WaitGroup
	for w := range uint32(4) {
		wg.Go(func() {
			for i := range uint32(20000) {
				n := (i*31 + w*17) % 64
				a := vip(n)
				var e entry
				if c.find(&a, i, 1<<30, &e) {
					for _, m := range e.servers[:e.size] {
						if m%64 != n {
							t.Errorf("%v has server ref %d", a, m)
							return
						}
					}
				} else {
					e.size = 0
				}
				if e.size == maxSetSize {
					e.size = 0
				}
				e.servers[e.size] = n + 64*i%(1<<20)
				e.size++
				e.put(&a, i)
			}
		})
	}
	wg.Wait()
}
