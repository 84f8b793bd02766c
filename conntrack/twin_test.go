package conntrack

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"uvs/dataplane/wire"
)

// twin is the table written plainly: a map, and a loop over all for what is due.
type twin struct {
	now   Tick
	conns map[Query]*twinConn // by the client's query
}

type twinConn struct {
	entry    Entry
	state    State
	deadline Tick
	timeout  Tick // of a template
	replied  bool
	in       int
	hop      uint64
	parent   *twinConn
	children int
	key      Query
}

func (tw *twin) insert(e Entry, parent *twinConn) *twinConn {
	key := clientQuery(&e)
	if c := tw.conns[key]; c != nil {
		return c
	}
	c := &twinConn{
		entry: e, key: key, hop: e.ReturnHop, state: InitialState(e.Proto), deadline: tw.now + 3*Second,
		parent: parent,
	}
	if e.Template {
		c.state, c.timeout, c.deadline, c.hop = TemplateNone, e.Timeout, tw.now+e.Timeout, 0
	}
	if parent != nil {
		parent.children++
	}
	tw.conns[key] = c
	return c
}

func (tw *twin) step(c *twinConn, dir Dir, ev Event) {
	col := columnIn
	switch {
	case dir == DirOut:
		col, c.replied = columnOut, true
	case c.entry.Method != MethodNAT && !c.replied:
		col = columnInOnly
	}
	if dir == DirIn {
		c.in++
	}
	c.state = normalMachine[col][ev][c.state]
	to := IPVSTimeouts()
	c.deadline = tw.now + to[c.state]
	works := c.state == TCPEstablished || c.state == SCTPEstablished || c.state == UDPNormal && c.replied
	if c.parent != nil && works {
		c.parent.state = TemplateAssured
	}
}

func (tw *twin) end(c *twinConn, forced bool) {
	delete(tw.conns, c.key)
	if p := c.parent; p != nil {
		p.children--
		if forced && p.children == 0 && p.state != TemplateAssured && tw.conns[p.key] == p {
			tw.end(p, true)
		}
	}
}

// TestTwin does the same random things to the table and to its plain twin. It compares
// all conns after each batch: flows, states, remaining times, counts, children. A due
// conn ends within a step of the wheel, which is the only freedom that the table has.
func TestTwin(t *testing.T) {
	for range 4 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runTwin(t, seed) })
	}
}

func runTwin(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	tab := newTestTable(t, Config{Max: 2000, Workers: 1 + rnd.IntN(3), Seed: seed | 1, ServerIDs: 16, slack: 300})
	tw := &twin{now: 1000, conns: map[Query]*twinConn{}}
	x := &twinRun{t: t, rnd: rnd, tab: tab, twin: tw, parents: map[*twinConn]bool{}}
	for range 400 {
		tw.now += Tick(rnd.IntN([]int{10, 1000, 30000, 200000}[rnd.IntN(4)]))
		w := tab.Worker(rnd.IntN(len(tab.workers)))
		w.Begin(tw.now)
		for range rnd.IntN(64) {
			x.randomOp(w)
		}
		w.End()
		runBatches(tab, tw.now)
		x.compare()
	}
	for _, c := range tw.conns {
		tw.now = max(tw.now, c.deadline+wheelStep)
	}
	runBatches(tab, tw.now)
	for range 3 { // parents are kept a minute longer than children
		tw.now += childTimeout + wheelStep
		runBatches(tab, tw.now)
	}
	reclaimAll(tab, tw.now)
	check(t, tab)
	if s := tab.Stats(); s.InUse != 0 {
		t.Errorf("%d conns are left at the end", s.InUse)
	}
}

type twinRun struct {
	t       *testing.T
	rnd     *rand.Rand
	tab     *Table
	twin    *twin
	parents map[*twinConn]bool
}

// randomEntry is of one of few flows, so that most exist already.
func (x *twinRun) randomEntry() Entry {
	e := tcpEntry(x.rnd.IntN(300))
	e.Proto = []uint8{wire.ProtoTCP, wire.ProtoUDP, wire.ProtoSCTP}[x.rnd.IntN(3)]
	e.Method = Method(x.rnd.IntN(5))
	if x.rnd.IntN(4) == 0 {
		e.VPort = uint16(x.rnd.IntN(3))
	}
	e.SPort = 8000 + e.VPort // or conns of two ports would clash
	if x.rnd.IntN(2) == 0 {
		e.Client = wire.Addr{0x20, 0x01, 15: byte(x.rnd.IntN(20))}
	}
	return e
}

func (x *twinRun) randomTemplate() Entry {
	e := templateEntry(x.rnd.IntN(20), Tick(1+x.rnd.IntN(100))*Second)
	e.Timeout += wheelStep
	return e
}

func (x *twinRun) randomOp(w *Worker) {
	tw, n := x.twin, x.randomEntry()
	key := clientQuery(&n)
	known := tw.conns[key]
	ref := lookup(w, key)
	if (ref != 0) != (known != nil) && (known == nil || known.deadline > tw.now) {
		x.t.Fatalf("%+v is found as %d, the twin has %+v", key, ref, known)
	}
	switch op := x.rnd.IntN(10); {
	case ref == 0:
		var parent *twinConn
		if x.rnd.IntN(2) == 0 {
			tmpl := x.randomTemplate()
			n.Control, _ = w.Insert(&tmpl)
			parent = tw.insert(tmpl, nil)
		}
		if _, created := w.Insert(&n); !created {
			x.t.Fatalf("%+v is not new", key)
		}
		tw.insert(n, parent)
	case op == 0:
		w.Expire(ref)
		tw.end(known, true)
	case op == 1:
		w.Conn(ref).SetReturnHop(uint64(op))
		known.hop = uint64(op)
	case op == 2 && known.parent != nil:
		p := known.parent
		if pref := lookup(w, p.key); pref != 0 && tw.conns[p.key] == p {
			p.timeout = Tick(1+x.rnd.IntN(100)) * Second
			p.deadline = tw.now + p.timeout
			w.Renew(pref, p.timeout)
		}
	default:
		out := serverQuery(&known.entry)
		dir := DirIn
		if x.rnd.IntN(2) == 0 {
			dir = DirOut
			if got := lookup(w, out); got != ref {
				x.t.Fatalf("%+v is found as %d, want %d", out, got, ref)
			}
		}
		ev := Event(x.rnd.IntN(int(numEvent)))
		from, _ := w.Step(ref, dir, ev, nil)
		if from != known.state {
			x.t.Fatalf("%+v was in %v, the twin's in %v", key, from, known.state)
		}
		tw.step(known, dir, ev)
	}
}

// compare removes from the twin what is due, and compares.
func (x *twinRun) compare() {
	tw, listed := x.twin, map[Query]Snapshot{}
	x.tab.Walk(nil, func(s *Snapshot) bool {
		key := Query{
			Client: s.Client, Peer: s.VIP, ClientPort: s.ClientPort, PeerPort: s.VPort, Proto: s.Proto,
			Dir: DirIn, Template: s.Template,
		}
		if _, twice := listed[key]; twice {
			x.t.Fatalf("%+v is listed twice", key)
		}
		listed[key] = *s
		return true
	})
	for pass := range 2 { // children first: they keep parents
		for key, c := range tw.conns {
			if s, ok := listed[key]; c.deadline <= tw.now && c.entry.Template == (pass == 1) {
				switch {
				case !ok:
					tw.end(c, false)
				case c.entry.Template: // kept for its children, or for those it had
					c.deadline = tw.now + s.Expires
				case c.deadline <= tw.now-wheelStep:
					x.t.Fatalf("%+v should be gone for %d ms", key, tw.now-c.deadline)
				}
			}
		}
	}
	if len(listed) != len(tw.conns) {
		x.t.Errorf("%d conns are listed, the twin has %d", len(listed), len(tw.conns))
	}
	var active, inactive int32
	for key, c := range tw.conns {
		s, ok := listed[key]
		if !ok {
			x.t.Fatalf("%+v is not listed, the twin has it for %d ms more", key, c.deadline-tw.now)
		}
		got := fmt.Sprintf("%v in=%d hop=%d children=%d replied=%v", s.State, s.InPackets, s.ReturnHop, s.Children,
			!s.NoOutput)
		want := fmt.Sprintf("%v in=%d hop=%d children=%d replied=%v", c.state, c.in, c.hop, c.children,
			c.replied || c.entry.Method == MethodNAT)
		if off := c.deadline - tw.now - s.Expires; got != want || off > wheelStep || off < -wheelStep {
			x.t.Fatalf("%+v is listed as %s with %d ms left, the twin has %s with %d ms", key, got, s.Expires, want,
				c.deadline-tw.now)
		}
		switch {
		case c.entry.Template:
		case c.state.Active():
			active++
		default:
			inactive++
		}
	}
	for id := range uint32(16) {
		n := x.tab.Counts(id)
		active -= n.Active.Load()
		inactive -= n.Inactive.Load()
	}
	if active != 0 || inactive != 0 {
		x.t.Errorf("servers count %d active and %d inactive conns fewer than the twin", active, inactive)
	}
}
