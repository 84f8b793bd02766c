package ctl

import (
	"fmt"
	"net/netip"
	"testing"

	"uvs/conntrack"
	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// setAdmin sets the admin state of an address, with one port or, if that is 0, all.
func setAdmin(addr netip.Addr, port uint16, admin config.Admin) config.Op {
	return config.Op{Kind: config.SetAdmin, Admin: &config.AdminRule{
		AdminScope: config.AdminScope{Addr: addr, Port: port}, Admin: admin,
	}}
}

// A server that is down gets no new connections from any scheduler or template. It stays
// down when it is edited, and gets connections again when it comes up.
func TestDownIsNeverPicked(t *testing.T) {
	mark := func(s config.Server, down bool) config.Op {
		return setAdmin(s.Addr, s.Port, map[bool]config.Admin{true: config.AdminDown}[down])
	}
	for _, name := range sched.Names() {
		w := newFixture(t, 1)
		svc := service(vip, name)
		svc.Persist = 300
		w.must(config.Op{Kind: config.AddService, Service: svc}, with(vip, one))
		if name == "none" {
			continue
		}
		if got := server(w.exchange(0, syn("5000"))); got != one.Addr {
			t.Fatalf("%s: at first to %v", name, got)
		}
		w.must(with(vip, two), mark(one, true))
		heavy := one
		heavy.Weight = 100
		w.must(edited(vip, heavy))
		if state := w.status(one).State; state != "down" {
			t.Errorf("%s: listed as %s", name, state)
		}
		// sh, dh and mh without fallback refuse a client whose server is down.
		if got := server(w.exchange(0, syn("5001"))); got == one.Addr {
			t.Errorf("%s: down, it gets a connection", name)
		}
		segment := syn("5000")
		segment.TCPFlags = wire.TCPAck
		if got := server(w.exchange(0, segment)); got != one.Addr {
			t.Errorf("%s: a connection it has goes to %v", name, got)
		}
		w.must(mark(two, true))
		w.conns.Flush(func(*conntrack.Snapshot) bool { return true })
		if got := server(w.exchange(0, syn("5002"))); got == one.Addr || got == two.Addr {
			t.Errorf("%s: both down, %v gets a connection", name, got)
		}
		w.must(mark(one, false))
		w.must(without(vip, two))
		if got := server(w.exchange(0, syn("5003"))); got != one.Addr {
			t.Errorf("%s: up again, %v gets the connection", name, got)
		}
		w.must(with(vip, two))
		if state := w.status(two).State; state != "down" {
			t.Errorf("%s: down when it was removed, it is added again as %s", name, state)
		}
	}
}

// A server that comes up starts slowly, as a new server does.
func TestUpStartsSlowly(t *testing.T) {
	w := newFixture(t, 1)
	w.must(add(vip, "wlc"), with(vip, one))
	w.plane.ahead = 1000 * conntrack.Second
	w.must(setAdmin(one.Addr, 0, config.AdminDrain), setAdmin(one.Addr, 0, config.AdminUp))
	if v := w.runtime.Servers[1]; v.SlowStartBegin < w.plane.ahead {
		t.Errorf("its slow start began at %d, came up at %d", v.SlowStartBegin, w.plane.ahead)
	}
}

// A drained server has weight 0 until it is up again, whatever ipvsadm and those who call it
// do with the server, its service and others. Then it has the weight configured last.
func TestDrainLasts(t *testing.T) {
	heavy := one
	heavy.Weight = 5
	other := "10.9.0.2:80"
	drain := func(port uint16) config.Op { return setAdmin(one.Addr, port, config.AdminDrain) }
	deleted, cleared := config.Op{Kind: config.DeleteService, Service: service(vip, "")}, config.Op{Kind: config.Flush}
	hashed := config.Op{Kind: config.EditService, Service: service(vip, "sh")}
	for name, ops := range map[string][]config.Op{
		"edited":                      {edited(vip, heavy)},
		"deleted and added":           {without(vip, one), with(vip, heavy)},
		"its service too":             {deleted, add(vip, "wlc"), with(vip, two), with(vip, heavy)},
		"all cleared and restored":    {cleared, add(vip, "mh"), with(vip, heavy), with(vip, two)},
		"another scheduler":           {edited(vip, heavy), hashed},
		"drained twice, and the port": {edited(vip, heavy), drain(0), drain(one.Port)},
		"first down":                  {edited(vip, heavy), setAdmin(one.Addr, 0, config.AdminDown), drain(0)},
		"while another service joins": {edited(vip, heavy), add(other, "rr"), with(other, one), with(other, two)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newFixture(t, 1)
			w.must(add(vip, "rr"), with(vip, one), with(vip, two), drain(0))
			w.must(ops...)
			if s := w.status(one); s.State != "drain" || s.Admin != config.AdminDrain || s.Weight != 5 {
				t.Errorf("drained it is %s, admin %s, weight %d", s.State, s.Admin, s.Weight)
			}
			picked := func(dst string, ports int) (n int) {
				for i := range 16 {
					p := syn(fmt.Sprint(ports + i))
					p.Dst = dst
					if got := server(w.exchange(0, p)); got == one.Addr {
						n++
					}
				}
				return n
			}
			if n := picked(vip, 5000) + picked(other, 5000); n != 0 {
				t.Errorf("drained it gets %d connections", n)
			}
			w.must(setAdmin(one.Addr, 0, config.AdminUp))
			if s := w.status(one); s.State != "up" || s.Weight != 5 {
				t.Errorf("up again it is %s, weight %d", s.State, s.Weight)
			}
			if n := picked(vip, 6000); n == 0 {
				t.Error("up again it gets nothing")
			}
		})
	}
}

// Templates lead to a drained server, as to one of weight 0, but not to one that is down. A
// sorry server that is drained or down takes nothing.
func TestAdminOfTemplatesAndSorryServers(t *testing.T) {
	w := newFixture(t, 1)
	svc := service(vip, "rr")
	svc.Persist = 300
	last := masq(7, 1)
	w.must(config.Op{Kind: config.AddService, Service: svc}, with(vip, one), sorry(&last))
	w.exchange(0, syn("5000"))
	for i, r := range []struct {
		op   config.Op
		want netip.Addr
	}{
		{setAdmin(one.Addr, 0, config.AdminDrain), one.Addr},
		{setAdmin(one.Addr, 0, config.AdminDown), last.Addr},
		{setAdmin(last.Addr, last.Port, config.AdminDrain), netip.Addr{}},
		{setAdmin(last.Addr, 0, config.AdminUp), last.Addr},
		{setAdmin(one.Addr, 0, config.AdminUp), one.Addr},
	} {
		w.must(r.op)
		got := server(w.exchange(0, syn(fmt.Sprint(6000+i))))
		if got != r.want && (r.want.IsValid() || got == last.Addr) { // without a server the client is answered
			t.Errorf("after %s of %s it goes to %v, want %v", r.op.Admin.Admin, r.op.Admin, got, r.want)
		}
	}
}

// Connections that can carry data are counted apart from closing ones and templates, those
// of a mark too, whose ports are not the server's.
func TestCountConns(t *testing.T) {
	w := newFixture(t, 1)
	web := &config.Service{ServiceKey: config.ServiceKey{FWMark: 7}, Scheduler: "rr", Persist: 300}
	at := serverAt("10.2.0.1:80", config.MethodDR, 1)
	w.must(config.Op{Kind: config.AddMarks, Marks: []config.MarkRule{
		rule("10.9.0.1/32", wire.ProtoTCP, 7, config.PortRange{First: 80, Last: 443}),
	}}, config.Op{Kind: config.AddService, Service: web}, config.Op{Kind: config.AddServer, Service: web, Server: &at})
	send := func(port, dst string, flags ...uint8) {
		for _, f := range flags {
			p := syn(port)
			p.Dst, p.TCPFlags = dst, f
			w.exchange(0, p)
		}
	}
	send("5000", "10.9.0.1:80", wire.TCPSyn, wire.TCPAck)
	send("5001", "10.9.0.1:443", wire.TCPSyn, wire.TCPAck)
	send("5002", "10.9.0.1:443", wire.TCPSyn, wire.TCPAck, wire.TCPRst)
	want := api.ConnCount{Live: 2, Closing: 1, Templates: 1, Clients: 1}
	for _, f := range []api.ConnFilter{
		{},
		{Service: &web.ServiceKey},
		{Server: netip.AddrPortFrom(at.Addr, 0)},
		{Server: netip.AddrPortFrom(at.Addr, 80)},
		{Service: &web.ServiceKey, Server: netip.AddrPortFrom(at.Addr, 80)},
	} {
		n := w.CountConns(f)
		if n.Oldest > 60 {
			t.Errorf("the oldest is %d s old", n.Oldest)
		}
		if n.Oldest = 0; n != want {
			t.Errorf("%s: %+v, want %+v", f.Query().Encode(), n, want)
		}
	}
	if n := w.CountConns(api.ConnFilter{Server: netip.AddrPortFrom(at.Addr, 443)}); n.Live != 1 || n.Closing != 1 {
		t.Errorf("at the port of some conns: %+v", n)
	}
	if n := w.CountConns(api.ConnFilter{Server: netip.AddrPortFrom(two.Addr, 0)}); n != (api.ConnCount{}) {
		t.Errorf("at another server: %+v", n)
	}
	w.FlushConns(api.ConnFilter{Server: netip.AddrPortFrom(at.Addr, 80)})
	if n := w.CountConns(api.ConnFilter{}); n != (api.ConnCount{}) {
		t.Errorf("flushed: %+v", n)
	}
}
