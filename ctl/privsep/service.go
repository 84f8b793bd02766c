package privsep

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/net/bpf"

	"uvs/ctl/guard"
)

// service has the methods that net/rpc calls, one for each of Part's.
type service struct {
	part    Part
	carrier *os.File // takes descriptors to the other process
	guard   guardServer
	signals chan os.Signal
}

// none is the argument or result of a method without one: gob encodes no empty struct.
type none = bool

// Begin passes what was opened.
func (s *service) Begin(_ none, reply *Prepared) error {
	b, err := s.part.Begin()
	if err != nil {
		return encodeError(err)
	}
	*reply = b.Prepared
	var fds []int
	for _, l := range []any{b.Listener, b.Remote} {
		if l, ok := l.(interface{ File() (*os.File, error) }); ok {
			f, err := l.File()
			if err != nil {
				return encodeError(err)
			}
			defer f.Close()
			fds = append(fds, int(f.Fd()))
		}
	}
	if b.State != nil {
		fds = append(fds, int(b.State.Fd()))
	}
	return encodeError(sendFiles(s.carrier, fds))
}

// Config reads the configuration.
func (s *service) Config(_ none, reply *[]byte) (err error) {
	*reply, err = s.part.Config()
	return encodeError(err)
}

// Certificates reads the API's certificates.
func (s *service) Certificates(_ none, reply *[3][]byte) (err error) {
	*reply, err = s.part.Certificates()
	return encodeError(err)
}

// Sockets passes the sockets of an interface. The reply is how many workers have one, and
// whether each has a wake socket.
func (s *service) Sockets(i int, reply *[]bool) error {
	sockets, err := s.part.Sockets(i)
	var fds []int
	for _, w := range sockets {
		defer w.Close()
		fds = append(fds, w.Ring)
		if w.Wake >= 0 {
			fds = append(fds, w.Wake)
		}
		*reply = append(*reply, w.Wake >= 0)
	}
	if err == nil {
		err = sendFiles(s.carrier, fds)
	}
	return encodeError(err)
}

// PacketSocketArgs are the arguments of PacketSocket.
type PacketSocketArgs struct {
	Index     int
	EtherType uint16
	Filter    []bpf.RawInstruction
}

// PacketSocket passes a packet socket.
func (s *service) PacketSocket(args PacketSocketArgs, _ *none) error {
	f, err := s.part.PacketSocket(args.Index, args.EtherType, args.Filter)
	if err != nil {
		return encodeError(err)
	}
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return encodeError(err)
	}
	failed := raw.Control(func(fd uintptr) { err = sendFiles(s.carrier, []int{int(fd)}) })
	if err == nil {
		err = failed
	}
	return encodeError(err)
}

// SolicitArgs are the arguments of Solicit.
type SolicitArgs struct {
	Index int
	Addr  netip.Addr
	Flags int
}

// Solicit makes the kernel resolve a neighbour.
func (s *service) Solicit(args SolicitArgs, _ *none) error {
	return encodeError(s.part.Solicit(args.Index, args.Addr, args.Flags))
}

// Apply changes the guard.
func (s *service) Apply(change GuardChange, _ *none) error {
	return encodeError(s.guard.apply(change, s.part.Apply))
}

// Dropped reads the guard's counters.
func (s *service) Dropped(_ none, reply *guard.Dropped) (err error) {
	*reply, err = s.part.Dropped()
	return encodeError(err)
}

// Notify tells the service manager a state.
func (s *service) Notify(state string, _ *none) error {
	return encodeError(s.part.Notify(state))
}

// Signal waits for the next signal of the privileged process.
func (s *service) Signal(_ none, reply *int) error {
	signal, ok := <-s.signals
	if !ok {
		return encodeError(fmt.Errorf("the privileged process ends"))
	}
	*reply = int(signal.(syscall.Signal))
	return nil
}
