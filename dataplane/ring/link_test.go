package ring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"uvs/dataplane/memlink/linktest"
	"uvs/dataplane/wire"
)

// testType is the EtherType of frames these tests make up: IEEE 802 local
// experimental 1.
const testType = 0x88b5

// testFrame is a frame to the middle that carries n and is length bytes long.
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

// isTest says whether a frame was made by testFrame.
func isTest(b []byte) bool {
	return len(b) >= 18 && binary.BigEndian.Uint16(b[12:]) == testType
}

// patience is how long a test waits for what must come. It is not a figure of
// merit: nothing waits that long unless it is broken.
const patience = 5 * time.Second

// eventually receives until done says so of what was lent, or patience ends.
func eventually(t testing.TB, l *Link, done func([]wire.Frame) bool) {
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

// TestLink runs the tests all links must pass over the middle of the lab.
func TestLink(t *testing.T) {
	linktest.Run(t, func(t *testing.T) linktest.Wires {
		lab := newLab(t)
		ends := [2]int{rawSocket(t, lab.left, "l0"), rawSocket(t, lab.right, "r0")}
		return linktest.Wires{
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

// TestThrough sends frames of many lengths through the link in the middle: each
// arrives once, in order, unchanged, with the promised room in front.
func TestThrough(t *testing.T) {
	lab := newLab(t)
	l := open(t, lab.middle, "m0", "m1")
	from, to := rawSocket(t, lab.left, "l0"), rawSocket(t, lab.right, "r0")
	lengths := []int{18, 42, 60, 61, 127, 128, 1000, 1513, 1514}
	const rounds = 200 // some times round a ring of 512 KiB
	for round := range uint32(rounds) {
		for i, length := range lengths {
			write(t, from, testFrame(round<<8|uint32(i), length))
		}
		left := len(lengths)
		eventually(t, l, func(frames []wire.Frame) bool {
			for i := range frames {
				f := &frames[i]
				if !isTest(f.Bytes()) {
					continue
				}
				left--
				if f.In != 0 || f.Out != wire.NoPort || f.MTU != 0 || f.Outer != 0 {
					t.Fatalf("frame lent as In %d Out %d MTU %d Outer %d, want 0, NoPort, 0, 0", f.In, f.Out, f.MTU, f.Outer)
				}
				if f.Room() < wire.Headroom {
					t.Fatalf("room in front is %d bytes, want at least %d", f.Room(), wire.Headroom)
				}
				clear(f.Buf[:f.Off]) // ours while it is lent
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
	if in, out := s.Ports[0].Received, s.Ports[1].Sent; in < rounds*uint64(len(lengths)) || out != rounds*uint64(len(lengths)) {
		t.Errorf("received %d, sent %d, want %d of each", in, out, rounds*len(lengths))
	}
}

// readTest reads the next test frame from a raw socket.
func readTest(t testing.TB, fd int, b []byte) int {
	t.Helper()
	return readFrame(t, fd, b, isTest)
}

// readFrame reads the next frame that is wanted from a raw socket.
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

// TestOpenBlock sends one lone frame: it is lent while the kernel still has the
// block open, so it did not wait for the block's timer.
func TestOpenBlock(t *testing.T) {
	if !opensBlocks {
		t.Skip("this machine does not read open blocks")
	}
	lab := newLab(t)
	l := open(t, lab.middle, "m0")
	from := rawSocket(t, lab.left, "l0")
	// The timer may close a block just after a frame was taken from it open; that
	// it does so every time cannot be chance.
	const tries = 20
	opened := 0
	for i := range uint32(tries) {
		write(t, from, testFrame(i, 60))
		eventually(t, l, func(frames []wire.Frame) bool {
			if len(frames) > 0 && !l.ports[0].rx.closed() {
				opened++
			}
			return len(frames) > 0
		})
	}
	if opened == 0 {
		t.Errorf("none of %d lone frames was lent while its block was open", tries)
	}
}

// TestClosedBlocks receives as machines do that may not read open blocks.
func TestClosedBlocks(t *testing.T) {
	lab := newLab(t)
	var l *Link
	in(t, lab.middle, func() error {
		cfg, err := small("m0").withDefaults()
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
		eventually(t, l, func(frames []wire.Frame) bool {
			for _, f := range frames {
				if isTest(f.Bytes()) {
					return true
				}
			}
			return false
		})
	}
}

// TestTag sends a frame with a VLAN tag, which the kernel takes out: it is lent
// with the tag in its place.
func TestTag(t *testing.T) {
	lab := newLab(t)
	l := open(t, lab.middle, "m0")
	from := rawSocket(t, lab.left, "l0")
	plain := testFrame(7, 100)
	tag := []byte{0x81, 0x00, 0x60, 0x2a} // priority 3, VLAN 42
	want := append(append(append([]byte{}, plain[:12]...), tag...), plain[12:]...)
	write(t, from, want)
	eventually(t, l, func(frames []wire.Frame) bool {
		for i := range frames {
			f := &frames[i]
			if bytes.Equal(f.Bytes(), want) {
				if f.Room() < wire.Headroom {
					t.Errorf("room before the tagged frame is %d, want %d", f.Room(), wire.Headroom)
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

// TestOtherHost sends a frame to a MAC address that is not the middle's: it is
// counted and not lent.
func TestOtherHost(t *testing.T) {
	lab := newLab(t)
	l := open(t, lab.middle, "m0")
	from := rawSocket(t, lab.left, "l0")
	strange := testFrame(1, 60)
	copy(strange, net.HardwareAddr{0x02, 0, 0, 0, 0xff, 0xff})
	write(t, from, strange)
	write(t, from, testFrame(2, 60))
	eventually(t, l, func(frames []wire.Frame) bool {
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

// TestOwnFrames sends from the link, and from another program on the same host:
// neither comes back by the ring.
func TestOwnFrames(t *testing.T) {
	lab := newLab(t)
	host, from := rawSocket(t, lab.middle, "m0"), rawSocket(t, lab.left, "l0")
	for _, workers := range []int{1, 2} {
		links := openWorkers(t, lab.middle, small("m0"), workers)
		f := fresh(testFrame(9, 60))
		f.Out = 0
		if n, err := links[0].Send([]wire.Frame{f}); n != 1 || err != nil {
			t.Fatalf("sent %d, %v, want 1 frame", n, err)
		}
		write(t, host, testFrame(9, 60))
		// Everything of ours that could come back was delivered before this one.
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

// fresh is a frame in memory of its own, with headroom.
func fresh(b []byte) wire.Frame {
	buf := append(make([]byte, wire.Headroom), b...)
	return wire.Frame{Buf: buf, Off: wire.Headroom, End: int32(len(buf)), Out: wire.NoPort}
}

// udpFrame is an IPv4 UDP frame of flow n without a payload; checksums are left
// out, since nobody reads it.
func udpFrame(n int) []byte {
	b := make([]byte, 60)
	copy(b, rightMAC)
	copy(b[6:], leftMAC)
	copy(b[12:], []byte{
		0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0,
		10, 9, 0, 1, 10, 9, 0, 2,
		byte(n >> 8), byte(n), 0, 53, 0, 8, 0, 0,
	})
	return b
}

// TestGroup lets two workers share an interface: every frame comes to exactly
// one of them, always to the same one for a flow, and only that one's doorbell
// rings. That is still so when the interface was down in between.
func TestGroup(t *testing.T) {
	lab := newLab(t)
	links := openWorkers(t, lab.middle, small("m0"), 2)
	from := rawSocket(t, lab.left, "l0")
	const flows = 64
	var owners [flows]int
	var load [2]int
	for round := range 3 {
		for flow := range flows {
			owner := ownerOf(t, links, from, flow)
			load[owner]++
			if round > 0 && owner != owners[flow] {
				t.Errorf("flow %d came to worker %d in round %d, to %d before", flow, owner, round, owners[flow])
			}
			owners[flow] = owner
		}
		setUp(t, lab.middle, "m0", false)
		setUp(t, lab.middle, "m0", true)
	}
	if load[0] == 0 || load[1] == 0 {
		t.Errorf("workers saw %v frames, want both to have work", load)
	}
}

// TestSteer picks the worker by a program: the UDP source port modulo two.
func TestSteer(t *testing.T) {
	lab := newLab(t)
	cfg := small("m0")
	prog, err := bpf.Assemble([]bpf.Instruction{bpf.LoadAbsolute{Off: 20, Size: 2}, bpf.RetA{}})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Steer = prog
	links := openWorkers(t, lab.middle, cfg, 2)
	from := rawSocket(t, lab.left, "l0")
	for flow := range 16 {
		if owner := ownerOf(t, links, from, flow); owner != flow%2 {
			t.Errorf("source port %d came to worker %d, want %d", flow, owner, flow%2)
		}
	}
}

// ownerOf sends a frame of a flow and says which of two workers it came to. It
// fails the test if the frame comes to both, or if the other's doorbell rings.
func ownerOf(t testing.TB, links []*Link, from, flow int) (owner int) {
	t.Helper()
	for _, l := range links {
		if err := l.drain(); err != nil {
			t.Fatal(err)
		}
	}
	write(t, from, udpFrame(flow))
	seen := make([]int, len(links))
	for end := time.Now().Add(patience); seen[0]+seen[1] == 0 && time.Now().Before(end); {
		// Looking at all workers after one has the frame would find a second copy.
		for w, l := range links {
			var frames [8]wire.Frame
			for _, f := range frames[:l.look(frames[:])] {
				if b := f.Bytes(); len(b) > 36 && b[23] == wire.ProtoUDP && int(binary.BigEndian.Uint16(b[34:])) == flow {
					seen[w]++
					owner = w
				}
			}
			l.ports[0].rx.giveBack()
		}
	}
	if seen[owner] != 1 || seen[1-owner] != 0 {
		t.Fatalf("flow %d: workers saw its one frame %v times", flow, seen)
	}
	if opensBlocks && rung(t, links[1-owner]) {
		t.Errorf("flow %d belongs to worker %d, but the other one's doorbell rang", flow, owner)
	}
	return owner
}

// rung says whether a link's doorbell would wake it.
func rung(t testing.TB, l *Link) bool {
	t.Helper()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(l.ports[0].bell), Events: unix.POLLIN}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

// TestBellBeforeRing looks at the kernel's list of taps, in the order it runs
// them: a frame must be in the ring before the doorbell rings, also after the
// interface went down and up.
func TestBellBeforeRing(t *testing.T) {
	if !opensBlocks {
		t.Skip("this machine sleeps on the ring itself")
	}
	lab := newLab(t)
	open(t, lab.middle, "m0")
	check := func(when string) {
		var taps []string
		in(t, lab.middle, func() error {
			list, err := os.ReadFile("/proc/thread-self/net/ptype")
			for line := range strings.Lines(string(list)) {
				if f := strings.Fields(line); len(f) == 3 && f[1] == "m0" {
					taps = append(taps, f[2])
				}
			}
			return err
		})
		if want := []string{"tpacket_rcv", "packet_rcv"}; !slices.Equal(taps, want) {
			t.Errorf("%s: the kernel runs %v, want %v", when, taps, want)
		}
	}
	check("opened")
	setUp(t, lab.middle, "m0", false)
	setUp(t, lab.middle, "m0", true)
	check("down and up again")
}

// TestDoorbell lets a frame ring the bell: it is silent again once the link has
// slept on it, or the link would never sleep again.
func TestDoorbell(t *testing.T) {
	if !opensBlocks {
		t.Skip("this machine sleeps on the ring itself")
	}
	lab := newLab(t)
	l := open(t, lab.middle, "m0")
	l.idle = 1
	from := rawSocket(t, lab.left, "l0")
	write(t, from, testFrame(1, 60))
	if !rung(t, l) {
		t.Error("a frame came and the doorbell did not ring")
	}
	eventually(t, l, func(frames []wire.Frame) bool { return len(frames) > 0 })
	eventually(t, l, func(frames []wire.Frame) bool { return len(frames) == 0 })
	if rung(t, l) {
		t.Error("the doorbell rings though no frame came since the link slept")
	}
}

// TestWake calls Wake before and during Recv; both return at once, empty.
func TestWake(t *testing.T) {
	lab := newLab(t)
	l := open(t, lab.middle, "m0")
	l.idle = int(time.Hour / time.Millisecond)
	var frames [8]wire.Frame
	done := make(chan error)
	l.Wake()
	for _, when := range []string{"before", "during"} {
		go func() {
			_, err := l.Recv(frames[:])
			done <- err
		}()
		if when == "during" {
			for l.shownSleeps.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
			l.Wake()
		}
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("woken %s: %v", when, err)
			}
		case <-time.After(patience):
			t.Fatalf("Recv does not return when woken %s it", when)
		}
	}
}

// TestClose closes a link whose Recv is asleep; that Recv, and every later call,
// says so.
func TestClose(t *testing.T) {
	lab := newLab(t)
	l := open(t, lab.middle, "m0")
	l.idle = int(time.Hour / time.Millisecond)
	var frames [8]wire.Frame
	done := make(chan error)
	go func() {
		_, err := l.Recv(frames[:])
		done <- err
	}()
	for l.shownSleeps.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("waiting Recv returned %v, want net.ErrClosed", err)
		}
	case <-time.After(patience):
		t.Fatal("waiting Recv does not return on Close")
	}
	if _, err := l.Recv(frames[:]); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Recv after Close: %v, want net.ErrClosed", err)
	}
	if _, err := l.Send(frames[:]); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send after Close: %v, want net.ErrClosed", err)
	}
	l.Wake()
	l.Stats()
	if err := l.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// TestDown takes the interface down and up underneath a link: sending meanwhile
// is counted, and frames flow again afterwards.
func TestDown(t *testing.T) {
	lab := newLab(t)
	setUp(t, lab.middle, "m0", false)
	l := open(t, lab.middle, "m0") // it may be down from the start
	var frames [8]wire.Frame
	for range 2 {
		f := fresh(testFrame(1, 60))
		f.Out = 0
		if n, err := l.Send([]wire.Frame{f, f}); n != 0 || err != nil {
			t.Errorf("send while down: %d, %v, want 0 frames and no error", n, err)
		}
		if _, err := l.Recv(frames[:]); err != nil {
			t.Fatalf("receive while down: %v", err)
		}
	}
	setUp(t, lab.middle, "m0", true)
	from := rawSocket(t, lab.left, "l0")
	write(t, from, testFrame(3, 60))
	eventually(t, l, func(frames []wire.Frame) bool { return len(frames) > 0 })
	f := fresh(testFrame(2, 60))
	f.Out = 0
	if n, err := l.Send([]wire.Frame{f}); n != 1 || err != nil {
		t.Errorf("send when up again: %d, %v, want 1 frame", n, err)
	}
	// Nobody received in between, so nobody heard of it.
	setUp(t, lab.middle, "m0", false)
	setUp(t, lab.middle, "m0", true)
	if n, err := l.Send([]wire.Frame{f}); n != 1 || err != nil {
		t.Errorf("send after an outage nobody noticed: %d, %v, want 1 frame", n, err)
	}
	l.Close()
	if got := l.Stats().Ports[0].DropDown; got != 4 {
		t.Errorf("DropDown is %d, want 4", got)
	}
}

// TestDeleted deletes the interfaces underneath a waiting link one after the
// other: it goes on with the one that is left, then says that none is.
func TestDeleted(t *testing.T) {
	lab := newLab(t)
	l := open(t, lab.middle, "m0", "m1")
	h := handle(t, lab.middle)
	remove := func(name string) {
		link, err := h.LinkByName(name)
		if err == nil {
			err = h.LinkDel(link)
		}
		if err != nil {
			t.Fatalf("delete %s: %v", name, err)
		}
	}
	remove("m0")
	eventually(t, l, func([]wire.Frame) bool { return l.Stats().Ports[0].Gone })
	f := fresh(testFrame(2, 60))
	f.Out = 1
	g := f
	g.Out = 0
	if n, err := l.Send([]wire.Frame{g, f}); n != 1 || err != nil {
		t.Errorf("send by the port that is left and the one that is gone: %d, %v, want 1 frame", n, err)
	}
	remove("m1")
	var err error
	for end := time.Now().Add(patience); err == nil && time.Now().Before(end); {
		var frames [8]wire.Frame
		_, err = l.Recv(frames[:])
	}
	if !errors.Is(err, ErrGone) {
		t.Errorf("receive with all interfaces deleted: %v, want ErrGone", err)
	}
}

// TestOpenErrors opens what cannot be opened and reads the message.
func TestOpenErrors(t *testing.T) {
	lab := newLab(t)
	for _, row := range []struct {
		what string
		cfg  Config
		want string
	}{
		{"no interface", Config{}, "0 interfaces"},
		{"an unknown interface", small("nosuch0"), "interface nosuch0: no such device"},
		{"the same interface twice", small("m0", "m0"), "m0 given twice"},
		{"blocks too small for super-frames", Config{Interfaces: small("m0").Interfaces, BlockSize: 65536}, "block size 65536"},
		{"a lone block", Config{Interfaces: small("m0").Interfaces, Blocks: 1}, "1 blocks"},
		{"an idle time of nothing", Config{Interfaces: small("m0").Interfaces, Idle: 1}, "idle time 1ns"},
	} {
		in(t, lab.middle, func() error {
			l, err := Open(row.cfg)
			if err == nil {
				l.Close()
				t.Errorf("%s: opened", row.what)
			} else if !bytes.Contains([]byte(err.Error()), []byte(row.want)) {
				t.Errorf("%s: %q does not name %q", row.what, err, row.want)
			}
			return nil
		})
	}
	// Without capabilities the message names the one that is missing.
	err := onThread(func() error {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			return fmt.Errorf("drop capabilities: %w", err)
		}
		_, err := Open(small("lo"))
		return err
	})
	if !errors.Is(err, unix.EPERM) || !bytes.Contains([]byte(err.Error()), []byte("CAP_NET_RAW")) {
		t.Errorf("open without capabilities: %v, want EPERM naming CAP_NET_RAW", err)
	}
}

// TestNoAllocation receives and sends without allocating, also when it finds
// nothing and sleeps.
func TestNoAllocation(t *testing.T) {
	lab := newLab(t)
	l := open(t, lab.middle, "m0", "m1")
	l.idle = 1
	from := rawSocket(t, lab.left, "l0")
	frame := testFrame(5, 100)
	frames := make([]wire.Frame, 64)
	got := 0
	allocs := testing.AllocsPerRun(200, func() {
		_, _ = unix.Write(from, frame)
		for range 2 { // the second finds nothing and sleeps
			n, err := l.Recv(frames)
			if err != nil {
				t.Fatal(err)
			}
			got += n
			for i := range frames[:n] {
				frames[i].Out = 1
			}
			if _, err := l.Send(frames[:n]); err != nil {
				t.Fatal(err)
			}
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for receiving and sending, want none", allocs)
	}
	if got < 200 {
		t.Errorf("received %d frames of 200", got)
	}
}
