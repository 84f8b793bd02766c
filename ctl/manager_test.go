package ctl

import (
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"uvs/ctl/api"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

const vip = "10.9.0.1:80"

var one, two = masq(0, 1), masq(1, 1)

// masq is test server i, on port 8080.
func masq(i int, weight int32) config.Server {
	return config.Server{
		ServerKey: config.ServerKey{Addr: testServer(i), Port: 8080}, Method: config.MethodNAT,
		Weight: weight,
	}
}

// syn returns a client's first packet to the VIP, and answer a server's reply to it.
func syn(port string) wiretest.Packet {
	return wiretest.Packet{Src: "10.1.0.2:" + port, Dst: vip, TCPFlags: wire.TCPSyn}
}

func answer(s config.Server, port string) wiretest.Packet {
	return wiretest.Packet{Src: s.ServerKey.String(), Dst: "10.1.0.2:" + port, TCPFlags: wire.TCPSyn | wire.TCPAck}
}

// server returns the server that a frame goes to; invalid: there is none.
func server(frame []byte) (a netip.Addr) {
	if frame != nil {
		a, _ = netip.AddrFromSlice(frame[30:34]) // destination of the IPv4 header behind 14 bytes
	}
	return a
}

// status returns the status of a server of the only service.
func (w *fixture) status(s config.Server) api.ServerStatus {
	w.t.Helper()
	for _, v := range w.Services()[0].ServerStatuses {
		if v.ServerKey == s.ServerKey {
			return v
		}
	}
	w.t.Fatalf("no server %s", s.ServerKey)
	return api.ServerStatus{}
}

// An operation for which the guard fails is refused, and nothing changes: the listing, the
// table, the addresses that the host resolves, the scheduler's position.
func TestRefusedByGuard(t *testing.T) {
	refusal := errors.New("no")
	heavy, limited := masq(1, 7), masq(1, 1)
	limited.Upper = 1
	for _, tt := range []struct {
		sentence string
		op       config.Op
	}{
		{"a new service", add("10.9.0.2:80", "rr")},
		{"another scheduler", config.Op{Kind: config.EditService, Service: service(vip, "lc")}},
		{"the end of the service", config.Op{Kind: config.DeleteService, Service: service(vip, "")}},
		{"the end of all services", config.Op{Kind: config.Flush}},
		{"a new server", with(vip, masq(2, 1))},
		{"another weight", edited(vip, heavy)},
		{"a threshold", edited(vip, limited)},
		{"the end of a server", without(vip, two)},
		{"another timeout", config.Op{Kind: config.SetTimeouts, Timeouts: &config.Timeouts{TCP: 77}}},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			w := newFixture(t, 1)
			w.must(add(vip, "wrr"), with(vip, one), with(vip, two))
			if got := server(w.exchange(0, syn("5000"))); got != two.Addr {
				t.Fatalf("first connection goes to %v", got)
			}
			before, table, needed := w.Services(), w.plane.table(), w.host.needed
			id, servers := w.runtime.Services[service(vip, "").ServiceKey].ID, len(w.runtime.Servers)

			w.guard.refuse = func(int) error { return refusal }
			if err := w.Apply(tt.op); !errors.Is(err, refusal) {
				t.Errorf("error %v", err)
			}
			w.guard.refuse = nil
			w.exchange(0, wiretest.Packet{Src: "10.1.0.2:5000", Dst: vip, TCPFlags: wire.TCPAck})
			before[0].Stats.InPkts, before[0].ServerStatuses[0].Stats.InPkts = 2, 2
			before[0].Stats.InBytes, before[0].ServerStatuses[0].Stats.InBytes = 80, 80
			if got := w.Services(); !reflect.DeepEqual(got, before) {
				t.Errorf("listing\n%+v\nwas\n%+v", got, before)
			}
			if w.plane.table() != table || !slices.Equal(w.host.needed, needed) || w.Timeouts().TCP != 900 {
				t.Error("table, needed addresses or timeouts changed")
			}
			if got := w.runtime.Services[service(vip, "").ServiceKey].ID; got != id ||
				len(w.runtime.Servers) != servers {
				t.Errorf("service ID %d was %d, %d server IDs were %d", got, id, len(w.runtime.Servers), servers)
			}
			if got := server(w.exchange(0, syn("5001"))); got != one.Addr {
				t.Errorf("the second connection goes to %v, want %v", got, one.Addr)
			}
		})
	}
}

// Rules that the guard fails to remove are removed later; the change is in force.
func TestGuardLetsGoLater(t *testing.T) {
	w := newFixture(t, 1)
	w.must(add(vip, "rr"), with(vip, one), set("removed_grace", 0))
	calls := 0
	w.guard.refuse = func(int) error {
		if calls++; calls == 2 { // the first hides both, the second lets go
			return errors.New("busy")
		}
		return nil
	}
	w.must(config.Op{Kind: config.Flush})
	if len(w.Services()) != 0 || len(w.guard.all().Destinations) != 1 {
		t.Errorf("%d services, guarded %v", len(w.Services()), w.guard.all().Destinations)
	}
	w.maintain(time.Now())
	if len(w.guard.all().Destinations) != 0 {
		t.Errorf("guarded %v for ever", w.guard.all().Destinations)
	}
}

// Of many operations those that can be done are done and put in force at once; each has its
// own error. A service deleted and added again is a new one.
func TestApplyAll(t *testing.T) {
	w := newFixture(t, 1)
	w.must(add(vip, "rr"), with(vip, one), with(vip, two))
	w.exchange(0, syn("5000"))
	before, applied := w.plane.published, w.guard.applied
	errs := w.ApplyAll([]config.Op{
		{Kind: config.Flush},
		with(vip, one),
		add(vip, "rr"), with(vip, one), with(vip, one), with(vip, two),
		{Kind: config.Zero, Service: service("10.9.0.2:80", "")},
	})
	var failed []int
	for i, err := range errs {
		if err != nil {
			failed = append(failed, i)
		}
	}
	if !slices.Equal(failed, []int{1, 4, 6}) {
		t.Errorf("errors %v", errs)
	}
	if n := w.plane.published - before; n != 1 || w.guard.applied != applied+1 {
		t.Errorf("%d tables published, guard asked %d times", n, w.guard.applied-applied)
	}
	if got := w.Services()[0]; got.Stats != (api.Stats{}) || len(got.ServerStatuses) != 2 || w.status(two).Active != 1 {
		t.Errorf("after: %+v", got)
	}
	if got := server(w.exchange(0,
		wiretest.Packet{Src: "10.1.0.2:5000", Dst: vip, TCPFlags: wire.TCPAck})); got != two.Addr {
		t.Errorf("the old connection goes to %v", got)
	}
}

// Before a table's services use a server, every worker has a table with that server: a
// worker may find a conn that another worker just made with the newer table.
func TestServersAreKnownBeforeTheyAreNamed(t *testing.T) {
	w := newFixture(t, 2)
	var last *director.Table
	w.plane.seen = func(t2 *director.Table) {
		for _, svc := range t2.Services.All() {
			for _, id := range svc.Servers {
				if last == nil || last.Servers.Get(id).Addr != t2.Servers.Get(id).Addr {
					t.Errorf("server %d (%v) is named by a table published over one that does not know it", id,
						t2.Servers.Get(id).Addr)
				}
			}
		}
		last = t2
	}
	w.must(add(vip, "rr"), with(vip, one), with(vip, two), without(vip, one))
	w.age(3 * compile.TrashTime) // its ID is free again
	w.must(with(vip, masq(3, 1)), with(vip, one))
	if got := w.runtime.Server(service(vip, "").ServiceKey, masq(3, 1).ServerKey).ID; got != 1 {
		t.Errorf("ID %d instead of the one that is free", got)
	}
}

// age runs the manager's maintenance for a time.
func (w *fixture) age(d time.Duration) {
	for at := time.Duration(0); at <= d; at += 30 * time.Second {
		w.maintain(w.now.Add(at))
	}
	w.now = w.now.Add(d + time.Second)
}

// Frames of a server stay hidden from the host as long as conns may have the server.
// Otherwise the host would forward a second, untranslated copy, and the client's reply to
// that would end the connection.
func TestRepliesStayHidden(t *testing.T) {
	for _, tt := range []struct {
		sentence string
		op       config.Op
	}{
		{"the server is removed", without(vip, one)},
		{"the service is removed", config.Op{Kind: config.DeleteService, Service: service(vip, "")}},
		{"everything is removed", config.Op{Kind: config.Flush}},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			w := newFixture(t, 1)
			w.must(add(vip, "rr"), with(vip, one))
			w.exchange(0, syn("5000"))
			end := guard.Endpoint{Proto: wire.ProtoTCP, Addr: one.Addr, Port: one.Port}
			w.must(tt.op)
			w.age(time.Hour)
			if !slices.Contains(w.guard.all().ReplySources, end) {
				t.Error("the host sees replies of a removed server whose conn lives")
			}
			frame := w.exchange(1, answer(one, "5000"))
			if frame == nil || netip.AddrFrom4([4]byte(frame[26:30])).String() != "10.9.0.1" {
				t.Errorf("reply of a removed server: % x", frame)
			}
			if w.FlushConns(api.ConnFilter{}); w.conns.Counts(1).Total() != 0 {
				t.Fatal("conns left")
			}
			w.maintain(w.now)
			w.maintain(w.now.Add(compile.TrashTime - time.Second))
			remembered := func() bool { return w.runtime.Server(service(vip, "").ServiceKey, one.ServerKey) != nil }
			if !remembered() {
				t.Error("forgotten too early")
			}
			w.maintain(w.now.Add(compile.TrashTime))
			if remembered() || slices.Contains(w.guard.all().ReplySources, end) {
				t.Errorf("remembered for ever: %t, guarded %v", remembered(), w.guard.all().ReplySources)
			}
		})
	}
}

// So do frames of a server that was masqueraded until it was edited, because its conns keep
// their method.
func TestRepliesStayHiddenAfterEdit(t *testing.T) {
	w := newFixture(t, 1)
	same := masq(0, 1)
	same.Port = 80 // as servers of other methods have it
	w.must(add(vip, "rr"), with(vip, same))
	same.Method = config.MethodDR
	w.must(edited(vip, same))
	end := guard.Endpoint{Proto: wire.ProtoTCP, Addr: same.Addr, Port: same.Port}
	if !slices.Contains(w.guard.all().ReplySources, end) {
		t.Errorf("guarded %v", w.guard.all().ReplySources)
	}
}

// A server removed and added again keeps its counters. A service deleted and added again
// starts at zero, and so do its servers, without a peak of the rates. Conns stay in both cases.
func TestCountersOverRemoval(t *testing.T) {
	w := newFixture(t, 1)
	w.must(add(vip, "rr"), with(vip, one))
	for _, port := range []string{"5000", "5001", "5002"} {
		w.exchange(0, syn(port))
	}
	w.exchange(1, answer(one, "5000"))
	want := api.Stats{Conns: 3, InPkts: 3, OutPkts: 1, InBytes: 120, OutBytes: 40}
	w.must(without(vip, one))
	if got := w.Services()[0].Stats; got != want {
		t.Errorf("service without server: %+v, want %+v", got, want)
	}
	w.must(with(vip, one))
	if got := w.status(one); got.Stats != want || got.Active != 3 {
		t.Errorf("added again: %+v", got)
	}
	w.must(config.Op{Kind: config.DeleteService, Service: service(vip, "")}, add(vip, "rr"), with(vip, one))
	w.maintain(w.now)
	if got := w.status(one); got.Stats != (api.Stats{}) || got.Active != 3 || w.Services()[0].Stats != (api.Stats{}) {
		t.Errorf("service added again: %+v, %+v", w.Services()[0].Stats, got)
	}
	w.exchange(0, syn("5003"))
	if got := w.Services()[0].Stats; got.Conns != 1 || w.status(one).Stats.Conns != 1 {
		t.Errorf("one connection later: %+v", got)
	}
}

// Rates are those of IPVS's estimators for a hundred packets at once
// (net/netfilter/ipvs/ip_vs_est.c). Zero resets counters and rates of all services, or of one.
func TestRatesAndZero(t *testing.T) {
	var e compile.Estimator
	var got []uint64
	for range 6 {
		e.Sample(director.Totals{InPkts: 100})
		got = append(got, e.Rates().InPkts)
	}
	if want := []uint64{12, 9, 7, 5, 4, 3}; !slices.Equal(got, want) {
		t.Errorf("rates %v, want %v", got, want)
	}

	const other = "10.9.0.1:81"
	w := newFixture(t, 1)
	w.must(add(vip, "rr"), with(vip, one), add(other, "rr"), with(other, one))
	to := func(end, port string) wiretest.Packet { p := syn(port); p.Dst = end; return p }
	w.exchange(0, to(vip, "5000"))
	w.exchange(0, to(other, "5001"))
	w.maintain(w.now)
	w.must(config.Op{Kind: config.Zero, Service: service(vip, "")})
	list := w.Services()
	if list[0].Stats != (api.Stats{}) || list[0].ServerStatuses[0].Stats != (api.Stats{}) {
		t.Errorf("zeroed: %+v", list[0])
	}
	if list[1].Stats.Conns != 1 || list[1].Stats.InBPS == 0 || list[1].ServerStatuses[0].Stats.Conns != 1 {
		t.Errorf("not zeroed: %+v", list[1])
	}
	w.must(config.Op{Kind: config.Zero})
	if got := w.Services()[1].Stats; got != (api.Stats{}) {
		t.Errorf("all zeroed: %+v", got)
	}
	var refused *config.Error
	if err := w.Apply(config.Op{Kind: config.Zero, Service: service("10.9.0.9:80", "")}); !errors.As(err, &refused) {
		t.Errorf("zero of no service: %v", err)
	}
}

// Thresholds x=3, y=2 of two servers give 101010---- (docs/ipvs.md, "Overload"). A threshold
// below the present number of conns takes effect at once, and so does its removal.
func TestThresholds(t *testing.T) {
	w := newFixture(t, 1)
	limit := func(i int, upper, lower uint32) config.Server {
		s := masq(i, 1)
		s.Upper, s.Lower = upper, lower
		return s
	}
	w.must(add(vip, "rr"), with(vip, limit(0, 3, 2)), with(vip, limit(1, 3, 2)))
	ports := []string{"5000", "5001", "5002", "5003", "5004", "5005", "5006", "5007"}
	next := func() (got string) {
		p := syn(ports[0])
		ports = ports[1:]
		switch server(w.exchange(0, p)) {
		case one.Addr:
			return "0"
		case two.Addr:
			return "1"
		}
		return "-"
	}
	got := ""
	for range 7 {
		got += next()
	}
	if got != "101010-" {
		t.Errorf("picks %s", got)
	}
	ports = []string{"6000", "6001", "6002", "6003"}
	w.must(edited(vip, limit(0, 0, 0)), edited(vip, limit(1, 0, 0)))
	if got := next() + next(); got != "10" && got != "01" {
		t.Errorf("without thresholds: %s", got)
	}
	w.must(edited(vip, limit(0, 2, 0)))
	if got := next() + next(); got != "11" {
		t.Errorf("with a threshold of 2 at 4 conns: %s", got)
	}
}

// A change of routes takes effect, even if an older call comes late.
func TestHopsChanged(t *testing.T) {
	w := newFixture(t, 1)
	w.must(add(vip, "rr"), with(vip, masq(numServers, 1)))
	if hop := w.Services()[0].ServerStatuses[0].NextHop; hop != "eth1 unresolved" {
		t.Errorf("hop %q", hop)
	}
	w.host.set(testHostNet(numServers + 1))
	w.RoutesChanged()
	if hop := w.Services()[0].ServerStatuses[0].NextHop; hop != "eth1 02:00:00:01:01:00" {
		t.Errorf("hop %q", hop)
	}
	before := w.plane.published
	w.RoutesChanged()
	if w.plane.published != before {
		t.Error("published without news")
	}
}

// A change of neighbours is published without compiling services or asking the guard, as a
// packet may be waiting for it. A change of routes is not.
func TestNeighboursChanged(t *testing.T) {
	w := newFixture(t, 1)
	w.must(add(vip, "rr"), with(vip, masq(numServers, 1)))
	table, applied := w.table, w.guard.applied
	w.host.set(&director.HostNet{
		Ports: testPorts, Routes: w.hostNet.Routes, HostAddrs: w.hostNet.HostAddrs,
		Neighbours: testHostNet(numServers + 1).Neighbours,
	})
	w.RoutesChanged()
	if hop := w.Services()[0].ServerStatuses[0].NextHop; hop != "eth1 02:00:00:01:01:00" {
		t.Errorf("hop %q", hop)
	}
	before, after := maps.Collect(table.Services.All()), maps.Collect(w.table.Services.All())
	if w.table == table || !maps.Equal(before, after) || w.guard.applied != applied {
		t.Errorf("a change of neighbours compiled services, or had the guard apply rules %d times",
			w.guard.applied-applied)
	}
	w.host.set(testHostNet(numServers))
	w.RoutesChanged()
	if w.guard.applied == applied {
		t.Error("a change of routes did not reach the guard")
	}
}
