package sched

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// anyFlow returns the i-th of many flows with different clients and VIPs.
func anyFlow(i int) Flow {
	f := client(i)
	f.Client[14], f.VIP[14], f.VIP[15] = byte(i>>8), byte(i>>8), byte(i)
	return f
}

// TestNotEligible: no scheduler picks a server that is not eligible, be it one of
// three or all of them.
func TestNotEligible(t *testing.T) {
	type condition struct {
		name string
		set  func(*Server)
	}
	conditions := []condition{
		{"weight 0", func(s *Server) { s.Weight = 0 }},
		{"down", func(s *Server) { s.Down = true }},
		{"overloaded", func(s *Server) { s.Overload.Store(true) }},
	}
	// dh, sh and mh refuse the clients of a server that is not eligible, unless
	// there is a fallback flag or health checking set Down.
	refuses := func(name string, flags Flags, c condition) bool {
		fallback := flags&Flag1 != 0 && name != "dh"
		return (name == "dh" || name == "sh" || name == "mh") && !fallback && c.name != "down"
	}
	for _, name := range Names() {
		for _, flags := range []Flags{0, Flag1} {
			for _, c := range conditions {
				if name == "none" {
					continue
				}
				s := newService(t, name, flags, 2, 2, 2)
				list := slices.Clone(s.servers)
				c.set(&list[s.at(1)])
				s.change(list)
				got := s.picks(300, false, anyFlow)
				row := fmt.Sprintf("%s flags %#x, R1 %s", name, uint32(flags), c.name)
				if strings.Contains(got, "1") {
					t.Errorf("%s: R1 was picked", row)
				}
				if strings.Contains(got, "-") != refuses(name, flags, c) {
					t.Errorf("%s: refused %d of 300", row, strings.Count(got, "-"))
				}
				for i := range list {
					c.set(&list[i])
				}
				s.change(list)
				if got := s.picks(5, false, func(i int) Flow { return anyFlow(1000 + i) }); got != "-----" {
					t.Errorf("%s, all %s: got %s, want none", name, c.name, got)
				}
			}
		}
	}
}

// TestThresholds: `-x 3 -y 2` on two servers under rr, as recorded on a kernel
// director. The test counts as the connection table does.
func TestThresholds(t *testing.T) {
	s := newService(t, "rr", 0, 1, 1)
	got := ""
	for range 10 {
		got += s.picks(1, false, client)
		for i := range s.servers {
			if sv := &s.servers[i]; sv.Inactive.Load() == 3 {
				sv.Overload.Store(true)
			}
		}
	}
	if want := "101010----"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestDownKeepsSlots: under dh, sh and mh a server that is down loses only its own
// clients. When it is back, it gets exactly those back.
func TestDownKeepsSlots(t *testing.T) {
	for _, name := range []string{"dh", "sh", "mh"} {
		s := newService(t, name, 0, 1, 2, 3)
		before := s.picks(500, false, anyFlow)
		list := slices.Clone(s.servers)
		list[s.at(2)].Down = true
		s.change(list)
		during := s.picks(500, false, anyFlow)
		list = slices.Clone(list)
		list[s.at(2)].Down = false
		s.change(list)
		if after := s.picks(500, false, anyFlow); after != before {
			t.Errorf("%s: clients are elsewhere after R2 came back", name)
		}
		for i := range before {
			if before[i] != '2' && during[i] != before[i] {
				t.Fatalf("%s: client %d moved from R%c to R%c as R2 went down", name, i, before[i], during[i])
			}
		}
	}
}

// TestMHKeepsSlots: a server edited to weight 0 keeps its slots, so that the clients
// of the others stay. With mh-fallback its clients go to other servers.
func TestMHKeepsSlots(t *testing.T) {
	for _, flags := range []Flags{0, Flag1} {
		s := newService(t, "mh", flags, 1, 1, 1)
		before := s.picks(500, false, anyFlow)
		s.edit(1, 0)
		for i, now := range s.picks(500, false, anyFlow) {
			switch was := rune(before[i]); {
			case was != '1' && now != was:
				t.Fatalf("flags %#x: client %d moved from R%c to %c", flags, i, was, now)
			case was == '1' && (now == '-') != (flags == 0):
				t.Fatalf("flags %#x: client %d of R1 got %c", flags, i, now)
			}
		}
	}
}

// TestFields: flows that differ only in fields that are not hashed have one server.
func TestFields(t *testing.T) {
	spread := func(name string, flags Flags, fields Fields, flow func(i int) Flow) bool {
		s := newService(t, name, flags)
		s.o.Fields = fields
		for i := range uint32(5) {
			s.add(i, 1)
		}
		got := s.picks(50, false, flow)
		return strings.Trim(got, got[:1]) != ""
	}
	varying := map[string]func(i int) Flow{
		"client": func(i int) Flow { f := client(0); f.Client[15] = byte(i); return f },
		"cport":  func(i int) Flow { f := client(0); f.ClientPort = uint16(i); return f },
		"vip":    func(i int) Flow { f := client(0); f.VIP[15] = byte(i); return f },
		"port":   func(i int) Flow { f := client(0); f.Port = uint16(i); return f },
	}
	for _, c := range []struct {
		name   string
		flags  Flags
		fields Fields
		want   string // which of varying spreads
	}{
		{"sh", 0, 0, "client"},
		{"sh", Flag2, 0, "client cport"},
		{"mh", 0, 0, "client"},
		{"mh", Flag2, 0, "client cport"},
		{"dh", 0, 0, "vip"},
		{"mh", 0, FieldVIP | FieldPort, "vip port"},
		{"sh", 0, FieldClientPort, "cport"},
	} {
		for vary, flow := range varying {
			if got, want := spread(c.name, c.flags, c.fields, flow), slices.Contains(strings.Fields(c.want),
				vary); got != want {
				t.Errorf("%s flags %#x fields %#x: other %s, other server: %v, want %v", c.name, c.flags, c.fields,
					vary, got, want)
			}
		}
	}
}

// TestTwos: the probabilities of twos are IPVS's, in units of 1/(sum+1): the first
// server in list order has one more than its weight.
func TestTwos(t *testing.T) {
	const picks = 60000
	for _, c := range []struct {
		why     string
		weights []int32
		over    []uint32
		want    []float64 // of each draw, by server
	}{
		{"R2 is first in list order", []int32{1, 2, 3}, nil, []float64{1. / 7, 2. / 7, 4. / 7}},
		{"the next is first if it is overloaded", []int32{1, 2, 3}, []uint32{2}, []float64{1. / 4, 3. / 4, 0}},
		{
			"one of nine left: every draw is it",
			[]int32{0, 100, 0, 100, 100, 1, 100, 100, 100},
			[]uint32{1, 3, 4, 6, 7, 8},
			[]float64{5: 1},
		},
	} {
		s := newService(t, "twos", 0, c.weights...)
		for _, id := range c.over {
			s.servers[s.at(id)].Overload.Store(true)
		}
		got := make([]float64, len(c.weights))
		for range picks {
			i := s.picker.Pick(s.cursor, client(0)) // no connections: the first draw wins
			got[s.servers[i].ID] += 1. / picks
		}
		for id, want := range c.want {
			if d := got[id] - want; d < -0.01 || d > 0.01 {
				t.Errorf("%s: R%d got %.3f of the picks, want %.3f", c.why, id, got[id], want)
			}
		}
	}

	// The less loaded of two servers wins. With equal weights and a load on R0, R0
	// wins only if it is drawn twice: (1/3)^2, as it is last in list order.
	s := newService(t, "twos", 0, 1, 1)
	s.servers[s.at(0)].Active.Store(1)
	r0 := 0
	for range picks {
		if s.servers[s.picker.Pick(s.cursor, client(0))].ID == 0 {
			r0++
		}
	}
	if share := float64(r0) / picks; share < 1./9-0.01 || share > 1./9+0.01 {
		t.Errorf("loaded server got %.3f of the picks, want %.3f", share, 1./9)
	}
}

// TestConcurrentPicks: workers that pick concurrently get together the same picks as
// one worker, each exactly once.
func TestConcurrentPicks(t *testing.T) {
	for _, name := range []string{"rr", "wrr"} {
		alone := newService(t, name, 0, 5, 3, 0, 2, 8, 1)
		together := newService(t, name, 0, 5, 3, 0, 2, 8, 1)
		const workers, each = 4, 5003
		want := map[byte]int{}
		for _, d := range []byte(alone.picks(workers*each, false, client)) {
			want[d]++
		}
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() { together.picks(each, false, client) })
		}
		wg.Wait()
		for _, sv := range together.servers {
			if got := int(sv.Inactive.Load()); got != want[byte('0'+sv.ID)] {
				t.Errorf("%s: R%d got %d of %d picks, alone %d", name, sv.ID, got, workers*each, want[byte('0'+sv.ID)])
			}
		}
	}
}

// TestConcurrentChanges: workers pick from an older list, while counters and flags
// change. They get a server of that list with a weight that is not down.
func TestConcurrentChanges(t *testing.T) {
	for _, name := range Names() {
		s := newService(t, name, Flag1, 3, 0, 2, 1, 4)
		type published struct {
			Picker
			servers []Server
		}
		var table atomic.Pointer[published]
		publish := func() { table.Store(&published{s.picker, s.servers}) }
		publish()
		var stop atomic.Bool
		var wg sync.WaitGroup
		for w := range 3 {
			wg.Go(func() {
				for i := w; !stop.Load(); i++ {
					now := table.Load()
					f := anyFlow(i)
					f.Now = int64(i)
					at := now.Pick(s.cursor, f)
					if at < -1 || at >= len(now.servers) {
						t.Errorf("%s: index %d of %d servers", name, at, len(now.servers))
						return
					}
					if at >= 0 && (now.servers[at].Weight == 0 || now.servers[at].Down) {
						t.Errorf("%s: picked %+v", name, now.servers[at])
						return
					}
					if at >= 0 {
						now.servers[at].Active.Add(1)
						now.servers[at].Overload.Store(i%3 == 0)
					}
				}
			})
		}
		for i := range 200 {
			s.edit(uint32(i%5), int32(i%3))
			publish()
			s.del(uint32(i % 5))
			publish()
			s.add(uint32(i%5), int32(1+i%4))
			publish()
		}
		stop.Store(true)
		wg.Wait()
	}
}

// TestAllocations: no pick allocates, on any path.
func TestAllocations(t *testing.T) {
	for _, name := range Names() {
		servers := testServers(50)
		servers[3].Overload.Store(true)
		for _, over := range []bool{false, true} {
			for i := range servers {
				servers[i].Overload.Store(over || i%3 == 0)
			}
			for _, ramp := range []int64{0, 1 << 40} {
				servers[7].SlowStartEnd = ramp
				p, err := New(name, Flag1|Flag2, servers, Options{})
				if err != nil {
					t.Fatal(err)
				}
				c := NewCursor(name, servers, 0)
				i := 0
				if n := testing.AllocsPerRun(500, func() {
					i++
					f := anyFlow(i)
					f.Now = int64(i) * 1e6
					p.Pick(c, f)
				}); n != 0 {
					t.Errorf("%s, all overloaded %v, ramp %d: %v allocations per pick", name, over, ramp, n)
				}
			}
		}
	}
}

// TestRefused: arguments that New refuses, and a word of each error.
func TestRefused(t *testing.T) {
	two := make([]Server, 2)
	for _, c := range []struct {
		why     string
		name    string
		flags   Flags
		servers []Server
		o       Options
		word    string
	}{
		{"an unknown scheduler", "best", 0, nil, Options{}, `"best"`},
		{"no scheduler at all", "", 0, nil, Options{}, `""`},
		{"a bit that is no scheduler flag", "rr", 0x40, nil, Options{}, "0x40"},
		{"a table size that is not prime", "mh", 0, two, Options{Table: 65536}, "65536"},
		{"more servers than slots", "mh", 0, make([]Server, 252), Options{Table: 251}, "252 servers"},
		{"more servers than a list may have", "rr", 0, make([]Server, MaxServiceServers+1), Options{}, "65537 servers"},
		{"a negative weight", "wlc", 0, []Server{{Weight: -1}}, Options{}, "-1"},
	} {
		if _, err := New(c.name, c.flags, c.servers, c.o); err == nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: got error %v, want one with %s", c.why, err, c.word)
		}
	}
	for _, name := range Names() {
		if !Known(name) {
			t.Errorf("%s is named but not known", name)
		}
		p, err := New(name, 0, nil, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Pick(NewCursor(name, nil, 1), client(1)); got != -1 {
			t.Errorf("%s without servers: got %d, want -1", name, got)
		}
	}
}

// TestFlagNames: a listing uses the flag names of the scheduler, if it has any.
func TestFlagNames(t *testing.T) {
	for _, c := range []struct {
		sched string
		flags Flags
		want  string
	}{
		{"sh", Flag1 | Flag2, "sh-fallback,sh-port"},
		{"mh", Flag2 | Flag3, "mh-port,flag-3"},
		{"rr", Flag1, "flag-1"},
		{"rr", 0, ""},
	} {
		if got := strings.Join(c.flags.Names(c.sched), ","); got != c.want {
			t.Errorf("%s %#x: got %q, want %q", c.sched, uint32(c.flags), got, c.want)
		}
	}
	if n, ok := Flag("mh-port"); !ok || n.Flag != Flag2 || n.Scheduler != "mh" {
		t.Errorf("mh-port: got %+v, %v", n, ok)
	}
	if n, ok := Flag("lh-port"); ok {
		t.Errorf("lh-port: got %+v, want none", n)
	}
}

// TestFold: an IPv4 address is hashed as itself, though it is stored as mapped. An
// IPv6 address is hashed as the XOR of its words.
func TestFold(t *testing.T) {
	for a, want := range map[string]uint32{
		"10.9.0.1":             0x0a090001,
		"2001:db8:1:2:3:4:5:6": 0x20010db8 ^ 0x00010002 ^ 0x00030004 ^ 0x00050006,
	} {
		w := addr(netip.MustParseAddr(a))
		if got := fold(&w); got != want {
			t.Errorf("%s: got %#x, want %#x", a, got, want)
		}
	}
}
