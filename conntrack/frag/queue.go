package frag

import (
	"sync/atomic"

	"uvs/conntrack"
	"uvs/dataplane/wire"
)

// Queue has copies of frames that wait for something (Use): fragments are queued until the
// first of their datagram comes or their time is up. A queue belongs to one worker and takes
// maxQueued frames in MaxQueue bytes. A full queue evicts the oldest. One source,
// which may be a flood, gets only a part (Limits), so that it cannot evict the frames
// of others.
//
// Frames stand in a ring of bytes in the order of arrival, and so do their
// entries. An entry that is removed from the middle frees its place when all
// before it are removed; until then it counts as queued.
type Queue struct {
	table   *Table
	bytes   []byte
	entries []entry
	lists   []list   // of the entries of a datagram, by hash
	sources []uint32 // bytes queued, by hash of the source

	tail, head   uint32 // entries tail to head are in use, modulo maxQueued
	cursor       uint32 // the entry that Next returns next
	start, write uint64 // bytes start to write are in use, modulo MaxQueue

	queued  atomic.Int32 // entries in use that were not removed
	evicted atomic.Uint64
	// Sent, Stopped and Expired count frames that the caller popped (Stats). The caller
	// counts; so does Expire.
	Sent, Stopped, Expired atomic.Uint64

	_ [64]byte // keeps the next worker's queue off this cache line
}

// Limits bound a Queue more closely than its size.
type Limits struct {
	Timeout conntrack.Tick // how long a fragment waits
	Bytes   int            // in all; headroom and bookkeeping of each frame included
	Source  int            // bytes of one source address
}

// MaxQueue is the size of a Queue in bytes.
const MaxQueue = 1 << 20

const (
	maxQueued    = 1 << 12
	numLists     = 1 << 12
	numSources   = 1 << 10
	queueBytes   = MaxQueue + maxQueued*104 + numLists*8 + numSources*4
	expireBudget = 256 // fragments that one Expire removes
)

type entry struct {
	key        Key
	hash       hashes
	deadline   conntrack.Tick
	at         uint64 // where its bytes begin, numbered as Queue.start
	size       uint32 // of its bytes, those left unused before them included
	length     uint32 // of the frame
	prev, next uint32 // of the list, plus one; 0: none
	offload    wire.Offload
	in         uint16
	removed    bool
}

// list is a list of entries, plus one; 0: none.
type list struct{ first, last uint32 }

func (q *Queue) init(t *Table) {
	q.table = t
	q.bytes, q.entries = make([]byte, MaxQueue), make([]entry, maxQueued)
	q.lists, q.sources = make([]list, numLists), make([]uint32, numSources)
}

// Len returns how many places are taken.
func (q *Queue) Len() int { return int(q.head - q.tail) }

func (q *Queue) entry(n uint32) *entry { return &q.entries[n%maxQueued] }

// Push queues a copy of a frame. It returns false if the source has as much queued
// as it may, or if the frame is longer than half the queue.
func (q *Queue) Push(f *wire.Frame, key *Key, now conntrack.Tick, limits *Limits) bool {
	hash := q.table.hash(key)
	need := (wire.Headroom + f.Len() + 7) &^ 7
	source := &q.sources[hash.source%numSources]
	limit := min(limits.Bytes, MaxQueue)
	if int(*source)+need > limits.Source || need > limit/2 { // half: it must fit before or after the ring's end
		return false
	}
	at := q.write
	if left := MaxQueue - int(at%MaxQueue); left < need {
		at += uint64(left)
	}
	size := uint32(at + uint64(need) - q.write)
	for q.Len() == maxQueued || q.write+uint64(size)-q.start > uint64(limit) {
		q.evicted.Add(1)
		q.removeOldest()
	}
	q.write += uint64(size)
	*source += size
	e := q.entry(q.head)
	*e = entry{
		key: *key, hash: hash, deadline: now + limits.Timeout,
		at: at, size: size, length: uint32(f.Len()), offload: f.Offload, in: f.In,
	}
	copy(q.buf(e)[wire.Headroom:], f.Bytes())
	q.link(e)
	q.head++
	q.queued.Add(1)
	return true
}

// buf returns the memory of an entry's frame.
func (q *Queue) buf(e *entry) []byte {
	at := e.at % MaxQueue
	end := at + wire.Headroom + uint64(e.length)
	return q.bytes[at:end:end]
}

// Pop removes the oldest queued fragment of a datagram into f, which is good until
// the next Push. It reports whether there was one.
func (q *Queue) Pop(f *wire.Frame, key *Key) bool {
	e := q.oldest(key)
	if e == nil {
		return false
	}
	*f = wire.Frame{
		Buf: q.buf(e), Off: wire.Headroom, End: int32(wire.Headroom + e.length),
		In: e.in, Out: wire.NoPort, Offload: e.offload,
	}
	q.remove(e)
	return true
}

// Has reports whether a frame with this key is queued.
func (q *Queue) Has(key *Key) bool { return q.oldest(key) != nil }

// oldest returns the oldest entry of a key; nil: there is none.
func (q *Queue) oldest(key *Key) *entry {
	for at := q.lists[q.table.hash(key).datagram%numLists].first; at != 0; {
		e := q.entry(at - 1)
		if e.key == *key {
			return e
		}
		at = e.next
	}
	return nil
}

// Next returns the key of the next queued fragment, round and round from call to call.
// nil: that fragment was removed.
func (q *Queue) Next() *Key {
	if q.cursor-q.tail >= q.head-q.tail {
		q.cursor = q.tail
	}
	if q.cursor == q.head {
		return nil
	}
	e := q.entry(q.cursor)
	q.cursor++
	if e.removed {
		return nil
	}
	return &e.key
}

// Expire removes what has waited too long. It reports whether there is more.
func (q *Queue) Expire(now conntrack.Tick) (more bool) {
	for range expireBudget {
		if q.Len() == 0 || q.entry(q.tail).deadline > now {
			return false
		}
		q.Expired.Add(1)
		q.removeOldest()
	}
	return q.Len() != 0 && q.entry(q.tail).deadline <= now
}

func (q *Queue) removeOldest() { q.remove(q.entry(q.tail)) }

// list returns the one an entry is in.
func (q *Queue) list(e *entry) *list { return &q.lists[e.hash.datagram%numLists] }

// link puts the newest entry at the end of its list.
func (q *Queue) link(e *entry) {
	list, place := q.list(e), q.head%maxQueued+1
	if e.prev = list.last; e.prev != 0 {
		q.entry(e.prev - 1).next = place
	} else {
		list.first = place
	}
	list.last = place
}

// remove takes an entry out of its list, and frees the places of the oldest
// entries that were removed.
func (q *Queue) remove(e *entry) {
	list := q.list(e)
	if e.prev != 0 {
		q.entry(e.prev - 1).next = e.next
	} else {
		list.first = e.next
	}
	if e.next != 0 {
		q.entry(e.next - 1).prev = e.prev
	} else {
		list.last = e.prev
	}
	e.removed = true
	q.sources[e.hash.source%numSources] -= e.size
	q.queued.Add(-1)
	for q.Len() != 0 && q.entry(q.tail).removed {
		q.start += uint64(q.entry(q.tail).size)
		q.tail++
	}
}
