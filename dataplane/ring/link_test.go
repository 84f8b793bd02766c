package ring

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uvs/dataplane/memlink/linktest"
	"uvs/dataplane/wire"
)

// testType is the EtherType of the test frames: IEEE 802 local experimental 1.
const testType = 0x88b5

// testFrame returns a frame to the middle that carries n and has length bytes.
func testFrame(n uint32, length int) []byte {
	b := make([]byte, length)
	copy(b, rightMAC)
	copy(b[6:], leftMAC)
	binary.BigEndian.PutUint16(b[12:], testType)
	binary.BigEndian.PutUint32(b[14:], n)
	for i := 18; i < len(b); i++ {
		b[i] = byte(i) ^ byte(n)
	}
	return b
}

// isTest reports whether testFrame made a frame.
func isTest(b []byte) bool {
	return len(b) >= 18 && binary.BigEndian.Uint16(b[12:]) == testType
}

// patience is how long a test waits for a result. A test waits that long only if it
// fails.
const patience = 5 * time.Second

// receiveUntil calls Recv until done returns true for the lent frames, or patience ends.
func receiveUntil(t testing.TB, l *Link, done func([]wire.Frame) bool) {
	t.Helper()
	var frames [64]wire.Frame
	for end := time.Now().Add(patience); time.Now().Before(end); {
		n, err := l.Recv(frames[:])
		if err != nil {
			t.Fatalf("receive: %v", err)
		}
		if done(frames[:n]) {
			return
		}
	}
	t.Fatalf("nothing for %v; %+v", patience, l.Stats())
}

func write(t testing.TB, fd int, frame []byte) {
	t.Helper()
	if _, err := unix.Write(fd, frame); err != nil {
		t.Fatalf("write frame of %d bytes: %v", len(frame), err)
	}
}

// TestLink runs the tests of all links on a link in the middle of the lab.
func TestLink(t *testing.T) {
	newNamespace(t) // or the test skips with its subtests
	linktest.Run(t, func(t *testing.T) linktest.Testbed {
		lab := newLab(t)
		ends := [2]int{rawSocket(t, lab.left, "l0"), rawSocket(t, lab.right, "r0")}
		return linktest.Testbed{
			Link:   open(t, lab.middle, "m0", "m1"),
			MAC:    [2]wire.MAC{wire.MAC(rightMAC), wire.MAC(leftMAC)},
			Inject: func(port int, frame []byte) { write(t, ends[port], frame) },
			Await: func(port int) []byte {
				b := make([]byte, 65536)
				return b[:readFrame(t, ends[port], b, func(b []byte) bool {
					return len(b) > 12 && wire.MAC(b[6:12]) == linktest.Source
				})]
			},
		}
	})
}

// TestForward sends frames of many lengths through the link in the middle. Each
// arrives once, in order, unchanged, and is lent with wire.Headroom.
func TestForward(t *testing.T) {
	lab := newLab(t)
	l := open(t, lab.middle, "m0", "m1")
	from, to := rawSocket(t, lab.left, "l0"), rawSocket(t, lab.right, "r0")
	lengths := []int{18, 42, 60, 61, 127, 128, 1000, 1513, 1514}
	const rounds = 200 // several laps of a ring of 512 KiB
	for round := range uint32(rounds) {
		for i, length := range lengths {
			write(t, from, testFrame(round<<8|uint32(i), length))
		}
		left := len(lengths)
		receiveUntil(t, l, func(frames []wire.Frame) bool {
			for i := range frames {
				f := &frames[i]
				if !isTest(f.Bytes()) {
					continue
				}
				left--
				if f.In != 0 || f.Out != wire.NoPort || f.MTU != 0 || f.TunnelLen != 0 {
					t.Fatalf("frame lent as In %d Out %d MTU %d TunnelLen %d, want 0, NoPort, 0, 0", f.In, f.Out, f.MTU,
						f.TunnelLen)
				}
				if f.Headroom() < wire.Headroom {
					t.Fatalf("headroom is %d bytes, want at least %d", f.Headroom(), wire.Headroom)
				}
				clear(f.Buf[:f.Off]) // the borrower may write the headroom
				f.Out = 1
			}
			if _, err := l.Send(frames); err != nil {
				t.Fatalf("send: %v", err)
			}
			return left == 0
		})
		got := make([]byte, 2048)
		for i, length := range lengths {
			want := testFrame(round<<8|uint32(i), length)
			if n := readTest(t, to, got); !bytes.Equal(got[:n], want) {
				t.Fatalf("round %d: sent %d bytes\n%x\ngot %d\n%x", round, length, want, n, got[:n])
			}
		}
	}
	l.Close()
	s := l.Stats()
	if in, out := s.Ports[0].Received, s.Ports[1].Sent; in < rounds*uint64(len(lengths)) ||
		out != rounds*uint64(len(lengths)) {
		t.Errorf("received %d, sent %d, want %d of each", in, out, rounds*len(lengths))
	}
}

// readTest reads the next test frame from a raw socket.
func readTest(t testing.TB, fd int, b []byte) int {
	t.Helper()
	return readFrame(t, fd, b, isTest)
}

// readFrame reads from a raw socket up to the next wanted frame.
func readFrame(t testing.TB, fd int, b []byte, wanted func([]byte) bool) int {
	t.Helper()
	for {
		n, err := unix.Read(fd, b)
		if err != nil {
			t.Fatalf("no frame came out: %v", err)
		}
		if wanted(b[:n]) {
			return n
		}
	}
}

// TestOpenBlock sends single frames. The link lends a frame while the kernel has the
// block open, without waiting for the block's timer.
func TestOpenBlock(t *testing.T) {
	if !readsOpenBlocks {
		t.Skip("this machine does not read open blocks")
	}
	lab := newLab(t)
	l := open(t, lab.middle, "m0")
	from := rawSocket(t, lab.left, "l0")
	// The timer may close a block just after a frame was taken from it. That it
	// does so every time cannot be chance.
	const tries = 20
	opened := 0
	for i := range uint32(tries) {
		write(t, from, testFrame(i, 60))
		receiveUntil(t, l, func(frames []wire.Frame) bool {
			if len(frames) > 0 && !l.ports[0].rx.closed() {
				opened++
			}
			return len(frames) > 0
		})
	}
	if opened == 0 {
		t.Errorf("none of %d single frames was lent while its block was open", tries)
	}
}

// TestClosedBlocks receives as on machines that do not read open blocks.
func TestClosedBlocks(t *testing.T) {
	lab := newLab(t)
	var l *Link
	inNetns(t, lab.middle, func() error {
		cfg, err := smallConfig("m0").withDefaults()
		if err != nil {
			return err
		}
		links, err := openGroup(cfg, 1, false)
		l = links[0]
		return err
	})
	defer l.Close()
	from := rawSocket(t, lab.left, "l0")
	for i := range uint32(20) {
		write(t, from, testFrame(i, 60))
		receiveUntil(t, l, func(frames []wire.Frame) bool {
			for _, f := range frames {
				if isTest(f.Bytes()) {
					return true
				}
			}
			return false
		})
	}
}

// TestVLANTag sends a frame with a VLAN tag, which the kernel removes. The frame is
// lent with the tag.
func TestVLANTag(t *testing.T) {
	lab := newLab(t)
	l := open(t, lab.middle, "m0")
	from := rawSocket(t, lab.left, "l0")
	plain := testFrame(7, 100)
	tag := []byte{0x81, 0x00, 0x60, 0x2a} // priority 3, VLAN 42
	want := append(append(append([]byte{}, plain[:12]...), tag...), plain[12:]...)
	write(t, from, want)
	receiveUntil(t, l, func(frames []wire.Frame) bool {
		for i := range frames {
			f := &frames[i]
			if bytes.Equal(f.Bytes(), want) {
				if f.Headroom() < wire.Headroom {
					t.Errorf("headroom of the tagged frame is %d, want %d", f.Headroom(), wire.Headroom)
				}
				return true
			}
		}
		return false
	})
	l.Close()
	if got := l.Stats().Ports[0].Tagged; got != 1 {
		t.Errorf("Tagged is %d, want 1", got)
	}
}

// TestOtherHost sends a frame to a MAC address that is not the middle's. The link
// counts it and does not lend it.
func TestOtherHost(t *testing.T) {
	lab := newLab(t)
	l := open(t, lab.middle, "m0")
	from := rawSocket(t, lab.left, "l0")
	other := testFrame(1, 60)
	copy(other, net.HardwareAddr{0x02, 0, 0, 0, 0xff, 0xff})
	write(t, from, other)
	write(t, from, testFrame(2, 60))
	receiveUntil(t, l, func(frames []wire.Frame) bool {
		for _, f := range frames {
			if isTest(f.Bytes()) {
				if n := binary.BigEndian.Uint32(f.Bytes()[14:]); n != 2 {
					t.Errorf("lent frame %d, which is for another host", n)
				}
				return true
			}
		}
		return false
	})
	l.Close()
	if got := l.Stats().Ports[0].OtherHost; got != 1 {
		t.Errorf("OtherHost is %d, want 1", got)
	}
}

// TestOwnFrames sends from the link and from another socket on the same host. The link
// receives neither frame.
func TestOwnFrames(t *testing.T) {
	lab := newLab(t)
	host, from := rawSocket(t, lab.middle, "m0"), rawSocket(t, lab.left, "l0")
	for _, workers := range []int{1, 2} {
		links := openWorkers(t, lab.middle, smallConfig("m0"), workers)
		f := newFrame(testFrame(9, 60))
		f.Out = 0
		if n, err := links[0].Send([]wire.Frame{f}); n != 1 || err != nil {
			t.Fatalf("sent %d, %v, want 1 frame", n, err)
		}
		write(t, host, testFrame(9, 60))
		// Frames of this host that came back would be delivered before this one.
		write(t, from, testFrame(10, 60))
		seen := make(map[uint32]int)
		for end := time.Now().Add(patience); seen[10] == 0 && time.Now().Before(end); {
			for _, l := range links {
				l.idle = 1
				var frames [8]wire.Frame
				n, err := l.Recv(frames[:])
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range frames[:n] {
					if isTest(f.Bytes()) {
						seen[binary.BigEndian.Uint32(f.Bytes()[14:])]++
					}
				}
			}
		}
		outgoing := uint64(0)
		for _, l := range links {
			l.Close()
			outgoing += l.Stats().Ports[0].Outgoing
		}
		if seen[9] != 0 || seen[10] != 1 || outgoing != 0 {
			t.Errorf("%d workers: saw own frames %d times, the other %d times, and %d outgoing, want 0, 1 and 0",
				workers, seen[9], seen[10], outgoing)
		}
	}
}

// newFrame returns a frame with headroom, in new memory.
func newFrame(b []byte) wire.Frame {
	buf := append(make([]byte, wire.Headroom), b...)
	return wire.Frame{Buf: buf, Off: wire.Headroom, End: int32(len(buf)), Out: wire.NoPort}
}
