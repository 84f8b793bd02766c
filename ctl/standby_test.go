package ctl

import (
	"slices"
	"testing"

	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

const otherVIP = "10.9.0.2:80"

// hosts makes the host hold just these VIPs.
func (w *fixture) hosts(vips ...string) {
	net := testHostNet(numServers)
	for _, v := range vips {
		net.HostAddrs[wire.AddrFrom(service(v, "").Addr)] = 2
	}
	w.host.set(net)
	w.RoutesChanged()
}

// vipNow returns what the workers know of a VIP; announced reports whether it is announced.
func (w *fixture) vipNow(v string) (now director.VIP, announced bool) {
	a := service(v, "").Addr
	now, _ = w.plane.table().VIPs.Get(wire.AddrFrom(a))
	return now, slices.Contains(w.host.vips, a)
}

// A director on standby is silent and forwards nothing. Whatever becomes of its
// configuration meanwhile, it stays so until it is active, and announces its VIPs then.
func TestRole(t *testing.T) {
	w := newFixture(t, 1)
	standby, active := config.Op{Kind: config.Standby}, config.Op{Kind: config.Active}
	w.must(add(vip, "rr"), with(vip, one))
	if got := server(w.exchange(0, syn("5000"))); got != one.Addr || w.Role() != "active" {
		t.Fatalf("%s, to %v", w.Role(), got)
	}
	silent := func(when string) {
		t.Helper()
		frame := w.exchange(0, syn("5000"))
		now, announced := w.vipNow(vip)
		if frame != nil || w.Role() != "standby" || announced || !now.Silent || len(w.guard.all().VIPs) == 0 {
			t.Errorf("%s: role %s, sent %x, VIP %+v, announced %v, guard %v", when, w.Role(), frame, now, announced,
				w.guard.all().VIPs)
		}
	}
	w.must(standby)
	silent("on standby")
	w.must(standby, add(otherVIP, "rr"))
	silent("after a change")
	w.must(replacement(t, add(vip, "wlc"), with(vip, two), with(vip, one)))
	silent("after all was replaced")
	w.hosts()
	silent("after the host's routes changed")
	w.must(without(vip, one), config.Op{Kind: config.Flush}, add(vip, "rr"), with(vip, one))
	silent("after services were removed and added")
	w.must(active, active)
	if _, announced := w.vipNow(vip); !announced || w.Role() != "active" {
		t.Errorf("%s, announced %v", w.Role(), announced)
	}
	if got := server(w.exchange(0, syn("5000"))); got != one.Addr {
		t.Errorf("the connection goes to %v, want %v as before", got, one.Addr)
	}
}

// announce decides by address whether a VIP is announced, and whether it is served while
// the host does not hold it. The quieter of several services' settings counts.
func TestAnnounce(t *testing.T) {
	const secondService = "10.9.0.1:443"
	type state struct{ silent, standby, announced bool }
	always, held, never := uint32(0), uint32(config.AnnounceHeld), uint32(config.AnnounceNever)
	served, onStandby, unannounced := state{announced: true}, state{silent: true, standby: true}, state{silent: true}
	hosts := state{} // the host answers for it
	for _, r := range []struct {
		sentence         string
		director         uint32
		first, second    *uint32 // of the services of the VIP
		want, onHost     state
		other, otherHost state // of another VIP, which has the director's setting
	}{
		{"as it always was", always, nil, nil, served, hosts, served, hosts},
		{"held by all", held, nil, nil, onStandby, hosts, onStandby, hosts},
		{"never by all", never, nil, nil, unannounced, unannounced, unannounced, unannounced},
		{"held by one service", always, &held, nil, onStandby, hosts, served, hosts},
		{"never by the other service", always, nil, &never, unannounced, unannounced, served, hosts},
		{"one of them always", held, &always, nil, onStandby, hosts, onStandby, hosts},
		{"both of them always", held, &always, &always, served, hosts, onStandby, hosts},
		{"held and never", always, &held, &never, onStandby, unannounced, served, hosts},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			w := newFixture(t, 1)
			w.must(add(vip, "rr"), add(secondService, "rr"), add(otherVIP, "rr"), with(vip, one), with(otherVIP, two))
			own := func(of string, v *uint32) {
				if v != nil {
					op := set("announce", *v)
					op.Service = service(of, "")
					w.must(op)
				}
			}
			own(vip, r.first)
			own(secondService, r.second)
			w.must(set("announce", r.director))
			check := func(when, v string, want state) {
				t.Helper()
				now, announced := w.vipNow(v)
				if got := (state{now.Silent, now.Standby, announced}); got != want {
					t.Errorf("%s: %s is %+v, want %+v", when, v, got, want)
				}
			}
			for range 2 {
				w.hosts()
				check("not on the host", vip, r.want)
				check("not on the host", otherVIP, r.other)
				if got := w.exchange(0, syn("5000")); (got == nil) != r.want.standby {
					t.Errorf("not on the host, a connection is answered with %x", got)
				}
				w.hosts(vip, otherVIP)
				check("on the host", vip, r.onHost)
				check("on the host", otherVIP, r.otherHost)
				if got := w.exchange(0, syn("5000")); server(got) != one.Addr {
					t.Errorf("on the host, a connection is answered with %x", got)
				}
			}
		})
	}
}

// A VIP whose services are gone keeps its setting as long as it is known.
func TestAnnounceOfRemovedService(t *testing.T) {
	w := newFixture(t, 1)
	op := set("announce", config.AnnounceNever)
	op.Service = service(vip, "")
	w.must(add(vip, "rr"), with(vip, one), op, config.Op{Kind: config.Flush})
	if now, _ := w.vipNow(vip); !now.Silent || now.Standby {
		t.Errorf("removed: %+v", now)
	}
	w.must(add("10.9.0.1:443", "rr"))
	if now, announced := w.vipNow(vip); now.Silent || !announced {
		t.Errorf("with another service: %+v, announced %v", now, announced)
	}
}

// Single addresses of mark rules have the setting of the mark's service. Nets are never
// announced, and served unless the director is on standby.
func TestAnnounceOfMarks(t *testing.T) {
	w := newFixture(t, 1)
	shop := &config.Service{ServiceKey: config.ServiceKey{FWMark: 1}, Scheduler: "rr"}
	w.must(
		config.Op{Kind: config.AddMarks, Marks: []config.MarkRule{
			rule("10.9.0.1/32", 0, 1), rule("10.8.0.0/24", 0, 1),
		}},
		config.Op{Kind: config.AddService, Service: shop},
		config.Op{Kind: config.AddServer, Service: shop, Server: ptr(one)}, set("announce", config.AnnounceHeld),
	)
	toNet := syn("5000")
	toNet.Dst = "10.8.0.7:80"
	if now, _ := w.vipNow(vip); !now.Standby || w.exchange(0, syn("5000")) != nil {
		t.Errorf("a VIP that the host does not hold is %+v", now)
	}
	if got := server(w.exchange(0, toNet)); got != one.Addr {
		t.Errorf("to a net: %v", got)
	}
	w.must(config.Op{Kind: config.Standby})
	if frame := w.exchange(0, toNet); frame != nil {
		t.Errorf("to a net, on standby: sent %x", frame)
	}
}

// With backup_only a director on standby does not hide services at addresses of the host.
func TestBackupOnly(t *testing.T) {
	w := newFixture(t, 1)
	shop := &config.Service{ServiceKey: config.ServiceKey{FWMark: 1}, Scheduler: "rr"}
	w.hosts(vip)
	w.must(
		add(vip, "rr"), add(otherVIP, "rr"), set("backup_only", 1), config.Op{Kind: config.AddService, Service: shop},
		config.Op{Kind: config.AddMarks, Marks: []config.MarkRule{rule("10.9.0.1/32", 0, 1)}},
	)
	for _, hidden := range []bool{true, false, true} {
		p := w.guard.all()
		if (len(p.Destinations) > 0) != hidden || (len(w.guard.rules.Marked) > 0) != hidden || len(p.VIPs) != 1 {
			t.Errorf("role %s: the guard hides %+v and %+v", w.Role(), p, w.guard.rules.Marked)
		}
		w.must(config.Op{Kind: map[bool]config.OpKind{true: config.Standby, false: config.Active}[hidden]})
	}
}

// The host's replies as a NAT server come to the director only while it is active. On
// standby they are for those who call the host's own address.
func TestStandbyLeavesLocalServer(t *testing.T) {
	w := newFixture(t, 1)
	local := serverAt("10.1.0.1:8080", config.MethodNAT, 1) // an address of the host
	w.must(add(vip, "rr"), with(vip, local))
	if n := len(w.guard.all().LocalServers); n != 1 {
		t.Errorf("active: %d servers' replies come to the director", n)
	}
	if w.must(config.Op{Kind: config.Standby}); len(w.guard.all().LocalServers) != 0 {
		t.Errorf("on standby: %v's replies come to the director", w.guard.all().LocalServers)
	}
}

// `uvs explain` says that another director serves a VIP.
func TestExplainStandby(t *testing.T) {
	w := newFixture(t, 1)
	w.must(add(vip, "rr"), with(vip, one), config.Op{Kind: config.Standby})
	e, err := w.Explain(testProbe("10.1.0.2:5000", vip))
	if err != nil || e.Verdict != director.DroppedStandby.String() || e.Server != nil ||
		e.Why != "another director serves 10.9.0.1; this one is on standby for it" {
		t.Errorf("%+v, %v", e, err)
	}
}
