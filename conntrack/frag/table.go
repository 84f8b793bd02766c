package frag

import (
	"math/bits"
	"sync/atomic"

	"uvs/conntrack"
	"uvs/dataplane/keyhash"
	"uvs/dataplane/wire"
)

// Key identifies a datagram: what its fragments have in common.
type Key struct {
	Src, Dst wire.Addr
	ID       uint32
	Proto    uint8 // IPv4's; 0 for IPv6, whose fragments may differ in it (RFC 8200 section 4.5)
}

// Disposition is what the director did with the first fragment of a datagram.
type Disposition uint8

const (
	Undecided Disposition = iota
	Forward               // it went where its ports say, and so do the others
	ToHost                // it was left to the host's stack
	Drop                  // it went nowhere, and so do the others
)

// Flow is what the later fragments of a datagram follow.
type Flow struct {
	SrcPort, DstPort uint16
	Server           uint32 // ID, if no conn has it (one-packet scheduling); else 0
	Proto            uint8
	Disposition      Disposition
}

// Table has the flows of all workers, and their queues. Its methods may be called
// from any goroutine.
//
// There are 16384 flows, in 1.64 MiB. They stand in sets of eight, and those of
// one source in eight sets. So a source never has more than 64 flows, and evicts
// only its own and those of one in 256 other sources. A full set evicts its flows
// in order of their places. If the fragments of a datagram follow each other
// closely, it needs its flow for less than a millisecond. A flood has to be
// faster than that to evict it.
//
// One compare-and-swap locks a set for reading or writing. No worker waits for the
// lock: after lockTries the caller goes on as if the set were empty. This costs a
// later fragment a batch's time in the queue, and a first fragment its datagram.
type Table struct {
	key     keyhash.Key
	sets    []flowSet
	queues  [numUse][]Queue // by worker
	evicted atomic.Uint64
}

// Use is what the frames of a queue wait for.
type Use uint8

const (
	ForFirst     Use = iota // fragments, for the first of their datagram
	ForServer               // packets of a server that was removed, for its return
	ForNeighbour            // packets to a next hop, for its hardware address
	numUse
)

const (
	numSets    = 1 << 11
	setFlows   = 8
	sourceSets = 8
	lockTries  = 64
	tableBytes = numSets * (8 + setFlows*104)
)

type flowSet struct {
	locked  atomic.Uint32
	evictor uint32 // counts evictions: the next evicts flows[(evictor+1)%setFlows]
	flows   [setFlows]datagram
}

// datagram is one whose first fragment has come.
type datagram struct {
	expires conntrack.Tick // 0: the place is free
	key     Key
	Flow
	ranges  ranges
	refused bool // a fragment did not fit
}

// hashes are those of a datagram and of its source.
type hashes struct{ datagram, source uint64 }

// New makes an empty table for a number of workers. A seed other than 0 makes the
// hash repeat from run to run, for tests.
func New(workers int, seed uint64) *Table {
	t := &Table{key: keyhash.New(seed), sets: make([]flowSet, numSets)}
	for use := range t.queues {
		t.queues[use] = make([]Queue, workers)
		for i := range t.queues[use] {
			t.queues[use][i].init(t)
		}
	}
	return t
}

// Memory returns the size in bytes of a table for so many workers.
func Memory(workers int) int64 { return tableBytes + int64(numUse)*int64(workers)*queueBytes }

// Workers returns how many workers the table is for.
func (t *Table) Workers() int { return len(t.queues[ForFirst]) }

// Queue returns a queue of a worker; only that worker may use it.
func (t *Table) Queue(use Use, worker int) *Queue { return &t.queues[use][worker] }

func (t *Table) hash(key *Key) hashes {
	source := t.key.Hash(&key.Src, 0)
	rest := t.key.Hash(&key.Dst, uint64(key.Proto)<<32|uint64(key.ID))
	return hashes{datagram: source ^ bits.RotateLeft64(rest, 21), source: source}
}

// lock locks the set where a datagram's flow belongs; nil: another worker has it.
func (t *Table) lock(key *Key) *flowSet {
	h := t.hash(key)
	s := &t.sets[(h.source*sourceSets+h.datagram%sourceSets)%numSets]
	for range lockTries {
		if s.locked.CompareAndSwap(0, 1) {
			return s
		}
	}
	return nil
}

func (s *flowSet) unlock() { s.locked.Store(0) }

// find returns the entry of a datagram, nil if there is none.
func (s *flowSet) find(key *Key, now conntrack.Tick) *datagram {
	for i := range s.flows {
		if d := &s.flows[i]; d.expires > now && d.key == *key {
			return d
		}
	}
	return nil
}

// place returns the place for a new datagram, and whether another has to go.
func (s *flowSet) place(now conntrack.Tick) (place *datagram, evicted bool) {
	for i := range s.flows {
		if d := &s.flows[i]; d.expires <= now {
			return d, false
		}
	}
	s.evictor++
	return &s.flows[s.evictor%setFlows], true
}

// add enters a fragment, and frees the place of a datagram that is complete.
func (d *datagram) add(r Range) Result {
	if d.refused {
		return Overlap
	}
	result := d.ranges.add(r)
	d.refused = result == Overlap || result == TooManyGaps
	if d.ranges.complete() {
		d.expires = 0
	}
	return result
}

// Begin begins a flow when the first fragment of a datagram comes; Finish says
// what became of that. The flow expires after timeout. Duplicate, Overlap,
// TooManyGaps: the datagram has a flow already, and this fragment is to be
// dropped. NoFlow: the set is locked.
func (t *Table) Begin(key *Key, r Range, now, timeout conntrack.Tick) Result {
	s := t.lock(key)
	if s == nil {
		return NoFlow
	}
	defer s.unlock()
	if d := s.find(key, now); d != nil {
		return d.add(r)
	}
	d, evicted := s.place(now)
	if evicted {
		t.evicted.Add(1)
	}
	*d = datagram{expires: now + timeout, key: *key}
	return d.add(r)
}

// Finish completes the flow that Begin began. It reports whether later fragments
// can follow it: not if it was evicted or its set is locked.
func (t *Table) Finish(key *Key, flow Flow, now conntrack.Tick) bool {
	s := t.lock(key)
	if s == nil {
		return false
	}
	defer s.unlock()
	d := s.find(key, now)
	if d == nil {
		return false
	}
	d.Flow = flow
	return true
}

// Follow returns the flow that a later fragment belongs to, and enters its range.
// NoFlow: there is none yet, it is undecided, or its set is locked.
func (t *Table) Follow(key *Key, r Range, now conntrack.Tick) (Flow, Result) {
	s := t.lock(key)
	if s == nil {
		return Flow{}, NoFlow
	}
	defer s.unlock()
	d := s.find(key, now)
	if d == nil || d.Disposition == Undecided {
		return Flow{}, NoFlow
	}
	return d.Flow, d.add(r)
}

// Decided reports whether Follow would find a flow.
func (t *Table) Decided(key *Key, now conntrack.Tick) bool {
	s := t.lock(key)
	if s == nil {
		return false
	}
	defer s.unlock()
	d := s.find(key, now)
	return d != nil && d.Disposition != Undecided
}

// Stats count what happened to queued frames.
type Stats struct {
	Waiting int64  // in queues now
	Sent    uint64 // what they waited for came, and they were sent
	Stopped uint64 // it came, and they were answered, dropped or left to the host
	Expired uint64 // it did not come in time
	Evicted uint64 // by newer frames
}

// EvictedFlows is how many flows were evicted by newer ones.
func (t *Table) EvictedFlows() uint64 { return t.evicted.Load() }

// Stats adds up what workers counted so far of the queues for a use.
func (t *Table) Stats(use Use) (s Stats) {
	for i := range t.queues[use] {
		q := &t.queues[use][i]
		s.Waiting += int64(q.queued.Load())
		s.Sent += q.Sent.Load()
		s.Stopped += q.Stopped.Load()
		s.Expired += q.Expired.Load()
		s.Evicted += q.evicted.Load()
	}
	return s
}
