package ring

import (
	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// reader takes frames out of the blocks of one receive ring, in order. It knows
// memory only: no socket, no clock. It belongs to the worker.
type reader struct {
	blocks [][]byte
	port   uint16 // In of the frames
	open   bool   // whether blocks still being filled may be read; see opensBlocks
	count  *counts

	cur   int    // block being read
	taken uint32 // slots of it already taken
	from  int    // lent memory of it begins here …
	next  int    // … and ends here, where the next slot begins; 0: no slot taken yet
	spent bool   // it is closed and every slot of it was taken
}

// newReader reads the ring mapped at mem.
func newReader(mem []byte, blockSize int, port uint16, count *counts) reader {
	r := reader{port: port, open: opensBlocks, count: count}
	for at := 0; at+blockSize <= len(mem); at += blockSize {
		r.blocks = append(r.blocks, mem[at:at+blockSize:at+blockSize])
	}
	return r
}

// closed says whether the block being read belongs to us.
func (r *reader) closed() bool {
	return load32(r.blocks[r.cur], blockStatus)&unix.TP_STATUS_USER != 0
}

// waiting is the number of slots there are to take, some perhaps still being
// written.
func (r *reader) waiting() int {
	return int(load32(r.blocks[r.cur], blockCount) - r.taken)
}

// take lends up to len(in) frames of one block. What the link does not want
// (see skip) is passed over.
func (r *reader) take(in []wire.Frame) int {
	for range 2 {
		// The status is read before the count: in a closed block the count is final.
		closed := r.closed()
		if !closed && !r.open {
			return 0
		}
		if n := r.takeFrom(r.blocks[r.cur], in, closed); n > 0 || !r.spent {
			return n
		}
		// Everything was taken while the block was open, or nothing in it was
		// for us: nothing is lent, so the next block can follow at once.
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
			r.next = len(b) // never so; readSlot will find no room there
		}
		r.from = r.next
	}
	for n < len(in) && r.taken < count {
		at := b[r.next:]
		s, state := readSlot(at, closed)
		switch state {
		case slotPending:
			return n
		case slotBad:
			r.count[malformed]++
			r.taken, r.next = count, len(b)
			continue
		case slotReady:
			if r.lend(&in[n], &s, at) {
				n++
			}
		case slotVoid:
			r.count[malformed]++
		}
		r.taken++
		r.next += s.size
	}
	r.spent = closed && r.taken >= count
	return n
}

// lend makes f the frame of slot s at b, unless it is none of ours.
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

// giveBack ends the lending: the lent memory is zeroed, while it is still in the
// cache, and a block that is spent goes back to the kernel.
func (r *reader) giveBack() {
	b := r.blocks[r.cur]
	if r.open {
		clear(b[r.from:r.next])
	}
	r.from = r.next
	if !r.spent {
		return
	}
	store32(b, blockCount, 0)
	store32(b, blockStatus, unix.TP_STATUS_KERNEL)
	r.cur++
	if r.cur == len(r.blocks) {
		r.cur = 0
	}
	r.taken, r.from, r.next, r.spent = 0, 0, 0, false
}
