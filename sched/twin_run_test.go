package sched

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"uvs/dataplane/wire"
)

// TestTwin runs random commands and flows through each scheduler and its twin.
func TestTwin(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags []Flags
	}{
		{"rr", []Flags{0}},
		{"wrr", []Flags{0}},
		{"lc", []Flags{0}},
		{"wlc", []Flags{0}},
		{"sed", []Flags{0}},
		{"nq", []Flags{0}},
		{"fo", []Flags{0}},
		{"ovf", []Flags{0}},
		{"dh", []Flags{0}},
		{"lblc", []Flags{0}},
		{"lblcr", []Flags{0}},
		{"sh", []Flags{0, Flag1, Flag2, Flag1 | Flag2}},
		{"mh", []Flags{0, Flag1, Flag2, Flag1 | Flag2}},
	} {
		for _, flags := range c.flags {
			for _, v6 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s-%#x-v6=%v", c.name, uint32(flags), v6), func(t *testing.T) {
					runTwin(t, c.name, flags, v6)
				})
			}
		}
	}
}

func runTwin(t *testing.T, name string, flags Flags, v6 bool) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	steps := 4000
	if name == "mh" {
		steps = 150 // the twin fills its table for each pick
	}
	hashes := name == "dh" || name == "sh" || name == "mh"
	weight := func() int32 {
		return []int32{0, 1, 1, 2, 3, 4, 6, 8, 10, 100}[r.IntN(10)] * int32(1+r.IntN(2))
	}
	s := newService(t, name, flags)
	s.o.Expiration = 100 * time.Second
	tw := newTwin(name, flags)
	nextID := uint32(0)
	now := int64(0)
	for step := range steps {
		where := fmt.Sprintf("seed %d step %d", seed, step)
		list := slices.Clone(s.servers)
		at := 0
		if len(list) > 0 {
			at = r.IntN(len(list))
		}
		switch op := r.IntN(40); {
		case len(list) == 0, op == 0 && len(list) < 12:
			nextID++
			w := weight()
			sv := Server{
				ID: nextID, Addr: randomAddr(r, v6), Port: uint16(r.Uint32()), Weight: w, LastWeight: w,
				Active: new(atomic.Int32), Inactive: new(atomic.Int32), Overload: new(atomic.Bool),
			}
			s.change(append([]Server{sv}, list...))
			tw.add(sv)
		case op == 1:
			s.change(slices.Delete(list, at, at+1))
			tw.del(at)
		case op == 2:
			if list[at].Weight = weight(); list[at].Weight > 0 {
				list[at].LastWeight = list[at].Weight
			}
			s.change(list)
			tw.edit(at, list[at])
		case op == 3 && !hashes:
			list[at].Down = !list[at].Down
			s.change(list)
			tw.edit(at, list[at])
		case op < 8:
			list[at].Overload.Store(r.IntN(3) == 0)
		case op < 12:
			list[at].Active.Store(int32(r.IntN(20)))
			list[at].Inactive.Store(int32(r.IntN(300)))
		case op == 12:
			now += r.Int64N(60_000)
		default:
			f := Flow{
				Client: randomAddr(r, v6), VIP: randomAddr(r, v6), ClientPort: uint16(r.Uint32()), Port: 80,
				Now: now,
			}
			if !hashes {
				f.VIP = addr(netip.AddrFrom4([4]byte{10, 9, 0, byte(r.IntN(20))}))
			}
			got, want := s.picker.Pick(s.cursor, f), tw.pick(f)
			if got < 0 && want == nil {
				continue
			}
			if got < 0 || want == nil || s.servers[got].ID != want.ID {
				t.Fatalf("%s: picked index %d of %s, twin %v", where, got, describe(s.servers), want)
			}
			s.servers[got].Active.Add(int32(r.IntN(2)))
			s.servers[got].Inactive.Add(int32(r.IntN(2)))
		}
	}
}

func randomAddr(r *rand.Rand, v6 bool) wire.Addr {
	var b [16]byte
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	if v6 {
		b[0] = 0x20
		return addr(netip.AddrFrom16(b))
	}
	return addr(netip.AddrFrom4([4]byte(b[:4])))
}

// describe writes a list as id:weight, with ! for overload and v for down.
func describe(servers []Server) string {
	var out []string
	for _, s := range servers {
		d := fmt.Sprintf("%d:%d", s.ID, s.Weight)
		if s.Overload.Load() {
			d += "!"
		}
		if s.Down {
			d += "v"
		}
		out = append(out, d)
	}
	return fmt.Sprint(out)
}
