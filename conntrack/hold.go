package conntrack

import (
	"errors"
	"sync/atomic"

	"uvs/dataplane/slab"
	"uvs/dataplane/wire"
)

// Hold keeps copies of fragments that came before the first of their datagram,
// until that has come or their time is up: one worker's, at most maxHeld of
// them in MaxHold bytes. When it is full the oldest go; and one source, of which there
// may be a flood, gets a part only (HoldLimits), so that it cannot displace the
// fragments of others.
//
// Bytes stand in a ring in the order of arrival, and so do the records of them.
// A record that leaves from the middle frees its place when all before it have
// left; meanwhile it counts as held.
type Hold struct {
	secret  *secret
	bytes   slab.Slab[byte]
	records slab.Slab[heldFrame]
	lists   []heldList // of the records of a datagram, by hash
	sources []uint32   // bytes held, by hash of the source

	tail, head   uint32 // records tail to head are in use, numbered without end
	hand         uint32 // where Next looks next
	start, write uint64 // so are bytes start to write, numbered likewise

	waiting   atomic.Int32 // records in use that have not left
	expired   atomic.Uint64
	displaced atomic.Uint64
	// Sent and Stopped are fragments taken out again that went on, and that did
	// not. The caller counts them.
	Sent, Stopped atomic.Uint64
}

// HoldLimits bound a Hold more closely than its size.
type HoldLimits struct {
	Time   Tick // how long a fragment waits
	Bytes  int  // in all; headers and bookkeeping in front of each frame included
	Source int  // of one source address
}

// MaxHold is the size of a Hold in bytes.
const MaxHold = 1 << 20

const (
	maxHeld     = 1 << 12
	holdLists   = 1 << 12
	holdSources = 1 << 10
	holdMemory  = MaxHold + maxHeld*112 + holdLists*8 + holdSources*4 // of one worker
	holdUpkeep  = 256                                                 // fragments that Expire lets go at once
)

type heldFrame struct {
	key        FragmentKey
	hash       fragmentHash
	until      Tick
	at         uint64 // where its bytes begin, numbered as Hold.start
	size       uint32 // all its bytes, what is left unused before them included
	length     uint32 // of the frame
	prev, next uint32 // of the list, plus one; 0: none
	offload    wire.Offload
	in         uint16
	gone       bool
}

// heldList is a list of records, plus one; 0: none.
type heldList struct{ first, last uint32 }

func (h *Hold) init(s *secret) (err error) {
	h.secret = s
	if h.bytes, err = slab.New[byte](MaxHold); err != nil {
		return err
	}
	if h.records, err = slab.New[heldFrame](maxHeld); err != nil {
		return err
	}
	h.lists, h.sources = make([]heldList, holdLists), make([]uint32, holdSources)
	return nil
}

func (h *Hold) close() error { return errors.Join(h.bytes.Close(), h.records.Close()) }

// Len is how many places are taken.
func (h *Hold) Len() int { return int(h.head - h.tail) }

// Any says whether anything is held.
func (h *Hold) Any() bool { return h.head != h.tail }

func (h *Hold) record(n uint32) *heldFrame { return &h.records.Items[n%maxHeld] }

// Add copies a frame. False: its source has as much held as it may, or it is
// longer than the whole hold.
func (h *Hold) Add(f *wire.Frame, key *FragmentKey, now Tick, limits *HoldLimits) bool {
	hash := h.secret.fragment(key)
	room := (wire.Headroom + f.Len() + 7) &^ 7
	source := &h.sources[hash.source%holdSources]
	limit := min(limits.Bytes, MaxHold)
	if int(*source)+room > limits.Source || room > limit/2 { // half: it must fit before or behind the ring's end
		return false
	}
	at := h.write
	if left := MaxHold - int(at%MaxHold); left < room {
		at += uint64(left)
	}
	size := uint32(at + uint64(room) - h.write)
	for h.head-h.tail == maxHeld || h.write+uint64(size)-h.start > uint64(limit) {
		h.displace()
	}
	h.write += uint64(size)
	*source += size
	r := h.record(h.head)
	*r = heldFrame{
		key: *key, hash: hash, until: now + limits.Time,
		at: at, size: size, length: uint32(f.Len()), offload: f.Offload, in: f.In,
	}
	copy(h.room(r)[wire.Headroom:], f.Bytes())
	h.append(r)
	h.head++
	h.waiting.Add(1)
	return true
}

// room is the memory of a record's frame.
func (h *Hold) room(r *heldFrame) []byte {
	at := r.at % MaxHold
	end := at + wire.Headroom + uint64(r.length)
	return h.bytes.Items[at:end:end]
}

// Take takes out the fragment of a datagram that came first of those held; f is
// good until the next Add. False: there is none.
func (h *Hold) Take(f *wire.Frame, key *FragmentKey) bool {
	list := &h.lists[h.secret.fragment(key).datagram%holdLists]
	for at := list.first; at != 0; {
		r := h.record(at - 1)
		if r.key == *key {
			*f = wire.Frame{
				Buf: h.room(r), Off: wire.Headroom, End: int32(wire.Headroom + r.length),
				In: r.in, Out: wire.NoPort, Offload: r.offload,
			}
			h.leave(r)
			h.shrink()
			return true
		}
		at = r.next
	}
	return false
}

// Next is the datagram of another fragment held, in turn; nil: nothing is held
// at that place any more.
func (h *Hold) Next() *FragmentKey {
	if h.hand-h.tail >= h.head-h.tail {
		h.hand = h.tail
	}
	if h.hand == h.head {
		return nil
	}
	r := h.record(h.hand)
	h.hand++
	if r.gone {
		return nil
	}
	return &r.key
}

// Expire lets go what has waited for too long. behind says that there is more.
func (h *Hold) Expire(now Tick) (behind bool) {
	for range holdUpkeep {
		if h.head == h.tail || h.record(h.tail).until > now {
			return false
		}
		h.expired.Add(1)
		h.leave(h.record(h.tail))
		h.shrink()
	}
	return h.head != h.tail && h.record(h.tail).until <= now
}

// displace lets the oldest go, of which there must be one.
func (h *Hold) displace() {
	h.displaced.Add(1)
	h.leave(h.record(h.tail))
	h.shrink()
}

// append puts the newest record at the end of its list.
func (h *Hold) append(r *heldFrame) {
	list, place := h.list(r), h.head%maxHeld+1
	if r.prev = list.last; r.prev != 0 {
		h.record(r.prev - 1).next = place
	} else {
		list.first = place
	}
	list.last = place
}

// list is the one a record is in.
func (h *Hold) list(r *heldFrame) *heldList { return &h.lists[r.hash.datagram%holdLists] }

// leave takes a record out of its list; its place is free when shrink gets there.
func (h *Hold) leave(r *heldFrame) {
	list := h.list(r)
	if r.prev != 0 {
		h.record(r.prev - 1).next = r.next
	} else {
		list.first = r.next
	}
	if r.next != 0 {
		h.record(r.next - 1).prev = r.prev
	} else {
		list.last = r.prev
	}
	r.gone = true
	h.sources[r.hash.source%holdSources] -= r.size
	h.waiting.Add(-1)
}

// shrink frees the places of the oldest records that have left.
func (h *Hold) shrink() {
	for h.tail != h.head && h.record(h.tail).gone {
		h.start += uint64(h.record(h.tail).size)
		h.tail++
	}
}
