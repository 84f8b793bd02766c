package guard

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"uvs/ctl/nettest"
)

// testHost is a network namespace with the operations that these tests need.
type testHost struct{ *nettest.Namespace }

func newTestHost(t testing.TB) *testHost { return &testHost{nettest.New(t)} }

// childEnv in the environment makes the test binary a process that holds a
// guard until it is killed.
const childEnv = "UVS_TEST_GUARD_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		runGuard()
	}
	os.Exit(m.Run())
}

func runGuard() {
	g, err := New(zerolog.Nop())
	if err == nil {
		err = g.Apply(Rules{Interfaces: []string{"lo"}})
	}
	fmt.Println(g != nil, err)
	io.Copy(io.Discard, os.Stdin)
	os.Exit(1)
}

// timeout bounds every wait for an expected event.
const timeout = 10 * time.Second

// guard makes a Guard in the namespace.
func (s *testHost) guard() *Guard {
	s.T.Helper()
	var g *Guard
	var err error
	s.Do(func() { g, err = New(zerolog.New(zerolog.NewTestWriter(s.T))) })
	s.Must(err)
	s.T.Cleanup(func() { g.Close() })
	return g
}

// tables lists the netdev tables of the namespace.
func (s *testHost) tables() (names []string) {
	s.T.Helper()
	s.Do(func() {
		tables, err := (&nftables.Conn{}).ListTablesOfFamily(nftables.TableFamilyNetdev)
		if err != nil {
			s.T.Error(err)
		}
		for _, t := range tables {
			names = append(names, t.Name)
		}
	})
	return names
}

// until polls a condition until it holds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so after %v: %s", timeout, what)
		}
	}
}

func addrs(s ...string) (list []netip.Addr) {
	for _, a := range s {
		list = append(list, netip.MustParseAddr(a))
	}
	return list
}

func endpoint(proto uint8, s string) Endpoint {
	ap := netip.MustParseAddrPort(s)
	return Endpoint{Proto: proto, Addr: ap.Addr(), Port: ap.Port()}
}

// TestHostIsSilent dials services of a host whose sockets listen:
//
//	peer p0 10.7.0.2 ── h0 10.7.0.1 host, VIPs 10.7.0.100 and fd07::100 on lo
//
// The host neither accepts nor refuses a guarded one, and serves the others. A
// packet socket still receives the SYN.
func TestHostIsSilent(t *testing.T) {
	host, peer := newTestHost(t), newTestHost(t)
	nettest.Join(host.Namespace, "h0", peer.Namespace, "p0")
	host.Addr("h0", "10.7.0.1/24")
	host.Addr("h0", "fd07::1/64")
	host.Addr("lo", "10.7.0.100/32")
	host.Addr("lo", "fd07::100/128")
	peer.Addr("p0", "10.7.0.2/24")
	peer.Addr("p0", "fd07::2/64")
	host.Sysctl("ipv6/conf/all/forwarding", "1")
	for vip, own := range map[string]string{"10.7.0.100/32": "10.7.0.1", "fd07::100/128": "fd07::1"} {
		dst, err := netlink.ParseIPNet(vip)
		peer.Must(err)
		peer.Must(peer.NL.RouteAdd(&netlink.Route{
			Dst: dst, Gw: net.ParseIP(own),
			LinkIndex: peer.Link("p0").Attrs().Index,
		}))
	}
	g := host.guard()

	for _, row := range []struct {
		name         string
		guarded      Endpoint
		closed, open string
	}{
		{"one port of an IPv4 VIP", endpoint(unix.IPPROTO_TCP, "10.7.0.100:80"), "10.7.0.100:80", "10.7.0.100:81"},
		{"one port of an IPv6 VIP", endpoint(unix.IPPROTO_TCP, "[fd07::100]:80"), "[fd07::100]:80", "[fd07::100]:81"},
		{"every port of an IPv4 VIP", endpoint(unix.IPPROTO_TCP, "10.7.0.100:0"), "10.7.0.100:81", "10.7.0.1:81"},
		{"every port of an IPv6 VIP", endpoint(unix.IPPROTO_TCP, "[fd07::100]:0"), "[fd07::100]:81", "[fd07::1]:81"},
		{"a port where nothing listens", endpoint(unix.IPPROTO_TCP, "10.7.0.100:82"), "10.7.0.100:82", "10.7.0.100:81"},
	} {
		t.Run(row.name, func(t *testing.T) {
			host.Must(g.Apply(Rules{
				Interfaces: []string{"h0"},
				Services:   setOf(&ServiceRules{Destinations: []Endpoint{row.guarded}}),
			}))
			tap := host.Tap("h0")
			closed, open := row.closed, host.listen(t, row.open)
			if !strings.HasSuffix(closed, ":82") && closed != row.open {
				host.listen(t, closed)
			}
			before, err := g.Dropped()
			host.Must(err)

			ctx, cancel := context.WithCancel(t.Context())
			dialed := make(chan error, 1)
			go peer.Do(func() {
				c, err := (&net.Dialer{}).DialContext(ctx, "tcp", closed)
				if err == nil {
					c.Close()
				}
				dialed <- err
			})
			until(t, "a SYN to "+closed+" is dropped", func() bool {
				d, err := g.Dropped()
				host.Must(err)
				return d.Service > before.Service
			})
			tap.SetReadDeadline(time.Now().Add(timeout))
			for seen := false; !seen; {
				b := make([]byte, 2048)
				n, _, err := tap.ReadFrom(b)
				if err != nil {
					t.Fatalf("no SYN to %s at the packet socket: %v", closed, err)
				}
				_, dst, _, _ := addrsOf(b[:n])
				seen = dst == netip.MustParseAddrPort(closed)
			}
			peer.Do(func() {
				c, err := net.DialTimeout("tcp", row.open, timeout)
				if err != nil {
					t.Errorf("dial unguarded %s: %v", row.open, err)
					return
				}
				c.Close()
			})
			if c, err := open.Accept(); err == nil {
				c.Close()
			}
			cancel()
			// The host answers in the order of the requests, so an RST for the guarded
			// SYN would have come before the answer to the unguarded one.
			if err := <-dialed; err == nil || errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("dial guarded %s: %v, want no answer at all", closed, err)
			}
		})
	}
}

// listen opens a TCP listener in the namespace.
func (s *testHost) listen(t *testing.T, address string) net.Listener {
	t.Helper()
	var l net.Listener
	var err error
	s.Do(func() { l, err = net.Listen("tcp", address) })
	s.Must(err)
	t.Cleanup(func() { l.Close() })
	l.(*net.TCPListener).SetDeadline(time.Now().Add(timeout))
	return l
}

// TestHostReachesServer opens a connection from the host to a server whose
// other replies the guard drops.
func TestHostReachesServer(t *testing.T) {
	host, peer := newTestHost(t), newTestHost(t)
	nettest.Join(host.Namespace, "h0", peer.Namespace, "p0")
	g := host.guard()
	for _, row := range []struct{ local, localNet, server, serverNet string }{
		{"10.7.0.1", "10.7.0.1/24", "10.7.0.2:80", "10.7.0.2/24"},
		{"fd07::1", "fd07::1/64", "[fd07::2]:80", "fd07::2/64"},
	} {
		host.Addr("h0", row.localNet)
		peer.Addr("p0", row.serverNet)
		host.Must(g.Apply(Rules{
			Interfaces: []string{"h0"}, HostAddrs: addrs(row.local),
			Services: setOf(&ServiceRules{ReplySources: []Endpoint{endpoint(unix.IPPROTO_TCP, row.server)}}),
		}))
		peer.listen(t, row.server)
		host.Do(func() {
			c, err := net.DialTimeout("tcp", row.server, timeout)
			if err != nil {
				t.Errorf("host dials server %s: %v", row.server, err)
				return
			}
			c.Close()
		})
	}
}

// TestTableGoes checks that no table is left, in whichever way a guard ends.
func TestTableGoes(t *testing.T) {
	host := newTestHost(t)
	g := host.guard()
	host.Must(g.Apply(Rules{Interfaces: []string{"lo"}, Services: setOf(&ServiceRules{VIPs: addrs("10.7.0.100")})}))
	if names := host.tables(); len(names) != 1 || names[0] != g.table.Name {
		t.Fatalf("tables %v, want only %s", names, g.table.Name)
	}
	host.Must(g.Close())
	host.Must(g.Close()) // a second Close does nothing
	if names := host.tables(); len(names) != 0 {
		t.Fatalf("tables after Close: %v", names)
	}

	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	stdin, err := cmd.StdinPipe()
	host.Must(err)
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	host.Must(err)
	host.Do(func() { err = cmd.Start() }) // a process starts in the namespace of the thread
	host.Must(err)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "true <nil>\n" {
		t.Errorf("child printed %q, %v", line, err)
	}
	if names := host.tables(); len(names) != 1 {
		t.Errorf("tables with a child: %v, want one", names)
	}
	host.Must(cmd.Process.Kill())
	cmd.Wait()
	until(t, "table of the killed process is gone", func() bool { return len(host.tables()) == 0 })
}

// TestStaleTables checks that New removes what a killed guard left on a kernel
// without table owners, and nothing else.
func TestStaleTables(t *testing.T) {
	host := newTestHost(t)
	other := host.guard()
	plain := &nftables.Conn{}
	host.Do(func() {
		for _, name := range []string{"uvs-dead", "uvs-live", "foreign"} {
			plain.AddTable(&nftables.Table{Name: name, Family: nftables.TableFamilyNetdev})
		}
		host.Must(plain.Flush())
		live, err := lockName("uvs-live")
		host.Must(err)
		t.Cleanup(func() { live.Close() })
	})
	g := host.guard()
	got := map[string]bool{}
	for _, name := range host.tables() {
		got[name] = true
	}
	for _, name := range []string{"uvs-live", "foreign", other.table.Name, g.table.Name} {
		if !got[name] {
			t.Errorf("table %s is gone", name)
		}
	}
	if got["uvs-dead"] {
		t.Error("stale table uvs-dead is still there")
	}
}

// TestInterfaceComesBack deletes a guarded interface and makes it again.
func TestInterfaceComesBack(t *testing.T) {
	host, peer := newTestHost(t), newTestHost(t)
	g := host.guard()
	r := Rules{Interfaces: []string{"h0", "h1"}, Services: setOf(&ServiceRules{VIPs: addrs("10.7.0.100")})}
	host.Must(g.Apply(r)) // neither exists yet
	for i := range 2 {
		nettest.Join(host.Namespace, "h0", peer.Namespace, "p0")
		host.Must(g.Apply(r))
		if _, err := peer.Tap("p0").WriteTo(framesOf(udp("10.7.0.2", 1, "10.7.0.100", 2))[0], anywhere); err != nil {
			t.Fatal(err)
		}
		until(t, "a frame on the new interface is dropped", func() bool {
			d, err := g.Dropped()
			host.Must(err)
			return d.VIP == uint64(i+1)
		})
		host.Must(host.NL.LinkDel(host.Link("h0")))
	}
	host.Must(g.Apply(Rules{Interfaces: []string{"h1"}}))
	if ports, err := g.interfaces(); err != nil || len(ports) != 0 {
		t.Errorf("chains for %v (%v), want none", ports, err)
	}
}

// TestApplyMatchesTwin applies random rules one after the other. It compares
// the kernel's elements with those of a simple implementation.
func TestApplyMatchesTwin(t *testing.T) {
	host := newTestHost(t)
	g := host.guard()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	address := func() netip.Addr {
		if rnd.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, 7, 0, byte(rnd.IntN(8))})
		}
		return netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(rnd.IntN(8))})
	}
	part := func() *ServiceRules {
		p := new(ServiceRules)
		for range rnd.IntN(7) {
			p.VIPs = append(p.VIPs, address())
			p.Destinations = append(p.Destinations, Endpoint{uint8(rnd.IntN(3)), address(), uint16(rnd.IntN(3))})
			p.ReplySources = append(p.ReplySources, Endpoint{uint8(rnd.IntN(3)), address(), uint16(rnd.IntN(3))})
		}
		return p
	}
	var parts []*ServiceRules // some stay from one Apply to the next, and several share elements
	for range 60 {
		parts = slices.DeleteFunc(slices.Clone(parts), func(*ServiceRules) bool { return rnd.IntN(3) == 0 })
		for range rnd.IntN(4) {
			parts = append(parts, part())
		}
		r := Rules{Interfaces: []string{"lo"}[:rnd.IntN(2)], Services: setOf(parts...)}
		for range rnd.IntN(20) {
			r.HostAddrs = append(r.HostAddrs, address())
		}
		if rnd.IntN(5) == 0 {
			g.refs = nil // as after a change that failed
		}
		host.Must(g.Apply(r))
		g.check(t, r)
	}
	// A bad value changes nothing.
	last := Rules{Services: setOf(&ServiceRules{Destinations: []Endpoint{endpoint(unix.IPPROTO_TCP, "10.7.0.1:80")}})}
	host.Must(g.Apply(last))
	if err := g.Apply(Rules{Services: setOf(&ServiceRules{VIPs: []netip.Addr{address(), {}}})}); err == nil {
		t.Error("no error for an invalid VIP")
	}
	g.check(t, last)
}

// setOf is a set of rules.
func setOf(list ...*ServiceRules) (set ServiceSet) {
	for _, p := range list {
		set.Set(p, struct{}{})
	}
	return set
}

// check compares the kernel's sets with those that r asks for.
func (g *Guard) check(t *testing.T, r Rules) {
	t.Helper()
	want := map[string]bool{}
	expect := func(set string, a netip.Addr, rest ...any) {
		want[fmt.Sprint(set, map[bool]string{true: "4", false: "6"}[a.Is4()], a, rest)] = true
	}
	for _, a := range r.HostAddrs {
		expect("locals", a)
	}
	for p := range r.Services.All() {
		for _, a := range p.VIPs {
			expect("vips", a)
		}
		for _, e := range p.ReplySources {
			expect("sourceaddrs", e.Addr, e.Proto)
		}
		for set, list := range map[string][]Endpoint{"services": p.Destinations, "sources": p.ReplySources} {
			for _, e := range list {
				if e.Port == 0 {
					expect("any"+set, e.Addr, e.Proto)
				} else {
					expect(set, e.Addr, e.Proto, e.Port)
				}
			}
		}
	}
	got := map[string]bool{}
	for name, set := range g.sets {
		list, err := g.conn.GetSetElements(set)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			size := map[byte]int{'4': 4, '6': 16}[name[len(name)-1]]
			a, _ := netip.AddrFromSlice(e.Key[:size])
			rest := []any{}
			if len(e.Key) > size {
				rest = append(rest, e.Key[size])
			}
			if len(e.Key) > size+4 {
				rest = append(rest, uint16(e.Key[size+4])<<8|uint16(e.Key[size+5]))
			}
			got[fmt.Sprint(name, a, rest)] = true
		}
	}
	for k := range want {
		if !got[k] {
			t.Errorf("kernel lacks %s", k)
		}
	}
	for k := range got {
		if !want[k] {
			t.Errorf("kernel has %s, which no rule needs", k)
		}
	}
	ports, err := g.interfaces()
	if err != nil || len(ports) != len(r.Interfaces) {
		t.Errorf("chains for %v (%v), want %v", ports, err, r.Interfaces)
	}
}

// TestManyEndpoints applies a large configuration and a small change to it.
func TestManyEndpoints(t *testing.T) {
	host := newTestHost(t)
	g := host.guard()
	var services []*ServiceRules
	for i := range 20000 {
		b := [16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)}
		services = append(services, &ServiceRules{
			Destinations: []Endpoint{{unix.IPPROTO_TCP, netip.AddrFrom16(b), 80}},
			ReplySources: []Endpoint{{unix.IPPROTO_TCP, netip.AddrFrom4([4]byte{10, 0, b[14], b[15]}), 80}},
		})
	}
	r := Rules{Interfaces: []string{"lo"}, Services: setOf(services...)}
	start := time.Now()
	host.Must(g.Apply(r))
	whole := time.Since(start)
	r.Services = r.Services.Clone()
	r.Services.Delete(services[0])
	start = time.Now()
	host.Must(g.Apply(r))
	t.Logf("40000 endpoints in %v, one less in %v", whole, time.Since(start))
	g.check(t, r)
}
