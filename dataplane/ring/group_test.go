package ring

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// udpFrame returns an IPv4 UDP frame of flow n, without payload and checksums.
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

// TestGroup: two workers share an interface. Every frame goes to exactly one of them,
// all frames of a flow go to the same one, and only its wake socket wakes it. That remains
// so after the interface was down.
func TestGroup(t *testing.T) {
	lab := newLab(t)
	links := openWorkers(t, lab.middle, smallConfig("m0"), 2)
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

// TestGroupKeepsFragmentsTogether: the kernel's hash ignores the ports of all
// fragments, also of the first one, so that all of a datagram go to one worker.
func TestGroupKeepsFragmentsTogether(t *testing.T) {
	lab := newLab(t)
	links := openWorkers(t, lab.middle, smallConfig("m0"), 2)
	from := rawSocket(t, lab.left, "l0")
	var load [2]int
	for n := range 64 {
		owners := [3]int{}
		for i, fragment := range []uint16{0x2000, 0x2000 | 1, 2} { // the first, one in the middle, the last
			f := udpFrame(1000*i + n)
			binary.BigEndian.PutUint16(f[18:], uint16(n)) // identification
			binary.BigEndian.PutUint16(f[20:], fragment)
			f[29] = byte(n) // of the source address
			owners[i] = ownerOfFrame(t, links, from, 1000*i+n, f)
		}
		if owners[1] != owners[0] || owners[2] != owners[0] {
			t.Errorf("the fragments of datagram %d came to workers %v, want them at one", n, owners)
		}
		load[owners[0]]++
	}
	if load[0] == 0 || load[1] == 0 {
		t.Errorf("workers saw %v datagrams, want both to have work", load)
	}
}

// TestSteer selects the worker by a program: the UDP source port modulo two.
func TestSteer(t *testing.T) {
	lab := newLab(t)
	cfg := smallConfig("m0")
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

// ownerOf sends a frame of a flow, and returns which of two workers received it. It
// fails the test if both did, or if the other one's wake socket wakes it.
func ownerOf(t testing.TB, links []*Link, from, flow int) (owner int) {
	t.Helper()
	return ownerOfFrame(t, links, from, flow, udpFrame(flow))
}

// ownerOfFrame is ownerOf for a frame that has the flow's number at the offset of
// UDP's source port.
func ownerOfFrame(t testing.TB, links []*Link, from, flow int, frame []byte) (owner int) {
	t.Helper()
	for _, l := range links {
		l.drain()
	}
	write(t, from, frame)
	seen := make([]int, len(links))
	for end := time.Now().Add(patience); seen[0]+seen[1] == 0 && time.Now().Before(end); {
		// All workers are read, to detect a second copy.
		for w, l := range links {
			var frames [8]wire.Frame
			for _, f := range frames[:l.takeReady(frames[:])] {
				if b := f.Bytes(); len(b) > 36 && b[23] == wire.ProtoUDP &&
					int(binary.BigEndian.Uint16(b[34:])) == flow {
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
	if readsOpenBlocks && wakes(t, links[1-owner]) {
		t.Errorf("flow %d belongs to worker %d, but the other one wakes", flow, owner)
	}
	return owner
}

// wakes reports whether a wake socket would wake the link.
func wakes(t testing.TB, l *Link) bool {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(l.ports[0].wakeFD), Events: unix.POLLIN}}, 0)
		if err == nil {
			return n > 0
		}
		if err != unix.EINTR { // Go preempts by signals, and poll(2) is never restarted after one
			t.Fatal(err)
		}
	}
}

// TestRingBeforeWakeSocket reads the kernel's list of taps, in the order in which it runs
// them. The ring must come before the wake socket, also after the interface went down
// and up.
func TestRingBeforeWakeSocket(t *testing.T) {
	if !readsOpenBlocks {
		t.Skip("this machine sleeps on the ring itself")
	}
	lab := newLab(t)
	open(t, lab.middle, "m0")
	check := func(when string) {
		var taps []string
		inNetns(t, lab.middle, func() error {
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

// TestWakeSocket: a frame makes it readable. After the link slept on it, it is not;
// otherwise the link would never sleep again.
func TestWakeSocket(t *testing.T) {
	if !readsOpenBlocks {
		t.Skip("this machine sleeps on the ring itself")
	}
	lab := newLab(t)
	l := open(t, lab.middle, "m0")
	l.idle = 1
	from := rawSocket(t, lab.left, "l0")
	write(t, from, testFrame(1, 60))
	if !wakes(t, l) {
		t.Error("a frame came and the wake socket is not readable")
	}
	receiveUntil(t, l, func(frames []wire.Frame) bool { return len(frames) > 0 })
	receiveUntil(t, l, func(frames []wire.Frame) bool { return len(frames) == 0 })
	if wakes(t, l) {
		t.Error("the wake socket wakes it though no frame came since the link slept")
	}
}
