package conntrack

import (
	"testing"

	"uvs/dataplane/wire"
)

// template is a persistence entry of the client of flow i.
func template(i int, timeout Tick) Entry {
	n := flow(i)
	n.Template, n.ClientPort, n.VPort, n.SPort, n.Timeout = true, 0, 0, 0, timeout
	return n
}

// TestTemplate: a template is found as such, kept by its children 60 s at a
// time, and renewed with its own timeout.
func TestTemplate(t *testing.T) {
	tab := newTest(t, Config{Max: 16})
	l, tmpl, n := tab.Worker(0), template(1, 20*Second), flow(1)
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
	l, tmpl, n := tab.Worker(0), template(1, 20*Second), flow(1)
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

// TestExpireControlled: the last child that is ended takes a template along unless
// it is assured; a parent ended first keeps its memory for them.
func TestExpireControlled(t *testing.T) {
	for _, c := range []struct {
		name     string
		assured  bool
		template bool
		left     int64
	}{
		{"template that never worked", false, true, 0},
		{"assured template", true, true, 1},
		{"controlling conn", false, false, 1},
	} {
		tab := newTest(t, Config{Max: 16})
		l, p, n := tab.Worker(0), flow(2), flow(1)
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
	l, p, n := tab.Worker(0), template(1, 20*Second), flow(1)
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
	l, n := tab.Worker(0), flow(1)
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

// TestExpectClient: an entry that waits for a client is found by any port of
// his, until one of them takes its place, and by no packet of the server.
func TestExpectClient(t *testing.T) {
	tab := newTest(t, Config{Max: 16})
	l, n := tab.Worker(0), flow(1)
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
	if got := lookup(l, serverAsks(&n)); got != 0 {
		t.Errorf("the server's packet finds %d", got)
	}
	other := q
	other.Client[15]++
	if got := lookup(l, other); got != 0 {
		t.Errorf("another client's packet finds %d", got)
	}
	full := l.SetPort(wait, 4711)
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

// TestExpectServer: an entry that waits for a server is found by any port of its,
// but by a conn's packets only if there is no such conn, and by no packet of the
// client; with the port a conn takes its place, from the port of the VIP it was
// given or, if none, the server's.
func TestExpectServer(t *testing.T) {
	for _, vport := range []uint16{20, 0} {
		tab := newTest(t, Config{Max: 16})
		l, old := tab.Worker(0), flow(1)
		old.VPort, old.SPort = 20, 20
		l.Begin(0)
		known, _ := l.Insert(&old)
		n := old
		n.NoServerPort, n.State, n.VPort, n.Timeout = true, TCPListen, vport, 30*Second
		wait, fresh := l.Insert(&n)
		if again, fresh2 := l.Insert(&n); !fresh || fresh2 || again != wait || wait == known {
			t.Fatalf("inserted twice: %d %v, then %d %v", wait, fresh, again, fresh2)
		}
		if c := l.Conn(wait); !c.Expectation() || c.NoClientPort() || c.Deadline() != 30*Second {
			t.Errorf("waits until %d: %+v", c.Deadline(), c)
		}
		if got := lookup(l, serverAsks(&old)); got != known {
			t.Errorf("a packet of conn %d finds %d", known, got)
		}
		q := serverAsks(&n)
		q.PeerPort = 40000
		if got := lookup(l, q); got != wait {
			t.Errorf("a packet from port 40000 finds %d, want %d", got, wait)
		}
		if got := lookup(l, clientAsks(&n)); vport == 0 && got != 0 || vport != 0 && got != known {
			t.Errorf("the client's packet finds %d", got)
		}
		other := q
		other.Peer[15]++
		if got := lookup(l, other); got != 0 {
			t.Errorf("another server's packet finds %d", got)
		}
		l.Expire(known)
		if got := lookup(l, serverAsks(&old)); got != wait {
			t.Errorf("a packet from port 20 finds %d, want %d", got, wait)
		}
		if vport == 0 {
			vport = 40000
		}
		full := l.SetPort(wait, 40000)
		if got := lookup(l, q); got != full || full == wait {
			t.Errorf("with its port the conn is %d, found as %d", full, got)
		}
		q = clientAsks(&n)
		if q.PeerPort = vport; lookup(l, q) != full {
			t.Errorf("the client's packet to port %d does not find conn %d", vport, full)
		}
		l.End()
		quiet(tab, 0)
		check(t, tab)
	}
}

// TestKeptForTransfers: a controlling conn outlives its own time while a transfer
// goes on, and a transfer that stands still lives as long as packets of the
// controlling conn come; when neither has any, both end.
func TestKeptForTransfers(t *testing.T) {
	tab := newTest(t, Config{Max: 16})
	l, control, data := tab.Worker(0), flow(1), flow(1)
	data.VPort = 20
	l.Begin(0)
	parent, _ := l.Insert(&control)
	data.Control = parent
	child, _ := l.Insert(&data)
	packet := func(at Tick, ref Ref) {
		turns(tab, at)
		l.Begin(at)
		if !l.Conn(ref).Live() {
			t.Fatalf("conn %d has ended at %d s", ref, at/Second)
		}
		l.Step(ref, DirIn, EventACK, nil)
		l.End()
	}
	l.End()
	packet(1, parent)
	for at := Tick(1); at < 7200*Second; at += 300 * Second {
		packet(at, child)
	}
	packet(7200*Second, parent)
	for at := 7200 * Second; at < 14400*Second; at += 600 * Second {
		packet(at, parent)
	}
	packet(14400*Second, child)
	turns(tab, 16000*Second)
	turns(tab, 16000*Second+childTimeout+wheelStep)
	quiet(tab, 16000*Second+childTimeout+wheelStep)
	if got := tab.Stats().InUse; got != 0 {
		t.Errorf("%d conns are left when neither has packets", got)
	}
	check(t, tab)
}
