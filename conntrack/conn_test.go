package conntrack

import (
	"fmt"
	"reflect"
	"testing"

	"uvs/dataplane/wire"
)

// TestSizes: what memory per conn and the absence of false sharing rest on.
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
	if size := reflect.TypeOf(Local{}).Size(); size > localBytes {
		t.Errorf("a Local has %d bytes, the budget says %d", size, localBytes)
	}
	if perConn > 128 {
		t.Errorf("a conn costs %d bytes, want at most 128", perConn)
	}
}

// TestWalks takes conns through packets and compares states and what is left of
// their time, as a listing shows them, with those seen of IPVS.
func TestWalks(t *testing.T) {
	type step struct {
		dir  Dir
		ev   Event
		want string // state and seconds
	}
	const in, out = DirIn, DirOut
	for _, w := range []struct {
		name   string
		proto  uint8
		method Method
		secure Mode
		steps  []step
	}{
		{"a masqueraded conn closes from both ends", wire.ProtoTCP, MethodMasq, ModeOff, []step{
			{in, EventSYN, "SYN_RECV 60"}, {out, EventSYN, "SYN_RECV 60"}, {in, EventACK, "ESTABLISHED 900"},
			{in, EventFIN, "CLOSE_WAIT 60"}, {out, EventACK, "CLOSE_WAIT 60"}, {out, EventFIN, "TIME_WAIT 120"}, {in, EventACK, "TIME_WAIT 120"}}},
		{"the server closes first", wire.ProtoTCP, MethodMasq, ModeOff, []step{
			{in, EventSYN, "SYN_RECV 60"}, {in, EventACK, "ESTABLISHED 900"}, {out, EventFIN, "FIN_WAIT 120"}, {in, EventFIN, "TIME_WAIT 120"}}},
		{"a director that sees one direction only", wire.ProtoTCP, MethodRoute, ModeOff, []step{
			{in, EventSYN, "SYN_RECV 60"}, {in, EventACK, "ESTABLISHED 900"}, {in, EventFIN, "FIN_WAIT 120"}, {in, EventACK, "FIN_WAIT 120"}}},
		{"tunnelled, but replies pass here: from the first on both count", wire.ProtoTCP, MethodTunnel, ModeOff, []step{
			{in, EventSYN, "SYN_RECV 60"}, {out, EventSYN, "SYN_RECV 60"}, {in, EventACK, "ESTABLISHED 900"}, {in, EventFIN, "CLOSE_WAIT 60"}}},
		{"the client resets", wire.ProtoTCP, MethodRoute, ModeOff, []step{
			{in, EventSYN, "SYN_RECV 60"}, {in, EventACK, "ESTABLISHED 900"}, {in, EventRST, "CLOSE 10"}}},
		{"a client's reset does not end a handshake", wire.ProtoTCP, MethodMasq, ModeOff, []step{
			{in, EventSYN, "SYN_RECV 60"}, {in, EventRST, "SYN_RECV 60"}}},
		{"secure_tcp believes the server only", wire.ProtoTCP, MethodMasq, ModeAlways, []step{
			{in, EventSYN, "SYN_RECV 60"}, {in, EventACK, "SYN_RECV 60"}, {out, EventSYN, "SYNACK 120"}, {in, EventACK, "SYNACK 120"}, {out, EventACK, "ESTABLISHED 900"}}},
		{"secure_tcp without replies", wire.ProtoTCP, MethodRoute, ModeAlways, []step{
			{in, EventSYN, "SYNACK 120"}, {in, EventACK, "ESTABLISHED 900"}}},
		{"a segment without flags", wire.ProtoTCP, MethodMasq, ModeOff, []step{
			{in, EventSYN, "SYN_RECV 60"}, {in, EventACK, "ESTABLISHED 900"}, {in, EventBare, "CLOSE 10"}}},
		{"datagrams either way", wire.ProtoUDP, MethodMasq, ModeOff, []step{
			{in, EventData, "UDP 300"}, {out, EventData, "UDP 300"}}},
		{"an SCTP association", wire.ProtoSCTP, MethodMasq, ModeOff, []step{
			{in, EventInit, "INIT1 4"}, {out, EventInitAck, "C-SENT 61"}, {in, EventCookieEcho, "C-REPLIED 61"},
			{out, EventCookieAck, "ESTABLISHED 900"}, {in, EventChunkData, "ESTABLISHED 900"}, {in, EventShutdown, "S-RECEIVED 61"},
			{out, EventShutdownAck, "S-ACK-SENT 61"}, {in, EventShutdownComplete, "CLOSED 61"}}},
		{"another protocol", 47, MethodMasq, ModeOff, []step{{in, EventData, "NONE 3"}}},
	} {
		t.Run(w.name, func(t *testing.T) {
			tab := newTest(t, Config{Max: 16})
			s := DefaultSettings()
			s.SecureTCP = w.secure
			tab.SetSettings(s)
			l, now, n := tab.Local(0), Tick(5000), flow(1)
			n.Proto, n.Method = w.proto, w.method
			counts := tab.Counts(n.ServerID)
			ref := Ref(0)
			for i, step := range w.steps {
				now += 250
				l.Begin(now)
				if ref == 0 {
					ref, _ = l.Insert(&n)
				}
				l.Step(ref, step.dir, step.ev, nil)
				l.End()
				tab.Walk(nil, func(s *Snapshot) bool {
					if got := fmt.Sprintf("%v %d", s.State, s.Expires/Second); got != step.want {
						t.Errorf("step %d: %s, want %s", i, got, step.want)
					}
					return true
				})
				state := tab.conns[ref].State()
				if active := counts.Active.Load() == 1; active != state.Active() || counts.Total() != 1 {
					t.Errorf("step %d: %v, server counts %d active, %d in all", i, state, counts.Active.Load(), counts.Total())
				}
			}
			last := tab.conns[ref].Deadline()
			turns(tab, last-1)
			if tab.Stats().InUse != 1 {
				t.Errorf("gone before its time")
			}
			turns(tab, last+wheelStep)
			if s := tab.Stats(); s.InUse != 0 || counts.Total() != 0 {
				t.Errorf("still there after its time: %+v", s)
			}
			quiet(tab, last+wheelStep)
			check(t, tab)
		})
	}
}

// TestStepTells: Step tells the state before and after, and counts packets of
// the client only.
func TestStepTells(t *testing.T) {
	tab := newTest(t, Config{Max: 16})
	l, n := tab.Local(0), flow(1)
	l.Begin(0)
	ref, _ := l.Insert(&n)
	if from, to := l.Step(ref, DirIn, EventSYN, nil); from != TCPNone || to != TCPSynRecv {
		t.Errorf("SYN moves %v to %v", from, to)
	}
	l.Step(ref, DirOut, EventSYN, nil)
	if c := l.Conn(ref); c.InPackets() != 1 || !c.Replied() {
		t.Errorf("after one packet each way: %d in, replied %v", c.InPackets(), c.Replied())
	}
	for range 70000 {
		l.Step(ref, DirIn, EventACK, nil)
	}
	if got := l.Conn(ref).InPackets(); got < 1<<15 || l.Conn(ref).State() != TCPEstablished {
		t.Errorf("after 70001 packets the count is %d and the state %v", got, l.Conn(ref).State())
	}
	l.Expire(ref)
	if from, to := l.Step(ref, DirIn, EventFIN, nil); from != to {
		t.Errorf("a packet moved a conn that had ended from %v to %v", from, to)
	}
	l.End()
}

// TestTimeoutsOfService: timeouts given to Step replace the table's.
func TestTimeoutsOfService(t *testing.T) {
	tab := newTest(t, Config{Max: 16})
	l, n := tab.Local(0), flow(1)
	n.Proto = wire.ProtoUDP
	own := IPVSTimeouts()
	own.Set(0, 0, 5*Second)
	l.Begin(1000)
	ref, _ := l.Insert(&n)
	l.Step(ref, DirIn, EventData, &own)
	l.End()
	turns(tab, 5999)
	if got := tab.Stats().InUse; got != 1 {
		t.Errorf("%d conns before 5 s, want 1", got)
	}
	turns(tab, 6000+wheelStep)
	if got := tab.Stats().InUse; got != 0 {
		t.Errorf("%d conns after 5 s, want 0", got)
	}
}

// TestSet is ipvsadm --set 66 66 66, then 77 0 77: zero keeps.
func TestSet(t *testing.T) {
	to := IPVSTimeouts()
	to.Set(66*Second, 66*Second, 66*Second)
	to.Set(77*Second, 0, 77*Second)
	want := IPVSTimeouts()
	want[TCPEstablished], want[TCPFinWait], want[UDPNormal] = 77*Second, 66*Second, 77*Second
	if to != want {
		t.Errorf("timeouts are %v, want %v", to, want)
	}
}

// TestBothWays: a masqueraded conn answers for RIP:rport, others for the VIP.
func TestBothWays(t *testing.T) {
	for _, method := range []Method{MethodMasq, MethodTunnel, MethodRoute, MethodLocal, MethodBypass} {
		tab := newTest(t, Config{Max: 16})
		l, n := tab.Local(0), flow(1)
		n.Method = method
		l.Begin(0)
		ref, fresh := l.Insert(&n)
		if again, fresh2 := l.Insert(&n); !fresh || fresh2 || again != ref {
			t.Errorf("inserted twice: %d %v, then %d %v", ref, fresh, again, fresh2)
		}
		fromRIP := Query{Client: n.Client, ClientPort: n.ClientPort, Peer: n.Server, PeerPort: n.SPort, Proto: n.Proto, Dir: DirOut}
		fromVIP := fromRIP
		fromVIP.Peer, fromVIP.PeerPort = n.VIP, n.VPort
		byRIP, byVIP := ref, Ref(0)
		if method != MethodMasq {
			byRIP, byVIP = byVIP, byRIP
		}
		if got := lookup(l, clientAsks(&n)); got != ref {
			t.Errorf("method %d: client finds %d", method, got)
		}
		if got := lookup(l, fromRIP); got != byRIP {
			t.Errorf("method %d: RIP:rport finds %d, want %d", method, got, byRIP)
		}
		if got := lookup(l, fromVIP); got != byVIP {
			t.Errorf("method %d: VIP:vport finds %d, want %d", method, got, byVIP)
		}
		skipped := clientAsks(&n)
		skipped.Dir = DirNone
		if got := lookup(l, skipped); got != 0 {
			t.Errorf("DirNone finds %d", got)
		}
		l.End()
	}
}

// TestNearMisses: a conn is found by its own flow only.
func TestNearMisses(t *testing.T) {
	tab := newTest(t, Config{Max: 16})
	l, n := tab.Local(0), flow(1)
	l.Begin(0)
	l.Insert(&n)
	for name, change := range map[string]func(*Query){
		"client":      func(q *Query) { q.Client[15]++ },
		"client port": func(q *Query) { q.ClientPort++ },
		"VIP":         func(q *Query) { q.Peer[15]++ },
		"port":        func(q *Query) { q.PeerPort++ },
		"protocol":    func(q *Query) { q.Proto = wire.ProtoUDP },
		"template":    func(q *Query) { q.Template = true },
		"family":      func(q *Query) { q.Client[10], q.Client[11] = 0, 0 },
	} {
		q := clientAsks(&n)
		change(&q)
		if got := lookup(l, q); got != 0 {
			t.Errorf("with another %s conn %d is found", name, got)
		}
	}
	l.End()
}

// TestAccessors: a conn tells what it was made of.
func TestAccessors(t *testing.T) {
	tab := newTest(t, Config{Max: 16})
	l := tab.Local(0)
	l.Begin(0)
	n := flow(3)
	n.Back, n.ServiceID, n.Method = 0xdead<<32, 1<<24-1, MethodTunnel
	ref, _ := l.Insert(&n)
	c := l.Conn(ref)
	client, cport := c.Client()
	vip, vport := c.VIP()
	server, sport := c.Server()
	got := New{Client: client, ClientPort: cport, VIP: vip, VPort: vport, Server: server, SPort: sport,
		Proto: c.Proto(), Method: c.Method(), ServerID: c.ServerID(), ServiceID: c.ServiceID(), Control: c.Control(), Back: c.Back()}
	if got != n {
		t.Errorf("made of %+v\ntells   %+v", n, got)
	}
	if c.SetBack(5); c.Back() != 5 {
		t.Errorf("Back is %d after SetBack(5)", c.Back())
	}
	l.End()
}

func template(i int, timeout Tick) New {
	n := flow(i)
	n.Template, n.ClientPort, n.VPort, n.SPort, n.Timeout = true, 0, 0, 0, timeout
	return n
}

// TestTemplate: a template is found as such, kept by its children 60 s at a
// time, and renewed with its own timeout.
func TestTemplate(t *testing.T) {
	tab := newTest(t, Config{Max: 16})
	l, tmpl, n := tab.Local(0), template(1, 20*Second), flow(1)
	l.Begin(0)
	parent, fresh := l.Insert(&tmpl)
	if got := lookup(l, clientAsks(&tmpl)); !fresh || got != parent {
		t.Fatalf("template %d is found as %d", parent, got)
	}
	n.Control = parent
	child, _ := l.Insert(&n)
	c := l.Conn(parent)
	l.Step(child, DirIn, EventSYN, nil)
	if c.State() != TemplateNone || c.Children() != 1 {
		t.Errorf("template is %v with %d children after the SYN", c.State(), c.Children())
	}
	l.Step(child, DirIn, EventACK, nil)
	if c.State() != TemplateAssured {
		t.Errorf("template is %v with an established child", c.State())
	}
	l.End()
	if counts := tab.Counts(tmpl.ServerID); counts.Templates.Load() != 1 || counts.Total() != 1 {
		t.Errorf("server counts %d templates and %d conns", counts.Templates.Load(), counts.Total())
	}

	turns(tab, 20*Second+wheelStep) // the template's time is up, its child lives
	left := c.Deadline() - l.now
	if !c.Live() || left > childTimeout || left < childTimeout-2*wheelStep {
		t.Errorf("kept for a child the template has %d ms left, want about %d", left, childTimeout)
	}
	l.Begin(30 * Second)
	l.Renew(parent, 0)
	l.End()
	if got := c.Deadline(); got != 50*Second {
		t.Errorf("renewed at 30 s a template of 20 s ends at %d ms", got)
	}
	l.Begin(31 * Second)
	l.Renew(parent, 40*Second)
	l.End()
	if got := c.Deadline(); got != 71*Second || c.Timeout() != 40*Second {
		t.Errorf("renewed at 31 s to 40 s it ends at %d ms", got)
	}
	turns(tab, 901*Second) // the child's time is up; the template has its minute
	if got := tab.Stats().InUse; got != 1 {
		t.Errorf("%d conns after the child's time, want the template", got)
	}
	turns(tab, 965*Second)
	quiet(tab, 965*Second)
	if got := tab.Stats().InUse; got != 0 {
		t.Errorf("%d conns after the template's time", got)
	}
	check(t, tab)
}

// TestTemplateOfUDP: a reply assures it, so never without replies.
func TestTemplateOfUDP(t *testing.T) {
	tab := newTest(t, Config{Max: 16})
	l, tmpl, n := tab.Local(0), template(1, 20*Second), flow(1)
	n.Proto = wire.ProtoUDP
	l.Begin(0)
	n.Control, _ = l.Insert(&tmpl)
	child, _ := l.Insert(&n)
	l.Step(child, DirIn, EventData, nil)
	l.Step(child, DirIn, EventData, nil)
	if s := l.Conn(n.Control).State(); s != TemplateNone {
		t.Errorf("template is %v without a reply", s)
	}
	l.Step(child, DirOut, EventData, nil)
	if s := l.Conn(n.Control).State(); s != TemplateAssured {
		t.Errorf("template is %v after a reply", s)
	}
	l.End()
}

// TestExpireControlled: the last child that is ended takes a parent along unless
// it is an assured template; a parent ended first keeps its memory for them.
func TestExpireControlled(t *testing.T) {
	for _, c := range []struct {
		name     string
		assured  bool
		template bool
		left     int64
	}{
		{"template that never worked", false, true, 0},
		{"assured template", true, true, 1},
		{"controlling conn", false, false, 0},
	} {
		tab := newTest(t, Config{Max: 16})
		l, p, n := tab.Local(0), flow(2), flow(1)
		if c.template {
			p = template(1, 20*Second)
		}
		l.Begin(0)
		n.Control, _ = l.Insert(&p)
		child, _ := l.Insert(&n)
		if c.assured {
			l.Step(child, DirIn, EventSYN, nil)
			l.Step(child, DirIn, EventACK, nil)
		}
		l.Expire(child)
		l.End()
		if got := tab.Stats().InUse; got != c.left {
			t.Errorf("%s: %d conns left, want %d", c.name, got, c.left)
		}
		quiet(tab, 1)
		check(t, tab)
	}

	tab := newTest(t, Config{Max: 16})
	l, p, n := tab.Local(0), template(1, 20*Second), flow(1)
	l.Begin(0)
	parent, _ := l.Insert(&p)
	n.Control = parent
	child, _ := l.Insert(&n)
	l.Step(child, DirIn, EventSYN, nil)
	l.Expire(parent)
	if got := lookup(l, clientAsks(&p)); got != 0 {
		t.Errorf("ended template is found as %d", got)
	}
	late := flow(2)
	late.Control = parent
	orphan, _ := l.Insert(&late)
	if got := l.Conn(orphan).Control(); got != 0 {
		t.Errorf("a conn became child of %d, which had ended", got)
	}
	l.End()
	turns(tab, 30*Second) // the template's slot in the wheel comes up
	if got := tab.conns[child].Control(); got != parent || tab.conns[parent].Children() != 1 {
		t.Errorf("child's parent is %d, want %d with one child", got, parent)
	}
	quiet(tab, 30*Second)
	check(t, tab)
	turns(tab, 2000*Second)
	quiet(tab, 2000*Second)
	check(t, tab)
	if got := tab.Stats().InUse; got != 0 {
		t.Errorf("%d conns left", got)
	}
}

// TestOnePacket: such a conn is nobody's to find and ends with the turn.
func TestOnePacket(t *testing.T) {
	tab := newTest(t, Config{Max: 16})
	l, n := tab.Local(0), flow(1)
	n.OnePacket, n.Proto = true, wire.ProtoUDP
	for range 100 {
		l.Begin(0)
		ref, fresh := l.Insert(&n)
		ref2, fresh2 := l.Insert(&n)
		if !fresh || !fresh2 || ref == ref2 {
			t.Fatalf("two packets got %d %v and %d %v", ref, fresh, ref2, fresh2)
		}
		if got := lookup(l, clientAsks(&n)); got != 0 {
			t.Fatalf("found as %d", got)
		}
		if l.Step(ref, DirIn, EventData, nil); !l.Conn(ref).OnePacket() {
			t.Fatal("not a one-packet conn")
		}
		l.End()
		if got := tab.Stats().InUse; got != 0 {
			t.Fatalf("%d conns after the turn", got)
		}
	}
	quiet(tab, 0)
	check(t, tab)
}

// TestNoClientPort: an entry that waits for a client is found by any port of
// his, until one of them takes its place.
func TestNoClientPort(t *testing.T) {
	tab := newTest(t, Config{Max: 16})
	l, n := tab.Local(0), flow(1)
	n.NoClientPort, n.State, n.ClientPort = true, TCPListen, 99
	l.Begin(0)
	wait, _ := l.Insert(&n)
	c := l.Conn(wait)
	if _, port := c.Client(); port != 0 || !c.NoClientPort() || c.State() != TCPListen || c.Deadline() != 120*Second {
		t.Errorf("waits with port %d, state %v, until %d", port, c.State(), c.Deadline())
	}
	q := clientAsks(&n)
	q.ClientPort = 4711
	if got := lookup(l, q); got != wait {
		t.Errorf("a packet from port 4711 finds %d, want %d", got, wait)
	}
	other := q
	other.Client[15]++
	if got := lookup(l, other); got != 0 {
		t.Errorf("another client's packet finds %d", got)
	}
	full := l.SetClientPort(wait, 4711)
	if got := lookup(l, q); got != full || full == wait || l.Conn(full).State() != TCPListen {
		t.Errorf("with its port the conn is %d, found as %d", full, got)
	}
	q.ClientPort++
	if got := lookup(l, q); got != 0 {
		t.Errorf("a packet from another port finds %d", got)
	}
	l.End()
	quiet(tab, 0)
	check(t, tab)
}

// TestWalkAndFlush: a listing shows every conn once, stops when told, and a
// flush ends those it is asked to.
func TestWalkAndFlush(t *testing.T) {
	const conns = 3*walkChunk + 7
	tab := newTest(t, Config{Max: 2000, Workers: 2})
	for i := range conns {
		l := tab.Local(i % 2)
		l.Begin(0)
		n := flow(i)
		ref, _ := l.Insert(&n)
		l.Step(ref, DirIn, EventSYN, nil)
		l.End()
	}
	seen := map[wire.Addr]int{}
	tab.Walk(nil, func(s *Snapshot) bool { seen[s.Client]++; return true })
	for i := range conns {
		if n := flow(i); seen[n.Client] != 1 {
			t.Errorf("conn %d is shown %d times", i, seen[n.Client])
		}
	}
	visits := 0
	tab.Walk(nil, func(*Snapshot) bool { visits++; return visits < 300 })
	if visits != 300 {
		t.Errorf("a walk stopped at the 300th conn made %d visits", visits)
	}
	ofServer3 := func(s *Snapshot) bool { return s.ServerID == 3 }
	matched := 0
	tab.Walk(ofServer3, func(s *Snapshot) bool { matched++; return ofServer3(s) })
	if got := tab.Flush(ofServer3); got != matched || matched == 0 {
		t.Errorf("flush ended %d conns, the walk shows %d", got, matched)
	}
	if total := tab.Counts(3).Total(); total != 0 {
		t.Errorf("server 3 has %d conns after the flush", total)
	}
	quiet(tab, 0)
	if got := tab.Stats().InUse; got != int64(conns-matched) {
		t.Errorf("%d conns left, want %d", got, conns-matched)
	}
	check(t, tab)
}

// TestConfig: sizes that cannot be are refused, naming the value; a budget
// bounds the capacity and is kept.
func TestConfig(t *testing.T) {
	for _, cfg := range []Config{
		{Workers: -1}, {Workers: MaxWorkers + 1}, {Max: -1}, {Max: maxConns + 1}, {Memory: -5}, {Memory: 1000}, {MaxServers: -1},
	} {
		if tab, err := NewTable(cfg); err == nil {
			tab.Close()
			t.Errorf("%+v is accepted", cfg)
		}
	}
	for _, budget := range []int64{32 << 20, 1 << 30} {
		tab := newTest(t, Config{Memory: budget, Workers: 2})
		s := tab.Stats()
		if s.Budget > budget || int64(s.Capacity)*128 < budget/2 {
			t.Errorf("in %d bytes: %d conns, %d bytes when full", budget, s.Capacity, s.Budget)
		}
	}
	if s := newTest(t, Config{Memory: 1 << 30, Max: 100}).Stats(); s.Capacity != 100 {
		t.Errorf("capacity is %d, want 100", s.Capacity)
	}
	if s := newTest(t, Config{}).Stats(); s.Capacity != defaultMax {
		t.Errorf("capacity is %d by default, want %d", s.Capacity, defaultMax)
	}
	tab := newTest(t, Config{Max: 10, MaxServers: 4})
	if tab.Counts(4) != tab.Counts(0) || tab.Counts(3) == tab.Counts(0) {
		t.Error("counts are not at stable addresses, or IDs out of range not at server 0's")
	}
}

// TestAllocations: a turn with lookups, inserts, steps and expiry allocates
// nothing.
func TestAllocations(t *testing.T) {
	tab := newTest(t, Config{Max: 1000})
	l, q, now, next := tab.Local(0), make([]Query, 64), Tick(0), 0
	if got := testing.AllocsPerRun(200, func() {
		now += Second
		l.Begin(now)
		for i := range q {
			n := flow(next)
			next++
			q[i] = clientAsks(&n)
			ref, _ := l.Insert(&n)
			l.Step(ref, DirIn, EventSYN, nil)
		}
		l.Lookup(q)
		for i := range q {
			if i%2 == 0 {
				l.Expire(q[i].Ref)
			}
			l.Conn(q[i].Ref).SetBack(uint64(i))
		}
		l.DropPacket()
		l.End()
	}); got != 0 {
		t.Errorf("a turn allocates %v times", got)
	}
}
