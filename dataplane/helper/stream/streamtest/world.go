package streamtest

import (
	"math/rand/v2"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// Process is the director's rewriter.
type Process func(dir conntrack.Dir, f *wire.Frame, p *wire.Packet) stream.Outcome

// Dirs are the directions, by their indices.
var Dirs = [2]conntrack.Dir{conntrack.DirIn, conntrack.DirOut}

// World is two ends, the director between them and the network.
type World struct {
	t        testing.TB
	rng      *rand.Rand
	process  Process
	Ends     [2]*End         // by the index of the direction in which they send
	before   [2][]wire.Frame // on their way to the director, by the end that sent them
	after    [2][]wire.Frame // on their way to an end
	Outcomes [stream.NumOutcome]int
	Lossless bool
	frames   int
}

// New makes a world in which nothing was sent yet. The ends have the addresses
// of the family, the server's as the director sees it: before translation.
func New(t testing.TB, rng *rand.Rand, ipv6 bool, process Process) *World {
	client, server, vip := "198.51.100.7:40000", "10.0.0.2:21", "10.9.0.1:21"
	if ipv6 {
		client, server, vip = "[2001:db8::7]:40000", "[fd00::2]:21", "[2001:db8:9::1]:21"
	}
	w := &World{t: t, rng: rng, process: process}
	stamps, scale := rng.IntN(2) == 0, uint8(rng.IntN(9))
	for i := range w.Ends {
		w.Ends[i] = &End{
			t: t, ISN: rng.Uint32(), MSS: 1460, Scale: scale, Stamps: stamps, clock: rng.Uint32() / 2,
			sacked: map[int]bool{}, ahead: map[int]byte{}, finAt: -1,
		}
		if rng.IntN(4) == 0 {
			w.Ends[i].ISN = -rng.Uint32N(60) // numbers wrap round soon
		}
	}
	c, s := w.Ends[0], w.Ends[1]
	c.Addr, c.To, c.Peer = client, vip, s.ISN
	s.Addr, s.To, s.Peer = server, client, c.ISN
	return w
}

// Connect does the handshake, without losses.
func (w *World) Connect() {
	c, s := w.Ends[0], w.Ends[1]
	syn := c.frame(wire.TCPSyn, c.ISN, c.synOptions(), nil, 0, false, wire.Headroom, 0)
	w.direct(conntrack.DirIn, syn)
	s.told = c.clock
	w.direct(conntrack.DirOut, s.frame(wire.TCPSyn|wire.TCPAck, s.ISN, s.synOptions(), nil, 0, false, wire.Headroom, 0))
	c.told = s.clock
	w.after = [2][]wire.Frame{}
	w.direct(conntrack.DirIn, c.Ack(plain))
	w.arrive()
}

// direct takes a frame through the director, which must leave a sound frame.
func (w *World) direct(dir conntrack.Dir, f wire.Frame) {
	w.t.Helper()
	var p wire.Packet
	wire.Parse(&f, &p)
	came := f.Len()
	outcome := w.process(dir, &f, &p)
	w.Outcomes[outcome]++
	if f.Off < 0 || f.End < f.Off || int(f.End) > len(f.Buf) {
		w.t.Fatalf("frame at %d to %d of %d", f.Off, f.End, len(f.Buf))
	}
	if outcome.Dropped() {
		return
	}
	var again wire.Packet
	wire.Parse(&f, &again)
	if outcome != stream.Answered && again != p {
		w.t.Fatalf("packet is %+v, frame says %+v", p, again)
	}
	if w.frames++; w.frames%8 == 0 {
		wiretest.Check(w.t, f)
	} else if again.Kind != wire.KindIP || !wire.VerifyChecksum(&f, &again) {
		w.t.Fatalf("unsound frame: flaw %d, %x", again.Flaw, f.Bytes())
	}
	if f.Offload.GSOType == wire.GSONone && f.Len() > came && f.Len() > 14+60+60+1220 {
		w.t.Fatalf("frame grew from %d to %d bytes", came, f.Len())
	}
	to := dir.Opposite()
	if outcome == stream.Answered {
		to = dir
		if f.Out != f.In {
			w.t.Fatalf("answer leaves by port %d, came in by %d", f.Out, f.In)
		}
	}
	w.after[to.Index()] = append(w.after[to.Index()], f)
}

// shape is a random shape; a frame of n bytes of text may be a super-frame.
func (w *World) shape(n int) Shape {
	s := Shape{Room: wire.Headroom + 10, Back: w.rng.IntN(8), Partial: w.rng.IntN(4) == 0}
	if w.rng.IntN(8) == 0 {
		s.Room = 16 + w.rng.IntN(40)
	}
	if n > 1 && w.rng.IntN(6) == 0 {
		s.GSO = uint16(1 + w.rng.IntN(n-1))
	}
	return s
}

// step lets one thing happen somewhere.
func (w *World) step() {
	dir := Dirs[w.rng.IntN(2)]
	e := w.Ends[dir.Index()]
	all := len(e.Out) + e.fins()
	switch w.rng.IntN(8) {
	case 0, 1: // new text
		if e.nxt < all {
			from, to := e.nxt, min(all, e.nxt+1+w.rng.IntN(w.cut()))
			if w.rng.IntN(3) == 0 { // with some of the old
				from -= w.rng.IntN(from - e.una + 1)
			}
			w.send(dir, e.Segment(from, to, w.shape(to-from)))
		}
	case 2: // again, with other cuts
		if e.una < e.nxt {
			from := e.una + w.rng.IntN(e.nxt-e.una)
			if w.rng.IntN(6) == 0 {
				from = w.rng.IntN(e.una + 1)
			}
			to := min(e.nxt, from+1+w.rng.IntN(w.cut()))
			w.send(dir, e.Segment(from, to, w.shape(to-from)))
		}
	case 3:
		if w.rng.IntN(3) == 0 {
			w.send(dir, e.Probe(w.shape(0)))
		} else {
			w.send(dir, e.Ack(w.shape(0)))
		}
	case 4, 5:
		if f, ok := w.pull(&w.before[dir.Index()]); ok {
			w.direct(dir, f)
		}
	default:
		if f, ok := w.pull(&w.after[dir.Index()]); ok {
			had := len(e.In)
			e.Receive(f)
			if len(e.In) > had || w.rng.IntN(2) == 0 {
				w.send(dir, e.Ack(w.shape(0)))
			}
		}
	}
}

// cut is the longest segment this time.
func (w *World) cut() int { return []int{1, 3, 20, 100, 1400}[w.rng.IntN(5)] }

func (w *World) send(dir conntrack.Dir, f wire.Frame) {
	w.before[dir.Index()] = append(w.before[dir.Index()], f)
}

// pull takes some frame out of a queue: mostly the first. It may be lost, or stay
// in the queue as well.
func (w *World) pull(queue *[]wire.Frame) (f wire.Frame, ok bool) {
	q := *queue
	if len(q) == 0 {
		return f, false
	}
	i := 0
	if !w.Lossless && w.rng.IntN(3) == 0 {
		i = w.rng.IntN(len(q))
	}
	f = q[i]
	if !w.Lossless && w.rng.IntN(8) == 0 && len(q) < 20 {
		buf := append([]byte(nil), f.Buf...)
		f.Buf = buf
		return f, true // and again later
	}
	*queue = append(q[:i:i], q[i+1:]...)
	return f, w.Lossless || w.rng.IntN(6) != 0
}

// arrive delivers what the director has sent on.
func (w *World) arrive() {
	for i, e := range w.Ends {
		for _, f := range w.after[i] {
			e.Receive(f)
		}
		w.after[i] = nil
	}
}

// Disturb lets n random things happen.
func (w *World) Disturb(n int) {
	for range n {
		w.step()
	}
}

// Carry takes text[from:to] of an end through the director, and what comes out of
// there to where it goes, with the other end's acknowledgement; or loses it there.
func (w *World) Carry(dir conntrack.Dir, from, to int, lost bool) {
	w.t.Helper()
	w.direct(dir, w.Ends[dir.Index()].Segment(from, to, plain))
	if lost {
		w.after[dir.Opposite().Index()] = nil
	}
	w.arrive()
	if !lost {
		w.direct(dir.Opposite(), w.Ends[dir.Opposite().Index()].Ack(plain))
		w.arrive()
	}
}

// Settle lets the network recover: each end sends what is missing, oldest first
// and not what was SACKed, until both are done.
func (w *World) Settle() {
	w.t.Helper()
	for _, q := range []*[2][]wire.Frame{&w.before, &w.after} {
		for i := range q {
			q[i] = nil // everything under way is lost
		}
	}
	for round := 0; ; round++ {
		if w.Ends[0].Done() && w.Ends[1].Done() {
			return
		}
		if round > 400 {
			w.t.Fatalf("nothing moves any more: %v; %v; outcomes %v", w.Ends[0], w.Ends[1], w.Outcomes)
		}
		for i, e := range w.Ends {
			dir := Dirs[i]
			from, all := e.una, len(e.Out)+e.fins()
			for from < e.nxt && e.sacked[from] {
				from++
			}
			if from == e.nxt && e.una < e.nxt {
				w.t.Fatalf("%v: all of it SACKed, and not acknowledged", e)
			}
			if from < all {
				to := min(all, from+1+w.rng.IntN(1000))
				w.direct(dir, e.Segment(from, to, plain))
			}
			w.arrive()
			w.direct(dir.Opposite(), w.Ends[dir.Opposite().Index()].Ack(plain))
			w.arrive()
		}
	}
}
