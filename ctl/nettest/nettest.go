// Package nettest makes network namespaces for tests. Each is a host with its
// own interfaces, addresses and sockets, which goes when the test ends.
package nettest

import (
	"errors"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace of a test, with a netlink handle in it.
type Namespace struct {
	T  testing.TB
	NS netns.NsHandle
	NL *netlink.Handle
}

// New makes a network namespace with lo up. It skips the test without the
// privilege to do so.
func New(t testing.TB) *Namespace {
	t.Helper()
	s := NewBare(t)
	s.Up("lo")
	return s
}

// NewBare makes a network namespace as the kernel does, with lo down.
func NewBare(t testing.TB) *Namespace {
	t.Helper()
	s := &Namespace{T: t}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		s.NS = ns
		failed <- err
	}()
	if err := <-failed; errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_SYS_ADMIN and CAP_NET_ADMIN to make network namespaces")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.NS.Close() })
	nl, err := netlink.NewHandleAt(s.NS)
	s.Must(err)
	t.Cleanup(nl.Close)
	s.NL = nl
	return s
}

// Must fails the test on an error.
func (s *Namespace) Must(err error) {
	s.T.Helper()
	if err != nil {
		s.T.Fatal(err)
	}
}

// Do runs f on a thread in the namespace.
func (s *Namespace) Do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := netns.Set(s.NS); err != nil {
			s.T.Error(err)
			return
		}
		f()
	}()
	<-done
}

// Link finds an interface.
func (s *Namespace) Link(name string) netlink.Link {
	s.T.Helper()
	l, err := s.NL.LinkByName(name)
	s.Must(err)
	return l
}

// Up puts an interface up.
func (s *Namespace) Up(name string) {
	s.T.Helper()
	s.Must(s.NL.LinkSetUp(s.Link(name)))
}

// Addr gives an interface an address that is usable at once.
func (s *Namespace) Addr(name, cidr string) {
	s.T.Helper()
	a, err := netlink.ParseAddr(cidr)
	s.Must(err)
	a.Flags = unix.IFA_F_NODAD
	s.Must(s.NL.AddrAdd(s.Link(name), a))
}

// Sysctl writes a file under /proc/sys/net as the namespace sees it.
func (s *Namespace) Sysctl(path, value string) {
	s.T.Helper()
	var err error
	s.Do(func() { err = os.WriteFile("/proc/sys/net/"+path, []byte(value), 0) })
	s.Must(err)
}

// Join connects two namespaces by a veth pair and sets both sides up.
func Join(a *Namespace, nameA string, b *Namespace, nameB string) {
	a.T.Helper()
	a.Must(a.NL.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(b.NS),
	}))
	a.Up(nameA)
	b.Up(nameB)
}

// Tap opens a packet socket on an interface.
func (s *Namespace) Tap(name string) *packet.Conn {
	s.T.Helper()
	var c *packet.Conn
	var err error
	s.Do(func() {
		var ifi *net.Interface
		if ifi, err = net.InterfaceByName(name); err == nil {
			c, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		}
	})
	s.Must(err)
	s.T.Cleanup(func() { c.Close() })
	return c
}
