package memlink

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"uvs/dataplane/memlink/linktest"
	"uvs/dataplane/wire"
)

// TestLink runs the tests of all links on a pair in memory.
func TestLink(t *testing.T) {
	for _, poisoned := range []bool{false, true} {
		linktest.Run(t, func(t *testing.T) linktest.Testbed {
			l, other := Pair(Config{Poison: poisoned})
			return linktest.Testbed{
				Link: l,
				MAC:  [2]wire.MAC{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}},
				Inject: func(port int, frame []byte) {
					l.Feed(Record{Port: uint16(port), Data: frame})
				},
				Await: func(port int) []byte {
					var frames [1]wire.Frame
					n, err := other.Recv(frames[:])
					if n != 1 || err != nil || frames[0].In != uint16(port) {
						t.Fatalf("other end received %d frames, %v, by port %d, want one by port %d", n, err,
							frames[0].In, port)
					}
					return bytes.Clone(frames[0].Bytes())
				},
			}
		})
	}
}

func record(port uint16, bytes ...byte) Record { return Record{Port: port, Data: bytes} }

// TestPoison keeps a frame longer than it is lent. The frame must then be overwritten,
// and the next frames must be in other memory.
func TestPoison(t *testing.T) {
	l := New(Config{Poison: true})
	l.Feed(record(0, 1, 2, 3))
	var kept, next [1]wire.Frame
	if n, err := l.Recv(kept[:]); n != 1 || err != nil {
		t.Fatalf("received %d, %v", n, err)
	}
	if room := kept[0].Buf[:wire.Headroom]; !bytes.Equal(room, bytes.Repeat([]byte{poison}, len(room))) {
		t.Errorf("headroom is %x, want all %x", room, poison)
	}
	l.Feed(record(0, 4, 5, 6))
	if n, err := l.Recv(next[:]); n != 1 || err != nil {
		t.Fatalf("received %d, %v", n, err)
	}
	if got, want := kept[0].Bytes(), []byte{poison, poison, poison}; !bytes.Equal(got, want) {
		t.Errorf("frame kept too long reads %x, want %x", got, want)
	}
	if got, want := next[0].Bytes(), []byte{4, 5, 6}; !bytes.Equal(got, want) {
		t.Errorf("next frame reads %x, want %x", got, want)
	}
}

// TestSent: Sent returns copies, with the Offload that a device would get.
func TestSent(t *testing.T) {
	l := New(Config{})
	partial := wire.Offload{Flags: wire.OffloadNeedsCsum, CsumStart: 34, CsumOffset: 16}
	l.Feed(record(0, 1), Record{Port: 1, Data: []byte{2}, Offload: partial},
		Record{Data: []byte{3}, Offload: wire.Offload{Flags: wire.OffloadDataValid}})
	var frames [8]wire.Frame
	n, err := l.Recv(frames[:])
	if n != 3 || err != nil {
		t.Fatalf("received %d, %v, want 3 frames", n, err)
	}
	for i := range frames[:n] {
		frames[i].Out = 1
	}
	if n, err := l.Send(frames[:n]); n != 3 || err != nil {
		t.Fatalf("sent %d, %v, want 3 frames", n, err)
	}
	clear(frames[0].Bytes()) // the sent frame is a copy
	got := l.Sent()
	for i, want := range []Record{record(1, 1), {Port: 1, Data: []byte{2}, Offload: partial}, record(1, 3)} {
		if !bytes.Equal(got[i].Data, want.Data) || got[i].Port != want.Port || got[i].Offload != want.Offload {
			t.Errorf("frame %d was sent as %+v, want %+v", i, got[i], want)
		}
	}
	if again := l.Sent(); len(again) != 0 {
		t.Errorf("Sent returned %d frames again, want none", len(again))
	}
}

// TestEnd receives all frames of the feed in batches, then io.EOF. Before EndFeed, Recv
// only waits for the idle time.
func TestEnd(t *testing.T) {
	l := New(Config{Idle: time.Millisecond})
	l.Feed(record(0, 1), record(0, 2), record(0, 3))
	var frames [2]wire.Frame
	for _, want := range []int{2, 1, 0} {
		if n, err := l.Recv(frames[:]); n != want || err != nil {
			t.Errorf("received %d, %v, want %d frames", n, err, want)
		}
	}
	l.Feed(record(0, 4))
	l.EndFeed()
	if n, err := l.Recv(frames[:]); n != 1 || err != nil {
		t.Errorf("received %d, %v, want the last frame", n, err)
	}
	if n, err := l.Recv(frames[:]); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("received %d, %v, want io.EOF", n, err)
	}
}

// TestWaiting: every event ends a waiting Recv.
func TestWaiting(t *testing.T) {
	for _, row := range []struct {
		what string
		do   func(*Link)
		n    int
		err  error
	}{
		{"a frame", func(l *Link) { l.Feed(record(0, 1)) }, 1, nil},
		{"the end", (*Link).EndFeed, 0, io.EOF},
		{"Wake", (*Link).Wake, 0, nil},
		{"Close", func(l *Link) { l.Close() }, 0, net.ErrClosed},
	} {
		l := New(Config{Idle: time.Hour})
		started := make(chan bool)
		go func() {
			<-started
			row.do(l)
		}()
		close(started)
		var frames [2]wire.Frame
		if n, err := l.Recv(frames[:]); n != row.n || !errors.Is(err, row.err) {
			t.Errorf("%s while waiting: received %d, %v, want %d, %v", row.what, n, err, row.n, row.err)
		}
	}
}

// TestNoAllocation: Recv does not allocate once it has memory for the frames.
func TestNoAllocation(t *testing.T) {
	l := New(Config{})
	data := make([]byte, 1000)
	var frames [16]wire.Frame
	const runs = 100
	for range (runs + 2) * len(frames) {
		l.Feed(Record{Data: data})
	}
	receive := func() {
		if n, err := l.Recv(frames[:]); n != len(frames) || err != nil {
			t.Fatalf("received %d, %v", n, err)
		}
	}
	receive()
	if allocs := testing.AllocsPerRun(runs, receive); allocs != 0 {
		t.Errorf("%v allocations for receiving a batch, want none", allocs)
	}
}
