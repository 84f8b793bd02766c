package conntrack

import (
	"testing"

	"uvs/dataplane/wire"
)

// step is a packet of a direction that means an event.
type step struct {
	dir Dir
	ev  Event
}

// snapshotOf inserts a conn and steps it, and returns its snapshot after a quiet time.
func snapshotOf(t *testing.T, e Entry, quiet Tick, steps ...step) (got Snapshot) {
	t.Helper()
	tab := newTestTable(t, Config{Max: 16})
	w := tab.Worker(0)
	w.Begin(5 * Second)
	ref, _ := w.Insert(&e)
	for _, s := range steps {
		w.Step(ref, s.dir, s.ev, nil)
	}
	w.End()
	runBatches(tab, 5*Second+quiet)
	tab.Walk(nil, func(s *Snapshot) bool { got = *s; return true })
	return got
}

// A connection carries data until both ends have closed it or one has reset it. Where the
// server's packets are not seen, a client's FIN counts as the end when it is quiet.
func TestCarriesData(t *testing.T) {
	in := func(ev Event) step { return step{DirIn, ev} }
	out := func(ev Event) step { return step{DirOut, ev} }
	open := []step{in(EventSYN), out(EventSYN), in(EventACK)}
	openInOnly := []step{in(EventSYN), in(EventACK)}
	for _, r := range []struct {
		sentence string
		proto    uint8
		method   Method
		quiet    Tick
		steps    []step
		want     bool
	}{
		{"a client's SYN", wire.ProtoTCP, MethodNAT, 0, open[:1], true},
		{"a handshake", wire.ProtoTCP, MethodNAT, 0, open[:2], true},
		{"an established connection", wire.ProtoTCP, MethodNAT, 800 * Second, open, true},
		{"the client has closed", wire.ProtoTCP, MethodNAT, 50 * Second, append(open[:3:3], in(EventFIN)), true},
		{"the server has closed", wire.ProtoTCP, MethodNAT, 100 * Second, append(open[:3:3], out(EventFIN)), true},
		{"both have", wire.ProtoTCP, MethodNAT, 0, append(open[:3:3], in(EventFIN), out(EventFIN)), false},
		{
			"both, the server first", wire.ProtoTCP, MethodNAT, 0,
			append(open[:3:3], out(EventFIN), in(EventFIN)), false,
		},
		{"a reset", wire.ProtoTCP, MethodNAT, 0, append(open[:3:3], out(EventRST)), false},
		{
			"TIME_WAIT used again", wire.ProtoTCP, MethodNAT, 0,
			append(open[:3:3], in(EventFIN), out(EventFIN), in(EventSYN)), true,
		},
		{"established by DR", wire.ProtoTCP, MethodDR, 800 * Second, openInOnly, true},
		{
			"the client has just closed, by DR", wire.ProtoTCP, MethodDR, closedQuiet - Second,
			append(openInOnly[:2:2], in(EventFIN)), true,
		},
		{
			"it closed and is quiet", wire.ProtoTCP, MethodDR, closedQuiet,
			append(openInOnly[:2:2], in(EventFIN), in(EventACK)), false,
		},
		{
			"the same by a tunnel", wire.ProtoTCP, MethodTunnel, closedQuiet,
			append(openInOnly[:2:2], in(EventFIN)), false,
		},
		{
			"a server by DR whose packets pass", wire.ProtoTCP, MethodDR, 100 * Second,
			append(open[:3:3], out(EventFIN)), true,
		},
		{"UDP", wire.ProtoUDP, MethodNAT, 290 * Second, []step{in(EventData)}, true},
		{"SCTP established", wire.ProtoSCTP, MethodNAT, 0, []step{in(EventCookieAck)}, true},
		{
			"SCTP's client shuts down", wire.ProtoSCTP, MethodNAT, 0,
			[]step{in(EventCookieAck), in(EventShutdown)},
			true,
		},
		{
			"and the server agrees", wire.ProtoSCTP, MethodNAT, 0,
			[]step{in(EventInit), out(EventCookieAck), out(EventShutdownAck)},
			true,
		},
		{"SCTP aborted", wire.ProtoSCTP, MethodNAT, 0, []step{in(EventCookieAck), in(EventAbort)}, false},
	} {
		e := tcpEntry(1)
		e.Proto, e.Method = r.proto, r.method
		s := snapshotOf(t, e, r.quiet, r.steps...)
		if s.Proto == 0 {
			t.Errorf("%s: the conn is gone", r.sentence)
		}
		if got := s.CarriesData(); got != r.want {
			t.Errorf("%s (%v, quiet for %d ms): %t", r.sentence, s.State, s.Idle, got)
		}
	}
	template, expectation := templateEntry(1, 20*Second), tcpEntry(1)
	expectation.NoClientPort = true
	for _, e := range []Entry{template, expectation} {
		if s := snapshotOf(t, e, 0); s.Proto == 0 || s.CarriesData() {
			t.Errorf("%+v carries data", s)
		}
	}
}

// A snapshot has the age of a conn, and how long it has been quiet. The clock of the worker
// that inserted it may be a little ahead.
func TestAgeAndIdle(t *testing.T) {
	const day, quiet = 24 * 3600 * Second, 3 * Second
	tab := newTestTable(t, Config{Max: 16})
	w, e, begin := tab.Worker(0), tcpEntry(1), 400*day+7
	tab.Counts(e.ServerID).Timeouts.Store(&Timeouts{TCPEstablished: MaxTimeout})
	w.Begin(begin)
	ref, _ := w.Insert(&e)
	w.Step(ref, DirIn, EventACK, tab.Counts(e.ServerID).Timeouts.Load())
	w.End()
	for _, age := range []Tick{quiet, 800 * Second, 30 * day, 60 * day, 190 * day} {
		w.Begin(begin + age - quiet)
		w.Step(ref, DirIn, EventACK, tab.Counts(e.ServerID).Timeouts.Load())
		w.End()
		w.Begin(begin + age)
		w.End()
		var s Snapshot
		tab.Walk(nil, func(found *Snapshot) bool { s = *found; return true })
		if off := s.Age - age; off < -1100 || off > 1100 || s.Idle != quiet {
			t.Errorf("after %d ms it is %d ms old and quiet for %d", age, s.Age, s.Idle)
		}
	}
	if got := w.Conn(ref).age(begin - 2*Second); got != 0 {
		t.Errorf("seen by a clock that is behind it is %d ms old", got)
	}
}
