package memlink

import (
	"io"
	"net"
	"sync"
	"time"

	"uvs/dataplane/wire"
)

// sendRoom is the room a frame needs in front to be sent: the AF_PACKET rings
// write a struct virtio_net_hdr there.
const sendRoom = 10

// poison is what lent memory is overwritten with.
const poison = 0xdb

// Record is a frame that is not in a link: one to be received or one that was
// sent.
type Record struct {
	Port    uint16 // where it comes in or left
	Data    []byte // from the Ethernet header on
	Offload wire.Offload
	Time    time.Time // of captures
}

// Config says what link to make; the zero value is good for most tests.
type Config struct {
	// Ports is the number of ports. Default 2.
	Ports int
	// Poison overwrites lent memory when it is taken back and uses other memory
	// for the next frames, so that who keeps a frame too long reads nonsense.
	Poison bool
	// Idle is how long Recv waits at most. Default 100 ms, as of the rings.
	Idle time.Duration
}

// Link is a link in memory. Recv and Send belong to one goroutine; everything
// else may be called by anyone.
type Link struct {
	cfg      Config
	bufs     [][]byte // what is lent, and memory to lend again
	lent     int      // the first so many of bufs
	splitter *wire.Splitter
	timer    *time.Timer

	news chan struct{} // holds one if something below changed

	mu      sync.Mutex
	queue   []Record // to be received: those from first on
	first   int
	ended   bool // nothing will be added to queue
	sent    []Record
	dropped int
	peer    *Link // gets what is sent, instead of sent
	woken   bool
	closed  bool
}

// New makes a link.
func New(cfg Config) *Link {
	if cfg.Ports == 0 {
		cfg.Ports = 2
	}
	if cfg.Idle == 0 {
		cfg.Idle = 100 * time.Millisecond
	}
	l := &Link{
		cfg: cfg, splitter: wire.NewSplitter(),
		timer: time.NewTimer(cfg.Idle), news: make(chan struct{}, 1),
	}
	return l
}

// Pair makes two links joined port by port: what one sends by a port the other
// receives by it.
func Pair(cfg Config) (a, b *Link) {
	a, b = New(cfg), New(cfg)
	a.peer, b.peer = b, a
	return a, b
}

// Feed adds frames to be received. Their bytes are copied.
func (l *Link) Feed(records ...Record) {
	l.mu.Lock()
	for _, r := range records {
		r.Data = append([]byte(nil), r.Data...)
		l.queue = append(l.queue, r)
	}
	l.mu.Unlock()
	l.tell()
}

// EndFeed says that no more frames will be fed: when all are received, Recv
// returns io.EOF.
func (l *Link) EndFeed() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.tell()
}

// Sent returns the frames sent since the last call, in order.
func (l *Link) Sent() []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sent
	l.sent = nil
	return s
}

// Dropped is how many frames with an out port were not sent: too little room in
// front, or impossible to split as they asked.
func (l *Link) Dropped() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// tell makes a waiting Recv look again.
func (l *Link) tell() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// Recv takes back the frames lent before and lends up to len(in) new ones. It
// waits until there are some, Wake is called, or the idle time has passed; n may
// then be 0. The error is net.ErrClosed after Close, or io.EOF.
func (l *Link) Recv(in []wire.Frame) (n int, err error) {
	l.takeBack()
	l.timer.Reset(l.cfg.Idle)
	for {
		n, done, err := l.lend(in)
		if done || n > 0 || err != nil {
			return n, err
		}
		select {
		case <-l.news:
		case <-l.timer.C:
			return 0, nil
		}
	}
}

// takeBack ends the lending.
func (l *Link) takeBack() {
	if l.cfg.Poison {
		for _, b := range l.bufs[:l.lent] {
			fill(b, poison)
		}
		l.bufs = l.bufs[:0]
	}
	l.lent = 0
}

// lend lends what there is now; done says that Recv is to return at once.
func (l *Link) lend(in []wire.Frame) (n int, done bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	done, l.woken = l.woken, false
	if l.closed {
		return 0, true, net.ErrClosed
	}
	for n < len(in) && l.first < len(l.queue) {
		r := &l.queue[l.first]
		buf := l.memory(n, wire.Headroom+len(r.Data))
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
		if n == 0 && l.ended && !done {
			return 0, true, io.EOF
		}
	}
	return n, done, nil
}

// memory returns the i-th buffer, of n bytes.
func (l *Link) memory(i, n int) []byte {
	if i == len(l.bufs) {
		l.bufs = append(l.bufs, nil)
	}
	if cap(l.bufs[i]) < n {
		l.bufs[i] = make([]byte, n)
	}
	b := l.bufs[i][:n:n]
	if l.cfg.Poison {
		fill(b[:wire.Headroom], poison)
	}
	return b
}

// Send takes copies of the frames that have an out port and returns how many it
// took, pieces of a split one each. They are to be had from Sent, or from the
// peer's Recv.
func (l *Link) Send(frames []wire.Frame) (n int, err error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return 0, net.ErrClosed
	}
	before := len(l.sent)
	for i := range frames {
		if f := &frames[i]; int(f.Out) < l.cfg.Ports {
			l.cut(f)
		}
	}
	n = len(l.sent) - before
	peer := l.peer
	var out []Record
	if peer != nil {
		out, l.sent = l.sent, nil
	}
	l.mu.Unlock()
	if peer != nil {
		peer.Feed(out...)
	}
	return n, nil
}

// cut takes f, or the pieces of it if it is to be split. The caller holds mu.
func (l *Link) cut(f *wire.Frame) {
	if f.MTU == 0 && f.TunnelLen != 0 && f.IsGSO() {
		f.MTU = wire.MaxIPLen
	}
	if f.MTU == 0 {
		l.collect(f)
		return
	}
	l.splitter.Reset()
	pieces, ok := l.splitter.Split(f)
	if !ok {
		l.dropped++
	}
	for i := range pieces {
		l.collect(&pieces[i])
	}
}

// collect takes a copy of f, with what a device would be told of its offload.
// The caller holds mu.
func (l *Link) collect(f *wire.Frame) {
	if f.Headroom() < sendRoom || f.Len() <= 0 {
		l.dropped++
		return
	}
	r := Record{Port: f.Out, Data: append([]byte(nil), f.Bytes()...)}
	if f.ChecksumPartial() || f.IsGSO() {
		r.Offload = f.Offload
		r.Offload.Flags &= wire.OffloadNeedsCsum
	}
	l.sent = append(l.sent, r)
}

// Wake makes a waiting or the next Recv return at once.
func (l *Link) Wake() {
	l.mu.Lock()
	l.woken = true
	l.mu.Unlock()
	l.tell()
}

// Close ends the link; a waiting Recv returns net.ErrClosed.
func (l *Link) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.tell()
	return nil
}

// fill sets every byte of b.
func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}
