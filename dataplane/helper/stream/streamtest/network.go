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

// Network has two ends with the director between them.
type Network struct {
	t            testing.TB
	rng          *rand.Rand
	process      Process
	Ends         [2]*End         // by the index of the direction in which they send
	toDirector   [2][]wire.Frame // under way to the director, by the end that sent them
	fromDirector [2][]wire.Frame // under way to an end
	Outcomes     [stream.NumOutcome]int
	Lossless     bool
	frames       int
}

// New returns a Network in which nothing was sent yet. The server has its own address,
// because the rewriter sees frames before translation.
func New(t testing.TB, rng *rand.Rand, ipv6 bool, process Process) *Network {
	client, server, vip := "198.51.100.7:40000", "10.0.0.2:21", "10.9.0.1:21"
	if ipv6 {
		client, server, vip = "[2001:db8::7]:40000", "[fd00::2]:21", "[2001:db8:9::1]:21"
	}
	w := &Network{t: t, rng: rng, process: process}
	stamps, scale := rng.IntN(2) == 0, uint8(rng.IntN(9))
	for i := range w.Ends {
		w.Ends[i] = &End{
			t: t, ISN: rng.Uint32(), MSS: 1460, Scale: scale, Timestamps: stamps, tsval: rng.Uint32() / 2,
			sacked: map[int]bool{}, outOfOrder: map[int]byte{}, finAt: -1,
		}
		if rng.IntN(4) == 0 {
			w.Ends[i].ISN = -rng.Uint32N(60) // numbers soon wrap around
		}
	}
	c, s := w.Ends[0], w.Ends[1]
	c.Addr, c.To, c.Peer = client, vip, s.ISN
	s.Addr, s.To, s.Peer = server, client, c.ISN
	return w
}

// Connect does the handshake without losses.
func (w *Network) Connect() {
	c, s := w.Ends[0], w.Ends[1]
	syn := c.frame(wire.TCPSyn, c.ISN, c.synOptions(), nil, 0, false, wire.Headroom, 0)
	w.forward(conntrack.DirIn, syn)
	s.peerTSval = c.tsval
	w.forward(conntrack.DirOut, s.frame(wire.TCPSyn|wire.TCPAck, s.ISN, s.synOptions(), nil, 0, false, wire.Headroom,
		0))
	c.peerTSval = s.tsval
	w.fromDirector = [2][]wire.Frame{}
	w.forward(conntrack.DirIn, c.Ack(defaultShape))
	w.deliver()
}

// forward takes a frame through the director, which must leave a sound frame.
func (w *Network) forward(dir conntrack.Dir, f wire.Frame) {
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
	w.fromDirector[to.Index()] = append(w.fromDirector[to.Index()], f)
}

// shape returns a random shape. A frame with n > 1 bytes of text may be a GSO frame.
func (w *Network) shape(n int) Shape {
	s := Shape{Headroom: wire.Headroom + 10, Tailroom: w.rng.IntN(8), Partial: w.rng.IntN(4) == 0}
	if w.rng.IntN(8) == 0 {
		s.Headroom = 16 + w.rng.IntN(40)
	}
	if n > 1 && w.rng.IntN(6) == 0 {
		s.GSO = uint16(1 + w.rng.IntN(n-1))
	}
	return s
}

// step lets one random thing happen.
func (w *Network) step() {
	dir := Dirs[w.rng.IntN(2)]
	e := w.Ends[dir.Index()]
	all := len(e.Out) + e.finLen()
	switch w.rng.IntN(8) {
	case 0, 1: // new text
		if e.nxt < all {
			from, to := e.nxt, min(all, e.nxt+1+w.rng.IntN(w.maxSegment()))
			if w.rng.IntN(3) == 0 { // and some that was sent before
				from -= w.rng.IntN(from - e.una + 1)
			}
			w.enqueue(dir, e.Segment(from, to, w.shape(to-from)))
		}
	case 2: // a retransmission, with other boundaries
		if e.una < e.nxt {
			from := e.una + w.rng.IntN(e.nxt-e.una)
			if w.rng.IntN(6) == 0 {
				from = w.rng.IntN(e.una + 1)
			}
			to := min(e.nxt, from+1+w.rng.IntN(w.maxSegment()))
			w.enqueue(dir, e.Segment(from, to, w.shape(to-from)))
		}
	case 3:
		if w.rng.IntN(3) == 0 {
			w.enqueue(dir, e.Probe(w.shape(0)))
		} else {
			w.enqueue(dir, e.Ack(w.shape(0)))
		}
	case 4, 5:
		if f, ok := w.dequeue(&w.toDirector[dir.Index()]); ok {
			w.forward(dir, f)
		}
	default:
		if f, ok := w.dequeue(&w.fromDirector[dir.Index()]); ok {
			had := len(e.In)
			e.Receive(f)
			if len(e.In) > had || w.rng.IntN(2) == 0 {
				w.enqueue(dir, e.Ack(w.shape(0)))
			}
		}
	}
}

// maxSegment returns a random maximum length.
func (w *Network) maxSegment() int { return []int{1, 3, 20, 100, 1400}[w.rng.IntN(5)] }

func (w *Network) enqueue(dir conntrack.Dir, f wire.Frame) {
	w.toDirector[dir.Index()] = append(w.toDirector[dir.Index()], f)
}

// dequeue takes a frame out of a queue, usually the first. The frame may be lost, or
// also stay in the queue.
func (w *Network) dequeue(queue *[]wire.Frame) (f wire.Frame, ok bool) {
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

// deliver hands over what the director has forwarded.
func (w *Network) deliver() {
	for i, e := range w.Ends {
		for _, f := range w.fromDirector[i] {
			e.Receive(f)
		}
		w.fromDirector[i] = nil
	}
}

// Disturb lets n random things happen.
func (w *Network) Disturb(n int) {
	for range n {
		w.step()
	}
}

// Carry takes text[from:to] of an end through the director and to the other end, which
// acknowledges it. If lost is set, it is lost after the director.
func (w *Network) Carry(dir conntrack.Dir, from, to int, lost bool) {
	w.t.Helper()
	w.forward(dir, w.Ends[dir.Index()].Segment(from, to, defaultShape))
	if lost {
		w.fromDirector[dir.Opposite().Index()] = nil
	}
	w.deliver()
	if !lost {
		w.forward(dir.Opposite(), w.Ends[dir.Opposite().Index()].Ack(defaultShape))
		w.deliver()
	}
}

// Settle lets the network recover. Each end sends what is missing, oldest first and
// without what was SACKed, until both are done.
func (w *Network) Settle() {
	w.t.Helper()
	for _, q := range []*[2][]wire.Frame{&w.toDirector, &w.fromDirector} {
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
			from, all := e.una, len(e.Out)+e.finLen()
			for from < e.nxt && e.sacked[from] {
				from++
			}
			if from == e.nxt && e.una < e.nxt {
				w.t.Fatalf("%v: all of it SACKed, and not acknowledged", e)
			}
			if from < all {
				to := min(all, from+1+w.rng.IntN(1000))
				w.forward(dir, e.Segment(from, to, defaultShape))
			}
			w.deliver()
			w.forward(dir.Opposite(), w.Ends[dir.Opposite().Index()].Ack(defaultShape))
			w.deliver()
		}
	}
}
