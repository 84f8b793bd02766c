package ctl

import (
	"errors"
	"syscall"
	"testing"

	"uvs/conntrack"
	"uvs/ctl/config"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// A server that is down gets no new connections from any scheduler or template. It stays
// down when it is edited, and gets connections again when it comes up.
func TestDownIsNeverPicked(t *testing.T) {
	mark := func(s config.Server, down bool) config.Op {
		s.Down = down
		return config.Op{Verb: config.SetServerDown, Service: service(vip, ""), Server: &s}
	}
	for _, name := range sched.Names() {
		w := newFixture(t, 1)
		svc := service(vip, name)
		svc.Persist = 300
		w.must(config.Op{Verb: config.AddService, Service: svc}, with(vip, one))
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
		if err := w.Apply(mark(two, true)); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("%s: a server that is not there: %v", name, err)
		}
	}
}

// A server that comes up starts slowly, as a new server does.
func TestUpStartsSlowly(t *testing.T) {
	w := newFixture(t, 1)
	w.must(add(vip, "wlc"), with(vip, one))
	w.plane.ahead = 1000 * conntrack.Second
	down, up := one, one
	down.Down = true
	w.must(config.Op{Verb: config.SetServerDown, Service: service(vip, ""), Server: &down},
		config.Op{Verb: config.SetServerDown, Service: service(vip, ""), Server: &up})
	if v := w.runtime.Servers[1]; v.RampStart < w.plane.ahead {
		t.Errorf("its slow start began at %d, came up at %d", v.RampStart, w.plane.ahead)
	}
}
