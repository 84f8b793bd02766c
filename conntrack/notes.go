package conntrack

import (
	"math/bits"
	"sync/atomic"

	"uvs/dataplane/slab"
	"uvs/dataplane/wire"
)

// FragmentKey is what the fragments of a datagram have in common.
type FragmentKey struct {
	Src, Dst wire.Addr
	ID       uint32
	Proto    uint8 // IPv4's; 0 for IPv6, whose fragments need not agree in it (RFC 8200 section 4.5)
}

// Fate is what became of the first fragment of a datagram.
type Fate uint8

const (
	FateOpen     Fate = iota // not decided yet
	FateFollowed             // it went where its ports say, and the others do
	FateHost                 // it was left to the host's stack
	FateRefused              // it went nowhere, and so does the rest
)

// Note is what the first fragment of a datagram leaves behind for the others,
// which have no ports.
type Note struct {
	SrcPort, DstPort uint16
	Server           uint32 // ID, where no conn remembers it (one-packet scheduling); else 0
	Proto            uint8
	Fate             Fate
}

// notes are those of all workers: 16384, in 1.7 MiB whatever happens. They stand
// in sets of eight, and those of one source in the eight sets of its
// neighbourhood, so that a source never has more than 64 and displaces but its
// own and those of one in 256 others. A full set forgets its notes in turn.
// Datagrams whose fragments arrive one behind the other need a note for less than
// a millisecond, so a flood has to be faster than their sender to reach them.
//
// A set is claimed with one compare-and-swap by whoever reads or writes it.
// Nobody waits: who finds a set claimed tries a few times more, and then goes on
// as if it held nothing, which costs a fragment a turn in the hold, and a first
// fragment its datagram.
type notes struct {
	sets      slab.Slab[noteSet]
	displaced atomic.Uint64
}

const (
	noteSets      = 1 << 11
	noteWays      = 8
	sourceSets    = 8
	claimTries    = 64
	fragmentBytes = noteSets * (8 + noteWays*104) // of notes
)

type noteSet struct {
	claimed atomic.Uint32
	hand    uint32 // whose turn it is to be displaced
	notes   [noteWays]note
}

// note is one datagram whose first fragment has come.
type note struct {
	expires Tick // 0: the place is free
	key     FragmentKey
	Note
	runs    runs
	refused bool // a fragment did not fit
}

// fragmentHash is the hash of a datagram and the one of its source.
type fragmentHash struct{ datagram, source uint64 }

func (s *secret) fragment(key *FragmentKey) fragmentHash {
	source := s.hash(&key.Src, 0, 0, false)
	dst := s.hash(&key.Dst, uint16(key.ID), key.Proto, false)
	id := s.hash(&wire.Addr{}, uint16(key.ID>>16), 0, true)
	return fragmentHash{datagram: source ^ bits.RotateLeft64(dst, 21) ^ bits.RotateLeft64(id, 42), source: source}
}

// set is where a datagram's note belongs.
func (n *notes) set(h fragmentHash) *noteSet {
	return &n.sets.Items[(h.source*sourceSets+h.datagram%sourceSets)%noteSets]
}

func (s *noteSet) claim() bool {
	for range claimTries {
		if s.claimed.CompareAndSwap(0, 1) {
			return true
		}
	}
	return false
}

func (s *noteSet) release() { s.claimed.Store(0) }

// find is the datagram's note, nil if there is none.
func (s *noteSet) find(key *FragmentKey, now Tick) *note {
	for i := range s.notes {
		if n := &s.notes[i]; n.expires > now && n.key == *key {
			return n
		}
	}
	return nil
}

// take is the place for a new note, and whether somebody's note had to go.
func (s *noteSet) take(now Tick) (place *note, displaced bool) {
	for i := range s.notes {
		if n := &s.notes[i]; n.expires <= now {
			return n, false
		}
	}
	s.hand++
	return &s.notes[s.hand%noteWays], true
}

// add enters a fragment, and frees the place of a datagram that is whole.
func (n *note) add(x Extent) Fit {
	if n.refused {
		return FitOverlap
	}
	fit := n.runs.add(x)
	n.refused = fit == FitOverlap || fit == FitScattered
	if n.runs.whole() {
		n.expires = 0
	}
	return fit
}

// OpenNote begins a note when the first fragment of a datagram comes, for as
// long as lifetime says; CloseNote tells what became of it. FitTwice or
// FitOverlap: the datagram has one already, and this fragment is not to go on.
// FitNone: there is no note to be had now.
func (l *Worker) OpenNote(key *FragmentKey, x Extent, lifetime Tick) Fit {
	t := &l.t.notes
	s := t.set(l.t.secret.fragment(key))
	if !s.claim() {
		return FitNone
	}
	defer s.release()
	if n := s.find(key, l.now); n != nil {
		return n.add(x)
	}
	n, displaced := s.take(l.now)
	if displaced {
		t.displaced.Add(1)
	}
	*n = note{expires: l.now + lifetime, key: *key}
	return n.add(x)
}

// CloseNote completes what OpenNote began. False: the note is gone, or cannot be
// had now.
func (l *Worker) CloseNote(key *FragmentKey, what Note) bool {
	s := l.t.notes.set(l.t.secret.fragment(key))
	if !s.claim() {
		return false
	}
	defer s.release()
	n := s.find(key, l.now)
	if n == nil {
		return false
	}
	n.Note = what
	return true
}

// FollowNote is what the first fragment has left for another of its datagram.
// FitNone: nothing yet.
func (l *Worker) FollowNote(key *FragmentKey, x Extent) (Note, Fit) {
	s := l.t.notes.set(l.t.secret.fragment(key))
	if !s.claim() {
		return Note{}, FitNone
	}
	defer s.release()
	n := s.find(key, l.now)
	if n == nil || n.Fate == FateOpen {
		return Note{}, FitNone
	}
	return n.Note, n.add(x)
}

// Hold is where the worker keeps fragments that came before the first.
func (l *Worker) Hold() *Hold { return &l.hold }

// HasNote says whether FollowNote would find something.
func (l *Worker) HasNote(key *FragmentKey) bool {
	s := l.t.notes.set(l.t.secret.fragment(key))
	if !s.claim() {
		return false
	}
	defer s.release()
	n := s.find(key, l.now)
	return n != nil && n.Fate != FateOpen
}
