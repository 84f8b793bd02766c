package guard

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"uvs/ctl/nettest"
)

// TestNoSecondCopy sends frames through a host that forwards, and counts what
// arrives at the far side:
//
//	peer p0 ── h0 host h1 ── f0 far
//	10.7.0.2   10.7.0.1  10.8.0.1   10.8.0.9
//	fd07::2    fd07::1   fd08::1    fd08::9
func TestNoSecondCopy(t *testing.T) {
	host, peer, far := newTestHost(t), newTestHost(t), newTestHost(t)
	nettest.Join(host.Namespace, "h0", peer.Namespace, "p0")
	nettest.Join(host.Namespace, "h1", far.Namespace, "f0")
	host.Must(host.NL.LinkSetHardwareAddr(host.Link("h0"), hostMAC))
	host.Sysctl("ipv4/ip_forward", "1")
	host.Sysctl("ipv6/conf/all/forwarding", "1")
	for _, n := range []string{"7", "8"} {
		name := map[string]string{"7": "h0", "8": "h1"}[n]
		host.Addr(name, "10."+n+".0.1/24")
		host.Addr(name, "fd0"+n+"::1/64")
	}
	for _, a := range []string{"10.8.0.9", "10.8.0.8", "10.8.0.100", "fd08::9", "fd08::8", "fd08::100"} {
		host.Must(host.NL.NeighSet(&netlink.Neigh{
			LinkIndex: host.Link("h1").Attrs().Index, State: netlink.NUD_PERMANENT,
			IP: net.ParseIP(a), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9},
		}))
	}
	g := host.guard()
	in, out := peer.Tap("p0"), far.Tap("f0")
	for _, f := range []struct{ family, own, rip, other, far, wide, vip string }{
		{"IPv4", "10.7.0.1", "10.7.0.2", "10.7.0.3", "10.8.0.9", "10.8.0.8", "10.8.0.100"},
		{"IPv6", "fd07::1", "fd07::2", "fd07::3", "fd08::9", "fd08::8", "fd08::100"},
	} {
		rules := Rules{
			Interfaces: []string{"h0"}, HostAddrs: addrs(f.own),
			Services: setOf(&ServiceRules{
				VIPs: addrs(f.vip),
				Destinations: []Endpoint{
					{unix.IPPROTO_UDP, netip.MustParseAddr(f.far), 53},
					{unix.IPPROTO_TCP, netip.MustParseAddr(f.wide), 0},
				},
				ReplySources: []Endpoint{
					{unix.IPPROTO_UDP, netip.MustParseAddr(f.rip), 80},
					{unix.IPPROTO_TCP, netip.MustParseAddr(f.rip), 0},
				},
			}),
		}
		host.Must(g.Apply(rules))
		unreachable, parameter, echo := uint8(3), uint8(12), uint8(8)
		if f.family == "IPv6" {
			unreachable, parameter, echo = 1, 4, 128
		}
		first, later := fragments(udp(f.rip, 80, f.far, 9), 100)
		firstOther, laterOther := fragments(udp(f.rip, 81, f.far, 9), 101)
		firstIn, laterIn := fragments(udp(f.other, 9, f.far, 53), 102)
		_, laterAny := fragments(tcp(f.rip, 80, f.far, 9), 103)
		firstLate, laterEarly := fragments(udp(f.rip, 80, f.far, 9), 104)
		firstLateOther, laterEarlyOther := fragments(udp(f.rip, 81, f.far, 9), 105)
		_, laterOwn := fragments(udp(f.rip, 80, f.own, 9), 106)
		_, laterStranger := fragments(udp(f.other, 80, f.far, 9), 107)
		_, laterEcho := fragments(icmpError(f.rip, f.far, echo, udp(f.far, 9, f.rip, 80)), 108)
		for _, row := range []struct {
			name    string
			frames  [][]byte
			passed  int // how many of them the host forwards
			dropped Dropped
		}{
			{"to a VIP that the host does not own, any port", framesOf(udp(f.other, 1, f.vip, 2)), 0, Dropped{VIP: 1}},
			{"echo request to such a VIP", framesOf(icmpError(f.other, f.vip, echo, nil)), 0, Dropped{VIP: 1}},
			{"to a service", framesOf(udp(f.other, 1, f.far, 53)), 0, Dropped{Service: 1}},
			{"to another port of a service's address", framesOf(udp(f.other, 1, f.far, 54)), 1, Dropped{}},
			{"to a service of every port", framesOf(tcp(f.other, 1, f.wide, 54)), 0, Dropped{Service: 1}},
			{"from a server's port", framesOf(udp(f.rip, 80, f.far, 9)), 0, Dropped{Source: 1}},
			{"from another port of a server", framesOf(udp(f.rip, 81, f.far, 9)), 1, Dropped{}},
			{"from the same port of another machine", framesOf(udp(f.other, 80, f.far, 9)), 1, Dropped{}},
			{"from a server of every port", framesOf(tcp(f.rip, 1234, f.far, 9)), 0, Dropped{Source: 1}},
			{"from a server's port to the host itself", framesOf(udp(f.rip, 80, f.own, 9)), 0, Dropped{}},
			{"from a server's port, to all machines", [][]byte{frame(net.HardwareAddr{255, 255, 255, 255, 255, 255},
				udp(f.rip, 80, f.far, 9))}, 0, Dropped{}},
			{
				"error about a packet to a server's port",
				framesOf(icmpError(f.rip, f.far, unreachable, udp(f.far, 9, f.rip, 80))), 0,
				Dropped{Error: 1},
			},
			{
				"the same from a router", framesOf(icmpError(f.other, f.far, unreachable, udp(f.far, 9, f.rip, 80))), 0,
				Dropped{Error: 1},
			},
			{
				"error about a packet to a server of every port",
				framesOf(icmpError(f.other, f.far, unreachable, tcp(f.far, 9, f.rip, 1234))), 0,
				Dropped{Error: 1},
			},
			{
				"a parameter problem about one", framesOf(icmpError(f.rip, f.far, parameter, udp(f.far, 9, f.rip, 80))),
				0,
				Dropped{Error: 1},
			},
			{
				"error about a packet to another port",
				framesOf(icmpError(f.rip, f.far, unreachable, udp(f.far, 9, f.rip, 81))), 1,
				Dropped{},
			},
			{
				"error about a packet of the host's own to a server",
				framesOf(icmpError(f.rip, f.own, unreachable, udp(f.own, 9, f.rip, 80))), 0,
				Dropped{},
			},
			{
				"echo that happens to carry such a packet",
				framesOf(icmpError(f.rip, f.far, echo, udp(f.far, 9, f.rip, 80))), 1,
				Dropped{},
			},
			{"fragments from a server's port", framesOf(first, later), 0, Dropped{Source: 1, Fragment: 1}},
			{"fragments from another port", framesOf(firstOther, laterOther), 2, Dropped{}},
			{
				"fragments from a server's port, the later first", framesOf(laterEarly, firstLate), 0,
				Dropped{Source: 1, Fragment: 1},
			},
			{
				"fragments from another port, the later first", framesOf(laterEarlyOther, firstLateOther), 1,
				Dropped{Fragment: 1},
			},
			{"a later fragment from a server to the host itself", framesOf(laterOwn), 0, Dropped{}},
			{"a later fragment from another machine", framesOf(laterStranger), 1, Dropped{}},
			{"a later fragment of a server's ping", framesOf(laterEcho), 1, Dropped{}},
			{"fragments to a service", framesOf(firstIn, laterIn), 0, Dropped{Service: 1, Fragment: 1}},
			{"a later fragment from a server of every port", framesOf(laterAny), 0, Dropped{Source: 1}},
			{
				"a frame to a service with a tag that has only a priority",
				[][]byte{inVLAN(0xe000, framesOf(udp(f.other, 1, f.far, 53))[0])},
				0,
				Dropped{Service: 1},
			},
			{
				"a frame of a VLAN to a service",
				[][]byte{inVLAN(5, framesOf(udp(f.other, 1, f.far, 53))[0])},
				0,
				Dropped{},
			},
		} {
			t.Run(f.family+" "+row.name, func(t *testing.T) {
				before, err := g.Dropped()
				host.Must(err)
				passed := forward(t, in, out, row.frames, framesOf(udp(f.other, 4242, f.far, 4242))[0])
				after, err := g.Dropped()
				host.Must(err)
				if passed != row.passed {
					t.Errorf("host forwarded %d of %d frames, want %d", passed, len(row.frames), row.passed)
				}
				if got := diff(after, before); got != row.dropped {
					t.Errorf("dropped %+v, want %+v", got, row.dropped)
				}
			})
		}
		for _, tagged := range []bool{true, false} {
			rules.Tagged = tagged
			host.Must(g.Apply(rules))
			before, err := g.Dropped()
			host.Must(err)
			forward(t, in, out, [][]byte{inVLAN(5, framesOf(udp(f.other, 1, f.far, 53))[0])},
				framesOf(udp(f.other, 4242, f.far, 4242))[0])
			after, err := g.Dropped()
			host.Must(err)
			if got := after.Service - before.Service; got == 1 != tagged {
				t.Errorf("%s: Tagged %t: %d frames of a VLAN dropped", f.family, tagged, got)
			}
		}
	}
}

// framesOf puts packets into frames to the host.
func framesOf(packets ...[]byte) (frames [][]byte) {
	for _, p := range packets {
		frames = append(frames, frame(hostMAC, p))
	}
	return frames
}

// forward sends frames, and then a last one that the host always forwards. It
// returns how many others arrived before the last.
func forward(t *testing.T, in, out *packet.Conn, frames [][]byte, last []byte) (n int) {
	t.Helper()
	for _, f := range append(frames, last) {
		if _, err := in.WriteTo(f, anywhere); err != nil {
			t.Fatal(err)
		}
	}
	out.SetReadDeadline(time.Now().Add(timeout))
	for {
		b := make([]byte, 2048)
		size, _, err := out.ReadFrom(b)
		if err != nil {
			t.Fatalf("the frame that is always forwarded did not come: %v", err)
		}
		_, to, ttl, ok := addrsOf(b[:size])
		switch {
		case !ok || ttl != 63: // frames that the hosts send by themselves
		case to.Port() == 4242:
			return n
		default:
			n++
		}
	}
}

// diff returns what was counted since before.
func diff(now, before Dropped) Dropped {
	return Dropped{
		VIP: now.VIP - before.VIP, Service: now.Service - before.Service, Source: now.Source - before.Source,
		Error: now.Error - before.Error, Fragment: now.Fragment - before.Fragment,
	}
}
