package ctl

import (
	"strings"
	"testing"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// compiled returns the workers' service of vip.
func (w *fixture) compiled() *director.Service {
	w.t.Helper()
	svc, _ := w.plane.table().Services.Get(director.Endpoint{
		Addr: wire.AddrFrom(service(vip, "").Addr), Port: 80,
		Proto: wire.ProtoTCP,
	})
	if svc == nil {
		w.t.Fatal("no service in the table")
	}
	return svc
}

// setSetting sets a setting of the service of vip.
func (w *fixture) setSetting(name string, v uint32) {
	w.t.Helper()
	w.must(config.Op{Kind: config.SetSettings, Service: service(vip, ""), Settings: config.Values{name: v}})
}

// newWebFixture has a service with two servers.
func newWebFixture(t *testing.T, scheduler string) *fixture {
	t.Helper()
	w := newFixture(t, 1)
	w.must(add(vip, scheduler), with(vip, one), with(vip, two))
	return w
}

// A service's setting overrides the director's in the compiled service and in the list.
func TestServiceSettings(t *testing.T) {
	w := newWebFixture(t, "wlc")
	w.must(config.Op{Kind: config.SetSettings, Settings: config.Values{"expire_quiescent_template": 1}})
	if got := w.compiled(); !got.ExpireQuiescent || got.Reset {
		t.Errorf("after the director's: %+v", got)
	}
	w.setSetting("expire_quiescent_template", 0)
	w.setSetting("no_server", config.NoServerReset)
	if got := w.compiled(); got.ExpireQuiescent || !got.Reset {
		t.Errorf("after the service's own: %+v", got)
	}
	list, err := w.Settings(&service(vip, "").ServiceKey)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]config.Setting{}
	for _, k := range list {
		shown[k.Name] = k
	}
	if k := shown["expire_quiescent_template"]; k.Value != 0 || k.Default != 1 {
		t.Errorf("shown %+v, want value 0 over the director's 1", k)
	}
	if k := shown["no_server"]; k.Value != 1 {
		t.Errorf("shown %+v, want 1", k)
	}
}

// A changed option makes a new picker and keeps the cursor and the counters. A setting that
// the scheduler does not use keeps the picker too.
func TestOptionsRebuildThePicker(t *testing.T) {
	for _, r := range []struct {
		name    string
		value   uint32
		rebuilt bool
	}{
		{"mh_table", 65521, true},
		{"hash_fields", uint32(sched.FieldClient | sched.FieldClientPort), true},
		{"slow_start", 30, true},
		{"no_server", 1, false},
		{"timeout_tcp_established", 60, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			w := newWebFixture(t, "mh")
			before := *w.compiled()
			w.setSetting(r.name, r.value)
			after := *w.compiled()
			if rebuilt := before.Picker != after.Picker; rebuilt != r.rebuilt {
				t.Errorf("picker rebuilt: %t, want %t", rebuilt, r.rebuilt)
			}
			if before.Cursor != after.Cursor {
				t.Error("the cursor is another")
			}
		})
	}
}

// With ports among the hashed fields, the flows of one client go to several servers.
func TestHashFieldsReachTheScheduler(t *testing.T) {
	w := newWebFixture(t, "sh")
	servers := func() int {
		seen := map[int]bool{}
		for port := range uint16(64) {
			svc := w.compiled()
			seen[svc.Picker.Pick(svc.Cursor, sched.Flow{ClientPort: port})] = true
		}
		return len(seen)
	}
	if n := servers(); n != 1 {
		t.Errorf("by address, a client has %d servers, want 1", n)
	}
	w.setSetting("hash_fields", uint32(sched.FieldClient|sched.FieldClientPort))
	if n := servers(); n != 2 {
		t.Errorf("by address and port, a client has %d servers, want 2", n)
	}
}

// A table with fewer slots than servers is refused in one line, and the service does not
// change.
func TestSmallTableIsRefused(t *testing.T) {
	w := newWebFixture(t, "mh")
	for i := range 300 {
		w.must(with(vip, masq(2+i, 1)))
	}
	before := w.compiled().Picker
	err := w.Apply(config.Op{
		Kind: config.SetSettings, Service: service(vip, ""),
		Settings: config.Values{"mh_table": 251},
	})
	if err == nil || !strings.Contains(err.Error(), "mh table of 251 slots") {
		t.Errorf("error %v", err)
	}
	if w.compiled().Picker != before {
		t.Error("the picker changed")
	}
	w.setSetting("mh_table", 509)
}

// Slow start: a server that was added late, or returns from weight 0, gets few connections at
// first, and its share after slow_start. Without the setting it gets all connections until
// it has as many as the others.
func TestSlowStart(t *testing.T) {
	const ramp = 100
	idle := two
	idle.Weight = 0
	for _, r := range []struct {
		sentence   string
		gone, back config.Op
	}{
		{"added", without(vip, two), with(vip, two)},
		{"back from weight 0", edited(vip, idle), edited(vip, two)},
	} {
		for _, on := range []bool{true, false} {
			t.Run(r.sentence, func(t *testing.T) {
				w := newWebFixture(t, "wlc")
				if on {
					w.setSetting("slow_start", ramp)
				}
				w.must(r.gone)
				busy := w.runtime.Server(service(vip, "").ServiceKey, one.ServerKey).ID
				w.conns.Counts(busy).Active.Store(1000)
				w.plane.ahead = 500 * conntrack.Second
				w.must(r.back)
				early := w.share(w.plane.Now() + conntrack.Second)
				if on && early > 10 || !on && early < 100 {
					t.Errorf("slow start %t: a second after it returned it got %d of 100", on, early)
				}
				if full := w.share(w.plane.Now() + (ramp+1)*conntrack.Second); full != 100 {
					t.Errorf("when the time has passed it got %d of 100, want all until it is level", full)
				}
			})
		}
	}
}

// share returns how many of 100 connections that begin at one time go to server two.
func (w *fixture) share(now conntrack.Tick) (n int) {
	svc := w.compiled()
	for range 100 {
		i := svc.Picker.Pick(svc.Cursor, sched.Flow{Now: int64(now)})
		if i >= 0 && w.plane.table().Servers.Get(svc.Servers[i]).Addr == wire.AddrFrom(two.Addr) {
			n++
		}
	}
	return n
}

// Reply services of one-packet services are those of masqueraded servers, at the servers'
// ports, if the setting is on. Two services of one endpoint are ambiguous.
func TestReplyServices(t *testing.T) {
	w := newFixture(t, 1)
	dns := func(end string) *config.Service {
		return &config.Service{ServiceKey: key(wire.ProtoUDP, end), Scheduler: "rr", OPS: true}
	}
	routed := config.Server{
		ServerKey: config.ServerKey{Addr: testServer(3), Port: 53}, Method: config.MethodDR,
		Weight: 1,
	}
	end := director.Endpoint{Addr: wire.AddrFrom(one.Addr), Port: one.Port, Proto: wire.ProtoUDP}
	for _, svc := range []*config.Service{dns("10.9.0.1:53"), dns("10.9.0.2:53")} {
		w.must(config.Op{Kind: config.AddService, Service: svc}, config.Op{
			Kind: config.AddServer, Service: svc,
			Server: &one,
		}, config.Op{Kind: config.AddServer, Service: svc, Server: &routed})
	}
	if n := len(w.plane.table().ReplyServices); n != 0 {
		t.Errorf("%d reply services without the setting", n)
	}
	w.must(config.Op{Kind: config.SetSettings, Service: dns("10.9.0.1:53"), Settings: config.Values{"ops_replies": 1}})
	if got, all := w.plane.table().ReplyServices[end], w.plane.table().ReplyServices; len(all) != 1 ||
		got.VIP != wire.AddrFrom(dns("10.9.0.1:53").Addr) || got.VPort != 53 || got.Ambiguous {
		t.Errorf("reply services %+v", all)
	}
	w.must(config.Op{Kind: config.SetSettings, Service: dns("10.9.0.2:53"), Settings: config.Values{"ops_replies": 1}})
	if got := w.plane.table().ReplyServices[end]; !got.Ambiguous {
		t.Errorf("with two services: %+v", got)
	}
}

// The settings of fragments are in the table in ticks and bytes.
func TestFragmentSettings(t *testing.T) {
	w := newWebFixture(t, "wlc")
	if got := w.plane.table().Settings; got.FragmentTime != 5*conntrack.Second ||
		got.Queue != (frag.Limits{Timeout: 5 * conntrack.Second, Bytes: 1 << 20, Source: 128 << 10}) {
		t.Errorf("by default: %v, %+v", got.FragmentTime, got.Queue)
	}
	w.must(config.Op{
		Kind:     config.SetSettings,
		Settings: config.Values{"fragment_time": 30, "fragment_hold": 0, "fragment_hold_source": 64},
	})
	if got := w.plane.table().Settings; got.FragmentTime != 30*conntrack.Second ||
		got.Queue != (frag.Limits{Timeout: 30 * conntrack.Second, Source: 64 << 10}) {
		t.Errorf("as set: %v, %+v", got.FragmentTime, got.Queue)
	}
}
