package ctl

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gaissmai/bart"
	"github.com/rs/zerolog"

	"uvs/conntrack"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane"
	"uvs/dataplane/director"
	"uvs/dataplane/memlink"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// fixture is a manager with a real connection table and real workers, whose links are in
// memory. testHost and testGuard replace the host's routes and its guard, which need
// privileges.
//
//	client 10.1.0.2 ── port 0 director port 1 ── servers 10.2.0.0/16
type fixture struct {
	*Manager
	t     testing.TB
	conns *conntrack.Table
	plane *testPlane
	link  *memlink.Link // of the first worker
	links []*memlink.Link
	host  *testHost
	guard *testGuard
	now   time.Time
}

const numServers = 256 // 10.2.0.1 and so on are neighbours

func newFixture(t testing.TB, workers int) *fixture {
	t.Helper()
	var mem []*memlink.Link
	var links []dataplane.Link
	for range workers {
		l := memlink.New(memlink.Config{})
		mem, links = append(mem, l), append(links, l)
	}
	w := newFixtureOn(t, links)
	w.link, w.links = mem[0], mem
	return w
}

// newFixtureOn makes a fixture whose workers have these links.
func newFixtureOn(t testing.TB, links []dataplane.Link) *fixture {
	t.Helper()
	conns, err := conntrack.NewTable(conntrack.Config{
		Max: 1 << 14, Workers: len(links), ServerIDs: compile.MaxServerIDs,
		Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &fixture{
		t: t, conns: conns, host: &testHost{net: testHostNet(numServers)}, guard: &testGuard{},
		now: time.Now(),
	}
	w.Manager = NewManager(conns, len(links), w.host, w.guard, zerolog.Nop())
	w.plane = &testPlane{Plane: dataplane.New(conns, w.FirstTable(), links, nil, func(director.NeighbourKey) {})}
	w.Start(w.plane)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.plane.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("plane: %v", err)
		}
		conns.Close()
	})
	return w
}

// must applies operations that must succeed.
func (w *fixture) must(ops ...config.Op) {
	w.t.Helper()
	for _, op := range ops {
		if err := w.Apply(op); err != nil {
			w.t.Fatalf("%s: %v", op.Kind, err)
		}
	}
}

// exchange feeds the first worker a frame and returns the frame that it sends; nil: none.
func (w *fixture) exchange(port uint16, p wiretest.Packet) []byte {
	w.t.Helper()
	p.DstMAC = testPorts[port].MAC
	f := p.Frame()
	before := total(w.plane.Verdicts())
	w.link.Feed(memlink.Record{Port: port, Data: f.Bytes()})
	for total(w.plane.Verdicts()) == before {
		time.Sleep(time.Millisecond)
	}
	w.plane.Plane.Publish(w.plane.table()) // returns after the batch was sent
	if sent := w.link.Sent(); len(sent) > 0 {
		return sent[0].Data
	}
	return nil
}

func total(verdicts [director.NumVerdict]uint64) (n uint64) {
	for _, v := range verdicts {
		n += v
	}
	return n
}

// testPlane records the table published last. It is not safe for concurrent use.
type testPlane struct {
	*dataplane.Plane
	last      *director.Table
	published int
	ahead     conntrack.Tick        // of the workers' clock, as the manager sees it
	seen      func(*director.Table) // if not nil, called with every table
}

func (p *testPlane) Publish(t *director.Table) {
	if p.seen != nil {
		p.seen(t)
	}
	p.last = t
	p.published++
	p.Plane.Publish(t)
}

func (p *testPlane) Now() conntrack.Tick { return p.Plane.Now() + p.ahead }

func (p *testPlane) table() *director.Table { return p.last }

// testPorts are the ports of the fixture.
var testPorts = []director.Port{
	{Name: "eth0", Index: 2, MAC: wire.MAC{2, 0, 0, 0, 0, 0xd}, MTU: 1500, Addr4: netip.MustParseAddr("10.1.0.1")},
	{Name: "eth1", Index: 3, MAC: wire.MAC{2, 0, 0, 0, 1, 0xd}, MTU: 1500, Addr4: netip.MustParseAddr("10.2.255.1")},
}

// testServer returns the address of server i.
func testServer(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 2, byte(i / 250), byte(i%250 + 1)})
}

// testHostNet has the client and some servers as neighbours.
func testHostNet(servers int) *director.HostNet {
	h := &director.HostNet{
		Ports: testPorts, Routes: new(bart.Table[director.Route]),
		Neighbours: map[director.NeighbourKey]wire.MAC{
			{Port: 0, Addr: wire.AddrFrom(netip.MustParseAddr("10.1.0.2"))}: {2, 0, 0, 0, 0, 2},
		},
		HostAddrs: map[wire.Addr]int{wire.AddrFrom(testPorts[0].Addr4): 2, wire.AddrFrom(testPorts[1].Addr4): 3},
	}
	h.Routes.Insert(netip.MustParsePrefix("10.1.0.0/16"), director.Route{Port: 0})
	h.Routes.Insert(netip.MustParsePrefix("10.2.0.0/16"), director.Route{Port: 1})
	for i := range servers {
		h.Neighbours[director.NeighbourKey{Port: 1, Addr: wire.AddrFrom(testServer(i))}] = wire.MAC{
			2, 0, 0, 1,
			byte(i >> 8), byte(i),
		}
	}
	return h
}

// testHost has a network, and records the calls.
type testHost struct {
	mu           sync.Mutex
	net          *director.HostNet
	needed, vips []netip.Addr
}

func (h *testHost) HostNet() *director.HostNet {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.net
}

func (h *testHost) set(net *director.HostNet) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.net = net
}

func (h *testHost) KeepResolved(addrs []netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.needed = slices.Clone(addrs)
}

func (h *testHost) Announce(vips []netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.vips = slices.Clone(vips)
}

// testGuard records the rules, and may refuse them.
type testGuard struct {
	mu      sync.Mutex
	rules   guard.Rules
	applied int
	refuse  func(n int) error // called before the n-th Apply
}

func (g *testGuard) Apply(r guard.Rules) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.applied++
	if g.refuse != nil {
		if err := g.refuse(g.applied); err != nil {
			return err
		}
	}
	g.rules = r
	return nil
}

// all returns the rules of all services in one.
func (g *testGuard) all() (p guard.ServiceRules) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for o := range g.rules.Services.All() {
		p.Destinations, p.VIPs = append(p.Destinations, o.Destinations...), append(p.VIPs, o.VIPs...)
		p.ReplySources = append(p.ReplySources, o.ReplySources...)
		p.ReplySourceRanges = append(p.ReplySourceRanges, o.ReplySourceRanges...)
		p.LocalServers = append(p.LocalServers, o.LocalServers...)
		p.HelperMatches, p.HelperServers = append(p.HelperMatches, o.HelperMatches...),
			append(p.HelperServers, o.HelperServers...)
	}
	return p
}

func service(end, scheduler string) *config.Service {
	return &config.Service{ServiceKey: key(wire.ProtoTCP, end), Scheduler: scheduler}
}

func add(end, scheduler string) config.Op {
	return config.Op{Kind: config.AddService, Service: service(end, scheduler)}
}

func with(end string, s config.Server) config.Op {
	return config.Op{Kind: config.AddServer, Service: service(end, ""), Server: &s}
}

func without(end string, s config.Server) config.Op {
	return config.Op{Kind: config.DeleteServer, Service: service(end, ""), Server: &s}
}

func edited(end string, s config.Server) config.Op {
	return config.Op{Kind: config.EditServer, Service: service(end, ""), Server: &s}
}

func key(proto config.Proto, s string) config.ServiceKey {
	ap := netip.MustParseAddrPort(s)
	return config.ServiceKey{Proto: proto, Addr: ap.Addr(), Port: ap.Port()}
}

func serverAt(s string, m config.Method, weight int32) config.Server {
	ap := netip.MustParseAddrPort(s)
	return config.Server{ServerKey: config.ServerKey{Addr: ap.Addr(), Port: ap.Port()}, Method: m, Weight: weight}
}

func ptr[T any](v T) *T { return &v }
