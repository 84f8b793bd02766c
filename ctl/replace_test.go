package ctl

import (
	"errors"
	"maps"
	"reflect"
	"syscall"
	"testing"

	"uvs/ctl/config"
	"uvs/dataplane/wire"
)

// replacement is an operation that gives a director the state that others give to an empty one.
func replacement(t *testing.T, ops ...config.Op) config.Op {
	t.Helper()
	s := new(config.State).Clone()
	for _, op := range ops {
		if err := s.Apply(op); err != nil {
			t.Fatal(err)
		}
	}
	return config.Op{Kind: config.Replace, Document: s.Document()}
}

// Replace replaces the whole state or nothing. What stays the same keeps its counters and
// connections.
func TestReplace(t *testing.T) {
	w := newFixture(t, 1)
	w.must(add(vip, "rr"), with(vip, one), add("10.9.0.7:80", "wlc"),
		config.Op{Kind: config.SetSettings, Settings: config.Values{"expire_nodest_conn": 1}},
		config.Op{Kind: config.AddMarks, Marks: []config.MarkRule{rule("10.9.3.0/24", wire.ProtoTCP, 1)}})
	w.exchange(0, syn("5000"))
	before, counted := w.state.Clone(), w.status(one).Stats.Conns
	if counted != 1 {
		t.Fatalf("%d connections counted", counted)
	}
	whole := replacement(t, add(vip, "rr"), with(vip, one), with(vip, two),
		config.Op{Kind: config.SetSorry, Service: service(vip, ""), Server: ptr(masq(3, 1))})
	refused := replacement(t, add(vip, "rr"), add("10.9.0.9:80", "rr"))
	refused.Document.Services[1].Scheduler = "best"
	if err := w.Apply(refused); !errors.Is(err, syscall.ENOENT) || !reflect.DeepEqual(w.state.Clone(), before) {
		t.Errorf("error %v, state %+v", err, w.state)
	}
	no := errors.New("no")
	w.guard.refuse = func(int) error { return no }
	if err := w.Apply(whole); !errors.Is(err, no) || !reflect.DeepEqual(w.state.Clone(), before) {
		t.Errorf("refused by the guard: %v, state %+v", err, w.state)
	}
	w.guard.refuse = nil
	if err := w.Apply(whole); err != nil {
		t.Fatal(err)
	}
	s := &w.state
	if len(s.Services) != 1 || len(s.Services[0].Servers) != 2 || len(s.Marks) != 0 || len(s.Settings) != 0 ||
		s.Services[0].Sorry == nil {
		t.Errorf("state %+v", s)
	}
	if n := w.status(one).Stats.Conns; n != counted {
		t.Errorf("the server that stayed counts %d connections", n)
	}
	segment := syn("5000")
	segment.TCPFlags = wire.TCPAck
	if got := server(w.exchange(0, segment)); got != one.Addr {
		t.Errorf("its connection goes to %v", got)
	}
	if len(w.runtime.Services) != 1 {
		t.Errorf("services %v", maps.Keys(w.runtime.Services))
	}
}
