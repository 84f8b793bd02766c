package routes

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"uvs/ctl/nettest"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// TestResolved resolves servers in hosts that are set up in different ways, and neighbours
// that are requested:
//
//	host h0 ── p0 peer, servers 10.7.0.2 and fd07::2
func TestResolved(t *testing.T) {
	nettest.New(t) // or the test skips with its subtests
	for _, row := range []struct {
		name   string
		set    func(host *testHost)
		server string
	}{
		{"IPv4, with an address", func(h *testHost) { h.Addr("h0", "10.7.0.1/24") }, "10.7.0.2"},
		{"IPv6, with an address", func(h *testHost) { h.Addr("h0", "fd07::1/64") }, "fd07::2"},
		{"IPv4, without any address on the port", func(*testHost) {}, "10.7.0.2"},
		{"IPv6, with a link-local address only", func(*testHost) {}, "fd07::2"},
		{"IPv4, in a host that never had an address", func(h *testHost) {}, "10.7.0.2"},
		{"IPv6, where it is off", func(h *testHost) { h.Sysctl("ipv6/conf/h0/disable_ipv6", "1") }, "fd07::2"},
		{"IPv6, without even a link-local address", func(h *testHost) {
			h.Must(h.NL.LinkSetDown(h.Link("h0")))
			h.Sysctl("ipv6/conf/h0/addr_gen_mode", "1")
			h.Up("h0")
		}, "fd07::2"},
		{"IPv4, through a gateway", func(h *testHost) {
			h.Addr("h0", "10.7.0.1/24")
			h.Must(h.NL.RouteAdd(h.route("10.99.0.0/16", "10.7.0.2", "h0")))
		}, "10.99.0.9"},
		{"IPv6, through a link-local gateway", func(h *testHost) {
			h.Must(h.NL.RouteAdd(h.route("fd99::/64", "fe80::2", "h0")))
		}, "fd99::9"},
		{"IPv4, through an IPv6 gateway", func(h *testHost) {
			r := h.route("10.99.0.0/16", "", "h0")
			r.Via = &netlink.Via{AddrFamily: netlink.FAMILY_V6, Addr: net.ParseIP("fe80::2")}
			h.Must(h.NL.RouteAdd(r))
		}, "10.99.0.9"},
	} {
		for _, requested := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/requested=%t", row.name, requested), func(t *testing.T) {
				t.Parallel()
				host, peer := newTestHost(t), newTestHost(t)
				if row.name == "IPv4, in a host that never had an address" {
					host = &testHost{nettest.NewBare(t)}
				}
				nettest.Join(host.Namespace, "h0", peer.Namespace, "p0")
				peer.Addr("p0", "10.7.0.2/24")
				peer.Addr("p0", "fd07::2/64")
				peer.Addr("p0", "fe80::2/64")
				row.set(host)
				w := host.watch("h0")
				hop := nextHops(w.HostNet(), netip.MustParseAddr(row.server))[0]
				if !requested {
					w.KeepResolved(addrs(row.server))
				}
				var last time.Time
				until(t, "resolved", func() bool {
					if requested && time.Since(last) > requestTime { // as a director does: the link may not be up yet
						last = time.Now()
						w.Resolve(hop)
					}
					return w.HostNet().Neighbours[hop] == peer.mac("p0")
				})
				for id, n := range must(readNeighbours(host.NL)) {
					if n.state&netlink.NUD_PERMANENT != 0 {
						t.Errorf("left behind a permanent entry for %v", id)
					}
				}
			})
		}
	}
}

// TestRequestedAgain: a neighbour that somebody deletes is solicited at once if a packet waits
// for it or it is requested again. Otherwise it is not: ip neigh flush would find it again and
// again.
func TestRequestedAgain(t *testing.T) {
	host, peer := newHostAndPeer(t)
	host.Addr("h0", "10.7.0.1/24")
	w := host.open("h0")
	mac := peer.mac("p0")
	id := neighbourID{linkID{index: host.Link("h0").Attrs().Index}, netip.MustParseAddr("10.7.0.2")}
	entry := &netlink.Neigh{
		LinkIndex: id.link.index, Family: netlink.FAMILY_V4, IP: id.addr.AsSlice(), State: netlink.NUD_REACHABLE,
		HardwareAddr: mac[:],
	}
	now := time.Now()
	hop := director.NeighbourKey{Addr: wire.AddrFrom(id.addr)}
	check := func(what string, want bool) {
		t.Helper()
		host.Do(func() { w.solicitDue(now) })
		if _, got := must(readNeighbours(host.NL))[id]; got != want {
			t.Errorf("%s: solicited %t, want %t", what, got, want)
		}
		if want {
			host.Must(host.NL.NeighDel(entry))
		}
	}
	w.takeRequest(hop, now)
	check("requested", true)
	check("a moment later", false)
	w.apply(event{neighbour: entry, deleted: true})
	check("deleted before it answered", true)
	w.apply(event{neighbour: entry})
	w.takeRequest(hop, now)
	check("answered", false)
	w.apply(event{neighbour: entry, deleted: true})
	check("deleted after that", false)
	w.takeRequest(hop, now)
	check("requested again", true)
}

// TestRequestedInVain: a neighbour that does not answer is forgotten after requestTime. What is
// requested beyond maxRequested is ignored.
func TestRequestedInVain(t *testing.T) {
	host, _ := newHostAndPeer(t)
	host.Addr("h0", "10.7.0.1/16")
	w := host.open("h0")
	hop := director.NeighbourKey{Addr: wire.AddrFrom(netip.MustParseAddr("10.7.0.9"))}
	now := time.Now()
	w.takeRequest(hop, now)
	w.solicitDue(now)
	w.solicitDue(now.Add(requestTime - 1))
	if len(w.requested) != 1 || len(w.solicited) != 1 {
		t.Errorf("requested %v, solicited %v, want one", w.requested, w.solicited)
	}
	w.solicitDue(now.Add(requestTime))
	if len(w.requested) != 0 || len(w.solicited) != 0 {
		t.Errorf("requested %v, solicited %v, want none", w.requested, w.solicited)
	}
	for i := range uint32(2 * maxRequested) {
		binary.BigEndian.PutUint32(hop.Addr[12:], i)
		w.Resolve(hop) // never blocks, although Run does not run
		w.takeRequest(hop, now)
	}
	if len(w.requested) != maxRequested {
		t.Errorf("%d are requested, want %d", len(w.requested), maxRequested)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestUnrouted looks for an address without a route on two ports, of which only
// one has it.
func TestUnrouted(t *testing.T) {
	host, near, far := newTestHost(t), newTestHost(t), newTestHost(t)
	nettest.Join(host.Namespace, "h0", near.Namespace, "n0")
	nettest.Join(host.Namespace, "h1", far.Namespace, "f0")
	far.Addr("f0", "10.7.0.2/24")
	w := host.watch("h0", "h1")
	w.KeepResolved(addrs("10.7.0.2"))
	want := director.NeighbourKey{Port: 1, Addr: wire.AddrFrom(netip.MustParseAddr("10.7.0.2"))}
	w.until(t, "resolved on port 1 only", func(h *director.HostNet) bool {
		return len(h.Neighbours) == 1 && h.Neighbours[want] == far.mac("f0")
	})
}

// TestServerComesAndGoes follows a server that starts late, changes its
// hardware address without an announcement, and disappears.
func TestServerComesAndGoes(t *testing.T) {
	t.Parallel()
	host, peer := newHostAndPeer(t)
	host.Addr("h0", "10.7.0.1/24")
	// The kernel believes a reply for a moment only, then probes at once.
	for file, value := range map[string]string{
		"base_reachable_time_ms": "100", "delay_first_probe_time": "0",
		"retrans_time_ms": "50",
	} {
		host.Sysctl("ipv4/neigh/h0/"+file, value)
	}
	w := host.watch("h0")
	w.KeepResolved(addrs("10.7.0.2"))
	index := host.Link("h0").Attrs().Index
	id := neighbourID{linkID{index: index}, netip.MustParseAddr("10.7.0.2")}
	until(t, "kernel has given up",
		func() bool { return must(readNeighbours(host.NL))[id].state == netlink.NUD_FAILED })

	peer.Addr("p0", "10.7.0.2/24")
	w.until(t, "found after it came",
		func(h *director.HostNet) bool { return neighbourOnPort0(h, "10.7.0.2") == peer.mac("p0") })

	peer.Must(peer.NL.LinkSetDown(peer.Link("p0")))
	mac := wire.MAC{2, 9, 9, 9, 9, 9}
	peer.Must(peer.NL.LinkSetHardwareAddr(peer.Link("p0"), mac[:]))
	peer.Up("p0")
	w.until(t, "new hardware address", func(h *director.HostNet) bool { return neighbourOnPort0(h, "10.7.0.2") == mac })

	a, err := netlink.ParseAddr("10.7.0.2/24")
	peer.Must(err)
	peer.Must(peer.NL.AddrDel(peer.Link("p0"), a))
	w.until(t, "not usable after it left",
		func(h *director.HostNet) bool { return neighbourOnPort0(h, "10.7.0.2").IsZero() })
}

// TestStaleIsUsed makes an entry stale, as time does, and checks that the
// kernel confirms it.
func TestStaleIsUsed(t *testing.T) {
	host, peer := newHostAndPeer(t)
	host.Addr("h0", "10.7.0.1/24")
	peer.Addr("p0", "10.7.0.2/24")
	host.Sysctl("ipv4/neigh/h0/delay_first_probe_time", "0")
	w := host.watch("h0")
	w.KeepResolved(addrs("10.7.0.2"))
	w.until(t, "resolved", func(h *director.HostNet) bool { return neighbourOnPort0(h, "10.7.0.2") == peer.mac("p0") })
	index := host.Link("h0").Attrs().Index
	mac := peer.mac("p0")
	host.Must(host.NL.NeighSet(&netlink.Neigh{
		LinkIndex: index, IP: net.ParseIP("10.7.0.2"), HardwareAddr: mac[:],
		State: netlink.NUD_STALE,
	}))
	id := neighbourID{linkID{index: index}, netip.MustParseAddr("10.7.0.2")}
	until(t, "reachable again", func() bool { return must(readNeighbours(host.NL))[id].state == netlink.NUD_REACHABLE })
}

// until polls a condition of the kernel until it holds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for late := time.Now().Add(timeout); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

// FuzzDecodeReply checks that no reply of a neighbour breaks the decoder, and
// that an accepted one has one host's address.
func FuzzDecodeReply(f *testing.F) {
	mac, owner := wire.MAC{2, 0, 0, 0, 0, 1}, wire.AddrFrom(netip.MustParseAddr("10.7.0.2"))
	f.Add(arp(wire.ARPReply, mac, owner, mac, owner))
	f.Add(advertisement(mac, wire.AddrFrom(netip.MustParseAddr("fd07::2"))))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if a, ok := decodeReply(frame); ok && (a.mac.IsZero() || a.mac.IsGroup() || !a.id.addr.IsValid()) {
			t.Errorf("accepted %+v of % x", a, frame)
		}
	})
}

// TestPortsByLink: a VLAN without a device is another link than its trunk.
func TestPortsByLink(t *testing.T) {
	ports := []director.Port{{Index: 3}, {Index: 3, VLAN: 7}, {Index: 3, VLAN: 8, Trunk: 0}, {Index: 0}, {Index: 4}}
	links := portsByLink(ports)
	for i, want := range ports {
		if port, ok := links[linkOf(want)]; ok != (want.Index != 0) || ok && port != uint16(i) {
			t.Errorf("the link of port %d is that of port %d, %v", i, port, ok)
		}
	}
}

// TestParseVLAN parses correct VLANs, and checks the errors of wrong ones.
func TestParseVLAN(t *testing.T) {
	for _, row := range []struct{ in, want, wrong string }{
		{"eth0.7", "{eth0 7 []}", ""},
		{"eth0.7=10.7.0.1/24", "{eth0 7 [10.7.0.1/24]}", ""},
		{"br-lan.4094=10.7.0.1/24,fd00:7::1/64", "{br-lan 4094 [10.7.0.1/24 fd00:7::1/64]}", ""},
		{"a.b.1", "{a.b 1 []}", ""},
		{"eth0", "", "is not INTERFACE.NUMBER"},
		{".7", "", "is not INTERFACE.NUMBER"},
		{"eth0.0", "", "is not 1 to 4094"},
		{"eth0.4095", "", "is not 1 to 4094"},
		{"eth0.x", "", "is not 1 to 4094"},
		{"eth0.7=", "", "is not a unicast address"},
		{"eth0.7=10.7.0.1", "", "is not a unicast address"},
		{"eth0.7=224.0.0.1/24", "", "is not a unicast address"},
		{"eth0.7=fe80::1/64", "", "is not a unicast address"},
		{"eth0.7=::ffff:10.7.0.1/120", "", "is not a unicast address"},
		{"eth0.7=10.7.0.1/24,10.8.0.1/24", "", "more than one address of a family"},
	} {
		v, err := ParseVLAN(row.in)
		switch {
		case row.wrong != "" && (err == nil || !strings.Contains(err.Error(), row.wrong)):
			t.Errorf("%s: %v, want … %s", row.in, err, row.wrong)
		case row.wrong == "" && (err != nil || fmt.Sprint(v) != row.want):
			t.Errorf("%s: %v, %v, want %s", row.in, v, err, row.want)
		}
	}
}
