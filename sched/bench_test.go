package sched

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
)

// counters are one server's counters: one cache line, as in the connection table.
type counters struct {
	active, inactive atomic.Int32
	overload         atomic.Bool
	_                [64 - 9]byte
}

// testServers makes n servers with mixed weights and connections, as in a running
// director. Every seventh server has ten times the weight.
func testServers(n int) []Server {
	list := make([]Server, n)
	counts := make([]counters, n)
	for i := range list {
		c := &counts[i]
		c.active.Store(int32(1 + i*7919%9))
		c.inactive.Store(int32(i * 104729 % 1000))
		list[i] = Server{
			ID: uint32(n - i), Addr: addr(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})), Port: 80,
			Weight: int32(10 + i*31%90), Active: &c.active, Inactive: &c.inactive, Overload: &c.overload,
		}
		if i%7 == 0 {
			list[i].Weight *= 10
		}
	}
	return list
}

var sink int

// BenchmarkPick measures one pick, by scheduler and number of servers. Those that
// compare loads are also measured with equal weights.
func BenchmarkPick(b *testing.B) {
	for _, name := range Names() {
		for _, n := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) { benchmarkPick(b, name, testServers(n)) })
		}
	}
	for _, name := range []string{"wlc", "sed", "nq"} {
		servers := testServers(1000)
		for i := range servers {
			servers[i].Weight = 100
		}
		b.Run(name+"/1000-equal", func(b *testing.B) { benchmarkPick(b, name, servers) })
	}
}

func benchmarkPick(b *testing.B, name string, servers []Server) {
	p, err := New(name, 0, servers, Options{})
	if err != nil {
		b.Fatal(err)
	}
	c := NewCursor(name, servers, 0)
	f := client(1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		f.Client[15], f.Client[14] = byte(i), byte(i>>8)
		sink += p.Pick(c, f)
	}
}

// BenchmarkPickWorst measures the slowest pick of a scheduler among 1,000 servers.
func BenchmarkPickWorst(b *testing.B) {
	for _, c := range []struct {
		why   string
		name  string
		flags Flags
		set   func(i int, s *Server)
	}{
		{"all but the last overloaded", "rr", 0, func(i int, s *Server) { s.Overload.Store(i < 999) }},
		{"all but the last of weight 0", "rr", 0, func(i int, s *Server) { s.Weight = int32(i / 999) }},
		{"one of weight 65535 among ones", "wrr", 0, func(i int, s *Server) { s.Weight = 1 + int32(i/999)*65534 }},
		{
			"all but the lightest overloaded", "wrr", 0,
			func(i int, s *Server) { s.Weight = int32(65535 - i); s.Overload.Store(i < 999) },
		},
		{
			"each less loaded than the one before", "wlc", 0,
			func(i int, s *Server) { s.Active.Store(int32(20000 - 20*i)); s.Weight = 10 },
		},
		{"all overloaded", "wlc", 0, func(i int, s *Server) { s.Overload.Store(true) }},
		{"all in slow start", "wlc", 0, func(i int, s *Server) { s.SlowStartEnd = 1 << 40 }},
		{"all but the last overloaded", "twos", 0, func(i int, s *Server) { s.Overload.Store(i < 999) }},
		{"all but the last overloaded", "mh", Flag1, func(i int, s *Server) { s.Overload.Store(i < 999) }},
		{"all overloaded", "mh", Flag1, func(i int, s *Server) { s.Overload.Store(true) }},
	} {
		b.Run(c.name+"/"+c.why, func(b *testing.B) {
			servers := testServers(1000)
			for i := range servers {
				c.set(i, &servers[i])
			}
			p, err := New(c.name, c.flags, servers, Options{})
			if err != nil {
				b.Fatal(err)
			}
			cursor := NewCursor(c.name, servers, 0)
			for i := 0; b.Loop(); i++ {
				sink += p.Pick(cursor, anyFlow(i))
			}
		})
	}
}
