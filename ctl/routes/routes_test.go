package routes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"uvs/ctl/nettest"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// testHost is a network namespace with the operations that these tests need.
type testHost struct{ *nettest.Namespace }

func newTestHost(t testing.TB) *testHost { return &testHost{nettest.New(t)} }

// timeout bounds every wait for an expected event.
const timeout = 20 * time.Second

// watch runs a Watcher in the namespace until the test ends.
func (s *testHost) watch(interfaces ...string) *Watcher {
	s.T.Helper()
	w := s.open(interfaces...)
	s.run(w, func(*director.HostNet) {})
	return w
}

func (s *testHost) open(interfaces ...string) (w *Watcher) {
	s.T.Helper()
	var err error
	s.Do(func() { w, err = New(interfaces, nil, ThisProcess{}, zerolog.New(zerolog.NewTestWriter(s.T))) })
	s.Must(err)
	return w
}

func (s *testHost) run(w *Watcher, publish func(*director.HostNet)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := netns.Set(s.NS)
		if err == nil {
			err = w.Run(ctx, publish)
		}
		done <- err
	}()
	s.T.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.T.Error(err)
		}
	})
}

// until waits for a state for which ok returns true.
func (w *Watcher) until(t *testing.T, what string, ok func(*director.HostNet) bool) {
	t.Helper()
	late := time.After(timeout)
	for {
		hostNet, changed := w.current()
		if ok(hostNet) {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("still not so: %s\nports %+v\nneighbours %v\nroutes\n%v", what, hostNet.Ports, hostNet.Neighbours,
				hostNet.Routes)
		}
	}
}

func addrs(s ...string) (list []netip.Addr) {
	for _, a := range s {
		list = append(list, netip.MustParseAddr(a))
	}
	return list
}

func (s *testHost) mac(name string) wire.MAC {
	s.T.Helper()
	return wire.MAC(s.Link(name).Attrs().HardwareAddr)
}

// neighbourOnPort0 returns the hardware address of a neighbour on port 0.
func neighbourOnPort0(h *director.HostNet, addr string) wire.MAC {
	return h.Neighbours[director.NeighbourKey{Addr: wire.AddrFrom(netip.MustParseAddr(addr))}]
}

// route makes a route; gw may be empty.
func (s *testHost) route(dst, gw, dev string) *netlink.Route {
	s.T.Helper()
	n, err := netlink.ParseIPNet(dst)
	s.Must(err)
	return &netlink.Route{Dst: n, Gw: net.ParseIP(gw), LinkIndex: s.Link(dev).Attrs().Index}
}

// newHostAndPeer makes a host with interface h0 and a peer with p0, joined.
func newHostAndPeer(t *testing.T) (host, peer *testHost) {
	t.Helper()
	host, peer = newTestHost(t), newTestHost(t)
	nettest.Join(host.Namespace, "h0", peer.Namespace, "p0")
	return host, peer
}

// TestNewRefuses checks that the error names the wrong value and the possible
// ones.
func TestNewRefuses(t *testing.T) {
	host, _ := newHostAndPeer(t)
	for _, row := range []struct {
		interfaces []string
		want       string
	}{
		{[]string{"h0", "h9"}, `no interface "h9"; there are h0`},
		{[]string{"lo"}, `interface "lo" has no Ethernet address`},
		{[]string{"h0", "h0"}, `interface "h0" is given twice`},
	} {
		host.Do(func() {
			_, err := New(row.interfaces, nil, ThisProcess{}, zerolog.Nop())
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("New(%v): %v, want … %s", row.interfaces, err, row.want)
			}
		})
	}
}

// TestRoutesMatchKernel adds random routes, and compares the routes of random
// addresses with the kernel's.
func TestRoutesMatchKernel(t *testing.T) {
	host, peer := newHostAndPeer(t)
	nettest.Join(host.Namespace, "h1", peer.Namespace, "p1")
	nettest.Join(host.Namespace, "other", peer.Namespace, "p2") // uvs does not run on this one
	devs := []string{"h0", "h1", "other"}
	for i, dev := range devs {
		host.Addr(dev, fmt.Sprintf("10.%d.0.1/16", i))
		host.Addr(dev, fmt.Sprintf("fd0%d::1/32", i))
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	// Addresses share few bits, so that prefixes nest.
	address := func(v6 bool) netip.Addr {
		if v6 {
			return netip.AddrFrom16([16]byte{
				0: 0x20, 1: byte(rnd.IntN(3)), 2: byte(rnd.IntN(4)),
				15: byte(rnd.IntN(4)),
			})
		}
		return netip.AddrFrom4([4]byte{20, byte(rnd.IntN(3)), byte(rnd.IntN(4)), byte(rnd.IntN(4))})
	}
	for range 300 {
		v6 := rnd.IntN(2) == 0
		a, n := address(v6), rnd.IntN(len(devs))
		bits := []int{8, 10, 15, 16, 23, 24, 31, 32}[rnd.IntN(8)]
		gw := fmt.Sprintf("10.%d.0.%d", n, 2+rnd.IntN(3))
		if v6 {
			bits *= 4
			gw = fmt.Sprintf("fd0%d::%d", n, 2+rnd.IntN(3))
		}
		p, _ := a.Prefix(bits)
		r := host.route(p.String(), gw, devs[n])
		r.Priority = 1 + rnd.IntN(5)
		switch rnd.IntN(6) {
		case 0:
			r.Type = []int{unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT}[rnd.IntN(3)]
			r.Gw, r.LinkIndex = nil, 0
		case 1:
			r.Gw = nil
		case 2:
			r.MTU = 1280 + rnd.IntN(100)
		}
		host.NL.RouteAdd(r) // fails if it exists
	}
	hostNet := host.open("h0", "h1").HostNet()
	for range 3000 {
		a := address(rnd.IntN(2) == 0)
		var want director.Route
		got, err := host.NL.RouteGet(a.AsSlice())
		if err != nil {
			want = director.Route{Port: wire.NoPort}
		} else if port := slices.Index(devs, host.name(got[0].LinkIndex)); port > 1 {
			want = director.Route{Port: wire.NoPort}
		} else {
			via, _ := netip.AddrFromSlice(got[0].Gw)
			want = director.Route{Port: uint16(port), Via: via, MTU: got[0].MTU}
		}
		r, ok := hostNet.Routes.Lookup(a)
		if !ok {
			r.Port = wire.NoPort
		}
		if r != want {
			t.Fatalf("%s goes by %+v, the kernel has %+v (%+v, %v)", a, r, want, got, err)
		}
	}
}

func (s *testHost) name(index int) string {
	l, err := s.NL.LinkByIndex(index)
	s.Must(err)
	return l.Attrs().Name
}

// TestWatcherFollowsHost changes the host under a running Watcher.
func TestWatcherFollowsHost(t *testing.T) {
	host, peer := newHostAndPeer(t)
	host.Addr("h0", "10.7.0.1/24")
	peer.Addr("p0", "10.7.0.2/24")
	peer.Addr("p0", "10.7.0.3/24")
	w := host.watch("h0")
	far := netip.MustParseAddr("10.99.0.1")
	routeTo := func(via string, mtu int) func(*director.HostNet) bool {
		return func(h *director.HostNet) bool {
			r, ok := h.Routes.Lookup(far)
			return ok && r == director.Route{Via: netip.MustParseAddr(via), MTU: mtu}
		}
	}

	if !w.HostNet().IsLocal(wire.AddrFrom(netip.MustParseAddr("10.7.0.1"))) {
		t.Error("own address is not Local")
	}
	r := host.route("10.99.0.0/16", "10.7.0.2", "h0")
	host.Must(host.NL.RouteAdd(r))
	w.until(t, "new route", routeTo("10.7.0.2", 0))
	w.until(t, "its gateway is resolved unasked",
		func(h *director.HostNet) bool { return neighbourOnPort0(h, "10.7.0.2") == peer.mac("p0") })

	r.Gw = net.ParseIP("10.7.0.3")
	host.Must(host.NL.RouteReplace(r))
	w.until(t, "another gateway", routeTo("10.7.0.3", 0))
	w.until(t, "which is resolved too",
		func(h *director.HostNet) bool { return neighbourOnPort0(h, "10.7.0.3") == peer.mac("p0") })

	r.MTU = 1400
	host.Must(host.NL.RouteReplace(r))
	w.until(t, "MTU of the route", routeTo("10.7.0.3", 1400))

	r.MTU, r.MultiPath, r.Gw, r.LinkIndex = 0, []*netlink.NexthopInfo{
		{LinkIndex: r.LinkIndex, Gw: net.ParseIP("10.7.0.2")}, {LinkIndex: r.LinkIndex, Gw: net.ParseIP("10.7.0.3")},
	}, nil, 0
	host.Must(host.NL.RouteReplace(r))
	w.until(t, "first of several next hops", routeTo("10.7.0.2", 0))

	bad := &netlink.Route{Dst: r.Dst, Type: unix.RTN_BLACKHOLE}
	host.Must(host.NL.RouteReplace(bad))
	w.until(t, "blackhole", func(h *director.HostNet) bool {
		got, ok := h.Routes.Lookup(far)
		return ok && got.Port == wire.NoPort
	})
	host.Must(host.NL.RouteDel(bad))
	w.until(t, "no route", func(h *director.HostNet) bool { return !h.Routes.Contains(far) })

	host.Must(host.NL.LinkSetMTU(host.Link("h0"), 1400))
	w.until(t, "MTU of the port", func(h *director.HostNet) bool { return h.Ports[0].MTU == 1400 })

	host.Addr("h0", "fd07::1/64")
	w.until(t, "IPv6 address",
		func(h *director.HostNet) bool { return h.Ports[0].Addr6 == netip.MustParseAddr("fd07::1") })

	mac := wire.MAC{2, 7, 7, 7, 7, 7}
	host.Must(host.NL.LinkSetHardwareAddr(host.Link("h0"), mac[:]))
	w.until(t, "hardware address", func(h *director.HostNet) bool { return h.Ports[0].MAC == mac })

	w.KeepResolved(addrs("10.7.0.2"))
	host.Must(host.NL.LinkSetDown(host.Link("h0")))
	w.until(t, "a port that is down has no neighbours and routes", func(h *director.HostNet) bool {
		return len(h.Neighbours) == 0 && !h.Routes.Contains(netip.MustParseAddr("10.7.0.2"))
	})
	host.Must(host.NL.LinkSetName(host.Link("h0"), "lan"))
	w.until(t, "a new name of the same interface",
		func(h *director.HostNet) bool { return h.Ports[0].Name == "lan" && h.Ports[0].Index != 0 })
	host.Up("lan")
	w.until(t, "up again, and resolved again",
		func(h *director.HostNet) bool { return neighbourOnPort0(h, "10.7.0.2") == peer.mac("p0") })

	host.Must(host.NL.LinkDel(host.Link("lan")))
	w.until(t, "interface gone", func(h *director.HostNet) bool { return h.Ports[0] == director.Port{Name: "h0"} })
	nettest.Join(host.Namespace, "h0", peer.Namespace, "p0")
	host.Addr("h0", "10.7.0.1/24")
	peer.Addr("p0", "10.7.0.2/24")
	w.until(t, "made again, and resolved again", func(h *director.HostNet) bool {
		return h.Ports[0].Index == host.Link("h0").Attrs().Index && neighbourOnPort0(h, "10.7.0.2") == peer.mac("p0")
	})
}

// TestBurst makes many changes at once. It allows one state per coalesceDelay,
// and the last state must have the last change.
func TestBurst(t *testing.T) {
	host, _ := newHostAndPeer(t)
	host.Addr("h0", "10.7.0.1/24")
	w := host.open("h0")
	var states atomic.Int64
	start := time.Now()
	host.run(w, func(*director.HostNet) { states.Add(1) })
	const burst = 300
	for i := range burst {
		host.Must(host.NL.RouteAdd(host.route(fmt.Sprintf("10.99.%d.%d/32", i/250, i%250), "10.7.0.2", "h0")))
	}
	w.until(t, "all routes", func(h *director.HostNet) bool { return h.Routes.Size4() == burst+1 })
	if most := int64(time.Since(start)/coalesceDelay) + 1; states.Load() > most {
		t.Errorf("%d states in %v, want at most one every %v: %d", states.Load(), time.Since(start), coalesceDelay,
			most)
	}
}

// TestLostEvents lets the kernel drop events before they are read.
func TestLostEvents(t *testing.T) {
	host, peer := newHostAndPeer(t)
	host.Addr("h0", "10.7.0.1/24")
	w := host.open("h0")
	host.Must(w.sub.SetReceiveBufferSize(1, false)) // the kernel raises it to its minimum
	const many = 200
	for i := range many {
		host.Must(host.NL.RouteAdd(host.route(fmt.Sprintf("10.99.0.%d/32", i), "10.7.0.2", "h0")))
	}
	mac := peer.mac("p0")
	host.Must(host.NL.NeighSet(&netlink.Neigh{
		LinkIndex: host.Link("h0").Attrs().Index, IP: net.ParseIP("10.7.0.9"), HardwareAddr: mac[:],
		State: netlink.NUD_PERMANENT,
	}))
	host.run(w, func(*director.HostNet) {})
	w.until(t, "all routes", func(h *director.HostNet) bool { return h.Routes.Size4() == many+1 })
	w.until(t, "the neighbour", func(h *director.HostNet) bool { return neighbourOnPort0(h, "10.7.0.9") == mac })
}

// A new address counts at once, although a long routing table must not be read again for
// a while.
func TestAddressesDoNotWait(t *testing.T) {
	t.Parallel()
	host, _ := newHostAndPeer(t)
	w := host.open("h0")
	w.reading.last, w.reading.took = time.Now(), time.Hour
	published := make(chan *director.HostNet, 16)
	host.run(w, func(n *director.HostNet) { published <- n })
	vip := wire.AddrFrom(netip.MustParseAddr("10.7.0.100"))
	for _, held := range []bool{true, false} {
		if addr, err := netlink.ParseAddr("10.7.0.100/32"); held {
			host.Must(err)
			host.Must(host.NL.AddrAdd(host.Link("h0"), addr))
		} else {
			host.Must(host.NL.AddrDel(host.Link("h0"), addr))
		}
		for deadline := time.After(timeout); ; {
			select {
			case n := <-published:
				if n.IsLocal(vip) != held {
					continue
				}
			case <-deadline:
				t.Fatalf("never published that the host holds the address: %v", held)
			}
			break
		}
	}
}

// Which ports forward is followed: of an interface, and for IPv6 of the host too.
func TestWatcherFollowsForwarding(t *testing.T) {
	host, _ := newHostAndPeer(t)
	w := host.watch("h0")
	for _, r := range []struct {
		path, value string
		v4, v6      bool
	}{
		{"ipv4/ip_forward", "0", false, false},
		{"ipv4/conf/h0/forwarding", "1", true, false},
		{"ipv6/conf/h0/forwarding", "1", true, false}, // IPv6 forwards nothing before all does
		{"ipv6/conf/all/forwarding", "1", true, true},
		{"ipv6/conf/h0/forwarding", "0", true, false},
		{"ipv4/ip_forward", "1", true, false},
		{"ipv4/ip_forward", "0", false, false},
	} {
		host.Sysctl(r.path, r.value)
		w.until(t, r.path+"="+r.value, func(h *director.HostNet) bool {
			return h.Ports[0].Forwards4 == r.v4 && h.Ports[0].Forwards6 == r.v6
		})
	}
}
