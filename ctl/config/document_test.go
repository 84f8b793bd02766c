package config

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"

	"uvs/dataplane/wire"
)

// randomState makes a state by operations, most of which are taken.
func randomState(t *testing.T, rng *rand.Rand) *State {
	t.Helper()
	s := new(State).Clone()
	for range rng.IntN(60) {
		next := s.Clone()
		if next.Apply(randomOp(rng)) == nil {
			s = next
		}
	}
	return &s
}

func randomOp(rng *rand.Rand) Op {
	svc := &Service{ServiceKey: ServiceKey{Proto: wire.ProtoTCP, Port: uint16(80 + rng.IntN(3))}}
	svc.Addr = netip.AddrFrom4([4]byte{10, 9, 0, byte(1 + rng.IntN(2))})
	svc.Scheduler = []string{"rr", "wlc", "sh", "mh"}[rng.IntN(4)]
	if rng.IntN(4) == 0 {
		svc.ServiceKey = ServiceKey{FWMark: 1 + rng.Uint32N(2), IPv6: rng.IntN(2) == 0}
	}
	if rng.IntN(3) == 0 {
		svc.Persist = Seconds(60 * rng.Uint32N(3))
	}
	server := &Server{Method: []Method{MethodNAT, MethodDR, MethodTunnel}[rng.IntN(3)], Weight: rng.Int32N(4)}
	server.Addr, server.Port = netip.AddrFrom4([4]byte{10, 2, 0, byte(1 + rng.IntN(4))}), uint16(rng.IntN(2)*8080)
	settings := Values{[]string{"slow_start", "announce"}[rng.IntN(2)]: rng.Uint32N(3)}
	if rng.IntN(3) == 0 {
		settings = Values{"mh_table": 251}
	}
	admin := AdminRule{AdminScope{Addr: server.Addr, Port: server.Port}, Admin(rng.IntN(3))}
	if rng.IntN(2) == 0 {
		admin.Service = svc.ServiceKey
	}
	mark := MarkRule{Dst: netip.PrefixFrom(svc.Addr, 32), Proto: wire.ProtoTCP, Mark: 1}
	if !svc.Addr.IsValid() {
		mark.Dst = netip.Prefix{}
	}
	whole := *svc
	whole.Settings, whole.Sorry = settings, server
	whole.Servers = []Server{*server, serverAt("10.2.0.9:99", MethodNAT, 1)}
	return []Op{
		{Kind: AddService, Service: svc},
		{Kind: AddService, Service: svc},
		{Kind: EditService, Service: svc},
		{Kind: PutService, Service: &whole},
		{Kind: DeleteService, Service: svc},
		{Kind: AddServer, Service: svc, Server: server},
		{Kind: AddServer, Service: svc, Server: server},
		{Kind: EditServer, Service: svc, Server: server},
		{Kind: PutServer, Service: svc, Server: server},
		{Kind: DeleteServer, Service: svc, Server: server},
		{Kind: SetSorry, Service: svc, Server: server},
		{Kind: SetSorry, Service: svc},
		{Kind: SetSettings, Settings: settings},
		{Kind: SetSettings, Service: svc, Settings: settings},
		{Kind: PutSettings, Service: svc, Settings: settings},
		{Kind: PutSettings, Settings: settings},
		{Kind: SetAdmin, Admin: &admin},
		{Kind: PutAdmin, AdminRules: []AdminRule{admin}},
		{Kind: AddMarks, Marks: []MarkRule{mark}},
		{Kind: PutMarks, Marks: []MarkRule{mark}},
		{Kind: DeleteMarks, Marks: []MarkRule{mark}},
	}[rng.IntN(21)]
}

// text returns what an operator sees of a state.
func text(t *testing.T, s *State) string {
	t.Helper()
	b, err := json.Marshal(s.Document(), json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	for _, svc := range s.Services {
		for _, v := range svc.AllServers() {
			b = fmt.Append(b, "\n", svc.ServiceKey, v.ServerKey, v.Admin)
		}
	}
	return string(b)
}

// A document describes the whole state: written and read it gives the same one. Replace gives
// that state to any other, by changing only what differs, and so do the operations of Diff,
// but for the order of services and servers.
func TestDocumentAndDiff(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 400 {
		from, to := randomState(t, rng), randomState(t, rng)
		b, err := json.Marshal(to.Document())
		if err != nil {
			t.Fatal(err)
		}
		doc := new(Document)
		if err := Decode(b, doc); err != nil {
			t.Fatalf("seed %d, round %d: %v in %s", seed, i, err, b)
		}
		replaced := from.Clone()
		if err := replaced.Apply(Op{Kind: Replace, Document: doc}); err != nil {
			t.Fatalf("seed %d, round %d: %v", seed, i, err)
		}
		if got, want := text(t, &replaced), text(t, to); got != want {
			t.Fatalf("seed %d, round %d:\n%s\nwant\n%s", seed, i, got, want)
		}
		checkTouched(t, from, &replaced)
		byOps := from.Clone()
		for _, op := range Diff(from, &replaced) {
			if err := byOps.Apply(op); err != nil {
				t.Fatalf("seed %d, round %d: %+v: %v", seed, i, op, err)
			}
		}
		if got, want := text(t, ordered(&byOps)), text(t, ordered(&replaced)); got != want {
			t.Fatalf("seed %d, round %d, by operations:\n%s\nwant\n%s", seed, i, got, want)
		}
		if ops := Diff(&replaced, &replaced); len(ops) > 0 {
			t.Fatalf("a state differs from itself by %+v", ops)
		}
	}
}

// checkTouched checks that services which differ are Changed, those that are gone Deleted, and
// the others the same ones as before.
func checkTouched(t *testing.T, from, to *State) {
	t.Helper()
	for _, old := range from.Services {
		svc, err := to.Find(old.ServiceKey)
		switch changed := slices.Contains(to.Changed(), old.ServiceKey); {
		case err != nil:
			if !changed || !slices.Contains(to.Deleted(), old.ServiceKey) {
				t.Fatalf("%s is gone, but not deleted", old.ServiceKey)
			}
		case changed == (svc == old):
			t.Fatalf("%s is changed: %t, the same: %t", svc.ServiceKey, changed, svc == old)
		}
	}
	for _, svc := range to.Services {
		if _, err := from.Find(svc.ServiceKey); err != nil && !slices.Contains(to.Changed(), svc.ServiceKey) {
			t.Fatalf("%s is new, but not changed", svc.ServiceKey)
		}
	}
}

// ordered returns a state with its services and servers in the order of their keys.
func ordered(s *State) *State {
	o := s.Clone()
	slices.SortFunc(o.Services, func(a, b *Service) int { return compareText(a.ServiceKey, b.ServiceKey) })
	for i, svc := range o.Services {
		sorted := *svc
		sorted.Servers = slices.SortedFunc(slices.Values(svc.Servers),
			func(a, b Server) int { return compareText(a.ServerKey, b.ServerKey) })
		o.Services[i] = &sorted
	}
	return &o
}

func compareText(a, b fmt.Stringer) int {
	x, y := a.String(), b.String()
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// A configuration is taken whole or not at all, and the error leads to the value.
func TestDocumentRefused(t *testing.T) {
	const web = `{"address":"10.9.0.1","port":80,"protocol":"tcp"`
	for _, row := range []struct{ text, pointer, message string }{
		{
			`{"services":[` + web + `,"servers":[{"address":"10.2.0.1","method":"nat","weight":-1}]}]}`,
			"/services/0/servers/0/weight", "weight -1 is negative",
		},
		{`{"services":[` + web + `},` + web + `}]}`, "/services/1", "service TCP 10.9.0.1:80 is given twice"},
		{`{"services":[` + web + `,"scheduler":"best"}]}`, "/services/0/scheduler", ""},
		{
			`{"services":[` + web + `,"servers":[{"address":"10.2.0.1","method":"nat"},{"address":"10.2.0.1","method":"dr"}]}]}`,
			"/services/0/servers/1", "server 10.2.0.1:80 is given twice",
		},
		{`{"services":[` + web + `,"settings":{"drop_entry":1}}]}`, "/services/0/settings/drop_entry", ""},
		{`{"services":[` + web + `,"sorry":{"address":"::1","method":"nat"}}]}`, "/services/0/sorry/address", ""},
		{`{"services":[],"marks":[{"mark":1},{"mark":0}]}`, "/marks/1", ""},
		{`{"services":[],"admin":[{"address":"10.2.0.1","admin":"up"}]}`, "/admin/0/admin", ""},
		{`{"services":[],"settings":{"drop_entry":9}}`, "/settings/drop_entry", "setting drop_entry: 9 is not 0 to 3"},
	} {
		doc := new(Document)
		if err := Decode([]byte(row.text), doc); err != nil {
			t.Fatal(err)
		}
		s := startState(t)
		before := text(t, &s)
		err := s.Apply(Op{Kind: Replace, Document: doc})
		e, ok := errors.AsType[*Error](err)
		if !ok || string(e.Pointer) != row.pointer || row.message != "" && e.Message != row.message {
			t.Errorf("%s: %+v, want %s %s", row.text, err, row.pointer, row.message)
		}
		if after := text(t, &s); after != before {
			t.Errorf("%s: the state is %s", row.text, after)
		}
	}
}

// A server without a port has the service's, one without a weight 1, and a service without a
// scheduler wlc. Port 0 is a port.
func TestDefaults(t *testing.T) {
	var svc Service
	text := `{"address":"10.9.0.1","port":80,"protocol":"tcp","sorry":{"address":"10.2.0.4","method":"masq"},"servers":[` +
		`{"address":"10.2.0.1","method":"nat"},{"address":"10.2.0.2","method":"nat","port":0,"weight":0}]}`
	if err := Decode([]byte(text), &svc); err != nil {
		t.Fatal(err)
	}
	s := new(State).Clone()
	if err := s.Apply(Op{Kind: PutService, Service: &svc}); err != nil {
		t.Fatal(err)
	}
	got := s.Services[0]
	want := []Server{serverAt("10.2.0.1:80", MethodNAT, 1), serverAt("10.2.0.2:0", MethodNAT, 0)}
	if got.Scheduler != "wlc" || !slices.Equal(got.Servers, want) || got.Sorry.Port != 80 {
		t.Errorf("the service is %+v, sorry %+v", got, got.Sorry)
	}
}
