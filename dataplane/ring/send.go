package ring

import (
	"net"

	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// sendBatch is the largest number of frames for one sendmmsg: a worker's batch. More
// than sixteen make no difference (measured).
const sendBatch = 64

// These bound the effort for a device that accepts no more frames. A flush waits for
// room in the send buffer once, for bufferWait ms, and tries a refused frame
// sendTries times.
const (
	bufferWait = 1
	sendTries  = 3
)

// sendQueue has the frames to send, by port, in the form of sendmmsg. All its memory
// is allocated when the link is opened.
type sendQueue struct {
	ports    []portQueue
	splitter *wire.Splitter
}

// portQueue has the frames to send by one port, in order.
type portQueue struct {
	n    int
	msgs [sendBatch]mmsghdr
	vecs [sendBatch]unix.Iovec
}

// init makes a queue for each port.
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

// reset empties the queues: a Send that panicked may have left frames in them.
func (q *sendQueue) reset() {
	for i := range q.ports {
		q.ports[i].n = 0
	}
	q.splitter.Reset()
}

// Send sends every frame that has an out port, in order per port. It returns how many
// frames the kernel accepted; each part of a split frame counts as one. A frame that
// the kernel refuses is dropped and counted, and does not stop the others.
func (l *Link) Send(frames []wire.Frame) (n int, err error) {
	l.batchMu.Lock()
	defer l.batchMu.Unlock()
	if l.closed.Load() {
		return 0, net.ErrClosed
	}
	l.tx.reset()
	for i := range frames {
		if f := &frames[i]; int(f.Out) < len(l.ports) {
			n += l.splitAndQueue(f)
		}
	}
	return n + l.flushAll(), nil
}

// splitAndQueue queues f, or its parts if its MTU asks for a split. It returns how many
// frames were sent meanwhile. A GSO frame in a tunnel is always split, because struct
// virtio_net_hdr cannot describe it.
func (l *Link) splitAndQueue(f *wire.Frame) (n int) {
	if f.MTU == 0 && f.TunnelLen != 0 && f.IsGSO() {
		f.MTU = wire.MaxIPLen
	}
	if f.MTU == 0 {
		return l.queue(f)
	}
	parts, ok := l.tx.splitter.Split(f)
	if !ok {
		n = l.flushAll() // the splitter may have been out of memory
		parts, ok = l.tx.splitter.Split(f)
	}
	c := &l.ports[f.Out].counts
	if !ok {
		c[dropTooLong]++
	}
	if len(parts) > 1 {
		c[split]++
	}
	for i := range parts {
		n += l.queue(&parts[i])
	}
	return n
}

// queue appends f to the queue of its port. It flushes a full queue first, and returns
// how many frames that sent.
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

// flushAll sends the queues of all ports.
func (l *Link) flushAll() (n int) {
	for i := range l.ports {
		n += l.flush(i)
	}
	l.tx.splitter.Reset()
	return n
}

// flush sends the queue of port i and returns how many frames the kernel accepted.
// Every call of sendmmsg either removes a frame or uses one of a bounded number of
// tries, so the loop ends.
func (l *Link) flush(i int) (n int) {
	p, q := l.ports[i], &l.tx.ports[i]
	msgs := q.msgs[:q.n]
	q.n = 0
	waited, tries := false, 0
	for len(msgs) > 0 {
		taken, errno := sendmmsg(p.fd, msgs)
		msgs = msgs[taken:]
		n += taken
		drop := 1
		switch errno {
		case 0:
			continue
		case unix.EAGAIN:
			if !waited {
				waited = true
				fds := [1]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLOUT}}
				_, _ = unix.Poll(fds[:], bufferWait)
				continue
			}
			drop = len(msgs)
		case unix.ENOBUFS:
			if tries++; tries < sendTries {
				continue
			}
			tries = 0
		case unix.ENETDOWN, unix.ENXIO:
			// The interface may be down. Or it is up again, and the socket only
			// reported the error that it kept.
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

// dropCause returns the counter for frames that were refused with errno.
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
