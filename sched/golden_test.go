package sched

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"uvs/dataplane/wire"
)

// service is a service under test. Its servers are newest first, as New wants them,
// and the test changes their counters.
type service struct {
	t       testing.TB
	name    string
	flags   Flags
	o       Options
	servers []Server
	cursor  *Cursor
	picker  Picker
}

// newService makes a service with one server per weight. It adds them one by one, as
// `ipvsadm -a` does: R0 first, so that it is last in list order.
func newService(t testing.TB, name string, flags Flags, weights ...int32) *service {
	s := &service{t: t, name: name, flags: flags, cursor: NewCursor(name, nil, 0)}
	s.picker = s.build()
	for i, w := range weights {
		s.add(uint32(i), w)
	}
	return s
}

func (s *service) build() Picker {
	p, err := New(s.name, s.flags, s.servers, s.o)
	if err != nil {
		s.t.Fatalf("New(%s): %v", s.name, err)
	}
	return p
}

// change replaces the list as the control plane does.
func (s *service) change(servers []Server) {
	s.cursor.Rebase(s.servers, servers)
	s.servers = servers
	s.picker = s.build()
}

// add adds server R<id>, 10.0.2.11+id port 53, at the head of the list.
func (s *service) add(id uint32, weight int32) {
	s.change(append([]Server{{
		ID:         id,
		Addr:       addr(netip.AddrFrom4([4]byte{10, 0, byte(2 + id>>8), byte(11 + id)})),
		Port:       53,
		Weight:     weight,
		LastWeight: weight,
		Active:     new(atomic.Int32),
		Inactive:   new(atomic.Int32),
		Overload:   new(atomic.Bool),
	}}, s.servers...))
}

// at returns the list index of server R<id>.
func (s *service) at(id uint32) int {
	for i := range s.servers {
		if s.servers[i].ID == id {
			return i
		}
	}
	s.t.Fatalf("no server R%d", id)
	return -1
}

// edit sets the weight of R<id>.
func (s *service) edit(id uint32, weight int32) {
	list := append([]Server(nil), s.servers...)
	sv := &list[s.at(id)]
	if sv.Weight = weight; weight > 0 {
		sv.LastWeight = weight
	}
	s.change(list)
}

// del removes R<id>.
func (s *service) del(id uint32) {
	at := s.at(id)
	s.change(append(append([]Server(nil), s.servers[:at]...), s.servers[at+1:]...))
}

// picks picks a server for each of n flows, and returns the digits of their IDs, '-'
// for none. Each picked server gets one more inactive (UDP) or active (TCP,
// half-open) connection.
func (s *service) picks(n int, active bool, flow func(i int) Flow) string {
	var b strings.Builder
	for i := range n {
		got := s.picker.Pick(s.cursor, flow(i))
		if got < 0 {
			b.WriteByte('-')
			continue
		}
		sv := &s.servers[got]
		if active {
			sv.Active.Add(1)
		} else {
			sv.Inactive.Add(1)
		}
		b.WriteByte(byte('0' + sv.ID))
	}
	return b.String()
}

func addr(a netip.Addr) wire.Addr { return wire.AddrFrom(a) }

// client returns a flow from 10.100.0.i to 10.9.0.1:53.
func client(i int) Flow {
	return Flow{
		Client: addr(netip.AddrFrom4([4]byte{10, 100, 0, byte(i)})), ClientPort: uint16(1024 + i),
		VIP: addr(netip.AddrFrom4([4]byte{10, 9, 0, 1})), Port: 53,
	}
}

// TestGolden compares with sequences recorded on a Linux 6.12 director. Its servers
// were added in the order R0 R1 R2, and no connection ended.
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		sched   string
		weights []int32
		tcp     bool
		want    string
	}{
		{"rr", []int32{1, 1, 1}, false, "210210210"},
		{"rr", []int32{1, 0, 1}, false, "202020"},
		{"wrr", []int32{1, 2, 4}, false, "21022212102221"},
		{"wrr", []int32{3, 0, 1}, false, "20002000"},
		{"wrr", []int32{6, 4}, false, "1001010010"},
		{"wrr", []int32{4, 3, 2}, false, "210010210210010210"},
		{"lc", []int32{1, 1, 1}, false, "210210"},
		{"lc", []int32{3, 1, 2}, false, "210210"},
		{"wlc", []int32{3, 1, 2}, false, "210020210020"},
		{"wlc", []int32{1, 1, 1}, true, "2102102"},
		{"sed", []int32{1, 1, 1}, false, "222222"},
		{"sed", []int32{3, 1, 2}, false, "000000"},
		{"nq", []int32{3, 1, 2}, false, "222222"},
		{"fo", []int32{3, 1, 2}, false, "000000"},
		{"ovf", []int32{3, 1, 2}, false, "000000"},
		{"none", []int32{3, 1, 2}, false, "------"},
		{"lblc", []int32{3, 1, 2}, false, "222222"},
		{"lblcr", []int32{3, 1, 2}, false, "222222"},
		{"sh", []int32{1, 1, 1}, false, "2010212021012201011202101210101020202121210102020112120012102010"},
		{"sh", []int32{1, 2, 3}, false, "1020212222021221212101121210202022221212112121010212122021222212"},
		{"sh", []int32{1, 0, 1}, false, "20-02-202-0-220-0--202-0-2-0-0-020202-2-2-0-02020--2-200-2-020-0"},
		{"mh", []int32{1, 1, 1}, false, "1001112021212112121012111012121220102110012210010111110202110222"},
		{"mh", []int32{1, 2, 3}, false, "1001112021212122121012111112122220122110112212212111112212120222"},
		{"mh", []int32{1, 0, 1}, false, "0000202022222022220002000002222220002020002220020200200202220222"},
	} {
		s := newService(t, c.sched, 0, c.weights...)
		if got := s.picks(len(c.want), c.tcp, client); got != c.want {
			t.Errorf("%s %v: got %s, want %s", c.sched, c.weights, got, c.want)
		}
	}
}
