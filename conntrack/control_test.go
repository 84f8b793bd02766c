package conntrack

import (
	"testing"

	"uvs/dataplane/wire"
)

// templateEntry returns a template of the client of tcpEntry(i).
func templateEntry(i int, timeout Tick) Entry {
	e := tcpEntry(i)
	e.Template, e.ClientPort, e.VPort, e.SPort, e.Timeout = true, 0, 0, 0, timeout
	return e
}

// TestTemplate: a template is found as such. Its children keep it, 60 s at a time.
// Renew restarts its time and may change its timeout.
func TestTemplate(t *testing.T) {
	tab := newTestTable(t, Config{Max: 16})
	w, tmpl, e := tab.Worker(0), templateEntry(1, 20*Second), tcpEntry(1)
	w.Begin(0)
	parent, created := w.Insert(&tmpl)
	if got := lookup(w, clientQuery(&tmpl)); !created || got != parent {
		t.Fatalf("template %d is found as %d", parent, got)
	}
	e.Control = parent
	child, _ := w.Insert(&e)
	c := w.Conn(parent)
	w.Step(child, DirIn, EventSYN, nil)
	if c.State() != TemplateNone || c.Children() != 1 {
		t.Errorf("template is %v with %d children after the SYN", c.State(), c.Children())
	}
	w.Step(child, DirIn, EventACK, nil)
	if c.State() != TemplateAssured {
		t.Errorf("template is %v with an established child", c.State())
	}
	w.End()
	if counts := tab.Counts(tmpl.ServerID); counts.Templates.Load() != 1 || counts.Total() != 1 {
		t.Errorf("server counts %d templates and %d conns", counts.Templates.Load(), counts.Total())
	}

	runBatches(tab, 20*Second+wheelStep) // the template is due, its child lives
	left := c.Deadline() - w.now
	if !c.Live() || left > childTimeout || left < childTimeout-2*wheelStep {
		t.Errorf("kept for a child the template has %d ms left, want about %d", left, childTimeout)
	}
	w.Begin(30 * Second)
	w.Renew(parent, 0)
	w.End()
	if got := c.Deadline(); got != 50*Second {
		t.Errorf("renewed at 30 s a template of 20 s ends at %d ms", got)
	}
	w.Begin(31 * Second)
	w.Renew(parent, 40*Second)
	w.End()
	if got := c.Deadline(); got != 71*Second || c.Timeout() != 40*Second {
		t.Errorf("renewed at 31 s to 40 s it ends at %d ms", got)
	}
	runBatches(tab, 901*Second) // the child has ended; the template is kept for a minute
	if got := tab.Stats().InUse; got != 1 {
		t.Errorf("%d conns after the child's time, want the template", got)
	}
	runBatches(tab, 965*Second)
	reclaimAll(tab, 965*Second)
	if got := tab.Stats().InUse; got != 0 {
		t.Errorf("%d conns after the template's time", got)
	}
	check(t, tab)
}

// TestTemplateOfUDP: a reply assures a template, and without replies nothing does.
func TestTemplateOfUDP(t *testing.T) {
	tab := newTestTable(t, Config{Max: 16})
	w, tmpl, e := tab.Worker(0), templateEntry(1, 20*Second), tcpEntry(1)
	e.Proto = wire.ProtoUDP
	w.Begin(0)
	e.Control, _ = w.Insert(&tmpl)
	child, _ := w.Insert(&e)
	w.Step(child, DirIn, EventData, nil)
	w.Step(child, DirIn, EventData, nil)
	if s := w.Conn(e.Control).State(); s != TemplateNone {
		t.Errorf("template is %v without a reply", s)
	}
	w.Step(child, DirOut, EventData, nil)
	if s := w.Conn(e.Control).State(); s != TemplateAssured {
		t.Errorf("template is %v after a reply", s)
	}
	w.End()
}

// TestExpireControlled: if the last child is ended by force, its template ends too
// unless it is assured. A parent that ended first keeps its memory for its children.
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
		tab := newTestTable(t, Config{Max: 16})
		w, p, e := tab.Worker(0), tcpEntry(2), tcpEntry(1)
		if c.template {
			p = templateEntry(1, 20*Second)
		}
		w.Begin(0)
		e.Control, _ = w.Insert(&p)
		child, _ := w.Insert(&e)
		if c.assured {
			w.Step(child, DirIn, EventSYN, nil)
			w.Step(child, DirIn, EventACK, nil)
		}
		w.Expire(child)
		w.End()
		if got := tab.Stats().InUse; got != c.left {
			t.Errorf("%s: %d conns left, want %d", c.name, got, c.left)
		}
		reclaimAll(tab, 1)
		check(t, tab)
	}

	tab := newTestTable(t, Config{Max: 16})
	w, p, e := tab.Worker(0), templateEntry(1, 20*Second), tcpEntry(1)
	w.Begin(0)
	parent, _ := w.Insert(&p)
	e.Control = parent
	child, _ := w.Insert(&e)
	w.Step(child, DirIn, EventSYN, nil)
	w.Expire(parent)
	if got := lookup(w, clientQuery(&p)); got != 0 {
		t.Errorf("ended template is found as %d", got)
	}
	late := tcpEntry(2)
	late.Control = parent
	orphan, _ := w.Insert(&late)
	if got := w.Conn(orphan).Control(); got != 0 {
		t.Errorf("a conn became child of %d, which had ended", got)
	}
	w.End()
	runBatches(tab, 30*Second) // the template's slot in the wheel comes up
	if got := tab.conns[child].Control(); got != parent || tab.conns[parent].Children() != 1 {
		t.Errorf("child's parent is %d, want %d with one child", got, parent)
	}
	reclaimAll(tab, 30*Second)
	check(t, tab)
	runBatches(tab, 2000*Second)
	reclaimAll(tab, 2000*Second)
	check(t, tab)
	if got := tab.Stats().InUse; got != 0 {
		t.Errorf("%d conns left", got)
	}
}

// TestOnePacket: no lookup finds such a conn, and it ends with the batch.
func TestOnePacket(t *testing.T) {
	tab := newTestTable(t, Config{Max: 16})
	w, e := tab.Worker(0), tcpEntry(1)
	e.OnePacket, e.Proto = true, wire.ProtoUDP
	for range 100 {
		w.Begin(0)
		ref, created := w.Insert(&e)
		ref2, created2 := w.Insert(&e)
		if !created || !created2 || ref == ref2 {
			t.Fatalf("two packets got %d %v and %d %v", ref, created, ref2, created2)
		}
		if got := lookup(w, clientQuery(&e)); got != 0 {
			t.Fatalf("found as %d", got)
		}
		if w.Step(ref, DirIn, EventData, nil); !w.Conn(ref).OnePacket() {
			t.Fatal("not a one-packet conn")
		}
		w.End()
		if got := tab.Stats().InUse; got != 0 {
			t.Fatalf("%d conns after the batch", got)
		}
	}
	reclaimAll(tab, 0)
	check(t, tab)
}

// TestExpectClient: an expectation of a client is found from any port of that client,
// until SetPort replaces it, and by no packet of the server.
func TestExpectClient(t *testing.T) {
	tab := newTestTable(t, Config{Max: 16})
	w, e := tab.Worker(0), tcpEntry(1)
	e.NoClientPort, e.State, e.ClientPort = true, TCPListen, 99
	w.Begin(0)
	wait, _ := w.Insert(&e)
	c := w.Conn(wait)
	if _, port := c.Client(); port != 0 || !c.NoClientPort() || c.State() != TCPListen || c.Deadline() != 120*Second {
		t.Errorf("waits with port %d, state %v, until %d", port, c.State(), c.Deadline())
	}
	q := clientQuery(&e)
	q.ClientPort = 4711
	if got := lookup(w, q); got != wait {
		t.Errorf("a packet from port 4711 finds %d, want %d", got, wait)
	}
	if got := lookup(w, serverQuery(&e)); got != 0 {
		t.Errorf("the server's packet finds %d", got)
	}
	other := q
	other.Client[15]++
	if got := lookup(w, other); got != 0 {
		t.Errorf("another client's packet finds %d", got)
	}
	full := w.SetPort(wait, 4711)
	if got := lookup(w, q); got != full || full == wait || w.Conn(full).State() != TCPListen {
		t.Errorf("with its port the conn is %d, found as %d", full, got)
	}
	q.ClientPort++
	if got := lookup(w, q); got != 0 {
		t.Errorf("a packet from another port finds %d", got)
	}
	w.End()
	reclaimAll(tab, 0)
	check(t, tab)
}

// TestExpectServer: an expectation of a server is found from any port of that server,
// unless there is a conn, and by no packet of the client. SetPort replaces it by a conn,
// which has the VIP's port that the expectation had or, if that was 0, the server's.
func TestExpectServer(t *testing.T) {
	for _, vport := range []uint16{20, 0} {
		tab := newTestTable(t, Config{Max: 16})
		w, old := tab.Worker(0), tcpEntry(1)
		old.VPort, old.SPort = 20, 20
		w.Begin(0)
		known, _ := w.Insert(&old)
		n := old
		n.NoServerPort, n.State, n.VPort, n.Timeout = true, TCPListen, vport, 30*Second
		wait, created := w.Insert(&n)
		if again, created2 := w.Insert(&n); !created || created2 || again != wait || wait == known {
			t.Fatalf("inserted twice: %d %v, then %d %v", wait, created, again, created2)
		}
		if c := w.Conn(wait); !c.Expectation() || c.NoClientPort() || c.Deadline() != 30*Second {
			t.Errorf("waits until %d: %+v", c.Deadline(), c)
		}
		if got := lookup(w, serverQuery(&old)); got != known {
			t.Errorf("a packet of conn %d finds %d", known, got)
		}
		q := serverQuery(&n)
		q.PeerPort = 40000
		if got := lookup(w, q); got != wait {
			t.Errorf("a packet from port 40000 finds %d, want %d", got, wait)
		}
		if got := lookup(w, clientQuery(&n)); vport == 0 && got != 0 || vport != 0 && got != known {
			t.Errorf("the client's packet finds %d", got)
		}
		other := q
		other.Peer[15]++
		if got := lookup(w, other); got != 0 {
			t.Errorf("another server's packet finds %d", got)
		}
		w.Expire(known)
		if got := lookup(w, serverQuery(&old)); got != wait {
			t.Errorf("a packet from port 20 finds %d, want %d", got, wait)
		}
		if vport == 0 {
			vport = 40000
		}
		full := w.SetPort(wait, 40000)
		if got := lookup(w, q); got != full || full == wait {
			t.Errorf("with its port the conn is %d, found as %d", full, got)
		}
		q = clientQuery(&n)
		if q.PeerPort = vport; lookup(w, q) != full {
			t.Errorf("the client's packet to port %d does not find conn %d", vport, full)
		}
		w.End()
		reclaimAll(tab, 0)
		check(t, tab)
	}
}

// TestKeptForTransfers: a controlling conn is kept while a transfer goes on. A transfer
// that stands still is kept as long as the controlling conn has packets. When neither
// has any, both end.
func TestKeptForTransfers(t *testing.T) {
	tab := newTestTable(t, Config{Max: 16})
	w, control, data := tab.Worker(0), tcpEntry(1), tcpEntry(1)
	data.VPort, data.SPort = 20, 20
	w.Begin(0)
	parent, _ := w.Insert(&control)
	data.Control = parent
	child, _ := w.Insert(&data)
	packet := func(at Tick, ref Ref) {
		runBatches(tab, at)
		w.Begin(at)
		if !w.Conn(ref).Live() {
			t.Fatalf("conn %d has ended at %d s", ref, at/Second)
		}
		w.Step(ref, DirIn, EventACK, nil)
		w.End()
	}
	w.End()
	packet(1, parent)
	for at := Tick(1); at < 7200*Second; at += 300 * Second {
		packet(at, child)
	}
	packet(7200*Second, parent)
	for at := 7200 * Second; at < 14400*Second; at += 600 * Second {
		packet(at, parent)
	}
	packet(14400*Second, child)
	runBatches(tab, 16000*Second)
	runBatches(tab, 16000*Second+childTimeout+wheelStep)
	reclaimAll(tab, 16000*Second+childTimeout+wheelStep)
	if got := tab.Stats().InUse; got != 0 {
		t.Errorf("%d conns are left when neither has packets", got)
	}
	check(t, tab)
}
