package lpm

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"uvs/dataplane/wire"
)

// TestLookup compares tables of random prefixes with a search of all prefixes, at the
// first and the last address of each prefix and just outside it.
func TestLookup(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for size := range 100 {
		prefixes := map[netip.Prefix]int{}
		for i := range size {
			if p := randomPrefix(rng); !p.Addr().Is4In6() {
				prefixes[p] = i
			}
		}
		table := New(maps.All(prefixes))
		for p := range prefixes {
			first := p.Addr()
			for _, a := range []netip.Addr{first, last(p), first.Prev(), last(p).Next()} {
				if !a.IsValid() {
					continue
				}
				a = a.Unmap() // to wire.Addr a mapped address is IPv4
				want, bits := -1, -1
				for p, v := range prefixes {
					if p.Contains(a) && p.Bits() > bits {
						want, bits = v, p.Bits()
					}
				}
				got := -1
				w := wire.AddrFrom(a)
				if v := table.Lookup(&w); v != nil {
					got = *v
				}
				if got != want {
					t.Fatalf("%v: value of %v is %d, want %d", slices.Collect(maps.Keys(prefixes)), a, got, want)
				}
			}
		}
	}
}

// randomPrefix returns a prefix in a small part of the address space, so that many
// overlap, with any number of bits.
func randomPrefix(rng *rand.Rand) netip.Prefix {
	var b [16]byte
	for i := range b {
		b[i] = byte(-rng.IntN(2)) // 0 or 255
	}
	a := netip.AddrFrom16(b)
	switch rng.IntN(3) {
	case 0:
		a = netip.AddrFrom4([4]byte(b[:4]))
	case 1:
		a = netip.AddrFrom16([16]byte{10: 255, 11: 255, 12: b[0], 13: b[1]}) // a mapped address as IPv6
		return netip.PrefixFrom(a, rng.IntN(96)).Masked()
	}
	return netip.PrefixFrom(a, rng.IntN(a.BitLen()+1)).Masked()
}

// last returns the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// TestEmpty looks up in tables without prefixes.
func TestEmpty(t *testing.T) {
	var zero Table[int]
	none := New(func(func(netip.Prefix, int) bool) {})
	for _, a := range []wire.Addr{{}, {10: 255, 11: 255}, {0: 255}} {
		if zero.Lookup(&a) != nil || none.Lookup(&a) != nil {
			t.Errorf("%v has a value in an empty table", a)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, size := range []int{4, 100, 10_000, 1_000_000} {
		rng := rand.New(rand.NewPCG(1, 2))
		prefixes := map[netip.Prefix]int{}
		for len(prefixes) < size {
			n := rng.Uint32()
			a := netip.AddrFrom4([4]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
			prefixes[netip.PrefixFrom(a, 16+rng.IntN(9)).Masked()] = len(prefixes)
		}
		addrs := make([]wire.Addr, 1<<16)
		for i := range addrs {
			n := rng.Uint32()
			addrs[i] = wire.AddrFrom4([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
		}
		table := New(maps.All(prefixes))
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				table.Lookup(&addrs[i&0xffff])
			}
		})
	}
}
