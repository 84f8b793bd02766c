package director

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/gaissmai/bart"
	"github.com/google/gopacket/layers"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/tunnel"
	"uvs/sched"
)

// The network of these tests:
//
//	client 10.1.0.2 ── port 0 director port 1 ── servers 10.2.0.11, 10.2.0.12
//	gateway 10.1.0.254 (default route)
//
// VIPs 10.9.0.1 (ours) and 10.9.0.2 (the host's); the same with fd00:: for IPv6.
var (
	portMAC   = [2]wire.MAC{wiretest.DirectorMAC, {2, 0, 0, 0, 1, 0xd}}
	serverMAC = [2]wire.MAC{{2, 0, 0, 0, 1, 1}, {2, 0, 0, 0, 1, 2}}
	gwMAC     = wire.MAC{2, 0, 0, 0, 0, 0xfe}
)

// testbedSessions is how many helped connections can have a session.
const testbedSessions = 8

type testbed struct {
	t        testing.TB
	conns    *conntrack.Table
	frags    *frag.Table
	dir      *Director
	table    *Table
	lastID   uint32 // of servers
	now      conntrack.Tick
	verdicts [MaxBatch]Verdict
}

func addr(s string) wire.Addr { return wire.AddrFrom(netip.MustParseAddr(s)) }

func testHostNet() *HostNet {
	h := &HostNet{
		Ports: []Port{
			{
				Name: "eth0", Index: 2, MAC: portMAC[0], MTU: 1500, Addr4: netip.MustParseAddr("10.1.0.1"),
				Addr6: netip.MustParseAddr("fd00:1::1"),
			},
			{
				Name: "eth1", Index: 3, MAC: portMAC[1], MTU: 1500, Addr4: netip.MustParseAddr("10.2.0.1"),
				Addr6: netip.MustParseAddr("fd00:2::1"),
			},
		},
		Routes:     new(bart.Table[Route]),
		Neighbours: map[NeighbourKey]wire.MAC{},
		HostAddrs: map[wire.Addr]int{
			addr("10.1.0.1"): 2, addr("10.9.0.2"): 1, addr("fd00:9::2"): 1, addr("fd00:9::3"): 2,
		},
	}
	for i := range h.Ports {
		h.Ports[i].Forwards4, h.Ports[i].Forwards6 = true, true
	}
	for pfx, r := range map[string]Route{
		"10.1.0.0/24": {Port: 0}, "10.2.0.0/24": {Port: 1}, "0.0.0.0/0": {
			Port: 0, Via: netip.MustParseAddr("10.1.0.254"),
		},
		"fd00:1::/64": {Port: 0}, "fd00:2::/64": {Port: 1}, "10.66.0.0/16": {Port: wire.NoPort},
	} {
		h.Routes.Insert(netip.MustParsePrefix(pfx), r)
	}
	for a, n := range map[string]struct {
		port uint16
		mac  wire.MAC
	}{
		"10.2.0.11": {1, serverMAC[0]}, "10.2.0.12": {1, serverMAC[1]},
		"fd00:2::11": {1, serverMAC[0]}, "fd00:2::12": {1, serverMAC[1]},
		"10.1.0.254": {0, gwMAC},
	} {
		h.Neighbours[NeighbourKey{n.port, addr(a)}] = n.mac
	}
	return h
}

// newTestbed makes a director with services of the method on 10.9.0.1 and fd00:9::1:
// TCP and UDP port 80, with NAT to port 8080.
func newTestbed(t testing.TB, method conntrack.Method) *testbed {
	t.Helper()
	conns, err := conntrack.NewTable(
		conntrack.Config{Max: 4096, Workers: 1, ServerIDs: 64, Sessions: testbedSessions, Seed: 1},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conns.Close() })
	frags := frag.New(1, 1)
	w := &testbed{t: t, conns: conns, frags: frags, dir: New(conns.Worker(0), frags, 0), now: 1000}
	w.table = &Table{
		FIB: NewFIB(testHostNet()),
		Settings: Settings{
			ConnReuseMode: 1, RescheduleRemoved: true, FragmentTime: 5000, ReversePath: ReversePathStrict,
			Queue: frag.Limits{Timeout: 5000, Bytes: 1 << 20, Source: 1 << 17},
		},
	}
	for vip, ours := range map[string]bool{
		"10.9.0.1": true, "10.9.0.2": false, "fd00:9::1": true, "fd00:9::2": false, "fd00:9::3": false,
	} {
		w.table.VIPs.Set(addr(vip), VIP{DirectorOnly: ours})
	}
	for _, proto := range []uint8{wire.ProtoTCP, wire.ProtoUDP} {
		w.service(method, proto, "10.9.0.1", "10.2.0.11", "10.2.0.12")
		w.service(method, proto, "fd00:9::1", "fd00:2::11", "fd00:2::12")
	}
	w.service(method, wire.ProtoTCP, "10.9.0.2", "10.2.0.11")
	return w
}

// service adds a round-robin service on port 80. Servers are given in the
// scheduler's order.
func (w *testbed) service(method conntrack.Method, proto uint8, vip string, servers ...string) *Service {
	svc := &Service{ID: uint32(w.table.Services.Len() + 1), Port: 80}
	for _, a := range servers {
		s := w.addServer(svc, Server{Addr: addr(a), Port: 80, Method: method, Path: w.path(a)})
		switch method {
		case conntrack.MethodNAT:
			s.Port = 8080
			w.addServerEndpoint(a, 8080, proto)
		case conntrack.MethodTunnel:
			s.Tunnel = tunnel.Tunnel{Src: s.NextHop.Source, Dst: s.Addr}
			w.table.Tunnels.Set(TunnelKey(&s.Tunnel), s.ID)
		}
		w.addServerEndpoint(vip, 80, proto)
		svc.Servers = append(svc.Servers, s.ID)
	}
	w.roundRobin(svc)
	w.table.Services.Set(Endpoint{addr(vip), 80, proto}, svc)
	return svc
}

// addServer adds a server of a service to the table.
func (w *testbed) addServer(svc *Service, s Server) *Server {
	w.lastID++
	s.ID, s.Service, s.InService, s.Weight = w.lastID, svc.ID, true, 1
	s.NextHop, s.Counters = w.table.FIB.NextHop(s.Addr), NewCounters(1)
	w.table.Servers.Set(s.ID, &s, new(Servers))
	return w.table.server(s.ID)
}

// roundRobin gives a service its scheduler.
func (w *testbed) roundRobin(svc *Service) {
	w.t.Helper()
	var list []sched.Server
	for _, id := range svc.Servers {
		s, counts := w.table.server(id), w.conns.Counts(id)
		list = append(list, sched.Server{
			ID: id, Addr: s.Addr, Port: s.Port, Weight: 1, Active: &counts.Active, Inactive: &counts.Inactive,
		})
	}
	picker, err := sched.New("rr", 0, list, sched.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	svc.Picker, svc.Cursor = picker, sched.NewCursor("rr", list, 1)
}

// path returns the Path that all servers with an address share.
func (w *testbed) path(server string) *Path {
	for i := range w.lastID {
		if s := w.table.server(i + 1); s.Addr == addr(server) {
			return s.Path
		}
	}
	return new(Path)
}

// addServerEndpoint adds an endpoint from which servers reply.
func (w *testbed) addServerEndpoint(a string, port uint16, proto uint8) {
	w.table.ReplySources.Set(Endpoint{addr(a), port, proto}, 1)
	w.table.ReplySourceAddrs.Set(Endpoint{Addr: addr(a), Proto: proto}, 1)
}

// in returns a frame as it arrives on a port.
func in(port uint16, p wiretest.Packet) wire.Frame {
	if p.DstMAC.IsZero() {
		p.DstMAC = portMAC[port]
	}
	f := p.Frame()
	f.In = port
	return f
}

// process runs one frame through the director.
func (w *testbed) process(f *wire.Frame) Verdict {
	frames := []wire.Frame{*f}
	w.dir.Process(w.now, w.table, frames, w.verdicts[:1])
	*f = frames[0]
	return w.verdicts[0]
}

// verdict returns what becomes of a packet that arrives on a port.
func (w *testbed) verdict(port uint16, p wiretest.Packet) Verdict {
	f := in(port, p)
	return w.process(&f)
}

// originated processes empty batches at the present time and describes what is sent.
func (w *testbed) originated() (sent []string) {
	w.t.Helper()
	for more := true; more; {
		more = w.dir.Process(w.now, w.table, nil, nil)
		for _, f := range w.dir.Originate() {
			sent = append(sent, w.format(f))
		}
	}
	return sent
}

// advance lets time pass in empty batches and describes what is sent meanwhile.
func (w *testbed) advance(d conntrack.Tick) (sent []string) {
	w.t.Helper()
	for end := w.now + d; w.now < end; {
		w.now += 500
		sent = append(sent, w.originated()...)
	}
	return sent
}

// resetForgotten sets reset_forgotten, and how long conns in some states live.
func (w *testbed) resetForgotten(timeout conntrack.Tick, states ...conntrack.State) {
	settings := *w.conns.Settings()
	settings.ResetForgotten = true
	for _, state := range states {
		settings.Timeouts[state] = timeout
	}
	w.conns.SetSettings(&settings)
}

// format describes what leaves as in "1 02:…: 10.1.0.2:5000>10.2.0.11:8080 tcp ttl 63",
// with every IP header of a tunnel or an ICMP error; "" if nothing leaves. It judges
// the lengths and checksums of all that leaves.
func (w *testbed) format(f wire.Frame) string {
	w.t.Helper()
	if f.Out == wire.NoPort {
		return ""
	}
	wiretest.Check(w.t, f)
	var b strings.Builder
	fmt.Fprintf(&b, "%d", f.Out)
	var src, dst string
	for _, l := range wiretest.Decode(w.t, f).Layers() {
		switch h := l.(type) {
		case *layers.Ethernet:
			fmt.Fprintf(&b, " %s:", h.DstMAC)
		case *layers.Dot1Q:
			fmt.Fprintf(&b, " vlan %d", h.VLANIdentifier)
		case *layers.IPv4:
			src, dst = h.SrcIP.String(), h.DstIP.String()
			fmt.Fprintf(&b, " %s>%s ttl %d", src, dst, h.TTL)
		case *layers.IPv6:
			src, dst = h.SrcIP.String(), h.DstIP.String()
			fmt.Fprintf(&b, " %s>%s ttl %d", src, dst, h.HopLimit)
		case *layers.TCP:
			fmt.Fprintf(&b, " tcp %d>%d%s", h.SrcPort, h.DstPort, map[bool]string{true: " rst"}[h.RST])
		case *layers.SCTP:
			abort := map[bool]string{true: " abort"}[h.Payload[0] == wire.ChunkAbort]
			fmt.Fprintf(&b, " sctp %d>%d%s", h.SrcPort, h.DstPort, abort)
		case *layers.UDP:
			fmt.Fprintf(&b, " udp %d>%d", h.SrcPort, h.DstPort)
		case *layers.ICMPv4:
			fmt.Fprintf(&b, " icmp %s", h.TypeCode)
		case *layers.ICMPv6:
			fmt.Fprintf(&b, " icmp6 %s", h.TypeCode)
		case *layers.ARP:
			fmt.Fprintf(
				&b, " arp %d %s is-at %s", h.Operation, netip.AddrFrom4([4]byte(h.SourceProtAddress)),
				wire.MAC(h.SourceHwAddress),
			)
		}
	}
	return b.String()
}

// remove takes a server out of its services, as ipvsadm -d does.
func (w *testbed) remove(server string) {
	for i := range w.lastID {
		if w.table.server(i+1).Addr == addr(server) {
			w.table.server(i + 1).InService = false
		}
	}
}

// pickNone is a picker that picks no server.
type pickNone struct{}

func (pickNone) Pick(*sched.Cursor, sched.Flow) int { return -1 }

// pickConstant is a picker that always picks the same server.
type pickConstant int

func (c pickConstant) Pick(*sched.Cursor, sched.Flow) int { return int(c) }
