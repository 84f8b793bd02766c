package rest

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gaissmai/bart"
	"github.com/rs/zerolog"

	"uvs/conntrack"
	"uvs/ctl"
	"uvs/ctl/api"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane"
	"uvs/dataplane/director"
	"uvs/dataplane/memlink"
	"uvs/dataplane/wire"
)

// fixture is a director whose links are in memory, with its API. Its servers are in
// 10.2.0.0/16; those of the first 256 addresses are neighbours.
type fixture struct {
	*Server
	conns  *conntrack.Table
	link   *memlink.Link
	stop   func() // of the workers
	host   *testHost
	guard  *testGuard
	socket string
}

const vip = "10.9.0.1:80"

func newFixture(t testing.TB, configure ...func(*Server)) *fixture {
	t.Helper()
	size := conntrack.Config{Max: 1 << 14, Workers: 1, ServerIDs: compile.MaxServerIDs, Seed: 1}
	conns, err := conntrack.NewTable(size)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{conns: conns, link: memlink.New(memlink.Config{}), host: newTestHost(), guard: new(testGuard)}
	manager := ctl.NewManager(conns, 1, f.host, f.guard, zerolog.Nop())
	links := []dataplane.Link{f.link}
	plane := dataplane.New(conns, manager.FirstTable(), links, nil, func(director.NeighbourKey) {})
	manager.Start(plane)
	f.Server = &Server{
		Manager: manager, Counters: func() []api.Counter { return nil }, Started: time.Now(), Logger: zerolog.Nop(),
		Healthy: func() error { return plane.Check(5 * time.Second) },
	}
	for _, c := range configure {
		c(f.Server)
	}
	ctx, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { plane.Run(ctx) })
	f.stop = func() { stop(); parts.Wait() }
	t.Cleanup(func() { f.stop(); conns.Close() })
	return f
}

// listen serves the API on a socket, and returns a client.
func (f *fixture) listen(t testing.TB) *api.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "uvs") // those without privileges can look into it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	f.socket = filepath.Join(dir, "uvs.sock")
	l, err := Listen(f.socket, f.Access)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := os.Lstat(f.socket); err == nil {
			t.Error("the socket is left behind")
		}
	})
	f.serve(t, l)
	c, err := api.Dial(f.socket)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve serves the API on a listener until the test ends.
func (f *fixture) serve(t testing.TB, l net.Listener) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func (f *fixture) must(t testing.TB, ops ...config.Op) {
	t.Helper()
	for _, op := range ops {
		if err := f.Manager.Apply(op); err != nil {
			t.Fatalf("%s: %v", op, err)
		}
	}
}

// answer is a response that was read.
type answer struct {
	*http.Response
	text string
}

// ask sends a request; header are lines such as "If-Match: *".
func (f *fixture) ask(t testing.TB, method, path, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, "http://uvs"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := unixHTTP(f.socket).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, string(bytes.TrimSpace(text))}
}

// unixHTTP returns an HTTP client for the socket.
func unixHTTP(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) },
	}}
}

func key(text string) config.ServiceKey {
	k, err := config.ParseServiceKey(text)
	if err != nil {
		panic(err)
	}
	return k
}

func add80(vip string) config.Op {
	return config.Op{Kind: config.AddService, Service: &config.Service{ServiceKey: key("tcp:" + vip), Scheduler: "rr"}}
}

func withServer(vip, server string) config.Op {
	ap := netip.MustParseAddrPort(server)
	return config.Op{
		Kind: config.AddServer, Service: &config.Service{ServiceKey: key("tcp:" + vip)},
		Server: &config.Server{ServerKey: config.ServerKey{Addr: ap.Addr(), Port: ap.Port()}, Weight: 1},
	}
}

// testHost is a host with two interfaces.
type testHost struct {
	mu  sync.Mutex
	net *director.HostNet
}

func newTestHost() *testHost {
	ports := []director.Port{
		{Name: "eth0", Index: 2, MAC: wire.MAC{2, 5: 0xd}, MTU: 1500, Addr4: netip.MustParseAddr("10.1.0.1")},
		{Name: "eth1", Index: 3, MAC: wire.MAC{2, 4: 1, 5: 0xd}, MTU: 1500, Addr4: netip.MustParseAddr("10.2.255.1")},
	}
	h := &director.HostNet{
		Ports: ports, Routes: new(bart.Table[director.Route]), Neighbours: map[director.NeighbourKey]wire.MAC{},
		HostAddrs: map[wire.Addr]int{wire.AddrFrom(ports[0].Addr4): 2, wire.AddrFrom(ports[1].Addr4): 3},
	}
	h.Routes.Insert(netip.MustParsePrefix("10.1.0.0/16"), director.Route{Port: 0})
	h.Routes.Insert(netip.MustParsePrefix("10.2.0.0/16"), director.Route{Port: 1})
	for i := range 256 {
		h.Neighbours[neighbour(byte(i/250), byte(i%250+1))] = wire.MAC{2, 0, 0, 1, byte(i >> 8), byte(i)}
	}
	return &testHost{net: h}
}

func neighbour(c, d byte) director.NeighbourKey {
	return director.NeighbourKey{Port: 1, Addr: wire.AddrFrom(netip.AddrFrom4([4]byte{10, 2, c, d}))}
}

func (h *testHost) HostNet() *director.HostNet {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.net
}

// learn adds a neighbour.
func (h *testHost) learn(k director.NeighbourKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := *h.net
	next.Neighbours = maps.Clone(h.net.Neighbours)
	next.Neighbours[k] = wire.MAC{2, 9}
	h.net = &next
}

func (h *testHost) KeepResolved([]netip.Addr) {}
func (h *testHost) Announce([]netip.Addr)     {}

// testGuard may refuse rules.
type testGuard struct {
	mu     sync.Mutex
	refuse error
}

func (g *testGuard) Apply(guard.Rules) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refuse
}
