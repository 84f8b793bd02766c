package privsep

import (
	"fmt"
	"net/netip"
	"net/rpc"
	"os"
	"sync"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"uvs/ctl/guard"
	"uvs/dataplane/ring"
)

// Client is Part by the privileged process.
type Client struct {
	rpc   *rpc.Client
	guard guardClient

	filesMu sync.Mutex // from a request to its descriptors
	carrier *os.File
}

// Connect connects to the process that started this one with Start.
func Connect() (*Client, error) {
	for _, fd := range []int{requestFD, fileFD} {
		if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
			return nil, fmt.Errorf("descriptor %d is no socket; uvs run starts this process itself", fd)
		}
		unix.CloseOnExec(fd)
	}
	if err := unix.SetNonblock(requestFD, true); err != nil {
		return nil, err
	}
	return newClient(os.NewFile(requestFD, "requests"), os.NewFile(fileFD, "files")), nil
}

func newClient(requests, carrier *os.File) *Client {
	return &Client{
		rpc: rpc.NewClient(requests), carrier: carrier,
		guard: guardClient{numbers: map[*guard.ServiceRules]uint64{}},
	}
}

// call asks the privileged process.
func (c *Client) call(method string, args, reply any) error {
	return decodeError(c.rpc.Call(serviceName+"."+method, args, reply))
}

// withFiles is call, and then receives as many descriptors as count returns.
func (c *Client) withFiles(method string, args, reply any, count func() int) ([]int, error) {
	c.filesMu.Lock()
	defer c.filesMu.Unlock()
	if err := c.call(method, args, reply); err != nil {
		return nil, err
	}
	return receiveFiles(c.carrier, count())
}

// Begin is in Part.
func (c *Client) Begin() (*Begin, error) {
	b := new(Begin)
	fds, err := c.withFiles("Begin", false, &b.Prepared, func() int {
		n := 1
		if b.HasRemote {
			n++
		}
		if b.HasState {
			n++
		}
		return n
	})
	if err != nil {
		return nil, err
	}
	if b.Listener, err = listenerOf(fds[0]); err != nil {
		return nil, err
	}
	if b.HasRemote {
		if b.Remote, err = listenerOf(fds[1]); err != nil {
			return nil, err
		}
	}
	if b.HasState {
		b.State = os.NewFile(uintptr(fds[len(fds)-1]), "state directory")
	}
	return b, nil
}

// Config is in Part.
func (c *Client) Config() (text []byte, err error) {
	err = c.call("Config", false, &text)
	return text, err
}

// Certificates is in Part.
func (c *Client) Certificates() (texts [3][]byte, err error) {
	err = c.call("Certificates", false, &texts)
	return texts, err
}

// Sockets is in Part.
func (c *Client) Sockets(i int) (sockets []ring.Sockets, err error) {
	var wake []bool
	fds, err := c.withFiles("Sockets", i, &wake, func() (n int) {
		for _, w := range wake {
			if n++; w {
				n++
			}
		}
		return n
	})
	if err != nil {
		return nil, err
	}
	for _, w := range wake {
		s := ring.Sockets{Ring: fds[0], Wake: -1}
		if fds = fds[1:]; w {
			s.Wake, fds = fds[0], fds[1:]
		}
		sockets = append(sockets, s)
	}
	return sockets, nil
}

// PacketSocket is in Part.
func (c *Client) PacketSocket(index int, etherType uint16, filter []bpf.RawInstruction) (*os.File, error) {
	args := PacketSocketArgs{index, etherType, filter}
	fds, err := c.withFiles("PacketSocket", args, new(none), func() int { return 1 })
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "packet socket"), nil
}

// Solicit is in Part.
func (c *Client) Solicit(index int, addr netip.Addr, flags int) error {
	return c.call("Solicit", SolicitArgs{index, addr, flags}, new(none))
}

// Apply is in Part.
func (c *Client) Apply(r guard.Rules) error {
	return c.guard.apply(r, func(change GuardChange) error { return c.call("Apply", change, new(none)) })
}

// Dropped is in Part.
func (c *Client) Dropped() (d guard.Dropped, err error) {
	err = c.call("Dropped", false, &d)
	return d, err
}

// Notify is in Part.
func (c *Client) Notify(state string) error { return c.call("Notify", state, new(none)) }

// Signals returns the signals of the privileged process. The channel is closed when that
// process ends.
func (c *Client) Signals() <-chan os.Signal {
	signals := make(chan os.Signal)
	go func() {
		defer close(signals)
		for {
			var n int
			if err := c.call("Signal", false, &n); err != nil {
				return
			}
			signals <- syscall.Signal(n)
		}
	}()
	return signals
}
