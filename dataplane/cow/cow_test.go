package cow

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// Clones that change in random ways have the entries that Go's maps have.
func TestMap(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	type pair struct {
		m    Map[number, int]
		want map[number]int
	}
	pairs := []*pair{{want: map[number]int{}}}
	for n := range 20000 {
		p := pairs[rng.IntN(len(pairs))]
		key := number(rng.IntN(1 + n/10))
		switch rng.IntN(20) {
		case 0:
			if c := (&pair{p.m.Clone(), maps.Clone(p.want)}); len(pairs) < 8 {
				pairs = append(pairs, c)
			} else {
				pairs[rng.IntN(len(pairs))] = c
			}
		case 1, 2, 3, 4, 5, 6, 7:
			p.m.Delete(key)
			delete(p.want, key)
		default:
			p.m.Set(key, n)
			p.want[key] = n
		}
		v, ok := p.m.Get(key)
		if want, there := p.want[key]; v != want || ok != there || p.m.Len() != len(p.want) {
			t.Fatalf("step %d: %d is %d, %t of %d, want %d, %t of %d",
				n, key, v, ok, p.m.Len(), want, there, len(p.want))
		}
		if n%1000 != 0 {
			continue
		}
		for _, p := range pairs {
			if got := maps.Collect(p.m.All()); !maps.Equal(got, p.want) {
				t.Fatalf("step %d: %v, want %v", n, got, p.want)
			}
			for _, o := range pairs {
				want := maps.Clone(p.want)
				maps.DeleteFunc(want, func(key number, _ int) bool { _, ok := o.want[key]; return ok })
				if got := maps.Collect(p.m.Without(&o.m)); !maps.Equal(got, want) {
					t.Fatalf("step %d: the difference is %v, want %v", n, got, want)
				}
			}
		}
	}
}

type number int

func (n number) Shard() uint8 { return uint8(n / 3) }

type key struct {
	addr  [16]byte
	port  uint16
	proto uint8
}

func (k key) Shard() uint8 { return k.addr[15] ^ k.addr[14] ^ uint8(k.port) }

func keyOf(i int) key {
	return key{[16]byte{10: 0xff, 11: 0xff, 14: byte(i >> 8), 15: byte(i)}, uint16(i >> 16), 6}
}

// BenchmarkGet compares a lookup with one in Go's map.
func BenchmarkGet(b *testing.B) {
	for _, n := range []int{1, 100, 10000} {
		var m Map[key, *int]
		builtin := map[key]*int{}
		for i := range n {
			m.Set(keyOf(i), new(int))
			builtin[keyOf(i)] = new(int)
		}
		for name, first := range map[string]int{"hit": 0, "miss": 1 << 20} {
			b.Run(fmt.Sprintf("%s/%d/cow", name, n), func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					k := keyOf(first + i%n)
					_, _ = m.Shard(k.Shard())[k]
				}
			})
			b.Run(fmt.Sprintf("%s/%d/builtin", name, n), func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					_, _ = builtin[keyOf(first+i%n)]
				}
			})
		}
	}
}

// BenchmarkChange adds an entry to a clone and removes it.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 10000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var m Map[key, *int]
			for i := range n {
				m.Set(keyOf(i), new(int))
			}
			b.ReportAllocs()
			for b.Loop() {
				c := m.Clone()
				c.Set(keyOf(n), nil)
				c.Delete(keyOf(n))
			}
		})
	}
}
