package ring

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// lab is three network namespaces in a row. The links under test run in the
// middle one:
//
//	left            middle            right
//	 l0 ------------ m0   m1 ------------ r0
//	 10.9.0.1/16                          10.9.0.2/16
//
// m0 has the MAC address of r0, and m1 that of l0. So frames between left and right
// are addressed to the middle's interfaces, and can be copied from one to the other
// unchanged.
type lab struct {
	left, middle, right netns.NsHandle
}

var (
	leftMAC  = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x01}
	rightMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x02}
)

// newLab makes the network, or skips the test and names the missing capabilities.
// The namespaces and their interfaces end with the test.
func newLab(t testing.TB) *lab {
	t.Helper()
	n := &lab{left: newNamespace(t), middle: newNamespace(t), right: newNamespace(t)}
	n.veth(t, "l0", n.left, leftMAC, "m0", rightMAC)
	n.veth(t, "r0", n.right, rightMAC, "m1", leftMAC)
	n.address(t, n.left, "l0", "10.9.0.1/16")
	n.address(t, n.right, "r0", "10.9.0.2/16")
	return n
}

// newNamespace makes a namespace without IPv6, which would send frames by itself.
func newNamespace(t testing.TB) netns.NsHandle {
	t.Helper()
	var ns netns.NsHandle
	err := onThread(func() (err error) {
		if ns, err = netns.New(); err != nil {
			return err
		}
		for _, which := range []string{"all", "default"} {
			path := "/proc/sys/net/ipv6/conf/" + which + "/disable_ipv6"
			if err := os.WriteFile(path, []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, os.ErrPermission) {
		t.Skipf("cannot make a network namespace: needs CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW: %v", err)
	}
	if err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// onThread runs f on a new thread that ends with f, so that no other goroutine runs in
// the namespace that f enters.
func onThread(f func() error) error {
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		errs <- f()
	}()
	return <-errs
}

// inNetns runs f in namespace ns.
func inNetns(t testing.TB, ns netns.NsHandle, f func() error) {
	t.Helper()
	err := onThread(func() error {
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter namespace: %w", err)
		}
		return f()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// netlinkHandle returns a netlink handle of ns.
func netlinkHandle(t testing.TB, ns netns.NsHandle) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatalf("open netlink: %v", err)
	}
	t.Cleanup(h.Close)
	return h
}

// veth makes a pair of outer, in ns, and inner, in the middle, and sets both up.
func (n *lab) veth(t testing.TB, outer string, ns netns.NsHandle, outerMAC net.HardwareAddr, inner string,
	innerMAC net.HardwareAddr,
) {
	t.Helper()
	middle := netlinkHandle(t, n.middle)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = inner, innerMAC
	err := middle.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: outer, PeerHardwareAddr: outerMAC,
		PeerNamespace: netlink.NsFd(int(ns)),
	})
	if err != nil {
		t.Fatalf("make %s and %s: %v", inner, outer, err)
	}
	setUp(t, n.middle, inner, true)
	setUp(t, ns, outer, true)
}

// setUp sets an interface up or down.
func setUp(t testing.TB, ns netns.NsHandle, name string, up bool) {
	t.Helper()
	h := netlinkHandle(t, ns)
	link, err := h.LinkByName(name)
	if err == nil && up {
		err = h.LinkSetUp(link)
	} else if err == nil {
		err = h.LinkSetDown(link)
	}
	if err != nil {
		t.Fatalf("set %s up=%v: %v", name, up, err)
	}
}

// address replaces the IPv4 addresses of an interface.
func (n *lab) address(t testing.TB, ns netns.NsHandle, name, prefix string) {
	t.Helper()
	h := netlinkHandle(t, ns)
	link, err := h.LinkByName(name)
	if err != nil {
		t.Fatalf("find %s: %v", name, err)
	}
	old, err := h.AddrList(link, netlink.FAMILY_V4)
	for i := range old {
		err = errors.Join(err, h.AddrDel(link, &old[i]))
	}
	addr, parseErr := netlink.ParseAddr(prefix)
	if err = errors.Join(err, parseErr); err == nil {
		err = h.AddrAdd(link, addr)
	}
	if err != nil {
		t.Fatalf("give %s the address %s: %v", name, prefix, err)
	}
}

// open opens a link in ns. The end of the test closes it.
func open(t testing.TB, ns netns.NsHandle, names ...string) *Link {
	t.Helper()
	return openWorkers(t, ns, smallConfig(names...), 1)[0]
}

// smallConfig returns a configuration with little memory and without spinning, so that
// tests sleep on the wake socket.
func smallConfig(names ...string) Config {
	cfg := Config{BlockSize: minBlock, Blocks: 4, Spin: -1}
	for _, name := range names {
		cfg.Interfaces = append(cfg.Interfaces, Interface{Name: name})
	}
	return cfg
}

// openWorkers opens a group of links in ns. The end of the test closes them.
func openWorkers(t testing.TB, ns netns.NsHandle, cfg Config, workers int) (links []*Link) {
	t.Helper()
	inNetns(t, ns, func() (err error) {
		links, err = OpenGroup(cfg, workers)
		return err
	})
	for _, l := range links {
		t.Cleanup(func() {
			if err := l.Close(); err != nil {
				t.Errorf("close link: %v", err)
			}
		})
	}
	return links
}

// rawSocket opens a plain packet socket on an interface in ns, to send and receive
// frames without a link. A read times out after two seconds.
func rawSocket(t testing.TB, ns netns.NsHandle, name string) int {
	t.Helper()
	var fd int
	inNetns(t, ns, func() (err error) {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		return errors.Join(
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index}),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}),
		)
	})
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}
