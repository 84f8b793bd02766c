package ring

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// blockWriter writes a ring block in memory, as the kernel does.
type blockWriter struct {
	b    []byte
	at   int // offset of the next slot
	last int // offset of the last one
}

func newBlock() *blockWriter {
	m := &blockWriter{b: aligned(minBlock), at: blockHeader}
	m.put32(blockFirst, blockHeader)
	return m
}

// aligned returns memory that begins at a multiple of eight, as a mapping does.
func aligned(size int) []byte {
	words := make([]uint64, (size+7)/8)
	return wordsAsBytes(words)[:size]
}

func (m *blockWriter) put32(off int, v uint32) { binary.NativeEndian.PutUint32(m.b[off:], v) }
func (m *blockWriter) put16(off int, v uint16) { binary.NativeEndian.PutUint16(m.b[off:], v) }

const testMac = 92 + reserve // the offset at which tpacket_rcv puts the frame

// begin counts a slot for frame, as the kernel does before it writes the slot.
func (m *blockWriter) begin(frame []byte) (at int) {
	at = m.at
	size := (testMac + len(frame) + slotAlign - 1) &^ (slotAlign - 1)
	m.put32(at+slotNext, uint32(size))
	m.last, m.at = at, at+size
	m.put32(blockCount, binary.NativeEndian.Uint32(m.b[blockCount:])+1)
	return at
}

// finish writes the slot at offset at: the payload first, then the header.
func (m *blockWriter) finish(at int, frame []byte) {
	copy(m.b[at+testMac:], frame)
	m.put32(at+slotStatus, unix.TP_STATUS_USER)
	m.put32(at+slotLen, uint32(len(frame)))
	m.put32(at+slotSnapLen, uint32(len(frame)))
	m.put16(at+slotMac, testMac)
	m.put16(at+slotMac+2, testMac+14)
	m.put32(at+slotSec, 1700000000)
	m.b[at+slotPktType] = unix.PACKET_HOST
	m.put32(at+slotIfindex, 3)
}

// add writes a complete slot.
func (m *blockWriter) add(frame []byte) (at int) {
	at = m.begin(frame)
	m.finish(at, frame)
	return at
}

// close closes the block.
func (m *blockWriter) close() {
	m.put32(m.last+slotNext, 0)
	store32(m.b, blockStatus, unix.TP_STATUS_USER)
}

func readerOf(blocks ...*blockWriter) *reader {
	r := &reader{port: 1, readsOpen: true, count: new(counts)}
	for _, m := range blocks {
		r.blocks = append(r.blocks, m.b)
	}
	return r
}

// takeCopies returns copies of the frames that the reader lends, at most n.
func takeCopies(r *reader, n int) (got [][]byte) {
	frames := make([]wire.Frame, n)
	for _, f := range frames[:r.take(frames)] {
		got = append(got, bytes.Clone(f.Bytes()))
	}
	return got
}

// TestOpenBlockReady: from an open block the reader lends only slots that are
// completely written. Each word of the header that it reads holds a slot back while
// it is zero.
func TestOpenBlockReady(t *testing.T) {
	frame := testFrame(1, 60)
	for _, row := range []struct {
		missing string
		off, n  int
	}{
		{"status", slotStatus, 4},
		{"seconds", slotSec, 4},
		{"length", slotLen, 4},
		{"snapped length", slotSnapLen, 4},
		{"offsets", slotMacNet, 4},
		{"interface index, written last", slotIfindex, 4},
	} {
		m := newBlock()
		r := readerOf(m)
		m.add(frame)
		at := m.add(frame)
		word := bytes.Clone(m.b[at+row.off : at+row.off+row.n])
		clear(m.b[at+row.off : at+row.off+row.n])
		if got := takeCopies(r, 8); len(got) != 1 {
			t.Errorf("%s missing in the second slot: lent %d frames, want 1", row.missing, len(got))
		}
		r.giveBack()
		copy(m.b[at+row.off:], word)
		if got := takeCopies(r, 8); len(got) != 1 || !bytes.Equal(got[0], frame) {
			t.Errorf("%s came: lent %x, want the second frame", row.missing, got)
		}
	}
}

// TestLaps makes several laps of a ring of two blocks. It writes frames of random
// length slot by slot, and reads at random moments. All frames are lent once and in
// order, and the returned memory is zero.
func TestLaps(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	blocks := []*blockWriter{newBlock(), newBlock()}
	r := readerOf(blocks...)
	for lap := range 6 {
		m := blocks[lap%2]
		m.at = blockHeader
		want := [][]byte{}
		for m.at+testMac+1600 < len(m.b) {
			frame := testFrame(uint32(lap), 18+rnd.IntN(1500))
			at := m.begin(frame)
			if rnd.IntN(4) == 0 {
				requireNext(t, r, &want, 1+rnd.IntN(20))
			}
			m.finish(at, frame)
			want = append(want, frame)
			if rnd.IntN(10) == 0 {
				requireNext(t, r, &want, 1+rnd.IntN(20))
			}
		}
		m.close()
		for requireNext(t, r, &want, 64) > 0 {
		}
		if len(want) > 0 {
			t.Fatalf("lap %d: %d frames of a closed block were not lent", lap, len(want))
		}
		r.giveBack()
		if m.b[blockStatus] != unix.TP_STATUS_KERNEL {
			t.Fatalf("lap %d: block read to its end was not given back", lap)
		}
		if used := m.b[blockHeader:]; !bytes.Equal(used, make([]byte, len(used))) {
			t.Fatalf("lap %d: block was given back with bytes of its frames", lap)
		}
	}
	if r.count[malformed] != 0 {
		t.Errorf("%d slots counted as malformed", r.count[malformed])
	}
}

// requireNext takes up to n frames, which must be the first of want. It removes them
// from want.
func requireNext(t *testing.T, r *reader, want *[][]byte, n int) int {
	t.Helper()
	r.giveBack()
	got := takeCopies(r, n)
	for i, b := range got {
		if i >= len(*want) || !bytes.Equal(b, (*want)[i]) {
			t.Fatalf("frame %d of %d lent is %x, want the oldest not yet lent", i, len(got), b)
		}
	}
	*want = (*want)[len(got):]
	return len(got)
}

// TestOpenBlocksNotRead: with open false, the reader lends no frame of an open block.
func TestOpenBlocksNotRead(t *testing.T) {
	m := newBlock()
	r := readerOf(m)
	r.readsOpen = false
	m.add(testFrame(1, 60))
	if got := takeCopies(r, 8); len(got) != 0 {
		t.Errorf("lent %d frames of an open block, want none", len(got))
	}
	m.close()
	if got := takeCopies(r, 8); len(got) != 1 {
		t.Errorf("lent %d frames of a closed block, want 1", len(got))
	}
}

// TestInvalidSlots puts impossible values into the second of three slots of a closed
// block. The reader must not lend memory outside of a slot, and must always give the
// block back.
func TestInvalidSlots(t *testing.T) {
	for _, row := range []struct {
		what   string
		spoil  func(m *blockWriter, at int)
		lent   int
		counts counts
	}{
		{"no fault", func(*blockWriter, int) {}, 3, counts{received: 3}},
		{
			"a slot that the kernel counted and did not write",
			func(m *blockWriter, at int) { m.put32(at+slotStatus, 0) },
			2,
			counts{received: 2, malformed: 1},
		},
		{
			"next slot beyond the block", func(m *blockWriter, at int) { m.put32(at+slotNext, minBlock) },
			1,
			counts{received: 1, malformed: 1},
		},
		{
			"next slot inside this one's header", func(m *blockWriter, at int) { m.put32(at+slotNext, 8) },
			1,
			counts{received: 1, malformed: 1},
		},
		{
			"next slot not aligned", func(m *blockWriter, at int) { m.put32(at+slotNext, 201) },
			1,
			counts{received: 1, malformed: 1},
		},
		{
			"next slot near the top of 32 bits", func(m *blockWriter, at int) { m.put32(at+slotNext, ^uint32(7)) },
			1,
			counts{received: 1, malformed: 1},
		},
		{
			"no next slot, though it is not the last", func(m *blockWriter, at int) { m.put32(at+slotNext, 0) },
			3,
			counts{received: 3},
		},
		{
			"frame begins in the header", func(m *blockWriter, at int) { m.put16(at+slotMac, slotHeader) },
			1,
			counts{received: 1, malformed: 1},
		},
		{
			"frame begins beyond the slot", func(m *blockWriter, at int) { m.put16(at+slotMac, 65535) },
			1,
			counts{received: 1, malformed: 1},
		},
		{"frame longer than its slot", func(m *blockWriter, at int) {
			m.put32(at+slotSnapLen, 4000)
			m.put32(at+slotLen, 4000)
		}, 1, counts{received: 1, malformed: 1}},
		{"frame of four gigabytes", func(m *blockWriter, at int) {
			m.put32(at+slotSnapLen, ^uint32(0))
			m.put32(at+slotLen, ^uint32(0))
		}, 1, counts{received: 1, malformed: 1}},
		{
			"frame truncated by the ring", func(m *blockWriter, at int) { m.put32(at+slotLen, 9000) },
			2,
			counts{received: 2, snapped: 1},
		},
		{
			"frame for another host", func(m *blockWriter, at int) { m.b[at+slotPktType] = unix.PACKET_OTHERHOST },
			2,
			counts{received: 2, otherHost: 1},
		},
		{
			"frame this host sent", func(m *blockWriter, at int) { m.b[at+slotPktType] = unix.PACKET_OUTGOING },
			2,
			counts{received: 2, outgoing: 1},
		},
		{
			"frame looped back", func(m *blockWriter, at int) { m.b[at+slotPktType] = unix.PACKET_LOOPBACK },
			2,
			counts{received: 2, outgoing: 1},
		},
		{
			"broadcast", func(m *blockWriter, at int) { m.b[at+slotPktType] = unix.PACKET_BROADCAST },
			3,
			counts{received: 3},
		},
		{"partial checksum behind the frame", func(m *blockWriter, at int) {
			writeOffload(m.b[at+testMac-vnetHdrLen:], wire.Offload{Flags: wire.OffloadNeedsCsum, CsumStart: 59})
		}, 2, counts{received: 2, malformed: 1}},
		{"partial checksum near the top of 16 bits", func(m *blockWriter, at int) {
			writeOffload(m.b[at+testMac-vnetHdrLen:],
				wire.Offload{Flags: wire.OffloadNeedsCsum, CsumStart: 65535, CsumOffset: 65535})
		}, 2, counts{received: 2, malformed: 1}},
		{"tag in a frame without addresses", func(m *blockWriter, at int) {
			m.put32(at+slotStatus, unix.TP_STATUS_USER|unix.TP_STATUS_VLAN_VALID)
			m.put32(at+slotSnapLen, 13)
			m.put32(at+slotLen, 13)
		}, 2, counts{received: 2, malformed: 1}},
		{
			"first slot beyond the block", func(m *blockWriter, _ int) { m.put32(blockFirst, ^uint32(0)) },
			0,
			counts{malformed: 1},
		},
		{
			"first slot in the block's header", func(m *blockWriter, _ int) { m.put32(blockFirst, 4) },
			0,
			counts{malformed: 1},
		},
		{
			"more slots than there are", func(m *blockWriter, _ int) { m.put32(blockCount, ^uint32(0)) },
			3,
			counts{received: 3, malformed: 1},
		},
		{"no slots", func(m *blockWriter, _ int) { m.put32(blockCount, 0) }, 0, counts{}},
	} {
		m := newBlock()
		r := readerOf(m)
		m.add(testFrame(1, 60))
		at := m.add(testFrame(2, 60))
		m.add(testFrame(3, 60))
		if row.what == "more slots than there are" {
			// Behind the last slot there is no room for another header.
			m.b = m.b[:m.at+slotHeader-4]
			r.blocks[0] = m.b
		}
		m.close()
		row.spoil(m, at)
		got := takeCopies(r, 64)
		if len(got) != row.lent || *r.count != row.counts {
			t.Errorf("%s: lent %d frames and counted %v, want %d and %v", row.what, len(got), *r.count, row.lent,
				row.counts)
		}
		takeCopies(r, 64)
		r.giveBack()
		if m.b[blockStatus] != unix.TP_STATUS_KERNEL {
			t.Errorf("%s: the block was not given back", row.what)
		}
	}
}

// TestRestoreTag: a restored tag moves the offsets of the offload.
func TestRestoreTag(t *testing.T) {
	frame := testFrame(1, 60)
	for _, row := range []struct {
		status uint32
		tpid   string
	}{
		{unix.TP_STATUS_VLAN_VALID, "\x81\x00"}, // kernels before 3.14 do not report the TPID
		{unix.TP_STATUS_VLAN_VALID | unix.TP_STATUS_VLAN_TPID_VALID, "\x88\xa8"},
	} {
		m := newBlock()
		r := readerOf(m)
		at := m.add(frame)
		m.put32(at+slotStatus, unix.TP_STATUS_USER|row.status)
		m.put32(at+slotTCI, 0x602a)
		m.put16(at+slotTPID, 0x88a8)
		writeOffload(m.b[at+testMac-vnetHdrLen:], wire.Offload{
			Flags: wire.OffloadNeedsCsum, GSOType: wire.GSOTCPv4, GSOSize: 1000, HdrLen: 54, CsumStart: 34,
			CsumOffset: 16,
		})
		var frames [1]wire.Frame
		if n := r.take(frames[:]); n != 1 {
			t.Fatalf("lent %d frames, want 1", n)
		}
		f := &frames[0]
		want := string(frame[:12]) + row.tpid + "\x60\x2a" + string(frame[12:])
		if string(f.Bytes()) != want {
			t.Errorf("tagged frame is\n%x, want\n%x", f.Bytes(), want)
		}
		if o := f.Offload; o.CsumStart != 38 || o.HdrLen != 58 || o.CsumOffset != 16 {
			t.Errorf("offload of tagged frame is %+v, want CsumStart 38, CsumOffset 16, HdrLen 58", o)
		}
		if f.Headroom() < wire.Headroom {
			t.Errorf("headroom of tagged frame is %d, want at least %d", f.Headroom(), wire.Headroom)
		}
	}
}

// FuzzBlock reads blocks of any bytes, open and closed. The reader must not panic, must
// come to an end, and must lend only frames inside the block.
func FuzzBlock(f *testing.F) {
	m := newBlock()
	for i := range uint32(3) {
		m.add(testFrame(i, 60))
	}
	m.close()
	f.Add(bytes.Clone(m.b[:m.at]), true)
	m.put32(m.last+slotStatus, unix.TP_STATUS_USER|unix.TP_STATUS_VLAN_VALID)
	f.Add(bytes.Clone(m.b[:m.at]), false)
	f.Fuzz(func(t *testing.T, data []byte, closed bool) {
		if len(data) < blockHeader {
			return
		}
		block := aligned(len(data))
		copy(block, data)
		status := uint32(unix.TP_STATUS_KERNEL)
		if closed {
			status = unix.TP_STATUS_USER
		}
		store32(block, blockStatus, status)
		r := &reader{readsOpen: true, count: new(counts), blocks: [][]byte{block}}
		var frames [8]wire.Frame
		for range len(data)/slotHeader + 2 {
			n := r.take(frames[:])
			for i := range frames[:n] {
				b := frames[i].Bytes()
				for j := range b {
					b[j] ^= 0xff
				}
				writeOffload(frames[i].Buf[frames[i].Off-vnetHdrLen:], frames[i].Offload)
			}
			r.giveBack()
			if load32(block, blockStatus) == unix.TP_STATUS_KERNEL {
				break
			}
		}
		if got := load32(block, blockStatus); closed && got != unix.TP_STATUS_KERNEL {
			t.Errorf("closed block was not given back")
		}
	})
}

// TestPace: the link lets frames gather only while small batches follow one another,
// and stops when that gains nothing.
func TestPace(t *testing.T) {
	for _, row := range []struct {
		what string
		saw  []int
		want bool
	}{
		{"idle with single frames", []int{1, 0, 1, 0, 1, 0, 1, 0}, false},
		{"good batches", []int{64, 64, 64, 64, 64}, false},
		{"small batches in a row", []int{1, 2, 1, 1}, true},
		{"a good batch in between", []int{1, 2, goodBatch, 1, 1}, false},
		{"gathering pays", []int{1, 1, 1, 1, goodBatch, goodBatch}, true},
		{"gathering does not pay", []int{1, 1, 1, 1, 1}, false},
		{"as many small batches again after it was in vain", []int{1, 1, 1, 1, 1, 1, 1, 1, 1}, false},
		{"twice as many after it was in vain", []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, true},
		{"gathered nothing", []int{1, 1, 1, 1, 0}, false},
	} {
		var p pace
		for _, n := range row.saw {
			p.observe(n)
		}
		if p.gathering != row.want {
			t.Errorf("%s: gathering is %v, want %v", row.what, p.gathering, row.want)
		}
	}
}
