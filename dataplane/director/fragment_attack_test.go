package director

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// attacker sends fragments that never make up a datagram, or should not.
type attacker struct {
	rng    *rand.Rand
	frames []wire.Frame // one of each size, to be rewritten
	one    bool         // from one source
	whole  bool         // firsts and all, not just those that wait for one
}

func newAttacker(seed uint64, one, whole bool) *attacker {
	a := &attacker{rng: rand.New(rand.NewPCG(seed, 0)), one: one, whole: whole}
	for _, size := range []int{8, 40, 400, 1480} {
		p := wiretest.Packet{
			Src: "198.51.100.1:5000", Dst: "10.9.0.1:80", Proto: wire.ProtoUDP, Payload: make([]byte, 2000),
		}
		a.frames = append(a.frames, wiretest.Fragments(in(0, p), 1, size)[0])
	}
	return a
}

// next returns another fragment, which is valid until the next call.
func (a *attacker) next() wire.Frame {
	f := a.frames[a.rng.IntN(len(a.frames))]
	ip := f.Bytes()[14:]
	binary.BigEndian.PutUint16(ip[4:], uint16(a.rng.Uint32()))
	offset := uint16(1 + a.rng.IntN(0x1fff))
	if a.whole {
		offset = uint16(a.rng.IntN(4) * 2)
	}
	binary.BigEndian.PutUint16(ip[6:], uint16(a.rng.IntN(2))<<13|offset)
	if !a.one {
		binary.BigEndian.PutUint32(ip[12:], 0xc6330000|a.rng.Uint32()&0x1ffff) // 198.51.0.0/15
	}
	ip[8] = 64
	wire.IPv4(ip).FillChecksum()
	f.Buf = slices.Clone(f.Buf)
	f.In, f.Out, f.MTU = 0, wire.NoPort, 0
	return f
}

// A flood of a million fragments, from one source and from many, without firsts and
// with them. Each ends in one verdict, memory does not grow, and every queued fragment is
// accounted for. A client whose datagrams come in fragments meanwhile, in order or not,
// is served as usual.
func TestFragmentFlood(t *testing.T) {
	floods := 1_000_000
	if testing.Short() {
		floods = 100_000
	}
	for name, a := range map[string]*attacker{
		"waiting, one source":   newAttacker(1, true, false),
		"waiting, many sources": newAttacker(2, false, false),
		"mixed, one source":     newAttacker(3, true, true),
		"mixed, many sources":   newAttacker(4, false, true),
	} {
		t.Run(name, func(t *testing.T) {
			w := newTestbed(t, conntrack.MethodNAT)
			var counts [NumVerdict]uint64
			var batch [MaxBatch]wire.Frame
			batches := floods / 4 / MaxBatch
			for n := range batches {
				for i := range batch {
					batch[i] = a.next()
				}
				w.now++ // 64 fragments a millisecond
				w.dir.Process(w.now, w.table, batch[:], w.verdicts[:])
				w.dir.Originate()
				for _, v := range w.verdicts {
					counts[v]++
				}
				if n%16 == 0 {
					pieces := fragmentsOf(0, uint32(n), 1400, large(wire.ProtoUDP, "10.1.0.2:5000", "10.9.0.1:80"))
					order := [...]string{"in order", "reversed", "shuffled"}[n/16%3]
					orders[order](pieces)
					half := len(pieces) / 2
					out, first := w.separately(pieces[:half]...)
					for i := range batch {
						batch[i] = a.next()
					}
					w.dir.Process(w.now, w.table, batch[:], w.verdicts[:])
					for _, v := range w.verdicts {
						counts[v]++
					}
					more, second := w.separately(pieces[half:]...)
					if out = append(out, more...); len(out) != len(pieces) {
						t.Fatalf(
							"batch %d, %s: %d of %d fragments of the client left: %v, %v", n, order, len(out),
							len(pieces), first, second,
						)
					}
					for _, v := range append(first, second...) {
						counts[v]++
					}
					wiretest.Check(t, wiretest.Reassemble(t, out))
				}
			}
			sum := uint64(0)
			for _, n := range counts {
				sum += n
			}
			if want := uint64(batches*MaxBatch + (batches+15)/16*(MaxBatch+6)); sum != want {
				t.Errorf("%d verdicts for %d frames", sum, want)
			}
			s := w.frags.Stats(frag.ForFirst)
			if got := uint64(s.Waiting) + s.Sent + s.Stopped + s.Expired + s.Evicted; got != counts[HeldFragment] {
				t.Errorf("%d fragments were queued, and %d are accounted for: %+v", counts[HeldFragment], got, s)
			}
			if a.one != (counts[DroppedFragmentLimit] > 0) {
				t.Errorf("%d fragments were refused for their source's sake", counts[DroppedFragmentLimit])
			}
		})
	}
}
