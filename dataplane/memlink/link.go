package memlink

import (
	"bytes"
	"cmp"
	"io"
	"net"
	"sync"
	"time"

	"uvs/dataplane/wire"
)

// sendHeadroom is the headroom that a frame needs to be sent, in bytes: the AF_PACKET
// rings write a struct virtio_net_hdr there.
const sendHeadroom = 10

// poison is the byte with which Config.Poison overwrites memory.
const poison = 0xdb

// Record is a frame to be received, or one that was sent.
type Record struct {
	Port    uint16 // port that receives or sent it
	Data    []byte // from the Ethernet header on
	Offload wire.Offload
	Time    time.Time // set by Read
}

// Config configures a link. The zero value is good for most tests.
type Config struct {
	// Ports is the number of ports. Default 2.
	Ports int
	// Poison overwrites lent memory when it is taken back, and lends new memory
	// next, so that a user that keeps a frame too long reads other bytes.
	Poison bool
	// Idle is the longest wait of Recv. Default 100 ms, like the rings.
	Idle time.Duration
}

// Link is a link in memory. One goroutine calls Recv and Send. Any goroutine may call
// the other methods.
type Link struct {
	cfg      Config
	bufs     [][]byte // lent memory, and memory to lend again
	lent     int      // the number of bufs that are lent
	splitter *wire.Splitter
	timer    *time.Timer

	changed chan struct{} // has one element if a field below changed

	mu        sync.Mutex
	queue     []Record // to be received, from first on
	first     int
	feedEnded bool // EndFeed was called
	sent      []Record
	dropped   int
	peer      *Link // receives the frames, instead of sent
	woken     bool
	closed    bool
}

// New makes a link.
func New(cfg Config) *Link {
	cfg.Ports, cfg.Idle = cmp.Or(cfg.Ports, 2), cmp.Or(cfg.Idle, 100*time.Millisecond)
	return &Link{
		cfg: cfg, splitter: wire.NewSplitter(),
		timer: time.NewTimer(cfg.Idle), changed: make(chan struct{}, 1),
	}
}

// Pair makes two connected links: what one sends by a port, the other receives by the
// port of the same number.
func Pair(cfg Config) (a, b *Link) {
	a, b = New(cfg), New(cfg)
	a.peer, b.peer = b, a
	return a, b
}

// Feed adds frames to be received. It copies their bytes.
func (l *Link) Feed(records ...Record) {
	l.mu.Lock()
	for _, r := range records {
		r.Data = bytes.Clone(r.Data)
		l.queue = append(l.queue, r)
	}
	l.mu.Unlock()
	l.notify()
}

// EndFeed ends the feed: when all frames are received, Recv returns io.EOF.
func (l *Link) EndFeed() { l.set(&l.feedEnded) }

// Sent returns the frames sent since the last call, in order.
func (l *Link) Sent() []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sent
	l.sent = nil
	return s
}

// Dropped returns how many frames with an out port were not sent: they had too little
// headroom, or could not be split.
func (l *Link) Dropped() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// set sets a field that Recv reads.
func (l *Link) set(field *bool) {
	l.mu.Lock()
	*field = true
	l.mu.Unlock()
	l.notify()
}

// notify makes a waiting Recv check again.
func (l *Link) notify() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// Recv takes back the frames of the last Recv and lends up to len(in) new ones. It
// waits until there are some, Wake is called, or the idle time has passed. Then n
// may be 0. The error is net.ErrClosed after Close, or io.EOF after EndFeed.
func (l *Link) Recv(in []wire.Frame) (n int, err error) {
	l.takeBack()
	l.timer.Reset(l.cfg.Idle)
	for {
		n, done, err := l.lend(in)
		if done || n > 0 || err != nil {
			return n, err
		}
		select {
		case <-l.changed:
		case <-l.timer.C:
			return 0, nil
		}
	}
}

// takeBack ends the lending.
func (l *Link) takeBack() {
	if l.cfg.Poison {
		for _, b := range l.bufs[:l.lent] {
			copy(b, bytes.Repeat([]byte{poison}, len(b)))
		}
		l.bufs = l.bufs[:0]
	}
	l.lent = 0
}

// lend lends the frames of the queue. done reports whether Recv must return at once.
func (l *Link) lend(in []wire.Frame) (n int, done bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	done, l.woken = l.woken, false
	if l.closed {
		return 0, true, net.ErrClosed
	}
	for n < len(in) && l.first < len(l.queue) {
		r := &l.queue[l.first]
		buf := l.buffer(n, wire.Headroom+len(r.Data))
		copy(buf[wire.Headroom:], r.Data)
		in[n] = wire.Frame{
			Buf: buf, Off: wire.Headroom, End: int32(len(buf)),
			In: r.Port, Out: wire.NoPort, Offload: r.Offload,
		}
		*r = Record{}
		l.first++
		n++
	}
	l.lent = n
	if l.first == len(l.queue) {
		l.queue, l.first = l.queue[:0], 0
		if n == 0 && l.feedEnded && !done {
			return 0, true, io.EOF
		}
	}
	return n, done, nil
}

// buffer returns the i-th buffer, of n bytes.
func (l *Link) buffer(i, n int) []byte {
	if i == len(l.bufs) {
		l.bufs = append(l.bufs, nil)
	}
	if cap(l.bufs[i]) < n {
		l.bufs[i] = make([]byte, n)
	}
	b := l.bufs[i][:n:n]
	if l.cfg.Poison {
		copy(b, bytes.Repeat([]byte{poison}, wire.Headroom))
	}
	return b
}

// Send copies the frames that have an out port, for Sent or the peer's Recv. It returns
// how many it copied; each part of a split frame counts as one.
func (l *Link) Send(frames []wire.Frame) (n int, err error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return 0, net.ErrClosed
	}
	before := len(l.sent)
	for i := range frames {
		if f := &frames[i]; int(f.Out) < l.cfg.Ports {
			l.splitAndCollect(f)
		}
	}
	n = len(l.sent) - before
	var out []Record
	if l.peer != nil {
		out, l.sent = l.sent, nil
	}
	l.mu.Unlock()
	if l.peer != nil { // set by Pair only
		l.peer.Feed(out...)
	}
	return n, nil
}

// splitAndCollect collects f, or its parts if its MTU asks for a split. The caller
// holds mu.
func (l *Link) splitAndCollect(f *wire.Frame) {
	if f.MTU == 0 && f.TunnelLen != 0 && f.IsGSO() {
		f.MTU = wire.MaxIPLen
	}
	if f.MTU == 0 {
		l.collect(f)
		return
	}
	l.splitter.Reset()
	parts, ok := l.splitter.Split(f)
	if !ok {
		l.dropped++
	}
	for i := range parts {
		l.collect(&parts[i])
	}
}

// collect appends a copy of f to sent, with the Offload that a device would get. The
// caller holds mu.
func (l *Link) collect(f *wire.Frame) {
	if f.Headroom() < sendHeadroom || f.Len() <= 0 {
		l.dropped++
		return
	}
	r := Record{Port: f.Out, Data: bytes.Clone(f.Bytes())}
	if f.ChecksumPartial() || f.IsGSO() {
		r.Offload = f.Offload
		r.Offload.Flags &= wire.OffloadNeedsCsum
	}
	l.sent = append(l.sent, r)
}

// Wake makes a waiting or the next Recv return at once.
func (l *Link) Wake() { l.set(&l.woken) }

// Close closes the link. A waiting Recv returns net.ErrClosed.
func (l *Link) Close() error {
	l.set(&l.closed)
	return nil
}
