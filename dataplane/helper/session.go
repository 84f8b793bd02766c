package helper

import (
	"sync/atomic"

	"uvs/conntrack"
	"uvs/dataplane/helper/ftp"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/wire"
)

// Session is what is remembered of one helped TCP connection, without pointers.
type Session struct {
	Helper  ID
	Pending Pending

	tcp stream.Conn
	ftp ftp.State
}

// Pending are the expectations of a control connection that no packet has matched.
type Pending struct {
	Passive    uint16    // the VIP's port that the client was told, 0 if there is none
	Active     wire.Addr // the address and port that the server was told
	ActivePort uint16    // 0 if there is none
}

// QuotedSeq translates seq, a number as the receiver sees it, back to the sender's. dir is
// the sender's direction.
func (s *Session) QuotedSeq(dir conntrack.Dir, seq uint32) uint32 { return s.tcp.QuotedSeq(dir, seq) }

// Sessions holds the sessions and counts events. It outlives every table.
type Sessions struct {
	parts  [conntrack.MaxSessions/partSize + 1]atomic.Pointer[[partSize]Session] // by conntrack.Session
	counts []eventCounts                                                         // by worker
}

// partSize is how many sessions are allocated at once: 87 KiB.
const partSize = 64

// maxEvents is the number of bits that a Process returns.
const maxEvents = 16

// eventCounts belong to one worker, their only writer.
type eventCounts struct {
	n [len(Registry)][maxEvents]atomic.Uint64
	_ [64]byte
}

// NewSessions makes a store of sessions for so many workers.
func NewSessions(workers int) *Sessions { return &Sessions{counts: make([]eventCounts, workers)} }

// At returns session n. The caller holds its lock (conntrack.Worker.LockSession). At
// allocates memory when it is first called for a session of a part. A new number is used
// only when no used one is free, so only as many parts exist as were needed.
func (s *Sessions) At(n conntrack.Session) *Session {
	part := &s.parts[n/partSize]
	if part.Load() == nil {
		part.CompareAndSwap(nil, new([partSize]Session))
	}
	return &part.Load()[n%partSize]
}

// Count adds the events of one packet.
func (s *Sessions) Count(worker int, id ID, events uint16) {
	for bit := 0; events != 0; bit, events = bit+1, events>>1 {
		if events&1 != 0 {
			s.counts[worker].n[id][bit].Add(1)
		}
	}
}

// EachEvent calls do with every event's name (ftp_passive) and how often it happened.
func (s *Sessions) EachEvent(do func(name string, n uint64)) {
	for id := range Registry {
		for bit, event := range Registry[id].Events {
			sum := uint64(0)
			for w := range s.counts {
				sum += s.counts[w].n[id][bit].Load()
			}
			do(Registry[id].Name+"_"+event, sum)
		}
	}
}
