package config

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"uvs/dataplane/wire"
)

func setAdmin(scope AdminScope, admin Admin) Op {
	return Op{Kind: SetAdmin, Admin: &AdminRule{scope, admin}}
}

// Whatever operations come, a server's admin state is the strongest of the scopes that
// contain it, and scopes go only by an up of a scope around them.
func TestAdminModel(t *testing.T) {
	services := []*Service{
		{ServiceKey: key(wire.ProtoTCP, "10.9.0.1:80"), Scheduler: "rr"},
		{ServiceKey: key(wire.ProtoTCP, "10.9.0.1:81"), Scheduler: "mh"},
		{ServiceKey: ServiceKey{FWMark: 7}, Scheduler: "wlc"},
	}
	addrs := []netip.Addr{netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr("10.2.0.2")}
	ports := []uint16{0, 80, 8080}
	var s State
	model := map[AdminScope]Admin{}
	refused := map[syscall.Errno]int{}
	for step := range 5000 {
		svc, addr, port := services[rand.IntN(3)], addrs[rand.IntN(2)], ports[rand.IntN(3)]
		server := &Server{ServerKey: ServerKey{Addr: addr, Port: port}, Weight: rand.Int32N(3)}
		server.Method = []Method{MethodNAT, MethodDR}[rand.IntN(2)]
		scope := AdminScope{Addr: addr, Port: port}
		if rand.IntN(2) == 0 {
			scope.Service = svc.ServiceKey
		}
		verbs := []OpKind{
			AddService, AddService, DeleteService, Flush, AddServer, AddServer, EditServer, DeleteServer, SetSorry,
			SetAdmin, SetAdmin, SetAdmin,
		}
		op := Op{Kind: verbs[rand.IntN(len(verbs))], Service: svc, Server: server}
		if op.Kind == SetAdmin {
			op = setAdmin(scope, Admin(rand.IntN(3)))
		}
		next, err := Change(s, op)
		if e := new(Error); errors.As(err, &e) {
			refused[e.Errno]++
		}
		if err == nil {
			s = next
		}
		if op.Kind == SetAdmin && err == nil {
			for held := range model {
				if op.Admin.Admin == AdminUp && scope.Contains(held) {
					delete(model, held)
				}
			}
			if op.Admin.Admin != AdminUp {
				model[scope] = op.Admin.Admin
			}
		}
		if len(s.AdminRules()) != len(model) {
			t.Fatalf("step %d, %+v: rules %v, want %v", step, op, s.AdminRules(), model)
		}
		for i := range s.Services {
			for _, v := range s.Services[i].AllServers() {
				want := AdminUp
				for held, admin := range model {
					if held.Contains(AdminScope{s.Services[i].ServiceKey, v.Addr, v.Port}) {
						want = max(want, admin)
					}
				}
				if v.Admin != want {
					t.Fatalf("step %d, %+v: %s of %s is %s, want %s", step, op, v.ServerKey, s.Services[i].ServiceKey,
						v.Admin, want)
				}
			}
		}
	}
	if refused[syscall.EBUSY] == 0 || refused[syscall.ENOENT] == 0 {
		t.Errorf("refused %v", refused)
	}
}

// A change of the admin state leaves the state it was cloned from as it was, and concerns
// only services that have the server.
func TestAdminChangesItsServicesOnly(t *testing.T) {
	s := startState(t)
	other := &Service{ServiceKey: key(wire.ProtoTCP, "10.9.0.2:80"), Scheduler: "rr"}
	s, err := Change(s, Op{Kind: AddService, Service: other})
	if err != nil {
		t.Fatal(err)
	}
	before, scope := s.Services[0].Servers, AdminScope{Addr: netip.MustParseAddr("10.2.0.11")}
	next, err := Change(s, setAdmin(scope, AdminDrain))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.AdminRules()) != 0 || before[1].Admin != AdminUp || s.Services[0].Servers[1].Admin != AdminUp {
		t.Error("the old state changed")
	}
	drained := next.Services[0].Servers[1]
	if drained.Admin != AdminDrain || drained.Weight != 1 || drained.EffectiveWeight() != 0 {
		t.Errorf("drained: %+v of weight %d", drained, drained.EffectiveWeight())
	}
	if got := next.Changed(); next.AllChanged() || !slices.Contains(got, s.Services[0].ServiceKey) ||
		slices.Contains(got, other.ServiceKey) {
		t.Error("the wrong services changed")
	}
}

// What cannot be is refused with what would be right.
func TestAdminRefuses(t *testing.T) {
	s := startState(t)
	web, addr := s.Services[0].ServiceKey, netip.MustParseAddr("10.2.0.11")
	s, err := Change(s, setAdmin(AdminScope{Addr: addr}, AdminDown))
	if err != nil {
		t.Fatal(err)
	}
	absent := AdminScope{Service: web, Addr: netip.MustParseAddr("10.2.0.13")}
	if s, err = Change(s, setAdmin(absent, AdminDown)); err != nil {
		t.Fatal("a server that is not there yet:", err)
	}
	for _, r := range []struct {
		sentence string
		op       Op
		want     string
	}{
		{"no scope", Op{Kind: SetAdmin}, "set-admin names no server"},
		{"no address", setAdmin(AdminScope{}, AdminDown), "set-admin names no server"},
		{
			"one port of an address that is down", setAdmin(AdminScope{Addr: addr, Port: 8080}, AdminUp),
			"nothing changed: `uvs down 10.2.0.11` holds more than 10.2.0.11:8080; `uvs up 10.2.0.11` takes it back",
		},
		{
			"a port of all services, where one service is held whole",
			setAdmin(AdminScope{Addr: netip.MustParseAddr("10.2.0.13"), Port: 80}, AdminUp),
			"nothing changed: `uvs down --service tcp:10.9.0.1:80 10.2.0.13` holds more than 10.2.0.13:80; " +
				"`uvs up --service tcp:10.9.0.1:80 10.2.0.13` takes it back",
		},
		{
			"a server that no service has", setAdmin(AdminScope{Addr: netip.MustParseAddr("10.2.0.14")}, AdminUp),
			"no service has the server 10.2.0.14; `uvs services` lists them",
		},
	} {
		if _, err := Change(s, r.op); err == nil || err.Error() != r.want {
			t.Errorf("%s: %v\nwant %s", r.sentence, err, r.want)
		}
	}
}

// A service brings the admin states of its servers; one that is refused leaves none behind.
func TestAdminOfPutService(t *testing.T) {
	s := startState(t)
	svc := Service{ServiceKey: key(wire.ProtoTCP, "10.9.0.7:80"), Scheduler: "rr"}
	svc.Servers = []Server{serverAt("10.2.0.1:80", MethodNAT, 1), serverAt("10.2.0.2:80", MethodNAT, -1)}
	svc.Servers[0].Admin = AdminDown
	next := s.Clone()
	if err := next.Apply(Op{Kind: PutService, Service: &svc}); err == nil || len(next.AdminRules()) > 0 {
		t.Errorf("%v, then %v", err, next.AdminRules())
	}
	svc.Servers[1].Weight = 1
	if err := next.Apply(Op{Kind: PutService, Service: &svc}); err != nil || len(next.AdminRules()) != 1 {
		t.Errorf("%v, then %v", err, next.AdminRules())
	}
}

// Admin states are words in JSON.
func TestAdminJSON(t *testing.T) {
	rule := AdminRule{AdminScope{Addr: netip.MustParseAddr("10.2.0.11")}, AdminDrain}
	text, err := json.Marshal(rule)
	if want := `{"address":"10.2.0.11","admin":"drain"}`; err != nil || string(text) != want {
		t.Errorf("%s, %v; want %s", text, err, want)
	}
	var again AdminRule
	if err := json.Unmarshal(text, &again); err != nil || again != rule {
		t.Errorf("%+v, %v", again, err)
	}
	if err := json.Unmarshal([]byte(`{"admin":"maintenance"}`), &again); err == nil {
		t.Error("an unknown state is taken")
	}
}
