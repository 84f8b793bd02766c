package conntrack

// Step moves a conn by a packet: its state by the event, its deadline by the new state's
// timeout. timeouts is the service's; nil: the table's. Step returns the states before
// and after.
func (w *Worker) Step(ref Ref, dir Dir, ev Event, timeouts *Timeouts) (from, state State) {
	if timeouts == nil {
		timeouts = &w.settings.Timeouts
	}
	c := &w.t.conns[ref]
	for {
		old := c.loadStateWord()
		from = old.state()
		if !old.live() {
			return from, from
		}
		word, col := old, columnIn
		switch {
		case dir == DirOut:
			word, col = old|flagReplied, columnOut
		case c.noOutput(old): // IP_VS_CONN_F_NOOUTPUT
			word, col = old.counted(), columnInOnly
		default:
			word = old.counted()
		}
		if word &^= flagLastFIN; dir == DirIn && ev == EventFIN {
			word |= flagLastFIN
		}
		state = w.machine[col][ev%numEvent][from]
		word = word.withState(state).withDeadline(w.nextDeadline(c, old, state, timeouts))
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

// nextDeadline returns the deadline of a conn after a packet in a state. A deadline
// that would move back by less than the wheel's step stays, because the clocks of
// workers differ by a batch.
func (w *Worker) nextDeadline(c *Conn, old stateWord, s State, timeouts *Timeouts) Tick {
	if c.OnePacket() {
		return old.deadline()
	}
	d := w.now + clampTimeout(c.timeout(s, timeouts))
	if before := old.deadline(); d < before && before-d < wheelStep {
		return before
	}
	return d
}

// stateChanged moves the server's counts after a change of state. A conn that works,
// by its state or its first reply, assures its template.
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
			word := parent.loadStateWord()
			if word.state() == TemplateAssured || parent.swap(word, word.withState(TemplateAssured)) {
				return
			}
		}
	}
}

// Renew restarts the time of a template, with another timeout if that is not 0.
func (w *Worker) Renew(ref Ref, timeout Tick) {
	c := &w.t.conns[ref]
	if timeout > 0 && c.Template() {
		c.returnHop.Store(uint64(clampTimeout(timeout))) // a template's own timeout, see Conn.Timeout
	}
	for {
		old := c.loadStateWord()
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
