package ctl

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/gaissmai/bart"
	"github.com/rs/zerolog"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// handFixture is a manager with a director without links. The test hands it frames one by
// one, and sets the time.
//
//	client 10.1.0.2 ── eth0 director eth1 ── servers 10.2.0.11, 10.2.0.12; 10.2.0.13 does not answer
type handFixture struct {
	*Manager
	t     *testing.T
	conns *conntrack.Table
	dir   *director.Director
	table *director.Table
	time  conntrack.Tick
}

func (d *handFixture) Publish(t *director.Table)                    { d.table = t }
func (d *handFixture) Verdicts() (sums [director.NumVerdict]uint64) { return sums }
func (d *handFixture) Now() conntrack.Tick                          { return d.time }
func (d *handFixture) Apply(guard.Rules) error                      { return nil }
func (d *handFixture) KeepResolved([]netip.Addr)                    {}
func (d *handFixture) Announce([]netip.Addr)                        {}
func (d *handFixture) HostNet() *director.HostNet                   { return handHostNet }

var handHostNet = func() *director.HostNet {
	h := &director.HostNet{
		Ports: []director.Port{
			{
				Name: "eth0", Index: 2, MAC: wire.MAC{2, 0, 0, 0, 0, 0xd}, MTU: 1500,
				Addr4: netip.MustParseAddr("10.1.0.1"),
			},
			{
				Name: "eth1", Index: 3, MAC: wire.MAC{2, 0, 0, 0, 1, 0xd}, MTU: 1400,
				Addr4: netip.MustParseAddr("10.2.0.1"),
			},
		},
		Routes: new(bart.Table[director.Route]), HostAddrs: map[wire.Addr]int{},
		Neighbours: map[director.NeighbourKey]wire.MAC{
			{Port: 0, Addr: wire.AddrFrom(netip.MustParseAddr("10.1.0.2"))}:  {2, 0, 0, 0, 0, 2},
			{Port: 1, Addr: wire.AddrFrom(netip.MustParseAddr("10.2.0.11"))}: {2, 0, 0, 0, 1, 0x11},
			{Port: 1, Addr: wire.AddrFrom(netip.MustParseAddr("10.2.0.12"))}: {2, 0, 0, 0, 1, 0x12},
		},
	}
	for prefix, r := range map[string]director.Route{"10.1.0.0/24": {Port: 0}, "10.2.0.0/24": {Port: 1}} {
		h.Routes.Insert(netip.MustParsePrefix(prefix), r)
	}
	return h
}()

func newHandFixture(t *testing.T) *handFixture {
	t.Helper()
	conns, err := conntrack.NewTable(conntrack.Config{Max: 4096, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conns.Close() })
	d := &handFixture{t: t, conns: conns, dir: director.New(conns.Worker(0), frag.New(1, 1), 0), time: 1000}
	d.Manager = NewManager(conns, 1, d, d, zerolog.Nop())
	d.table = d.FirstTable()
	d.Start(d)
	return d
}

// must applies a change that must succeed.
func (d *handFixture) must(op config.Op) {
	d.t.Helper()
	if err := d.Manager.Apply(op); err != nil {
		d.t.Fatal(err)
	}
}

// serve adds a service with servers such as "10.2.0.11:8080", the oldest first.
func (d *handFixture) serve(svc config.Service, method config.Method, servers ...string) {
	d.t.Helper()
	d.must(config.Op{Kind: config.AddService, Service: &svc})
	for _, s := range servers {
		d.must(config.Op{Kind: config.AddServer, Service: &svc, Server: ptr(serverAt(s, method, 1))})
	}
}

func testProbe(client, virtual string) api.Probe {
	return api.Probe{
		Proto: wire.ProtoTCP, Client: netip.MustParseAddrPort(client),
		Virtual: netip.MustParseAddrPort(virtual),
	}
}

func (d *handFixture) explain(q api.Probe) *api.Explanation {
	d.t.Helper()
	e, err := d.Explain(q)
	if err != nil {
		d.t.Fatal(err)
	}
	return e
}

// send hands a probe's packet to the real director.
func (d *handFixture) send(q api.Probe, known bool) director.Verdict {
	frames := []wire.Frame{probeFrame(q, 0, wire.MAC{2, 0, 0, 0, 0, 2}, handHostNet.Ports[0].MAC, known)}
	var verdicts [1]director.Verdict
	d.dir.Process(d.time, d.table, frames, verdicts[:])
	return verdicts[0]
}

// What an explanation says happens, for every scheduler. Asking twice changes neither the
// answer nor what happens.
func TestExplainForetells(t *testing.T) {
	for _, scheduler := range sched.Names() {
		t.Run(scheduler, func(t *testing.T) {
			d := newHandFixture(t)
			d.serve(config.Service{ServiceKey: key(wire.ProtoTCP, "10.9.0.1:80"), Scheduler: scheduler},
				config.MethodNAT, "10.2.0.11:8080", "10.2.0.12:8080", "10.2.0.13:8080")
			for i := range 20 {
				q := testProbe(fmt.Sprintf("10.1.0.%d:%d", 2+i%5, 1000+i), "10.9.0.1:80")
				first, second := d.explain(q), d.explain(q)
				if !reflect.DeepEqual(first, second) {
					t.Fatalf("asked twice: %+v, then %+v", first, second)
				}
				if got := d.send(q, false).String(); got != first.Verdict {
					t.Fatalf("packet %d: became %s, foretold %s", i, got, first.Verdict)
				}
				after := d.explain(q)
				if (after.Conn == nil) != (first.Server == nil) {
					t.Fatalf("packet %d: server %v foretold, conn %v came", i, first.Server, after.Conn)
				}
				if first.Server != nil && first.Server.Addr != after.Conn.Server.Addr() {
					t.Fatalf("packet %d: got server %s, foretold %s", i, after.Conn.Server, first.Server.ServerKey)
				}
			}
		})
	}
}

// Each kind of answer has a row with words that its printed form contains.
func TestExplainSays(t *testing.T) {
	d := newHandFixture(t)
	d.serve(config.Service{ServiceKey: key(wire.ProtoTCP, "10.9.0.1:80"), Scheduler: "rr"}, config.MethodNAT,
		"10.2.0.11:8080")
	d.serve(config.Service{
		ServiceKey: key(wire.ProtoTCP, "10.9.0.1:81"), Scheduler: "rr", Persist: 300,
		Netmask: config.Mask4(0xffffff00),
	}, config.MethodTunnel, "10.2.0.11:81", "10.2.0.12:81")
	d.serve(config.Service{ServiceKey: key(wire.ProtoTCP, "10.9.0.1:82"), Scheduler: "rr"}, config.MethodDR,
		"10.2.0.13:82")
	d.serve(config.Service{ServiceKey: key(wire.ProtoTCP, "10.9.0.1:83"), Scheduler: "rr"}, config.MethodDR)
	d.must(config.Op{
		Kind: config.AddServer, Service: &config.Service{ServiceKey: key(wire.ProtoTCP, "10.9.0.1:83")},
		Server: ptr(serverAt("10.2.0.11:83", config.MethodDR, 0)),
	})
	d.serve(config.Service{ServiceKey: key(wire.ProtoTCP, "10.9.0.1:84"), Scheduler: "rr"}, config.MethodDR,
		"10.77.0.1:84")
	d.send(testProbe("10.1.0.2:1", "10.9.0.1:80"), false)
	d.send(testProbe("10.1.0.9:1", "10.9.0.1:81"), false)
	rows := []struct {
		sentence string
		q        api.Probe
		words    []string
	}{
		{
			"a new client of NAT", testProbe("10.1.0.2:2", "10.9.0.1:80"),
			[]string{
				"forwarded_masq", "scheduler rr", "by eth1 to 02:00:00:00:01:11, MTU 1400",
				"10.1.0.2:2 > 10.2.0.11:8080", "by eth0 to 02:00:00:00:00:02", "from TCP 10.2.0.11 port 8080",
			},
		},
		{
			"a known client", testProbe("10.1.0.2:1", "10.9.0.1:80"),
			[]string{"forwarded_masq", "its conn", "SYN_RECV", "timeout_tcp_established"},
		},
		{
			"a client with a template", testProbe("10.1.0.2:1", "10.9.0.1:81"),
			[]string{
				"forwarded_tunnel", "the client's template", "20 for the tunnel header 10.2.0.1 > 10.2.0.1",
				"protocol 4",
			},
		},
		{
			"a server whose hardware address is not known", testProbe("10.1.0.2:1", "10.9.0.1:82"),
			[]string{"held_no_neighbour", "by eth1, but"},
		},
		{"no server is eligible", testProbe("10.1.0.2:1", "10.9.0.1:83"), []string{"refused_no_server", "weight 0"}},
		{
			"no route to the server", testProbe("10.1.0.2:1", "10.9.0.1:84"),
			[]string{"held_no_neighbour", "no route to 10.77.0.1"},
		},
		{
			"a port without a service", testProbe("10.1.0.2:1", "10.9.0.1:99"),
			[]string{"refused_no_service", "takes TCP port 99"},
		},
		{
			"an address without a service", testProbe("10.1.0.2:1", "10.9.0.9:80"),
			[]string{"not_ours", "no service has the address"},
		},
		{"a client that claims to be the VIP", testProbe("10.9.0.1:1", "10.9.0.1:80"), []string{"dropped_source_vip"}},
	}
	for _, r := range rows {
		text := fmt.Sprintf("%+v", *d.explain(r.q))
		if e := d.explain(r.q); e.Server != nil {
			text += e.NextHop + e.ReturnHop + e.Sent
		}
		if e := d.explain(r.q); e.Conn != nil {
			text += fmt.Sprintf("%+v", *e.Conn)
		}
		for _, word := range r.words {
			if !strings.Contains(text, word) {
				t.Errorf("%s: %q is not in %s", r.sentence, word, text)
			}
		}
	}
}

// A probe that is not a packet is refused in one line that names the error.
func TestExplainRefuses(t *testing.T) {
	d := newHandFixture(t)
	rows := []struct{ query, names string }{
		{"proto=icmp&client=10.1.0.2:1&virtual=10.9.0.1:80", `"icmp"`},
		{"proto=tcp&client=10.1.0.2&virtual=10.9.0.1:80", `client "10.1.0.2"`},
		{"proto=tcp&client=10.1.0.2:1&virtual=10.9.0.1:0", "port 0"},
		{"proto=tcp&client=224.0.0.1:1&virtual=10.9.0.1:80", "not unicast"},
		{"proto=tcp&client=[fd00::1]:1&virtual=10.9.0.1:80", "different families"},
		{"proto=tcp&client=10.1.0.2:1&virtual=10.9.0.1:80&in-interface=eth7", `"eth7"`},
		{"proto=tcp&client=10.1.0.2:1&virtual=10.9.0.1:80&mark=1", `"mark"`},
		{"", "protocol"},
	}
	for _, r := range rows {
		v, _ := url.ParseQuery(r.query)
		q, err := api.ParseProbe(v)
		if err == nil {
			_, err = d.Explain(q)
		}
		e, ok := errors.AsType[*config.Error](err)
		if !ok || !strings.Contains(e.Message, r.names) || strings.Contains(e.Message, "\n") {
			t.Errorf("%s: %v; want one line with %s", r.query, err, r.names)
		}
	}
}
