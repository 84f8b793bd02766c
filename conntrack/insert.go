package conntrack

// maxTries is how often Insert tries again when other workers undo what it did.
const maxTries = 8

// firstTimeout is how long a conn lives if no packet sets its state: the kernel's
// IP_VS_CONN_TIMEOUT.
const firstTimeout = 3 * Second

// Insert enters a conn. created is false if the flow already has a conn, which ref then
// is. ref is 0 if the table is full of conns that may not be evicted, or if another NAT
// conn of this client port would get the same replies.
func (w *Worker) Insert(e *Entry) (ref Ref, created bool) {
	t := w.t
	q := &w.insertQuery
	e.fillQuery(q)
	hash := t.hash(&e.Client, q.ClientPort, e.Proto, e.Template)
	for range maxTries {
		if !e.OnePacket {
			if ref := t.find(q, hash, q.ClientPort); ref != 0 {
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
		c := &t.conns[ref]
		switch {
		case winner == ref:
			w.finishInsert(ref, state)
			var clash bool
			if c.hasSecondSlot() {
				full, clash = t.insertReply(ref, hash)
			}
			if !full && !clash {
				return ref, true
			}
			w.end(ref, EndedByCaller)
			if clash {
				return 0, false
			}
			winner = 0
		case c.Live():
			w.undoInsert(ref, placed)
		default:
			w.finishInsert(ref, state) // another worker settled it for us, and it has ended since
		}
		switch {
		case winner == 0:
		case t.conns[winner].sameFlow(c):
			return winner, false
		case t.conns[winner].clashes(c):
			return 0, false
		}
		if full && !w.evictFrom(hash) {
			break
		}
	}
	w.full.Add(1)
	return 0, false
}

// fillQuery makes the query that finds a conn of the entry's flow.
func (e *Entry) fillQuery(q *Query) {
	*q = Query{Client: e.Client, ClientPort: e.ClientPort, Peer: e.VIP, PeerPort: e.VPort, Proto: e.Proto, Dir: DirIn}
	switch {
	case e.Template:
		q.kind = kindTemplate
	case e.NoClientPort:
		q.kind, q.ClientPort = kindNoClientPort, 0
	case e.NoServerPort:
		q.kind, q.Dir, q.Peer = kindNoServerPort, DirOut, e.Server
	}
}

// newConn takes a credit and a conn, and fills it in. ref is 0 if there is none.
func (w *Worker) newConn(e *Entry) (ref Ref, state State) {
	t := w.t
	control := w.addChild(e.Control) // first, so that the parent is not evicted for its child
	credit := w.takeCredit()
	for !credit && w.evict() {
		credit = w.takeCredit()
	}
	if credit {
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
	c.fill(e, w.id, w.now)
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
	t.inboxLinks.Items[ref].Store(linkEnd) // finishInsert queues it
	c.stateWord.Store(uint64(flagLive.withState(state).withDeadline(deadline)))
	return ref, state
}

// finishInsert accounts for a conn that won its place, and has End put it into the wheel
// by its deadline. state is what it began in: a worker that moved it since has accounted
// for the move.
func (w *Worker) finishInsert(ref Ref, state State) {
	c := &w.t.conns[ref]
	if c.hasSecondSlot() && w.t.secondSlots.Add(1) > int64(w.t.max/freeSecondSlots) {
		w.credits--
	}
	w.t.count(c, state, 1)
	if c.Expectation() {
		w.t.expectations.Add(1)
	}
	w.inserted.Add(1)
	c.stateWord.Or(uint64(flagSettled))
	w.t.enqueue(ref, &w.inbox)
}

// undoInsert takes back a conn that lost its place or never had one.
func (w *Worker) undoInsert(ref Ref, placed bool) {
	c := &w.t.conns[ref]
	c.stateWord.Store(0)
	w.returnCredit()
	if c.overflowed() {
		w.t.countOverflowed(w.t.hashOf(c), -1)
	}
	if c.control != 0 {
		w.dropChild(c.control, false)
	}
	if placed {
		w.retire(ref)
	} else {
		w.memory.ready.push(w.t.conns, ref)
	}
}

// SetPort replaces an expectation by a conn with the port that it waited for. If the
// VIP's port was left open too, it becomes the server's. SetPort returns the conn, or
// 0 if the table is full.
func (w *Worker) SetPort(ref Ref, port uint16) Ref {
	c := &w.t.conns[ref]
	e := &w.setPortEntry
	*e = Entry{
		Client: c.client, VIP: c.vip, Server: c.server,
		ClientPort: c.clientPort, VPort: c.vport, SPort: c.sport,
		Proto: c.proto, Method: c.Method(), ServerID: c.ServerID(),
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
	conn, _ := w.Insert(e)
	if conn != 0 {
		w.Expire(ref)
	}
	return conn
}
