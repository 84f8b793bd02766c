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
	party
	worker   int
	settings *Settings
	machine  *machine
	tight    bool // fewer conns are left than Settings.Reserve
	wheel    wheel
	memory   memory
	hand     Ref   // where evict looks next
	mailed   Ref   // what is left of the inbox taken last
	asked    Query // Insert's own question
	made     Entry // SetPort's own conn
	touched  uint64
	defence  defence

	forgotten [MaxTimedOut]TimedOut
	told      int
	_         [64]byte
	inbox     atomic.Uint32 // top of the stack of conns others want reviewed
	_         [60]byte
}

func (l *Worker) init(t *Table, worker int) {
	l.t, l.worker = t, worker
	l.settings, l.machine = t.Settings(), normalMachine
	l.wheel.conns = t.conns
	l.hand = Ref(len(t.conns) / len(t.locals) * worker) // workers look in different parts
}

// Begin opens a turn at a time: what is found from here to End stays readable.
func (l *Worker) Begin(now Tick) {
	t := l.t
	l.now = max(l.now, now)
	l.told = 0
	if int64(l.now) > t.clock.Load() {
		t.clock.Store(int64(l.now))
	}
	l.settings = t.settings.Load()
	l.tight = t.left.Load() < int64(l.settings.reserve(t.max))
	l.machine = normalMachine
	if l.settings.SecureTCP.on(l.tight) {
		l.machine = secureMachine
	}
	l.reading.Store(t.epoch.Load())
}

// End closes the turn and does the worker's share of upkeep, within a budget:
// timers that are due, conns other workers want looked at, memory whose last
// reader is gone. behind says that more is due and the next turn should not
// wait for frames.
func (l *Worker) End() (behind bool) {
	mail, timers := turnBudget, turnBudget
	l.readInbox(&mail)
	l.runWheel(&timers)
	l.defend(&timers)
	l.readInbox(&mail) // what the turn's own upkeep ended
	l.reading.Store(0)
	l.t.advanceEpoch()
	l.reclaim()
	return mail <= 0 || timers <= 0
}

// turnBudget is how many conns a turn looks at for mail, and how many for
// timers. Ending one costs about 200 ns, so that a turn's upkeep takes some 50 us
// at most, in the order of a batch of packets.
const turnBudget = 256

// Lookup answers a batch of questions in short passes, so that the memory misses
// of one pass overlap instead of following each other: hash all; touch all
// buckets; find the tags; touch the conns; compare. The passes that touch are
// loops of a few instructions, for a processor overlaps what its window of
// instructions holds (BenchmarkLookup: 2 to 3 times the speed of one by one).
func (l *Worker) Lookup(queries []Query) {
	t := l.t
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
	l.touched = touched // keeps the compiler from leaving the touching out
	for i := range queries {
		q := &queries[i]
		if q.Dir == DirNone {
			q.Ref = 0
		} else if q.Ref == 0 || !t.conns[q.Ref].answers(q, q.ClientPort) {
			q.Ref = l.lookFurther(q)
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

// lookFurther answers a question whose first candidate was not it: through the
// whole window, then for an expectation of this end.
func (l *Worker) lookFurther(q *Query) Ref {
	t := l.t
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
func (l *Worker) Timeout(s State, to *Timeouts) Tick {
	if to == nil {
		to = &l.settings.Timeouts
	}
	return to[s]
}

// Conn is what a Ref names; good until End.
func (l *Worker) Conn(ref Ref) *Conn { return &l.t.conns[ref] }

// maxTries is how often Insert begins anew when other workers undo what it did.
const maxTries = 8

// firstTimeout is how long a conn lives whose first packet sets no state: the
// kernel's IP_VS_CONN_TIMEOUT.
const firstTimeout = 3 * Second

// Insert enters a conn. fresh is false if another worker, or an earlier packet,
// entered the same flow before: ref is that conn then. ref is 0 if the table is
// full of what may not be evicted.
func (l *Worker) Insert(n *Entry) (ref Ref, fresh bool) {
	t := l.t
	l.asked = Query{Client: n.Client, ClientPort: n.ClientPort, Peer: n.VIP, PeerPort: n.VPort, Proto: n.Proto, Dir: DirIn}
	switch {
	case n.Template:
		l.asked.kind = kindTemplate
	case n.NoClientPort:
		l.asked.kind, l.asked.ClientPort = kindNoClientPort, 0
	case n.NoServerPort:
		l.asked.kind, l.asked.Dir, l.asked.Peer = kindNoServerPort, DirOut, n.Server
	}
	hash := t.hash(&n.Client, l.asked.ClientPort, n.Proto, n.Template)
	for range maxTries {
		if !n.OnePacket {
			if ref := t.find(&l.asked, hash, l.asked.ClientPort); ref != 0 {
				return ref, false
			}
		}
		ref, state := l.prepare(n)
		if ref == 0 {
			break
		}
		if n.OnePacket {
			l.settled(ref, state)
			return ref, true
		}
		winner, placed, full := t.insert(ref, hash)
		if winner == ref {
			l.settled(ref, state)
			return ref, true
		}
		if t.conns[ref].Live() {
			l.abandon(ref, placed)
		} else {
			l.settled(ref, state) // another worker settled it for us, and it ended since
		}
		if winner != 0 {
			return winner, false
		}
		if full && !l.evictFrom(hash) {
			break
		}
	}
	l.full.Add(1)
	return 0, false
}

// prepare takes a place and a conn and fills it to begin in a state; ref 0:
// there is none.
func (l *Worker) prepare(n *Entry) (ref Ref, state State) {
	t := l.t
	control := l.attach(n.Control) // now, so that the parent is not evicted for its child
	if l.takePlace() || l.evict() && l.takePlace() {
		if ref = l.allocate(); ref == 0 {
			l.givePlace()
		}
	}
	if ref == 0 {
		if control != 0 {
			l.letGo(control, false)
		}
		return 0, 0
	}
	c := &t.conns[ref]
	c.fill(n, l.worker)
	c.control = control
	state = n.State
	switch {
	case n.Template:
		state = TemplateNone
	case state == 0:
		state = InitialState(n.Proto)
	}
	deadline := l.now + firstTimeout
	switch {
	case n.OnePacket:
		deadline = l.now
	case n.Timeout > 0:
		deadline = l.now + clampTimeout(n.Timeout)
	case n.Template || n.State != 0:
		deadline = l.now + clampTimeout(c.timeout(state, &l.settings.Timeouts))
	}
	t.mails.Items[ref].Store(mailClaimed) // it will be in our inbox anyway
	c.life.Store(uint64(flagLive.withState(state).withDeadline(deadline)))
	return ref, state
}

// settled accounts for a conn that won its place, and has End put it in the
// wheel by the deadline it has by then. state is what it began in: if another
// worker moved it already, that worker accounted for the move.
func (l *Worker) settled(ref Ref, state State) {
	c := &l.t.conns[ref]
	l.t.count(c, state, 1)
	if c.Expectation() {
		l.t.expectations.Add(1)
	}
	l.inserted.Add(1)
	c.life.Or(uint64(flagSettled))
	l.t.post(ref, &l.inbox)
}

// abandon takes back a conn that lost its place, or never had one.
func (l *Worker) abandon(ref Ref, placed bool) {
	c := &l.t.conns[ref]
	c.life.Store(0)
	l.givePlace()
	if c.control != 0 {
		l.letGo(c.control, false)
	}
	if placed {
		l.retire(ref)
	} else {
		l.memory.ready.push(l.t.conns, ref)
	}
}

// Step moves a conn by a packet: its state by the event, its deadline by the
// timeout of the new state (to's, or the table's if to is nil). It returns the
// states before and after.
func (l *Worker) Step(ref Ref, dir Dir, ev Event, to *Timeouts) (from, state State) {
	if to == nil {
		to = &l.settings.Timeouts
	}
	c := &l.t.conns[ref]
	for {
		old := c.word()
		from = old.state()
		if !old.live() {
			return from, from
		}
		w, col := old, columnIn
		switch {
		case dir == DirOut:
			w, col = old|flagReplied, columnOut
		case c.noOutput(old):
			w, col = old.counted(), columnInOnly
		default:
			w = old.counted()
		}
		state = l.machine[col][ev%numEvent][from]
		w = w.withState(state).withDeadline(l.rearm(c, old, state, to))
		if w == old || c.swap(old, w) {
			if from != state || w&^old&flagReplied != 0 {
				l.stepped(c, from, state)
			}
			if w.deadline() < old.deadline() {
				l.t.mail(ref)
			}
			return from, state
		}
	}
}

// rearm is the deadline of a conn after a packet in a state. A deadline that
// would move back by less than the wheel's step stays, for clocks of workers
// differ by a turn.
func (l *Worker) rearm(c *Conn, old life, s State, to *Timeouts) Tick {
	if c.OnePacket() {
		return old.deadline()
	}
	d := l.now + clampTimeout(c.timeout(s, to))
	if before := old.deadline(); d < before && before-d < wheelStep {
		return before
	}
	return d
}

// stepped does what a change of state or the first reply brings with it.
func (l *Worker) stepped(c *Conn, from, state State) {
	if from.Active() != state.Active() {
		l.t.count(c, from, -1)
		l.t.count(c, state, 1)
	}
	works := state == TCPEstablished || state == SCTPEstablished || state == UDPNormal && c.Replied()
	if c.control == 0 || !works {
		return
	}
	if parent := &l.t.conns[c.control]; parent.Template() {
		for {
			w := parent.word()
			if w.state() == TemplateAssured || parent.swap(w, w.withState(TemplateAssured)) {
				return
			}
		}
	}
}

// Renew gives a template a deadline anew, and a timeout of its own if it is not 0.
func (l *Worker) Renew(ref Ref, timeout Tick) {
	c := &l.t.conns[ref]
	if timeout > 0 && c.Template() {
		c.back.Store(uint64(clampTimeout(timeout)))
	}
	for {
		old := c.word()
		if !old.live() {
			return
		}
		d := l.now + clampTimeout(c.timeout(old.state(), &l.settings.Timeouts))
		if c.swap(old, old.withDeadline(d)) {
			if d < old.deadline() {
				l.t.mail(ref)
			}
			return
		}
	}
}

// Expire ends a conn now. A controlling conn that loses its last child this
// way ends too, unless it is an assured template (as in the kernel's
// ip_vs_conn_expire).
func (l *Worker) Expire(ref Ref) { l.end(ref, EndedByCaller) }

// SetPort gives an expectation the port it waited for: a conn takes its place. A
// VIP's port that was left open is the server's. ref 0: the table is full.
func (l *Worker) SetPort(ref Ref, port uint16) Ref {
	c := &l.t.conns[ref]
	n := &l.made
	*n = Entry{
		Client: c.client, VIP: c.vip, Server: c.server,
		ClientPort: c.clientPort, VPort: c.vport, SPort: c.sport,
		Proto: c.proto, Method: c.Method(), ServerID: c.ServerID(), ServiceID: c.ServiceID(),
		State: c.State(), Control: c.control, ReturnHop: c.ReturnHop(),
	}
	switch {
	case c.NoClientPort():
		n.ClientPort = port
	case !c.Expectation():
		return ref
	default:
		n.SPort = port
		if n.VPort == 0 {
			n.VPort = port
		}
	}
	known, _ := l.Insert(n)
	if known != 0 {
		l.Expire(ref)
	}
	return known
}
