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
	ServerID, ServiceID      uint32
	InPackets                uint16
	Children                 int
	Control                  Ref
	ReturnHop                uint64
	Expires                  Tick // what is left of its time; 0 if it is overdue
	Timeout                  Tick // a template's own timeout
}

// walkChunk is how many conns are copied within one section, so that a listing
// neither keeps memory from being used again nor has all conns at once; walkSpan
// is how many it looks at there to find as many, for a filter may want few.
const (
	walkChunk = 256
	walkSpan  = 16 * walkChunk
)

// Walk shows every conn that lived throughout the walk, once, and some of those
// that came or went meanwhile. filter (nil: all) is asked first; it may not use
// the table. Then visit gets the conn, and stops the walk by returning false.
// Workers are not stopped, and nothing is held while visit runs, which may take
// its time.
func (t *Table) Walk(filter func(*Snapshot) bool, visit func(*Snapshot) bool) {
	var chunk [walkChunk]Snapshot
	for next := Ref(1); next != 0; {
		var n int
		n, next = t.copyChunk(next, chunk[:], filter)
		for i := range n {
			if !visit(&chunk[i]) {
				return
			}
		}
	}
}

// copyChunk copies conns from ref on and returns where to go on; 0: the end.
func (t *Table) copyChunk(ref Ref, into []Snapshot, filter func(*Snapshot) bool) (n int, next Ref) {
	t.enter()
	defer t.exit()
	end := min(Ref(t.firstUnused.Load()), Ref(len(t.conns)))
	stop := min(ref+walkSpan, end)
	for ; ref < stop && n < len(into); ref++ {
		if t.snapshot(ref, &into[n]) && (filter == nil || filter(&into[n])) {
			n++
		}
	}
	if ref >= end {
		ref = 0
	}
	return n, ref
}

// Flush ends every conn that match says, and returns how many; match may not
// use the table.
func (t *Table) Flush(match func(*Snapshot) bool) (ended int) {
	for next := Ref(1); next != 0; {
		var n int
		n, next = t.flushChunk(next, match)
		ended += n
	}
	return ended
}

func (t *Table) flushChunk(ref Ref, match func(*Snapshot) bool) (ended int, next Ref) {
	t.enter()
	defer t.exit()
	end := min(Ref(t.firstUnused.Load()), Ref(len(t.conns)))
	stop := min(ref+walkChunk, end)
	var s Snapshot
	for ; ref < stop; ref++ {
		if t.snapshot(ref, &s) && match(&s) && t.external.end(ref, EndedByFlush) {
			ended++
		}
	}
	if ref >= end {
		ref = 0
	}
	return ended, ref
}

// enter opens a section for a goroutine that is not a worker, leave closes it.
func (t *Table) enter() {
	t.externalMu.Lock()
	t.external.now = Tick(t.clock.Load())
	t.external.epoch.Store(t.epoch.Load())
}

func (t *Table) exit() {
	t.external.epoch.Store(0)
	t.credits.Add(int64(t.external.credits))
	t.external.credits = 0
	t.externalMu.Unlock()
}

// snapshot copies a conn; false: there is none.
func (t *Table) snapshot(ref Ref, s *Snapshot) bool {
	c := &t.conns[ref]
	word := c.word()
	if !word.listed() || c.OnePacket() {
		return false
	}
	*s = Snapshot{
		Client: c.client, VIP: c.vip, Server: c.server,
		ClientPort: c.clientPort, VPort: c.vport, SPort: c.sport,
		Proto: c.proto, Method: c.Method(), State: word.state(),
		Template: c.Template(), NoClientPort: c.NoClientPort(), NoServerPort: c.kind&kindNoServerPort != 0,
		Helped: c.Helped(), NoOutput: c.noOutput(word),
		ServerID: c.ServerID(), ServiceID: c.ServiceID(),
		InPackets: word.in(), Children: c.Children(), Control: c.control, ReturnHop: c.ReturnHop(),
		Expires: max(word.deadline()-t.external.now, 0), Timeout: c.Timeout(),
	}
	return true
}

// Stats are the table's own numbers.
type Stats struct {
	Inserted  uint64
	Full      uint64               // conns refused because nothing could be evicted
	Ended     [numEndReason]uint64 // by Ending
	InUse     int64                // conns live now; templates included
	Sessions  int64                // conns that have a session now
	NoSession uint64               // times that a conn got none because all were in use
	Capacity  int
	Memory    int64 // bytes of the conns that were ever needed at once, and of the index
	Budget    int64 // bytes of all conns and the index
}

// Stats adds up what workers counted so far.
func (t *Table) Stats() (s Stats) {
	t.externalMu.Lock()
	defer t.externalMu.Unlock()
	s.add(&t.external)
	for i := range t.workers {
		s.add(&t.workers[i].participant)
	}
	s.InUse = int64(s.Inserted)
	for _, n := range s.Ended {
		s.InUse -= int64(n)
	}
	s.InUse = max(s.InUse, 0)
	s.Capacity = t.max
	s.Sessions, s.NoSession = t.sessions.inUse.Load(), t.sessions.exhausted.Load()
	s.Memory = int64(t.firstUnused.Load())*int64(connBytes) + int64(len(t.buckets))*int64(bucketBytes)
	s.Budget = int64(len(t.conns))*int64(connBytes) + int64(len(t.buckets))*int64(bucketBytes)
	return s
}

func (s *Stats) add(p *participant) {
	s.Inserted += p.inserted.Load()
	s.Full += p.full.Load()
	for i := range s.Ended {
		s.Ended[i] += p.ended[i].Load()
	}
}
