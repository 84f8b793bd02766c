package conntrack

import (
	"fmt"
	"reflect"
	"testing"

	"uvs/dataplane/wire"
)

// TestSizes: the sizes on which memory per conn and the absence of false sharing depend.
func TestSizes(t *testing.T) {
	for _, s := range []struct {
		v    any
		want uintptr
	}{{Conn{}, 96}, {bucket{}, 64}, {Counts{}, 64}, {Query{}, 64}} {
		typ := reflect.TypeOf(s.v)
		if typ.Size() != s.want {
			t.Errorf("%v has %d bytes, want %d", typ, typ.Size(), s.want)
		}
	}
	if size := reflect.TypeOf(Worker{}).Size(); size > workerBytes {
		t.Errorf("a Worker has %d bytes, the budget has %d", size, workerBytes)
	}
	if perConn > 128 {
		t.Errorf("a conn costs %d bytes, want at most 128", perConn)
	}
}

// TestStateSequences steps conns by packets. It compares states and remaining times, as
// listings show them, with those observed of IPVS.
func TestStateSequences(t *testing.T) {
	type step struct {
		dir  Dir
		ev   Event
		want string // state and seconds
	}
	const in, out = DirIn, DirOut
	for _, walk := range []struct {
		name   string
		proto  uint8
		method Method
		secure Mode
		steps  []step
	}{
		{"a masqueraded conn closes from both ends", wire.ProtoTCP, MethodNAT, ModeOff, []step{
			{in, EventSYN, "SYN_RECV 60"},
			{out, EventSYN, "SYN_RECV 60"},
			{in, EventACK, "ESTABLISHED 900"},
			{in, EventFIN, "CLOSE_WAIT 60"},
			{out, EventACK, "CLOSE_WAIT 60"},
			{out, EventFIN, "TIME_WAIT 120"},
			{in, EventACK, "TIME_WAIT 120"},
		}},
		{"the server closes first", wire.ProtoTCP, MethodNAT, ModeOff, []step{
			{in, EventSYN, "SYN_RECV 60"},
			{in, EventACK, "ESTABLISHED 900"},
			{out, EventFIN, "FIN_WAIT 120"},
			{in, EventFIN, "TIME_WAIT 120"},
		}},
		{"a director that sees one direction only", wire.ProtoTCP, MethodDR, ModeOff, []step{
			{in, EventSYN, "SYN_RECV 60"},
			{in, EventACK, "ESTABLISHED 900"},
			{in, EventFIN, "FIN_WAIT 120"},
			{in, EventACK, "FIN_WAIT 120"},
		}},
		{"tunnelled, but replies pass here: from the first on both count", wire.ProtoTCP, MethodTunnel, ModeOff, []step{
			{in, EventSYN, "SYN_RECV 60"},
			{out, EventSYN, "SYN_RECV 60"},
			{in, EventACK, "ESTABLISHED 900"},
			{in, EventFIN, "CLOSE_WAIT 60"},
		}},
		{"the client resets", wire.ProtoTCP, MethodDR, ModeOff, []step{
			{in, EventSYN, "SYN_RECV 60"}, {in, EventACK, "ESTABLISHED 900"}, {in, EventRST, "CLOSE 10"},
		}},
		{"a client's reset does not end a handshake", wire.ProtoTCP, MethodNAT, ModeOff, []step{
			{in, EventSYN, "SYN_RECV 60"}, {in, EventRST, "SYN_RECV 60"},
		}},
		{"secure_tcp believes the server only", wire.ProtoTCP, MethodNAT, ModeAlways, []step{
			{in, EventSYN, "SYN_RECV 60"},
			{in, EventACK, "SYN_RECV 60"},
			{out, EventSYN, "SYNACK 120"},
			{in, EventACK, "SYNACK 120"},
			{out, EventACK, "ESTABLISHED 900"},
		}},
		{"secure_tcp without replies", wire.ProtoTCP, MethodDR, ModeAlways, []step{
			{in, EventSYN, "SYNACK 120"}, {in, EventACK, "ESTABLISHED 900"},
		}},
		{"a segment without flags", wire.ProtoTCP, MethodNAT, ModeOff, []step{
			{in, EventSYN, "SYN_RECV 60"}, {in, EventACK, "ESTABLISHED 900"}, {in, EventBare, "CLOSE 10"},
		}},
		{"datagrams either way", wire.ProtoUDP, MethodNAT, ModeOff, []step{
			{in, EventData, "UDP 300"}, {out, EventData, "UDP 300"},
		}},
		{"an SCTP association", wire.ProtoSCTP, MethodNAT, ModeOff, []step{
			{in, EventInit, "INIT1 4"},
			{out, EventInitAck, "C-SENT 61"},
			{in, EventCookieEcho, "C-REPLIED 61"},
			{out, EventCookieAck, "ESTABLISHED 900"},
			{in, EventChunkData, "ESTABLISHED 900"},
			{in, EventShutdown, "S-RECEIVED 61"},
			{out, EventShutdownAck, "S-ACK-SENT 61"},
			{in, EventShutdownComplete, "CLOSED 61"},
		}},
		{"another protocol", 47, MethodNAT, ModeOff, []step{{in, EventData, "NONE 3"}}},
	} {
		t.Run(walk.name, func(t *testing.T) {
			tab := newTestTable(t, Config{Max: 16})
			s := DefaultSettings()
			s.SecureTCP = walk.secure
			tab.SetSettings(s)
			w, now, e := tab.Worker(0), Tick(5000), tcpEntry(1)
			e.Proto, e.Method = walk.proto, walk.method
			counts := tab.Counts(e.ServerID)
			ref := Ref(0)
			for i, step := range walk.steps {
				now += 250
				w.Begin(now)
				if ref == 0 {
					ref, _ = w.Insert(&e)
				}
				w.Step(ref, step.dir, step.ev, nil)
				w.End()
				tab.Walk(nil, func(s *Snapshot) bool {
					if got := fmt.Sprintf("%v %d", s.State, s.Expires/Second); got != step.want {
						t.Errorf("step %d: %s, want %s", i, got, step.want)
					}
					return true
				})
				state := tab.conns[ref].State()
				if active := counts.Active.Load() == 1; active != state.Active() || counts.Total() != 1 {
					t.Errorf("step %d: %v, server counts %d active, %d in all", i, state, counts.Active.Load(),
						counts.Total())
				}
			}
			last := tab.conns[ref].Deadline()
			runBatches(tab, last-1)
			if tab.Stats().InUse != 1 {
				t.Errorf("gone before its time")
			}
			runBatches(tab, last+wheelStep)
			if s := tab.Stats(); s.InUse != 0 || counts.Total() != 0 {
				t.Errorf("still there after its time: %+v", s)
			}
			reclaimAll(tab, last+wheelStep)
			check(t, tab)
		})
	}
}

// TestStepResult: Step returns the state before and after, and counts packets from the
// client only.
func TestStepResult(t *testing.T) {
	tab := newTestTable(t, Config{Max: 16})
	w, e := tab.Worker(0), tcpEntry(1)
	w.Begin(0)
	ref, _ := w.Insert(&e)
	if from, to := w.Step(ref, DirIn, EventSYN, nil); from != TCPNone || to != TCPSynRecv {
		t.Errorf("SYN moves %v to %v", from, to)
	}
	w.Step(ref, DirOut, EventSYN, nil)
	if c := w.Conn(ref); c.loadStateWord().packetsIn() != 1 || !c.Replied() {
		t.Errorf("after one packet in each direction: %d in, replied %v", c.loadStateWord().packetsIn(), c.Replied())
	}
	for range 70000 {
		w.Step(ref, DirIn, EventACK, nil)
	}
	if got := w.Conn(ref).loadStateWord().packetsIn(); got < 1<<15 || w.Conn(ref).State() != TCPEstablished {
		t.Errorf("after 70001 packets the count is %d and the state %v", got, w.Conn(ref).State())
	}
	w.Expire(ref)
	if from, to := w.Step(ref, DirIn, EventFIN, nil); from != to {
		t.Errorf("a packet moved a conn that had ended from %v to %v", from, to)
	}
	w.End()
}

// TestTimeoutsOfService: timeouts given to Step replace the table's.
func TestTimeoutsOfService(t *testing.T) {
	tab := newTestTable(t, Config{Max: 16})
	w, e := tab.Worker(0), tcpEntry(1)
	e.Proto = wire.ProtoUDP
	own := IPVSTimeouts()
	own[UDPNormal] = 5 * Second
	w.Begin(1000)
	ref, _ := w.Insert(&e)
	w.Step(ref, DirIn, EventData, &own)
	w.End()
	runBatches(tab, 5999)
	if got := tab.Stats().InUse; got != 1 {
		t.Errorf("%d conns before 5 s, want 1", got)
	}
	runBatches(tab, 6000+wheelStep)
	if got := tab.Stats().InUse; got != 0 {
		t.Errorf("%d conns after 5 s, want 0", got)
	}
}

// TestBothDirections: a server's packet finds a masqueraded conn by RIP:rport, others
// by the VIP.
func TestBothDirections(t *testing.T) {
	for _, method := range []Method{MethodNAT, MethodTunnel, MethodDR, MethodLocal, MethodBypass} {
		tab := newTestTable(t, Config{Max: 16})
		w, e := tab.Worker(0), tcpEntry(1)
		e.Method = method
		w.Begin(0)
		ref, created := w.Insert(&e)
		if again, created2 := w.Insert(&e); !created || created2 || again != ref {
			t.Errorf("inserted twice: %d %v, then %d %v", ref, created, again, created2)
		}
		fromRIP := Query{
			Client: e.Client, ClientPort: e.ClientPort, Peer: e.Server, PeerPort: e.SPort, Proto: e.Proto,
			Dir: DirOut,
		}
		fromVIP := fromRIP
		fromVIP.Peer, fromVIP.PeerPort = e.VIP, e.VPort
		byRIP, byVIP := ref, Ref(0)
		if method != MethodNAT {
			byRIP, byVIP = byVIP, byRIP
		}
		if got := lookup(w, clientQuery(&e)); got != ref {
			t.Errorf("method %d: client finds %d", method, got)
		}
		if got := lookup(w, fromRIP); got != byRIP {
			t.Errorf("method %d: RIP:rport finds %d, want %d", method, got, byRIP)
		}
		if got := lookup(w, fromVIP); got != byVIP {
			t.Errorf("method %d: VIP:vport finds %d, want %d", method, got, byVIP)
		}
		skipped := clientQuery(&e)
		skipped.Dir = DirNone
		if got := lookup(w, skipped); got != 0 {
			t.Errorf("DirNone finds %d", got)
		}
		w.End()
	}
}

// TestNearMisses: only packets of its flow find a conn.
func TestNearMisses(t *testing.T) {
	tab := newTestTable(t, Config{Max: 16})
	w, e := tab.Worker(0), tcpEntry(1)
	w.Begin(0)
	w.Insert(&e)
	for name, change := range map[string]func(*Query){
		"client":      func(q *Query) { q.Client[15]++ },
		"client port": func(q *Query) { q.ClientPort++ },
		"VIP":         func(q *Query) { q.Peer[15]++ },
		"port":        func(q *Query) { q.PeerPort++ },
		"protocol":    func(q *Query) { q.Proto = wire.ProtoUDP },
		"template":    func(q *Query) { q.Template = true },
		"family":      func(q *Query) { q.Client[10], q.Client[11] = 0, 0 },
	} {
		q := clientQuery(&e)
		change(&q)
		if got := lookup(w, q); got != 0 {
			t.Errorf("with another %s conn %d is found", name, got)
		}
	}
	w.End()
}

// TestAccessors: a conn has what was inserted.
func TestAccessors(t *testing.T) {
	tab := newTestTable(t, Config{Max: 16})
	w := tab.Worker(0)
	w.Begin(0)
	e := tcpEntry(3)
	e.ReturnHop, e.Method = 0xdead<<32, MethodTunnel
	ref, _ := w.Insert(&e)
	c := w.Conn(ref)
	client, cport := c.Client()
	vip, vport := c.VIP()
	server, sport := c.Server()
	got := Entry{
		Client: client, ClientPort: cport, VIP: vip, VPort: vport, Server: server, SPort: sport,
		Proto: c.Proto(), Method: c.Method(), ServerID: c.ServerID(), Control: c.Control(),
		ReturnHop: c.ReturnHop(),
	}
	if got != e {
		t.Errorf("inserted %+v\nreads    %+v", e, got)
	}
	if c.SetReturnHop(5); c.ReturnHop() != 5 {
		t.Errorf("ReturnHop is %d after SetReturnHop(5)", c.ReturnHop())
	}
	w.End()
}
