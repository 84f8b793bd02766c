package conntrack

import "uvs/dataplane/wire"

// Snapshot is one conn as a listing shows it.
type Snapshot struct {
	Client, VIP, Server      wire.Addr
	ClientPort, VPort, SPort uint16
	Proto                    uint8
	Method                   Method
	State                    State
	Template                 bool
	NoClientPort             bool // an expectation of a client
	NoServerPort             bool // an expectation of a server
	Helped                   bool
	NoOutput                 bool
	ServerID                 uint32
	InPackets                uint16
	Children                 int
	Control                  Ref
	ReturnHop                uint64
	Expires                  Tick // what is left of its time; 0 if it is overdue
	Timeout                  Tick // a template's own timeout
	Age                      Tick // since it was inserted, to about a second
	Idle                     Tick // since its last packet
}

// closedQuiet is how long a client is quiet until its FIN counts as the end of a connection
// whose server's FIN is not seen. A client that still gets data acknowledges it.
const closedQuiet = 10 * Second

// CarriesData reports whether the connection of a conn can still carry data. Templates and
// expectations have none. Where the server's packets do not pass here, FIN_WAIT is both a
// half-closed connection and one that is over.
func (s *Snapshot) CarriesData() bool {
	switch {
	case s.Template || s.NoClientPort || s.NoServerPort:
		return false
	case s.State == TCPFinWait && s.NoOutput:
		return s.Idle < closedQuiet
	}
	return noDataStates>>s.State&1 == 0
}

// walkChunk is how many conns are copied between enter and exit. So a listing neither
// keeps memory from being reclaimed nor has all conns at once. walkSpan is how many
// it looks at to find as many, because a filter may want few.
const (
	walkChunk = 256
	walkSpan  = 16 * walkChunk
)

// Walk calls visit until that returns false: once for every conn that lives throughout the
// walk, and for some that come or go meanwhile. filter (nil: all) sees a conn first and
// must not use the table. Workers are not stopped. visit may take its
// time, because Walk holds no lock and no epoch while it runs.
func (t *Table) Walk(filter func(*Snapshot) bool, visit func(*Snapshot) bool) {
	var chunk [walkChunk]Snapshot
	for next := Ref(1); next != 0; {
		n := 0
		next = t.scan(next, walkSpan, func(ref Ref) bool {
			if t.snapshot(ref, &chunk[n]) && (filter == nil || filter(&chunk[n])) {
				n++
			}
			return n < len(chunk)
		})
		for i := range n {
			if !visit(&chunk[i]) {
				return
			}
		}
	}
}

// scan calls visit for at most span conns from ref on, until it returns false. It returns
// where to go on; 0: at the end.
func (t *Table) scan(ref, span Ref, visit func(Ref) bool) (next Ref) {
	t.enter()
	defer t.exit()
	end := min(Ref(t.firstUnused.Load()), Ref(len(t.conns)))
	for stop, more := min(ref+span, end), true; more && ref < stop; ref++ {
		more = visit(ref)
	}
	if ref >= end {
		return 0
	}
	return ref
}

// Flush ends every conn that match accepts, and returns how many; match must not use
// the table.
func (t *Table) Flush(match func(*Snapshot) bool) (ended int) {
	var s Snapshot
	for next := Ref(1); next != 0; {
		next = t.scan(next, walkChunk, func(ref Ref) bool {
			if t.snapshot(ref, &s) && match(&s) && t.external.end(ref, EndedByFlush) {
				ended++
			}
			return true
		})
	}
	return ended
}

// snapshot copies a conn, and reports whether there is one.
func (t *Table) snapshot(ref Ref, s *Snapshot) bool {
	c := &t.conns[ref]
	word := c.loadStateWord()
	if !word.listed() || c.OnePacket() {
		return false
	}
	*s = Snapshot{
		Client: c.client, VIP: c.vip, Server: c.server,
		ClientPort: c.clientPort, VPort: c.vport, SPort: c.sport,
		Proto: c.proto, Method: c.Method(), State: word.state(),
		Template: c.Template(), NoClientPort: c.NoClientPort(), NoServerPort: c.kind&kindNoServerPort != 0,
		Helped: c.Helped(), NoOutput: c.noOutput(word),
		ServerID: c.ServerID(), Age: c.age(t.external.now),
		Idle:      t.external.idle(c, word, &t.Settings().Timeouts),
		InPackets: word.packetsIn(), Children: c.Children(), Control: c.control, ReturnHop: c.ReturnHop(),
		Expires: max(word.deadline()-t.external.now, 0), Timeout: c.Timeout(),
	}
	return true
}
