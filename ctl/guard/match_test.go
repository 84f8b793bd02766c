package guard

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uvs/ctl/nettest"
)

// TestMarked sends datagrams to sockets of a host whose guard drops some of
// them:
//
//	peer p0 10.7.0.2, fd07::2 ── h0 10.7.0.1, fd07::1 host
func TestMarked(t *testing.T) {
	host, peer := newTestHost(t), newTestHost(t)
	nettest.Join(host.Namespace, "h0", peer.Namespace, "p0")
	for _, net := range []string{"10.7.0.1/24", "fd07::1/64"} {
		host.Addr("h0", net)
	}
	for _, net := range []string{"10.7.0.2/24", "fd07::2/64"} {
		peer.Addr("p0", net)
	}
	g := host.guard()
	match := func(dst string, change func(*Match)) Match {
		m := Match{Dst: netip.MustParsePrefix(dst), Proto: unix.IPPROTO_UDP, SrcLast: 65535, DstLast: 65535}
		if change != nil {
			change(&m)
		}
		return m
	}
	pass := func(m *Match) { m.Pass = true }
	ports := func(first, last uint16) func(*Match) {
		return func(m *Match) { m.DstFirst, m.DstLast = first, last }
	}
	four, six := "10.7.0.1:7000", "[fd07::1]:7000"
	for _, row := range []struct {
		name    string
		to      string
		dropped bool
		marked  []Match
	}{
		{"every address", four, true, []Match{match("0.0.0.0/0", nil)}},
		{"of the other family only", six, false, []Match{match("0.0.0.0/0", nil)}},
		{"every address of IPv6", six, true, []Match{match("::/0", nil)}},
		{"a net", four, true, []Match{match("10.7.0.0/24", nil)}},
		{"an IPv6 net", six, true, []Match{match("fd07::/64", nil)}},
		{"another net", four, false, []Match{match("10.8.0.0/24", nil)}},
		{"one address", four, true, []Match{match("10.7.0.1/32", nil)}},
		{"another protocol", four, false, []Match{match("10.7.0.1/32", func(m *Match) { m.Proto = unix.IPPROTO_TCP })}},
		{"the first of a range", four, true, []Match{match("0.0.0.0/0", ports(7000, 7100))}},
		{"the last of a range", four, true, []Match{match("0.0.0.0/0", ports(6900, 7000))}},
		{"beyond a range", four, false, []Match{match("0.0.0.0/0", ports(6900, 6999))}},
		{"one port", four, true, []Match{match("0.0.0.0/0", ports(7000, 7000))}},
		{
			"the source port", four, true,
			[]Match{match("0.0.0.0/0", func(m *Match) { m.SrcFirst, m.SrcLast = 5000, 5000 })},
		},
		{
			"another source port", four, false,
			[]Match{match("0.0.0.0/0", func(m *Match) { m.SrcFirst, m.SrcLast = 5001, 6000 })},
		},
		{
			"the source's net", four, true,
			[]Match{match("0.0.0.0/0", func(m *Match) { m.Src = netip.MustParsePrefix("10.7.0.0/28") })},
		},
		{
			"another source", four, false,
			[]Match{match("0.0.0.0/0", func(m *Match) { m.Src = netip.MustParsePrefix("10.7.0.3/32") })},
		},
		{"the interface", four, true, []Match{match("0.0.0.0/0", func(m *Match) { m.Interface = "h0" })}},
		{"another interface", four, false, []Match{match("0.0.0.0/0", func(m *Match) { m.Interface = "h01" })}},
		{"the first match passes", four, false, []Match{match("10.7.0.1/32", pass), match("0.0.0.0/0", nil)}},
		{"the first match drops", four, true, []Match{match("0.0.0.0/0", nil), match("10.7.0.1/32", pass)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, r := range []Rules{{Marked: row.marked}, {OldMarked: row.marked}} {
				r.Interfaces, r.HostAddrs = []string{"h0"}, addrs("10.7.0.1", "fd07::1")
				host.Must(g.Apply(r))
				if got := dropped(t, host, peer, g, row.to); got != row.dropped {
					t.Errorf("%+v: dropped %v, want %v", r, got, row.dropped)
				}
			}
		})
	}
	// A match in either list drops, and both lists can be removed.
	host.Must(g.Apply(Rules{
		Interfaces: []string{"h0"}, Marked: []Match{match("0.0.0.0/0", pass)},
		OldMarked: []Match{match("0.0.0.0/0", nil)},
	}))
	if !dropped(t, host, peer, g, four) {
		t.Error("OldMarked drops no more")
	}
	host.Must(g.Apply(Rules{Interfaces: []string{"h0"}}))
	if dropped(t, host, peer, g, four) {
		t.Error("dropped after the rules went")
	}
}

// dropped sends a datagram from port 5000 and reports whether the guard dropped
// it before the host's socket received it.
func dropped(t *testing.T, host, peer *testHost, g *Guard, to string) bool {
	t.Helper()
	before, err := g.Dropped()
	host.Must(err)
	var in net.PacketConn
	host.Do(func() { in, err = net.ListenPacket("udp", to) })
	host.Must(err)
	defer in.Close()
	peer.Do(func() {
		var c *net.UDPConn
		if c, err = net.DialUDP("udp", &net.UDPAddr{Port: 5000},
			net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))); err == nil {
			_, err = c.Write([]byte("x"))
			c.Close()
		}
	})
	peer.Must(err)
	dropped, arrived := false, false
	until(t, "the datagram is dropped or arrives", func() bool {
		d, err := g.Dropped()
		host.Must(err)
		dropped = d.Service+d.Source > before.Service+before.Source
		in.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, _, err = in.ReadFrom(make([]byte, 8))
		arrived = err == nil
		return dropped || arrived
	})
	if dropped && arrived {
		t.Error("counted as dropped, and arrived")
	}
	return dropped
}

// TestSourceRanges checks that the guard drops replies from a range of ports of
// a net, except those to the host itself.
func TestSourceRanges(t *testing.T) {
	host, peer := newTestHost(t), newTestHost(t)
	nettest.Join(host.Namespace, "h0", peer.Namespace, "p0")
	host.Addr("h0", "10.7.0.1/24")
	peer.Addr("p0", "10.7.0.2/24")
	g := host.guard()
	ranges := func(first, last uint16) []PortRange {
		return []PortRange{{
			Net: netip.MustParsePrefix("10.7.0.0/29"), Proto: unix.IPPROTO_UDP, First: first,
			Last: last,
		}}
	}
	for _, row := range []struct {
		name    string
		ranges  []PortRange
		local   []netip.Addr
		dropped bool
	}{
		{"a range that has the port", ranges(4999, 5000), nil, true},
		{"one that has it not", ranges(5001, 6000), nil, false},
		{"to the host itself", ranges(4999, 5000), addrs("10.7.0.1"), false},
	} {
		host.Must(g.Apply(Rules{
			Interfaces: []string{"h0"}, Services: setOf(&ServiceRules{ReplySourceRanges: row.ranges}),
			HostAddrs: row.local,
		}))
		if got := dropped(t, host, peer, g, "10.7.0.1:7000"); got != row.dropped {
			t.Errorf("%s: dropped %v, want %v", row.name, got, row.dropped)
		}
	}
}
