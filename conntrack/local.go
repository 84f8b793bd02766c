package conntrack

import (
	"sync/atomic"

	"uvs/dataplane/wire"
)

// Dir is which way a packet goes.
type Dir uint8

const (
	DirNone Dir = iota // not a packet of any conn; Lookup skips it
	DirIn              // from a client
	DirOut             // from a server
)

// Opposite returns the other direction.
func (d Dir) Opposite() Dir { return DirIn + DirOut - d }

// Index returns 0 for DirIn and 1 for DirOut.
func (d Dir) Index() int { return int(d - DirIn) }

// Query is a packet's question for its conn. DirIn asks for proto, client and
// VIP; DirOut for proto, client and server (masq) or VIP (other methods, whose
// servers answer as the VIP).
type Query struct {
	Client, Peer         wire.Addr // the client's end, and the other as the packet shows it
	ClientPort, PeerPort uint16
	Proto                uint8
	Dir                  Dir
	Template             bool // asks for a persistence entry
	Ref                  Ref  // the answer

	hash   uint64 // Lookup's own
	bucket uint32
	kind   uint8 // the part of Conn.kind that is asked for
}

// Worker is one worker's hold on the table. Its methods are for that worker's
// goroutine, all but Begin between Begin and End. A worker must have turns even
// if there are no packets, some each second, or the conns it inserted do not end
// in time.
type Worker struct {
	participant
	id           int
	settings     *Settings
	machine      *machine
	belowReserve bool // fewer conns are left than Settings.Reserve
	wheel        wheel
	memory       memory
	clockHand    Ref   // where evict looks next
	pending      Ref   // what is left of the inbox taken last
	insertQuery  Query // Insert's own question
	setPortEntry Entry // SetPort's own conn
	touched      uint64
	defence      defence

	timedOut    [MaxTimedOut]TimedOut
	numTimedOut int
	_           [64]byte
	inbox       atomic.Uint32 // top of the stack of conns others want reviewed
	_           [60]byte
}

func (w *Worker) init(t *Table, worker int) {
	w.t, w.id = t, worker
	w.settings, w.machine = t.Settings(), normalMachine
	w.wheel.conns = t.conns
	w.clockHand = Ref(len(t.conns) / len(t.workers) * worker) // workers look in different parts
}

// Begin opens a turn at a time: what is found from here to End stays readable.
func (w *Worker) Begin(now Tick) {
	t := w.t
	w.now = max(w.now, now)
	w.numTimedOut = 0
	if int64(w.now) > t.clock.Load() {
		t.clock.Store(int64(w.now))
	}
	w.settings = t.settings.Load()
	w.belowReserve = t.credits.Load() < int64(w.settings.reserve(t.max))
	w.machine = normalMachine
	if w.settings.SecureTCP.on(w.belowReserve) {
		w.machine = secureMachine
	}
	w.epoch.Store(t.epoch.Load())
}

// End closes the turn and does the worker's share of upkeep, within a budget:
// timers that are due, conns other workers want looked at, memory whose last
// reader is gone. behind says that more is due and the next turn should not
// wait for frames.
func (w *Worker) End() (behind bool) {
	mail, timers := batchBudget, batchBudget
	w.readInbox(&mail)
	w.runWheel(&timers)
	w.dropEntries(&timers)
	w.readInbox(&mail) // what the turn's own upkeep ended
	w.epoch.Store(0)
	w.t.advanceEpoch()
	w.reclaim()
	return mail <= 0 || timers <= 0
}

// batchBudget is how many conns a turn looks at for mail, and how many for
// timers. Ending one costs about 200 ns, so that a turn's upkeep takes some 50 us
// at most, in the order of a batch of packets.
const batchBudget = 256

// Lookup answers a batch of questions in short passes, so that the memory misses
// of one pass overlap instead of following each other: hash all; touch all
// buckets; find the tags; touch the conns; compare. The passes that touch are
// loops of a few instructions, for a processor overlaps what its window of
// instructions holds (BenchmarkLookup: 2 to 3 times the speed of one by one).
func (w *Worker) Lookup(queries []Query) {
	t := w.t
	for i := range queries {
		q := &queries[i]
		q.hash = t.hash(&q.Client, q.ClientPort, q.Proto, q.Template)
		q.bucket = uint32(t.home(q.hash))
		if q.kind = 0; q.Template {
			q.kind = kindTemplate
		}
	}
	touched := uint64(0)
	for i := range queries {
		touched += t.buckets[queries[i].bucket].away.Load()
	}
	for i := range queries {
		q := &queries[i]
		q.Ref = t.buckets[q.bucket].candidate(tagOf(q.hash))
	}
	for i := range queries {
		c := &t.conns[queries[i].Ref]
		touched += uint64(c.proto) + c.life.Load()
	}
	w.touched = touched // keeps the compiler from leaving the touching out
	for i := range queries {
		q := &queries[i]
		if q.Dir == DirNone {
			q.Ref = 0
		} else if q.Ref == 0 || !t.conns[q.Ref].matches(q, q.ClientPort) {
			q.Ref = w.lookupSlow(q)
		}
	}
}

// candidate is a settled conn in the bucket with a tag; 0: none. It looks at
// every slot, so that there is no branch to mispredict.
func (b *bucket) candidate(tag slot) Ref {
	found := slot(0)
	for i := range b.slots {
		if s := slot(b.slots[i].Load()); uint32(s) == uint32(tag) {
			found = s
		}
	}
	return found.ref()
}

// lookupSlow answers a question whose first candidate was not it: through the
// whole window, then for an expectation of this end.
func (w *Worker) lookupSlow(q *Query) Ref {
	t := w.t
	if ref := t.find(q, q.hash, q.ClientPort); ref != 0 || q.Template || t.expectations.Load() == 0 {
		return ref
	}
	if q.Dir == DirOut {
		q.kind = kindNoServerPort
		return t.find(q, q.hash, q.ClientPort)
	}
	q.kind = kindNoClientPort
	return t.find(q, t.hash(&q.Client, 0, q.Proto, false), 0)
}

// Timeout is how long a conn is kept in a state by to, or if that is nil by the
// table's timeouts.
func (w *Worker) Timeout(s State, to *Timeouts) Tick {
	if to == nil {
		to = &w.settings.Timeouts
	}
	return to[s]
}

// Conn is what a Ref names; good until End.
func (w *Worker) Conn(ref Ref) *Conn { return &w.t.conns[ref] }

// maxTries is how often Insert begins anew when other workers undo what it did.
const maxTries = 8

// firstTimeout is how long a conn lives whose first packet sets no state: the
// kernel's IP_VS_CONN_TIMEOUT.
const firstTimeout = 3 * Second

// Insert enters a conn. fresh is false if another worker, or an earlier packet,
// entered the same flow before: ref is that conn then. ref is 0 if the table is
// full of what may not be evicted.
func (w *Worker) Insert(e *Entry) (ref Ref, created bool) {
	t := w.t
	w.insertQuery = Query{Client: e.Client, ClientPort: e.ClientPort, Peer: e.VIP, PeerPort: e.VPort, Proto: e.Proto, Dir: DirIn}
	switch {
	case e.Template:
		w.insertQuery.kind = kindTemplate
	case e.NoClientPort:
		w.insertQuery.kind, w.insertQuery.ClientPort = kindNoClientPort, 0
	case e.NoServerPort:
		w.insertQuery.kind, w.insertQuery.Dir, w.insertQuery.Peer = kindNoServerPort, DirOut, e.Server
	}
	hash := t.hash(&e.Client, w.insertQuery.ClientPort, e.Proto, e.Template)
	for range maxTries {
		if !e.OnePacket {
			if ref := t.find(&w.insertQuery, hash, w.insertQuery.ClientPort); ref != 0 {
				return ref, false
			}
		}
		ref, state := w.newConn(e)
		if ref == 0 {
			break
		}
		if e.OnePacket {
			w.finishInsert(ref, state)
			return ref, true
		}
		winner, placed, full := t.insert(ref, hash)
		if winner == ref {
			w.finishInsert(ref, state)
			return ref, true
		}
		if t.conns[ref].Live() {
			w.undoInsert(ref, placed)
		} else {
			w.finishInsert(ref, state) // another worker settled it for us, and it ended since
		}
		if winner != 0 {
			return winner, false
		}
		if full && !w.evictFrom(hash) {
			break
		}
	}
	w.full.Add(1)
	return 0, false
}

// newConn takes a place and a conn and fills it to begin in a state; ref 0:
// there is none.
func (w *Worker) newConn(e *Entry) (ref Ref, state State) {
	t := w.t
	control := w.addChild(e.Control) // now, so that the parent is not evicted for its child
	if w.takeCredit() || w.evict() && w.takeCredit() {
		if ref = w.allocate(); ref == 0 {
			w.returnCredit()
		}
	}
	if ref == 0 {
		if control != 0 {
			w.dropChild(control, false)
		}
		return 0, 0
	}
	c := &t.conns[ref]
	c.fill(e, w.id)
	c.control = control
	state = e.State
	switch {
	case e.Template:
		state = TemplateNone
	case state == 0:
		state = InitialState(e.Proto)
	}
	deadline := w.now + firstTimeout
	switch {
	case e.OnePacket:
		deadline = w.now
	case e.Timeout > 0:
		deadline = w.now + clampTimeout(e.Timeout)
	case e.Template || e.State != 0:
		deadline = w.now + clampTimeout(c.timeout(state, &w.settings.Timeouts))
	}
	t.inboxLinks.Items[ref].Store(linkEnd) // it will be in our inbox anyway
	c.life.Store(uint64(flagLive.withState(state).withDeadline(deadline)))
	return ref, state
}

// finishInsert accounts for a conn that won its place, and has End put it in the
// wheel by the deadline it has by then. state is what it began in: if another
// worker moved it already, that worker accounted for the move.
func (w *Worker) finishInsert(ref Ref, state State) {
	c := &w.t.conns[ref]
	w.t.count(c, state, 1)
	if c.Expectation() {
		w.t.expectations.Add(1)
	}
	w.inserted.Add(1)
	c.life.Or(uint64(flagSettled))
	w.t.enqueue(ref, &w.inbox)
}

// undoInsert takes back a conn that lost its place, or never had one.
func (w *Worker) undoInsert(ref Ref, placed bool) {
	c := &w.t.conns[ref]
	c.life.Store(0)
	w.returnCredit()
	if c.control != 0 {
		w.dropChild(c.control, false)
	}
	if placed {
		w.retire(ref)
	} else {
		w.memory.ready.push(w.t.conns, ref)
	}
}

// Step moves a conn by a packet: its state by the event, its deadline by the
// timeout of the new state (to's, or the table's if to is nil). It returns the
// states before and after.
func (w *Worker) Step(ref Ref, dir Dir, ev Event, to *Timeouts) (from, state State) {
	if to == nil {
		to = &w.settings.Timeouts
	}
	c := &w.t.conns[ref]
	for {
		old := c.word()
		from = old.state()
		if !old.live() {
			return from, from
		}
		word, col := old, columnIn
		switch {
		case dir == DirOut:
			word, col = old|flagReplied, columnOut
		case c.noOutput(old):
			word, col = old.counted(), columnInOnly
		default:
			word = old.counted()
		}
		state = w.machine[col][ev%numEvent][from]
		word = word.withState(state).withDeadline(w.nextDeadline(c, old, state, to))
		if word == old || c.swap(old, word) {
			if from != state || word&^old&flagReplied != 0 {
				w.stateChanged(c, from, state)
			}
			if word.deadline() < old.deadline() {
				w.t.notify(ref)
			}
			return from, state
		}
	}
}

// nextDeadline is the deadline of a conn after a packet in a state. A deadline that
// would move back by less than the wheel's step stays, for clocks of workers
// differ by a turn.
func (w *Worker) nextDeadline(c *Conn, old life, s State, to *Timeouts) Tick {
	if c.OnePacket() {
		return old.deadline()
	}
	d := w.now + clampTimeout(c.timeout(s, to))
	if before := old.deadline(); d < before && before-d < wheelStep {
		return before
	}
	return d
}

// stateChanged does what a change of state or the first reply brings with it.
func (w *Worker) stateChanged(c *Conn, from, state State) {
	if from.Active() != state.Active() {
		w.t.count(c, from, -1)
		w.t.count(c, state, 1)
	}
	works := state == TCPEstablished || state == SCTPEstablished || state == UDPNormal && c.Replied()
	if c.control == 0 || !works {
		return
	}
	if parent := &w.t.conns[c.control]; parent.Template() {
		for {
			word := parent.word()
			if word.state() == TemplateAssured || parent.swap(word, word.withState(TemplateAssured)) {
				return
			}
		}
	}
}

// Renew gives a template a deadline anew, and a timeout of its own if it is not 0.
func (w *Worker) Renew(ref Ref, timeout Tick) {
	c := &w.t.conns[ref]
	if timeout > 0 && c.Template() {
		c.back.Store(uint64(clampTimeout(timeout)))
	}
	for {
		old := c.word()
		if !old.live() {
			return
		}
		d := w.now + clampTimeout(c.timeout(old.state(), &w.settings.Timeouts))
		if c.swap(old, old.withDeadline(d)) {
			if d < old.deadline() {
				w.t.notify(ref)
			}
			return
		}
	}
}

// Expire ends a conn now. A controlling conn that loses its last child this
// way ends too, unless it is an assured template (as in the kernel's
// ip_vs_conn_expire).
func (w *Worker) Expire(ref Ref) { w.end(ref, EndedByCaller) }

// SetPort gives an expectation the port it waited for: a conn takes its place. A
// VIP's port that was left open is the server's. ref 0: the table is full.
func (w *Worker) SetPort(ref Ref, port uint16) Ref {
	c := &w.t.conns[ref]
	e := &w.setPortEntry
	*e = Entry{
		Client: c.client, VIP: c.vip, Server: c.server,
		ClientPort: c.clientPort, VPort: c.vport, SPort: c.sport,
		Proto: c.proto, Method: c.Method(), ServerID: c.ServerID(), ServiceID: c.ServiceID(),
		State: c.State(), Control: c.control, ReturnHop: c.ReturnHop(),
	}
	switch {
	case c.NoClientPort():
		e.ClientPort = port
	case !c.Expectation():
		return ref
	default:
		e.SPort = port
		if e.VPort == 0 {
			e.VPort = port
		}
	}
	known, _ := w.Insert(e)
	if known != 0 {
		w.Expire(ref)
	}
	return known
}
