package ring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// TestWake calls Wake before and during Recv. Both times Recv returns at once without
// frames.
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
			for l.sharedSleeps.Load() == 0 {
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

// TestClose closes a link whose Recv sleeps. This Recv and every later call return
// net.ErrClosed.
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
	for l.sharedSleeps.Load() == 0 {
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

// TestDown sets the interface of a link down and up. The link counts frames that it
// cannot send meanwhile, and continues afterwards.
func TestDown(t *testing.T) {
	lab := newLab(t)
	setUp(t, lab.middle, "m0", false)
	l := open(t, lab.middle, "m0") // it may be down from the start
	var frames [8]wire.Frame
	for range 2 {
		f := newFrame(testFrame(1, 60))
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
	receiveUntil(t, l, func(frames []wire.Frame) bool { return len(frames) > 0 })
	f := newFrame(testFrame(2, 60))
	f.Out = 0
	if n, err := l.Send([]wire.Frame{f}); n != 1 || err != nil {
		t.Errorf("send when up again: %d, %v, want 1 frame", n, err)
	}
	// There is no Recv in between, so the link does not notice it.
	setUp(t, lab.middle, "m0", false)
	setUp(t, lab.middle, "m0", true)
	if n, err := l.Send([]wire.Frame{f}); n != 1 || err != nil {
		t.Errorf("send after an unnoticed outage: %d, %v, want 1 frame", n, err)
	}
	l.Close()
	if got := l.Stats().Ports[0].DropDown; got != 4 {
		t.Errorf("DropDown is %d, want 4", got)
	}
}

// TestDeleted deletes the interfaces of a link one after the other. The link continues
// with those that are left. Then the test creates the first one again.
func TestDeleted(t *testing.T) {
	lab := newLab(t)
	cfg := smallConfig("m0", "m1")
	l := openWorkers(t, lab.middle, cfg, 1)[0]
	sendBy := func(port uint16) (sent int) {
		t.Helper()
		f := newFrame(testFrame(2, 60))
		f.Out = port
		sent, err := l.Send([]wire.Frame{f})
		if err != nil {
			t.Fatalf("send by port %d: %v", port, err)
		}
		return sent
	}
	deleteInterface(t, lab.middle, "m0")
	receiveUntil(t, l, func([]wire.Frame) bool { return l.Stats().Ports[0].Gone })
	if left, gone := sendBy(1), sendBy(0); left != 1 || gone != 0 {
		t.Errorf("sent %d frames by the remaining port and %d by the deleted one, want 1 and 0", left, gone)
	}
	deleteInterface(t, lab.middle, "m1")
	receiveUntil(t, l, func([]wire.Frame) bool { return l.Stats().Ports[1].Gone })
	inNetns(t, lab.middle, func() error {
		if err := Reopen([]*Link{l}, cfg, 0); !errors.Is(err, unix.ENODEV) {
			t.Errorf("reopen an interface that does not exist: %v, want ENODEV", err)
		}
		return nil
	})

	before := l.Stats().Ports[0]
	lab.veth(t, "l0", lab.left, leftMAC, "m0", rightMAC)
	reopen(t, lab, []*Link{l}, cfg)
	from := rawSocket(t, lab.left, "l0")
	receiveUntil(t, l, func([]wire.Frame) bool { return !l.Stats().Ports[0].Gone }) // reopened
	write(t, from, testFrame(3, 60))
	receiveUntil(t, l, func(frames []wire.Frame) bool { return len(frames) > 0 && frames[0].In == 0 })
	if sendBy(0) != 1 {
		t.Error("cannot send by the port that is back")
	}
	l.publish()
	if s := l.Stats().Ports[0]; s.Received == 0 || s.DropDown != before.DropDown || before.DropDown == 0 {
		t.Errorf("counters do not continue: before %+v, after %+v", before, s)
	}
}

// TestReopenGroup: the interface of two workers is deleted and created again. Each flow
// goes to one of them, and only its wake socket wakes it.
func TestReopenGroup(t *testing.T) {
	lab := newLab(t)
	cfg := smallConfig("m0")
	links := openWorkers(t, lab.middle, cfg, 2)
	deleteInterface(t, lab.middle, "m0")
	lab.veth(t, "l0", lab.left, leftMAC, "m0", rightMAC)
	reopen(t, lab, links, cfg)
	for _, l := range links {
		var frames [8]wire.Frame
		if _, err := l.Recv(frames[:]); err != nil {
			t.Fatal(err)
		}
	}
	from := rawSocket(t, lab.left, "l0")
	var load [2]int
	for flow := range 32 {
		load[ownerOf(t, links, from, flow)]++
	}
	if load[0] == 0 || load[1] == 0 {
		t.Errorf("workers saw %v frames, want both to have work", load)
	}
	// A replacement that was not installed is closed with the link, or by Reopen
	// if the link is closed.
	reopen(t, lab, links, cfg)
	reopen(t, lab, links, cfg)
	for _, l := range links {
		l.Close()
	}
	inNetns(t, lab.middle, func() error {
		if err := Reopen(links, cfg, 0); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reopen closed links: %v, want net.ErrClosed", err)
		}
		if left, err := os.ReadFile("/proc/thread-self/net/packet"); err != nil ||
			bytes.Count(left, []byte("\n")) != 1 {
			t.Errorf("packet sockets are left: %v\n%s", err, left)
		}
		return nil
	})
}

// deleteInterface deletes an interface, and with it the peer of a veth.
func deleteInterface(t *testing.T, ns netns.NsHandle, name string) {
	t.Helper()
	h := netlinkHandle(t, ns)
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil {
		t.Fatalf("delete %s: %v", name, err)
	}
}

// reopen opens interface 0 in the middle again.
func reopen(t *testing.T, lab *lab, links []*Link, cfg Config) {
	t.Helper()
	inNetns(t, lab.middle, func() error { return Reopen(links, cfg, 0) })
}

// TestOpenErrors checks the messages for configurations that cannot be opened.
func TestOpenErrors(t *testing.T) {
	lab := newLab(t)
	for _, row := range []struct {
		what string
		cfg  Config
		want string
	}{
		{"no interface", Config{}, "0 interfaces"},
		{"an unknown interface", smallConfig("nosuch0"), "interface nosuch0: no such device"},
		{"the same interface twice", smallConfig("m0", "m0"), "m0 given twice"},
		{
			"blocks too small for GSO frames",
			Config{Interfaces: smallConfig("m0").Interfaces, BlockSize: 65536},
			"block size 65536",
		},
		{"a single block", Config{Interfaces: smallConfig("m0").Interfaces, Blocks: 1}, "1 blocks"},
		{"an idle time that is too short", Config{Interfaces: smallConfig("m0").Interfaces, Idle: 1}, "idle time 1ns"},
	} {
		inNetns(t, lab.middle, func() error {
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
		_, err := Open(smallConfig("lo"))
		return err
	})
	if !errors.Is(err, unix.EPERM) || !bytes.Contains([]byte(err.Error()), []byte("CAP_NET_RAW")) {
		t.Errorf("open without capabilities: %v, want EPERM naming CAP_NET_RAW", err)
	}
}

// TestNoAllocation receives and sends without allocating, also when a Recv sleeps
// without a frame.
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
		for range 2 { // the second Recv sleeps without a frame
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

// TestAwayWorker keeps the worker away while single frames come for longer than eight
// ticks of a short block timer. No frame is lost.
func TestAwayWorker(t *testing.T) {
	if !readsOpenBlocks {
		t.Skip("on this machine the ring bridges 64 ms")
	}
	lab := newLab(t)
	l := open(t, lab.middle, "m0")
	from := rawSocket(t, lab.left, "l0")
	const frames = 1200
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := range uint32(frames) {
		<-tick.C
		write(t, from, testFrame(i, 60))
	}
	next := uint32(0)
	receiveUntil(t, l, func(lent []wire.Frame) bool {
		for i := range lent {
			if b := lent[i].Bytes(); isTest(b) {
				if n := binary.BigEndian.Uint32(b[14:]); n != next {
					t.Fatalf("frame %d is missing, next is %d; %+v", next, n, l.Stats())
				}
				next++
			}
		}
		return next == frames
	})
}
