package director

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"uvs/dataplane/wire"
)

// A FIB that follows changes of neighbours, gateways among them, finds the next hops that one
// does which is made from scratch.
func TestWithNeighbours(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	h := testHostNet()
	for i := range 20 {
		h.Routes.Insert(netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", 100+i)), Route{
			Port: uint16(i % 2), Via: netip.MustParseAddr(fmt.Sprintf("10.%d.0.%d", 1+i%2, 11+i%3)),
		})
	}
	fib := NewFIB(h)
	for range 500 {
		neighbours := maps.Clone(fib.Neighbours)
		for range 1 + rng.IntN(3) {
			key := NeighbourKey{uint16(rng.IntN(2)), addr(fmt.Sprintf("10.%d.0.%d", 1+rng.IntN(2), 10+rng.IntN(5)))}
			if delete(neighbours, key); rng.IntN(2) == 0 {
				neighbours[key] = wire.MAC{2, 0, 0, 0, 9, byte(rng.IntN(4))}
			}
		}
		fib = fib.WithNeighbours(neighbours)
		host := *h
		host.Neighbours = neighbours
		scratch := NewFIB(&host)
		for range 50 {
			a := addr(fmt.Sprintf("10.%d.0.%d", []int{1, 2, 66, 100 + rng.IntN(22)}[rng.IntN(4)], 10+rng.IntN(5)))
			hop := fib.NextHop(a)
			if want := scratch.NextHop(a); hop != want {
				t.Fatalf("seed %d: next hop to %s is %+v, want %+v", seed, a.Netip(), hop, want)
			}
			if fib.knows(fib.neighbour(a)) != (hop.State == Resolved) && hop.State != NoRoute {
				t.Fatalf("seed %d: next hop %+v to %s is known: %t", seed, hop, a.Netip(), hop.State != Resolved)
			}
		}
	}
}
