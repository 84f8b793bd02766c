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

// Link is a way in and out for frames: all interfaces of one worker. Recv and
// Send belong to the worker; Wake, Stats and Close may be called by anyone. An
// interface that is deleted is silent until Reopen.
type Link struct {
	// turn is held by Recv and by Send while they run, so that Close can come at
	// any time: one uncontended lock a batch.
	turn  sync.Mutex
	ports []*port                // changed by the worker with mu held
	fresh []atomic.Pointer[port] // what is to take the place of each port; nil: it stays
	first int                    // port looked at first, a different one each turn
	pace  pace
	polls []unix.PollFd // the event, then the bell of every port
	spin  time.Duration
	idle  int // longest sleep in milliseconds
	tx    sendQueue
	scrap [8]byte // what was read from a bell or the event; nobody cares

	turns, sleeps           uint64
	shownTurns, shownSleeps atomic.Uint64

	// woken says that Wake was called and no Recv has returned since; event, an
	// eventfd, says the same to a sleeping Recv.
	woken  atomic.Bool
	closed atomic.Bool
	// mu guards the descriptors against Close for Wake and Stats.
	mu    sync.Mutex
	event int
}

// port is one interface of a link. It belongs to the worker, except as noted.
type port struct {
	name string
	// fd is the ring's socket; frames leave by it too. bell is what the link
	// sleeps on: the doorbell, or fd itself where open blocks cannot be read. -1:
	// not open.
	fd, bell int
	mem      []byte // the mapped ring
	rx       reader
	counts   counts

	shown             shown // for any goroutine
	gone              atomic.Bool
	ringFull, freezes uint64 // what the kernel counted so far; guarded by Link.mu
}

// Recv takes back the frames lent before and lends up to len(in) new ones. It
// waits until there are some, Wake is called, or the idle time has passed; n may
// then be 0. The error is net.ErrClosed after Close.
func (l *Link) Recv(in []wire.Frame) (n int, err error) {
	l.turn.Lock()
	defer l.turn.Unlock()
	if l.closed.Load() {
		return 0, net.ErrClosed
	}
	for _, p := range l.ports {
		p.rx.giveBack()
	}
	for i := range l.fresh {
		if l.fresh[i].Load() != nil {
			l.replace(i)
		}
	}
	l.publish()
	if l.pace.gathering && !l.woken.Load() {
		l.gather()
	}
	n = l.look(in)
	l.pace.saw(n)
	switch {
	case l.woken.Load():
		l.hush()
	case n == 0:
		n, err = l.wait(in)
	}
	if l.closed.Load() {
		return 0, net.ErrClosed
	}
	if n > 0 {
		l.turns++
	}
	return n, err
}

// look lends what there is now. Every ring gets its turn to be first, so none
// can keep the others waiting.
func (l *Link) look(in []wire.Frame) (n int) {
	l.first++
	if l.first >= len(l.ports) {
		l.first = 0
	}
	for i := range l.ports {
		i += l.first
		if i >= len(l.ports) {
			i -= len(l.ports)
		}
		n += l.ports[i].rx.take(in[n:])
	}
	return n
}

// wait looks for frames for a while, then sleeps until something comes.
func (l *Link) wait(in []wire.Frame) (n int, err error) {
	if l.spin > 0 {
		for end := time.Now().Add(l.spin); time.Now().Before(end); {
			if n = l.look(in); n > 0 || l.woken.Load() {
				break
			}
		}
	}
	// A frame that comes after the bell was drained rings it; one that came
	// before is seen by this look.
	if n == 0 && !l.woken.Load() {
		l.drain()
		n = l.look(in)
	}
	if n == 0 && !l.woken.Load() {
		err = l.sleep()
		n = l.look(in)
	}
	if l.woken.Load() {
		l.hush()
	}
	return n, err
}

// sleep polls the doorbells and the event.
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
			l.failed(i, p)
		}
	}
	return nil
}

// failed finds out what happened to port p after its bell reported an error: its
// interface went down, which is forgiven, or was deleted.
func (l *Link) failed(i int, p *port) {
	clearError(p.bell) // or poll would report it for ever
	clearError(p.fd)
	sa, err := unix.Getsockname(p.bell)
	if ll, ok := sa.(*unix.SockaddrLinklayer); err == nil && ok && ll.Ifindex > 0 {
		return
	}
	p.gone.Store(true)
	l.polls[1+i].Fd = -1 // poll passes over it
}

// clearError makes a socket forget the error it keeps for its next user.
func clearError(fd int) { _, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR) }

// drainMax bounds the reads that empty one doorbell, whose queue holds a frame
// or two: a flood could go on for ever. One that is not empty yet rings again.
const drainMax = 8

// drain empties the doorbells. Under load they are left full: a full socket
// wakes nobody.
func (l *Link) drain() {
	for i, p := range l.ports {
		if p.bell == p.fd || p.gone.Load() {
			continue
		}
		for range drainMax {
			_, errno := unix.Read(p.bell, l.scrap[:])
			if errno == unix.EAGAIN {
				break
			} else if errno != nil {
				l.failed(i, p)
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

// hush makes Wake be forgotten. The flag goes first: a Wake between the two
// steps is then at worst answered twice.
func (l *Link) hush() {
	l.woken.Store(false)
	_, _ = unix.Read(l.event, l.scrap[:])
}

// Close ends the link. A waiting Recv returns net.ErrClosed. Frames still lent
// are taken back: whoever calls it must know that the worker is done with them.
func (l *Link) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	l.Wake()
	l.turn.Lock()
	defer l.turn.Unlock()
	l.publish()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.release()
}

// release closes and unmaps whatever is open. The caller holds turn and mu, or
// is the only one who knows the link.
func (l *Link) release() error {
	var errs []error
	for i, p := range l.ports {
		errs = append(errs, p.close())
		if p := l.fresh[i].Swap(nil); p != nil {
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

// close closes and unmaps whatever is open of a port.
func (p *port) close() error {
	var errs []error
	p.askKernel()
	if p.mem != nil {
		errs = append(errs, unix.Munmap(p.mem))
	}
	if p.bell != p.fd {
		errs = append(errs, closeFD(p.bell))
	}
	errs = append(errs, closeFD(p.fd))
	p.mem, p.fd, p.bell = nil, -1, -1
	return errors.Join(errs...)
}

// closeFD closes a descriptor unless it was never opened.
func closeFD(fd int) error {
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}
