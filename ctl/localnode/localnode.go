// Package localnode makes the way by which frames are handed to the host's own stack
// after the director has decided about them (IPVS's LocalNode).
//
// The stack's copies of frames to a service are dropped by the guard, before
// anybody knows which server a flow gets. A flow of the host's own comes in
// again by a door: a pair of virtual Ethernet devices, whose outer one belongs to
// the host and whose inner one is a port of the director like any other. The
// guard has no rules on it.
//
//	ring ── inner │ outer ── the host's stack
//	  (a namespace │ (the host's
//	   without name) namespace)
//
// The inner device lives in a network namespace without a name that only this
// process holds open, so both go when the process does, however it ends.
//
// What lost: a TUN or TAP device ends with the process by itself, but its frames
// would need a second kind of link in every worker, a write for each of them, and
// would lose what a ring says of half-made checksums and super-frames.
package localnode

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// Pair is an open door.
type Pair struct {
	Name          string   // of both devices, each in its namespace
	DirectorMAC   wire.MAC // the director's end
	HostMAC       wire.MAC // the host's end
	HostIndex     int      // interface index of the outer device
	DirectorNetns int      // descriptor of the namespace of the inner device
}

// MTU is that of the devices: the longest there is, so that super-frames that
// fit an interface fit the door.
const MTU = 65535

// outerAddr is the dummy address of RFC 7600 section 4.8: without any, loose
// reverse path filtering would refuse all that comes in by the device.
var outerAddr = &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 0, 8), Mask: net.CIDRMask(32, 32)}}

// New makes a door in the network namespace of the calling thread.
func New() (*Pair, error) {
	d := &Pair{Name: fmt.Sprintf("uvs-%d", os.Getpid()), DirectorNetns: -1}
	err := d.makePair()
	if err == nil {
		err = d.prepareOuter()
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("make the way to the host's own stack: %w", err)
	}
	return d, nil
}

// Close removes the door.
func (d *Pair) Close() {
	if outer, err := netlink.LinkByName(d.Name); err == nil {
		netlink.LinkDel(outer)
	}
	if d.DirectorNetns >= 0 {
		unix.Close(d.DirectorNetns)
		d.DirectorNetns = -1
	}
}

// makePair makes the namespace and the devices, the inner one ready for use.
func (d *Pair) makePair() error {
	runtime.LockOSThread() // unlocked only when the thread is back where it was
	host, err := netns.Get()
	if err != nil {
		return fmt.Errorf("find own namespace: %w", err)
	}
	defer host.Close()
	inner, err := netns.New()
	if err != nil {
		return fmt.Errorf("make a network namespace (needs CAP_SYS_ADMIN): %w", err)
	}
	d.DirectorNetns = int(inner)
	err = d.makeInner(host)
	if back := netns.Set(host); back != nil {
		return errors.Join(err, fmt.Errorf("return to own namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}

// makeInner runs inside the new namespace.
func (d *Pair) makeInner(host netns.NsHandle) error {
	quiet := write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1") // no solicitations of its own
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = d.Name, MTU
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: d.Name, PeerMTU: MTU, PeerNamespace: netlink.NsFd(host)}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	if err := errors.Join(quiet, nl.LinkAdd(pair)); err != nil {
		return fmt.Errorf("make devices %s: %w", d.Name, err)
	}
	link, err := nl.LinkByName(d.Name)
	if err != nil {
		return err
	}
	d.DirectorMAC = wire.MAC(link.Attrs().HardwareAddr)
	return nl.LinkSetUp(link)
}

// prepareOuter makes the host take in what comes by the door and do nothing else
// with the device. Of its own settings only: reverse path filtering is the
// stricter of the device's and the host's, and loose counts as stricter than
// strict, so loose here overrules strict there.
func (d *Pair) prepareOuter() error {
	link, err := netlink.LinkByName(d.Name)
	if err != nil {
		return fmt.Errorf("find device %s: %w", d.Name, err)
	}
	d.HostMAC, d.HostIndex = wire.MAC(link.Attrs().HardwareAddr), link.Attrs().Index
	v4, v6 := "/proc/sys/net/ipv4/conf/"+d.Name+"/", "/proc/sys/net/ipv6/conf/"+d.Name+"/"
	err = errors.Join(
		write(v4+"rp_filter", "2"), write(v4+"forwarding", "0"), write(v4+"arp_ignore", "8"),
		netlink.LinkSetARPOff(link), netlink.AddrAdd(link, outerAddr))
	if _, none := os.Stat(v6); none == nil {
		err = errors.Join(err, write(v6+"addr_gen_mode", "1"), write(v6+"accept_ra", "0"), write(v6+"forwarding", "0"))
	}
	return errors.Join(err, netlink.LinkSetUp(link))
}

// write sets a sysctl.
func write(path, value string) error { return os.WriteFile(path, []byte(value), 0) }
