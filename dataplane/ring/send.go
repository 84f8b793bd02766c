package ring

import (
	"net"

	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// sendBatch is how many frames one sendmmsg takes at most: a worker's batch, and
// from sixteen on more makes no difference (measured).
const sendBatch = 64

// Bounds of what is done for a device that takes no more, per call of sendmmsg
// that ran into it: the sender waits for room in its socket once for roomWait
// milliseconds, and offers a frame that was refused sendTries times.
const (
	roomWait  = 1
	sendTries = 3
)

// sendQueue is the frames waiting to leave by each port, as sendmmsg wants them.
// Everything is allocated when the link is opened.
type sendQueue struct {
	ports    []portQueue
	splitter *wire.Splitter
}

// portQueue is the frames waiting to leave by one port, in order.
type portQueue struct {
	n    int
	msgs [sendBatch]mmsghdr
	vecs [sendBatch]unix.Iovec
}

// init makes queues for a number of ports.
func (q *sendQueue) init(ports int) {
	q.ports = make([]portQueue, ports)
	q.splitter = wire.NewSplitter()
	for i := range q.ports {
		p := &q.ports[i]
		for j := range p.msgs {
			p.msgs[j].hdr.Iov = &p.vecs[j]
			p.msgs[j].hdr.SetIovlen(1)
		}
	}
}

// Send sends every frame that has an out port, keeping the order of those that
// leave by the same one, and returns how many it handed to the kernel, pieces of
// a split one each. A frame the kernel does not take is dropped and counted; the
// others go on.
func (l *Link) Send(frames []wire.Frame) (n int, err error) {
	l.turn.Lock()
	defer l.turn.Unlock()
	if l.closed.Load() {
		return 0, net.ErrClosed
	}
	for i := range frames {
		if f := &frames[i]; int(f.Out) < len(l.ports) {
			n += l.cut(f)
		}
	}
	return n + l.flushAll(), nil
}

// cut queues f, or the pieces of it if it is to be split; it returns how many
// frames were sent meanwhile. A super-frame in a tunnel is always split: struct
// virtio_net_hdr has no words for it.
func (l *Link) cut(f *wire.Frame) (n int) {
	if f.MTU == 0 && f.TunnelLen != 0 && f.IsGSO() {
		f.MTU = wire.MaxIPLen
	}
	if f.MTU == 0 {
		return l.queue(f)
	}
	pieces, ok := l.tx.splitter.Split(f)
	if !ok {
		n = l.flushAll() // perhaps it was only short of memory
		pieces, ok = l.tx.splitter.Split(f)
	}
	c := &l.ports[f.Out].counts
	if !ok {
		c[dropTooLong]++
	}
	if len(pieces) > 1 {
		c[split]++
	}
	for i := range pieces {
		n += l.queue(&pieces[i])
	}
	return n
}

// queue puts f at the end of its port's queue, which is flushed first if it is
// full; it returns how many frames that sent.
func (l *Link) queue(f *wire.Frame) (n int) {
	q := &l.tx.ports[f.Out]
	if f.Headroom() < vnetHdrLen || f.Len() <= 0 {
		l.ports[f.Out].counts[dropOther]++
		return 0
	}
	if q.n == len(q.msgs) {
		n = l.flush(int(f.Out))
	}
	b := f.Buf[f.Off-vnetHdrLen : f.End]
	writeOffload(b, f.Offload)
	q.vecs[q.n].Base = &b[0]
	q.vecs[q.n].SetLen(len(b))
	q.n++
	return n
}

// flushAll sends what is queued for any port.
func (l *Link) flushAll() (n int) {
	for i := range l.ports {
		n += l.flush(i)
	}
	l.tx.splitter.Reset()
	return n
}

// flush sends what is queued for port i and returns how many frames the kernel
// took. Every call of sendmmsg either gets rid of a frame or uses up one of a
// bounded number of tries, so it ends.
func (l *Link) flush(i int) (n int) {
	p, q := l.ports[i], &l.tx.ports[i]
	msgs := q.msgs[:q.n]
	q.n = 0
	waited, tries := false, 0
	for len(msgs) > 0 {
		took, errno := sendmmsg(p.fd, msgs)
		msgs = msgs[took:]
		n += took
		drop := 1
		switch errno {
		case 0:
			continue
		case unix.EAGAIN:
			if !waited {
				waited = true
				awaitRoom(p.fd)
				continue
			}
			drop = len(msgs)
		case unix.ENOBUFS:
			if tries++; tries < sendTries {
				continue
			}
			tries = 0
		case unix.ENETDOWN, unix.ENXIO:
			// It may be down now, or the socket may have kept the news of it for
			// us since the interface came up again, and now has told it.
			if tries++; tries < sendTries {
				continue
			}
			drop = len(msgs)
		}
		p.counts[dropCause(errno)] += uint64(drop)
		msgs = msgs[drop:]
	}
	p.counts[sent] += uint64(n)
	return n
}

// dropCause is the counter for a frame refused with errno.
func dropCause(errno unix.Errno) counter {
	switch errno {
	case unix.EAGAIN:
		return dropBusy
	case unix.ENOBUFS:
		return dropQueue
	case unix.EMSGSIZE:
		return dropTooLong
	case unix.ENETDOWN, unix.ENXIO:
		return dropDown
	}
	return dropOther
}

// awaitRoom waits a moment for room in the socket's send buffer.
func awaitRoom(fd int) {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	_, _ = unix.Poll(fds[:], roomWait)
}
