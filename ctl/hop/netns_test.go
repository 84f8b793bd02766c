package hop

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

// space is a network namespace of a test.
type space struct {
	t  testing.TB
	ns netns.NsHandle
	nl *netlink.Handle
}

// newSpace makes a network namespace with lo up. Tests skip where that is not
// allowed.
func newSpace(t testing.TB) *space {
	t.Helper()
	s := newBareSpace(t)
	s.up("lo")
	return s
}

// newBareSpace makes a network namespace as the kernel does, with lo down.
func newBareSpace(t testing.TB) *space {
	t.Helper()
	s := &space{t: t}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		s.ns = ns
		failed <- err
	}()
	if err := <-failed; errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_SYS_ADMIN and CAP_NET_ADMIN to make network namespaces")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.ns.Close() })
	nl, err := netlink.NewHandleAt(s.ns)
	s.must(err)
	t.Cleanup(nl.Close)
	s.nl = nl
	return s
}

func (s *space) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// do runs f on a thread in the namespace.
func (s *space) do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := netns.Set(s.ns); err != nil {
			s.t.Error(err)
			return
		}
		f()
	}()
	<-done
}

func (s *space) link(name string) netlink.Link {
	s.t.Helper()
	l, err := s.nl.LinkByName(name)
	s.must(err)
	return l
}

func (s *space) up(name string) {
	s.t.Helper()
	s.must(s.nl.LinkSetUp(s.link(name)))
}

// addr gives an interface an address, usable at once.
func (s *space) addr(name, cidr string) {
	s.t.Helper()
	a, err := netlink.ParseAddr(cidr)
	s.must(err)
	a.Flags = unix.IFA_F_NODAD
	s.must(s.nl.AddrAdd(s.link(name), a))
}

// sysctl writes a file under /proc/sys/net as the namespace sees it.
func (s *space) sysctl(path, value string) {
	s.t.Helper()
	var err error
	s.do(func() { err = os.WriteFile("/proc/sys/net/"+path, []byte(value), 0) })
	s.must(err)
}

// join connects two namespaces by a veth and puts both ends up.
func join(a *space, nameA string, b *space, nameB string) {
	a.t.Helper()
	a.must(a.nl.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(b.ns),
	}))
	a.up(nameA)
	b.up(nameB)
}

// tap opens a packet socket on an interface.
func (s *space) tap(name string) *packet.Conn {
	s.t.Helper()
	var c *packet.Conn
	var err error
	s.do(func() {
		var ifi *net.Interface
		if ifi, err = net.InterfaceByName(name); err == nil {
			c, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		}
	})
	s.must(err)
	s.t.Cleanup(func() { c.Close() })
	return c
}
