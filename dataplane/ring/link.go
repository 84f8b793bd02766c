package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// Link receives and sends frames on all interfaces of one worker. Only the worker
// calls Recv and Send. Any goroutine may call Wake, Stats and Close. An interface
// that was deleted is silent until Reopen.
type Link struct {
	// Recv and Send hold batchMu while they run, so that Close may be called at any
	// time. It costs one uncontended lock per batch.
	batchMu      sync.Mutex
	ports        []*port                // the worker changes them with mu held
	replacements []atomic.Pointer[port] // the new port i, if not nil; see Reopen
	first        int                    // port that is read first, another one each time
	pace         pace
	polls        []unix.PollFd // the event, then the wakeFD of every port
	spin         time.Duration
	idle         int // longest sleep in ms
	tx           sendQueue
	discard      [8]byte // bytes read from a wakeFD or the event

	batches, sleeps             uint64
	sharedBatches, sharedSleeps atomic.Uint64

	// woken is set by Wake until a Recv returns. event, an eventfd, wakes a
	// sleeping Recv.
	woken  atomic.Bool
	closed atomic.Bool
	// mu guards the descriptors against Close for Wake and Stats.
	mu    sync.Mutex
	event int
}

// port is one interface of a link. It belongs to the worker, except as noted.
type port struct {
	name string
	// fd is the ring's socket, which also sends. The link sleeps on wakeFD: the wake
	// socket, or fd itself on machines that do not read open blocks. -1: not open.
	fd, wakeFD int
	mem        []byte // the mapped ring
	rx         reader
	counts     counts

	shared            sharedCounts // counts for other goroutines
	gone              atomic.Bool
	ringFull, freezes uint64 // kernel counters so far; guarded by Link.mu
}

// Recv takes back the frames of the last Recv and lends up to len(in) new ones. It
// waits until there are some, Wake is called, or the idle time has passed. Then n
// may be 0. After Close the error is net.ErrClosed.
func (l *Link) Recv(in []wire.Frame) (n int, err error) {
	l.batchMu.Lock()
	defer l.batchMu.Unlock()
	if l.closed.Load() {
		return 0, net.ErrClosed
	}
	for _, p := range l.ports {
		p.rx.giveBack()
	}
	for i := range l.replacements {
		if l.replacements[i].Load() != nil {
			l.installReplacement(i)
		}
	}
	l.publish()
	if l.pace.gathering && !l.woken.Load() {
		l.gather()
	}
	n = l.takeReady(in)
	l.pace.observe(n)
	switch {
	case l.woken.Load():
		l.clearWake()
	case n == 0:
		n, err = l.wait(in)
	}
	if l.closed.Load() {
		return 0, net.ErrClosed
	}
	if n > 0 {
		l.batches++
	}
	return n, err
}

// takeReady lends the frames that are ready now. It begins with another ring each
// time, so that no ring can block the others.
func (l *Link) takeReady(in []wire.Frame) (n int) {
	l.first++
	if l.first >= len(l.ports) {
		l.first = 0
	}
	for i := range l.ports {
		n += l.ports[(l.first+i)%len(l.ports)].rx.take(in[n:])
	}
	return n
}

// wait polls the rings for a while, then sleeps until a frame comes.
func (l *Link) wait(in []wire.Frame) (n int, err error) {
	if l.spin > 0 {
		for end := time.Now().Add(l.spin); time.Now().Before(end); {
			if n = l.takeReady(in); n > 0 || l.woken.Load() {
				break
			}
		}
	}
	// A frame that comes after drain makes a wakeFD readable. A frame that came
	// before is ready now.
	if n == 0 && !l.woken.Load() {
		l.drain()
		n = l.takeReady(in)
	}
	if n == 0 && !l.woken.Load() {
		err = l.sleep()
		n = l.takeReady(in)
	}
	if l.woken.Load() {
		l.clearWake()
	}
	return n, err
}

// sleep polls the wakeFDs and the event.
func (l *Link) sleep() error {
	l.sleeps++
	l.publish()
	n, err := unix.Poll(l.polls, l.idle)
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("ring: wait for frames: %w", err)
	}
	if n <= 0 {
		return nil
	}
	for i, p := range l.ports {
		if l.polls[1+i].Revents&^unix.POLLIN != 0 {
			l.portFailed(i, p)
		}
	}
	return nil
}

// portFailed handles an error of the wakeFD of port p. Either the interface went down,
// which needs no action, or it was deleted.
func (l *Link) portFailed(i int, p *port) {
	clearError(p.wakeFD) // or poll would report it again and again
	clearError(p.fd)
	sa, err := unix.Getsockname(p.wakeFD)
	if ll, ok := sa.(*unix.SockaddrLinklayer); err == nil && ok && ll.Ifindex > 0 {
		return
	}
	p.gone.Store(true)
	l.polls[1+i].Fd = -1 // poll ignores it
}

// clearError clears the pending error of a socket.
func clearError(fd int) { _, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR) }

// drainMax bounds the reads that empty one wake socket, whose queue has a frame or two.
// In a flood it could fill as fast as it is read. One that is not empty wakes the link
// again.
const drainMax = 8

// drain empties the wake sockets. Under load they stay full, because a full socket does
// not wake its reader.
func (l *Link) drain() {
	for i, p := range l.ports {
		if p.wakeFD == p.fd || p.gone.Load() {
			continue
		}
		for range drainMax {
			_, errno := unix.Read(p.wakeFD, l.discard[:])
			if errno == unix.EAGAIN {
				break
			} else if errno != nil {
				l.portFailed(i, p)
			}
		}
	}
}

// Wake makes a waiting or the next Recv return at once.
func (l *Link) Wake() {
	l.woken.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.event >= 0 {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(l.event, one[:])
	}
}

// clearWake resets Wake. It clears the flag first: a Wake between the two steps then
// wakes Recv twice at worst.
func (l *Link) clearWake() {
	l.woken.Store(false)
	_, _ = unix.Read(l.event, l.discard[:])
}

// Close closes the link. A waiting Recv returns net.ErrClosed. Close takes back the
// frames that are still lent, so the worker must no longer use them.
func (l *Link) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	l.Wake()
	l.batchMu.Lock()
	defer l.batchMu.Unlock()
	l.publish()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.release()
}

// release closes and unmaps everything that is open. The caller holds batchMu and
// mu, or no other goroutine knows the link.
func (l *Link) release() error {
	var errs []error
	for i, p := range l.ports {
		errs = append(errs, p.close())
		if p := l.replacements[i].Swap(nil); p != nil {
			errs = append(errs, p.close())
		}
	}
	errs = append(errs, closeFD(l.event))
	l.event = -1
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("ring: close: %w", err)
	}
	return nil
}

// close closes and unmaps everything of a port that is open.
func (p *port) close() error {
	var errs []error
	p.readKernelStats()
	if p.mem != nil {
		errs = append(errs, unix.Munmap(p.mem))
	}
	if p.wakeFD != p.fd {
		errs = append(errs, closeFD(p.wakeFD))
	}
	errs = append(errs, closeFD(p.fd))
	p.mem, p.fd, p.wakeFD = nil, -1, -1
	return errors.Join(errs...)
}

// closeFD closes a descriptor, unless it is -1.
func closeFD(fd int) error {
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}
