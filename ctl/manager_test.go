package ctl

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gaissmai/bart"
	"github.com/rs/zerolog"

	"uvs/conntrack"
	"uvs/ctl/guard"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// The network of these tests:
//
//	client 10.1.0.2 ── port 0 director port 1 ── servers 10.2.0.11 …
const clientAddr, vipAddr = "10.1.0.2", "10.9.0.1"

var (
	portMAC   = [2]wire.MAC{{2, 0, 0, 0, 0, 0xd}, {2, 0, 0, 0, 1, 0xd}}
	serverMAC = wire.MAC{2, 0, 0, 0, 1, 1}
)

// fakeHost knows the ways to ten servers at once, and its rules.
type fakeHost struct {
	hops  *director.Hops
	rules guard.Rules
}

func newFakeHost() *fakeHost {
	h := &director.Hops{
		Ports: []director.Port{
			{Name: "eth0", Index: 2, MAC: portMAC[0], MTU: 1500, Addr4: netip.MustParseAddr("10.1.0.1")},
			{Name: "eth1", Index: 3, MAC: portMAC[1], MTU: 1500, Addr4: netip.MustParseAddr("10.2.0.1")},
		},
		Routes:     new(bart.Table[director.Route]),
		Neighbours: map[director.NeighbourKey]wire.MAC{},
		Local:      map[wire.Addr]int{},
	}
	h.Routes.Insert(netip.MustParsePrefix("10.1.0.0/24"), director.Route{Port: 0})
	h.Routes.Insert(netip.MustParsePrefix("10.2.0.0/24"), director.Route{Port: 1})
	for i := range byte(10) {
		addr := wire.AddrFrom(netip.AddrFrom4([4]byte{10, 2, 0, 11 + i}))
		h.Neighbours[director.NeighbourKey{Port: 1, Addr: addr}] = serverMAC
	}
	return &fakeHost{hops: h}
}

func (h *fakeHost) Hops() *director.Hops                                   { return h.hops }
func (h *fakeHost) Need([]netip.Addr)                                      {}
func (h *fakeHost) Wait(context.Context, []netip.Addr) (none []netip.Addr) { return nil }
func (h *fakeHost) Announce([]netip.Addr)                                  {}
func (h *fakeHost) Apply(r guard.Rules) error                              { h.rules = r; return nil }

// fakePlane keeps the table published last.
type fakePlane struct{ table *director.Table }

func (p *fakePlane) Publish(t *director.Table)                    { p.table = t }
func (p *fakePlane) Verdicts() (none [director.NumVerdict]uint64) { return none }

// house is a manager among fakes.
type house struct {
	*Manager
	t     *testing.T
	host  *fakeHost
	conns *conntrack.Table
	plane *fakePlane
}

func newHouse(t *testing.T, workers int) *house {
	t.Helper()
	conns, err := conntrack.NewTable(conntrack.Config{Max: 4096, Workers: workers, MaxServers: MaxServers, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conns.Close() })
	h := &house{t: t, host: newFakeHost(), conns: conns, plane: &fakePlane{}}
	h.Manager = NewManager(conns, workers, h.host, h.host, zerolog.Nop())
	h.Start(h.plane)
	return h
}

func (h *house) must(op Op) {
	h.t.Helper()
	if err := h.Apply(op); err != nil {
		h.t.Fatalf("%s: %v", op.Verb, err)
	}
}

func tcpService(port uint16) *Service {
	return &Service{ServiceKey: ServiceKey{Proto: wire.ProtoTCP, Addr: netip.MustParseAddr(vipAddr), Port: port}, Scheduler: "rr"}
}

func masqServer(addr string, port uint16) *Server {
	return &Server{ServerKey: ServerKey{Addr: netip.MustParseAddr(addr), Port: port}, Method: MethodMasq, Weight: 1}
}

// What comes from a server stays hidden from the host for as long as conns may
// name the server: the host would forward a second copy, untranslated, and the
// client's answer to that would end the connection.
func TestRepliesOfRemovedServersStayHidden(t *testing.T) {
	end := guard.Endpoint{Proto: wire.ProtoTCP, Addr: netip.MustParseAddr("10.2.0.11"), Port: 80}
	for _, r := range []struct {
		sentence string
		op       Op
	}{
		{"the server is removed", Op{Verb: DeleteServer, Service: tcpService(80), Server: masqServer("10.2.0.11", 80)}},
		{"the service is removed", Op{Verb: DeleteService, Service: tcpService(80)}},
		{"everything is removed", Op{Verb: Flush}},
		{"its method is changed", Op{Verb: EditServer, Service: tcpService(80), Server: &Server{ServerKey: masqServer("10.2.0.11", 80).ServerKey, Method: MethodRoute, Weight: 1}}},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			h := newHouse(t, 1)
			h.must(Op{Verb: AddService, Service: tcpService(80)})
			h.must(Op{Verb: AddServer, Service: tcpService(80), Server: masqServer("10.2.0.11", 80)})
			h.must(r.op)
			key := director.ServiceKey{Addr: wire.AddrFrom(end.Addr), Port: end.Port, Proto: end.Proto}
			if !slices.Contains(h.host.rules.Sources, end) || !h.plane.table.Sources[key] {
				t.Errorf("the host sees what comes from %v: %v", end, h.host.rules.Sources)
			}
			if r.op.Verb == EditServer {
				return
			}
			later := time.Now().Add(trashTime + time.Second)
			h.tend(later)
			h.tend(later.Add(estimatorPeriod))
			if slices.Contains(h.host.rules.Sources, end) || h.plane.table.Sources[key] {
				t.Errorf("what comes from %v is hidden for ever", end)
			}
		})
	}
}
