package ring

import (
	"time"

	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// reader reads frames from the blocks of one receive ring, in order. It knows only
// memory, no socket. It belongs to the worker.
type reader struct {
	blocks    [][]byte
	port      uint16 // In of the frames
	readsOpen bool   // read blocks that are still being filled; see readsOpenBlocks
	count     *counts

	cur      int    // index of the current block
	taken    uint32 // slots of the current block that are taken
	lentFrom int    // start of the lent memory in the current block …
	next     int    // … and its end, the start of the next slot; 0: no slot is taken yet
	spent    bool   // the current block is closed, and all its slots are taken
}

// newReader makes a reader of the ring that is mapped at mem.
func newReader(mem []byte, blockSize int, port uint16, count *counts) reader {
	r := reader{port: port, readsOpen: readsOpenBlocks, count: count}
	for at := 0; at+blockSize <= len(mem); at += blockSize {
		r.blocks = append(r.blocks, mem[at:at+blockSize:at+blockSize])
	}
	return r
}

// closed reports whether the kernel has closed the current block.
func (r *reader) closed() bool {
	return load32(r.blocks[r.cur], blockStatus)&unix.TP_STATUS_USER != 0
}

// waiting returns the number of slots to take. The kernel may still be writing some
// of them.
func (r *reader) waiting() int {
	return int(load32(r.blocks[r.cur], blockCount) - r.taken)
}

// take lends up to len(in) frames of one block.
func (r *reader) take(in []wire.Frame) int {
	for range 2 {
		// Read the status before the count: in a closed block the count is final.
		closed := r.closed()
		if !closed && !r.readsOpen {
			return 0
		}
		if n := r.takeFrom(r.blocks[r.cur], in, closed); n > 0 || !r.spent {
			return n
		}
		// All frames were taken while the block was open, or none were to be
		// lent. Nothing is lent now, so continue with the next block.
		r.giveBack()
	}
	return 0
}

// takeFrom is take for block b.
func (r *reader) takeFrom(b []byte, in []wire.Frame, closed bool) (n int) {
	count := load32(b, blockCount)
	if r.next == 0 && count > 0 {
		r.next = min(int(load32(b, blockFirst)), len(b))
		if r.next < blockHeader || r.next%slotAlign != 0 {
			r.next = len(b) // the kernel never writes this; readSlot will return slotInvalid
		}
		r.lentFrom = r.next
	}
	if storeDelay > 0 && !closed {
		count = r.taken + r.settled(b[r.next:], min(count-r.taken, uint32(len(in))))
	}
	for n < len(in) && r.taken < count {
		at := b[r.next:]
		s, state := readSlot(at, closed)
		switch state {
		case slotPending:
			return n
		case slotInvalid:
			r.count[malformed]++
			r.taken, r.next = count, len(b)
			continue
		case slotReady:
			if r.lend(&in[n], &s, at) {
				n++
			}
		case slotUnwritten:
			r.count[malformed]++
		}
		r.taken++
		r.next += s.size
	}
	r.spent = closed && r.taken >= count
	return n
}

// settled returns how many of the first limit slots at b, in an open block, have a whole
// header. It returns when their payload is whole too.
func (r *reader) settled(b []byte, limit uint32) (n uint32) {
	for n < limit {
		s, state := readSlot(b, false)
		if state != slotReady {
			break
		}
		b = b[s.size:]
		n++
	}
	if n > 0 {
		for start := time.Now(); time.Since(start) < storeDelay; {
		}
	}
	return n
}

// lend makes f the frame of slot s at b. It returns false for a frame that is counted
// and not lent.
func (r *reader) lend(f *wire.Frame, s *slot, b []byte) bool {
	switch {
	case s.kind == unix.PACKET_OTHERHOST:
		r.count[otherHost]++
	case s.kind > unix.PACKET_OTHERHOST:
		r.count[outgoing]++
	case s.snap < s.len:
		r.count[snapped]++
	case !s.fill(f, b):
		r.count[malformed]++
	case s.status&unix.TP_STATUS_VLAN_VALID != 0 && !s.restoreTag(f, b):
		r.count[malformed]++
	default:
		if s.status&unix.TP_STATUS_VLAN_VALID != 0 {
			r.count[tagged]++
		}
		f.In = r.port
		r.count[received]++
		return true
	}
	return false
}

// giveBack ends the lending. It zeroes the lent memory while it is still in the
// cache, and returns a spent block to the kernel.
func (r *reader) giveBack() {
	b := r.blocks[r.cur]
	if r.readsOpen {
		clear(b[r.lentFrom:r.next])
	}
	r.lentFrom = r.next
	if !r.spent {
		return
	}
	store32(b, blockCount, 0)
	store32(b, blockStatus, unix.TP_STATUS_KERNEL)
	r.cur++
	if r.cur == len(r.blocks) {
		r.cur = 0
	}
	r.taken, r.lentFrom, r.next, r.spent = 0, 0, 0, false
}
