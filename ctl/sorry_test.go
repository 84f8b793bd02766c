package ctl

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

func sorry(s *config.Server) config.Op {
	return config.Op{Kind: config.SetSorry, Service: service(vip, ""), Server: s}
}

// The sorry server gets connections that begin while no server has a weight, and no others;
// they go on. Its replies are hidden from the host, its address is resolved, and it is
// listed apart from the servers.
func TestSorryServer(t *testing.T) {
	w := newWebFixture(t, "rr")
	last, off := masq(7, 0), []config.Server{one, two}
	for i := range off {
		off[i].Weight = 0
	}
	w.must(sorry(&last))
	goes := func(sentence, port string, want config.Server) {
		t.Helper()
		if got := server(w.exchange(0, syn(port))); got != want.Addr {
			t.Errorf("%s: goes to %v, want %v", sentence, got, want.Addr)
		}
	}
	goes("with two servers", "5000", two)
	w.must(edited(vip, off[0]), edited(vip, off[1]))
	goes("without any", "5001", last)
	w.must(edited(vip, one))
	goes("with one again", "5002", one)
	goes("the same flow again", "5001", last)

	if !slices.Contains(w.host.needed, last.Addr) {
		t.Error("the address of the sorry server is not resolved")
	}
	if end := (guard.Endpoint{
		Proto: wire.ProtoTCP, Addr: last.Addr,
		Port: last.Port,
	}); !slices.Contains(w.guard.all().ReplySources, end) {
		t.Error("the host sees its replies")
	}
	status := w.Services()[0]
	if len(status.ServerStatuses) != 2 || status.Sorry == nil || status.Sorry.ServerKey != last.ServerKey ||
		status.Sorry.State != "sorry" || status.Sorry.Stats.Conns != 1 {
		t.Errorf("listed %+v, sorry %+v", status.ServerStatuses, status.Sorry)
	}
	if states := []string{status.ServerStatuses[0].State, status.ServerStatuses[1].State}; !slices.Equal(states,
		[]string{"quiesced", "up"}) {
		t.Errorf("states %v", states)
	}

	w.must(sorry(nil))
	if w.Services()[0].Sorry != nil || w.compiled().Sorry != 0 {
		t.Error("the sorry server is still there")
	}
	w.must(with(vip, last))
}

// The sorry server can also be one of the servers. As a server it has its own weight,
// connections and end.
func TestSorryServerIsAServerToo(t *testing.T) {
	w := newWebFixture(t, "rr")
	both, off := two, one
	both.Weight, off.Weight = 0, 0
	w.must(edited(vip, off), edited(vip, both), sorry(&both))
	if got := server(w.exchange(0, syn("5000"))); got != both.Addr {
		t.Fatalf("without a server goes to %v, want the sorry server", got)
	}
	asSorry, asServer := w.Services()[0].Sorry, w.status(both)
	if asSorry.Stats.Conns != 1 || asServer.Stats.Conns != 0 || asServer.State != "quiesced" {
		t.Errorf("sorry server %+v, server %+v", asSorry, asServer)
	}
	w.must(edited(vip, two))
	if got := server(w.exchange(0, syn("5001"))); got != two.Addr || w.status(two).Stats.Conns != 1 {
		t.Errorf("as a server: goes to %v, %+v", got, w.status(two).Stats)
	}
	w.must(config.Op{Kind: config.DeleteServer, Service: service(vip, ""), Server: &two})
	if got := server(w.exchange(0, syn("5000"))); got != two.Addr {
		t.Errorf("no server any more, the sorry server's connection goes to %v", got)
	}
	w.must(with(vip, two), sorry(nil))
	if got := server(w.exchange(0, syn("5002"))); got != two.Addr {
		t.Errorf("no sorry server any more, the server's next connection goes to %v", got)
	}
}

// A sorry server is deleted with its service.
func TestSorryServerEndsWithItsService(t *testing.T) {
	for _, end := range []config.Op{{Kind: config.DeleteService, Service: service(vip, "")}, {Kind: config.Flush}} {
		w := newWebFixture(t, "rr")
		last := masq(7, 1)
		w.must(sorry(&last), end, add(vip, "rr"))
		if w.compiled().Sorry != 0 {
			t.Errorf("after %s the new service has the old one's", end.Kind)
		}
	}
}

// An explanation names the sorry server, and does not use up the client's limits.
func TestExplainSorryAndLimits(t *testing.T) {
	d := newHandFixture(t)
	svc := config.Service{ServiceKey: key(wire.ProtoTCP, "10.9.0.1:80"), Scheduler: "rr"}
	d.serve(svc, config.MethodNAT, "10.2.0.11:8080")
	d.must(config.Op{
		Kind: config.SetSettings, Service: &svc,
		Settings: config.Values{"limit_rate": 1, "limit_conns": 1},
	})
	q := testProbe("10.1.0.2:1000", "10.9.0.1:80")
	d.explain(q)
	d.explain(q)
	if v := d.send(q, false); v != director.ForwardedMasq {
		t.Errorf("after two questions the packet became %s", v)
	}
	if v := d.send(testProbe("10.1.0.2:1001", "10.9.0.1:80"), false); v != director.DroppedClientRate {
		t.Errorf("the second connection of a second became %s", v)
	}
	d.must(config.Op{
		Kind: config.SetSorry, Service: &svc,
		Server: ptr(serverAt("10.2.0.12:8080", config.MethodNAT, 1)),
	})
	d.must(config.Op{
		Kind: config.EditServer, Service: &svc,
		Server: ptr(serverAt("10.2.0.11:8080", config.MethodNAT, 0)),
	})
	e := d.explain(testProbe("10.1.0.3:1000", "10.9.0.1:80"))
	if e.Server == nil || e.Server.Addr != netip.MustParseAddr("10.2.0.12") || !strings.Contains(e.By, "sorry") {
		t.Errorf("server %v by %q, want the sorry server", e.Server, e.By)
	}
}
