// Package localnode makes the virtual device that hands frames to the host's
// own stack, after the director has chosen the host as server (IPVS's
// LocalNode).
//
// The guard drops the stack's copies of frames to a service, before the
// director chooses a server for the flow. So the director sends the frames of a
// flow that the host serves into the host again, through a pair of virtual
// Ethernet devices (veth). The host side belongs to the host, without rules of
// the guard. The director side is a port of the director like any other.
//
//	ring ── director side │ host side ── the host's stack
//	        (a namespace  │ (the host's
//	        without name) │ namespace)
//
// The director side is in a network namespace without a name, which only this
// process holds open. So the kernel removes both sides when the process ends in
// any way.
//
// Rejected: a TUN or TAP device. It ends with the process, but its frames would
// need a second kind of link in every worker and a write call for each. They
// would lose the metadata of a ring about partial checksums and GSO.
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

// Pair is the veth pair.
type Pair struct {
	Name          string   // of both sides, each in its namespace
	DirectorMAC   wire.MAC // of the director side
	HostMAC       wire.MAC // of the host side
	HostIndex     int      // interface index of the host side
	DirectorNetns int      // descriptor of the director side's namespace
}

// MTU is that of both sides, the largest possible: a GSO frame that fits any
// interface fits the pair.
const MTU = 65535

// hostAddr is the dummy address of RFC 7600 section 4.8. Without an address,
// loose reverse path filtering would drop all frames that arrive on the device.
var hostAddr = &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 0, 8), Mask: net.CIDRMask(32, 32)}}

// New makes a pair in the network namespace of the calling thread.
func New() (*Pair, error) {
	d := &Pair{Name: fmt.Sprintf("uvs-%d", os.Getpid()), DirectorNetns: -1}
	err := d.makePair()
	if err == nil {
		err = d.prepareHostSide()
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("make the device to the host's stack: %w", err)
	}
	return d, nil
}

// Close removes the pair.
func (d *Pair) Close() {
	if link, err := netlink.LinkByName(d.Name); err == nil {
		netlink.LinkDel(link)
	}
	if d.DirectorNetns >= 0 {
		unix.Close(d.DirectorNetns)
		d.DirectorNetns = -1
	}
}

// makePair makes the namespace and both devices, and sets the director side up.
func (d *Pair) makePair() error {
	runtime.LockOSThread() // unlocked only after the thread is back in its own namespace
	host, err := netns.Get()
	if err != nil {
		return fmt.Errorf("find own namespace: %w", err)
	}
	defer host.Close()
	director, err := netns.New()
	if err != nil {
		return fmt.Errorf("make a network namespace (needs CAP_SYS_ADMIN): %w", err)
	}
	d.DirectorNetns = int(director)
	err = d.makeDirectorSide(host)
	if restoreErr := netns.Set(host); restoreErr != nil {
		return errors.Join(err, fmt.Errorf("return to own namespace: %w", restoreErr))
	}
	runtime.UnlockOSThread()
	return err
}

// makeDirectorSide runs inside the new namespace.
func (d *Pair) makeDirectorSide(host netns.NsHandle) error {
	noIPv6 := write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1") // no router solicitations
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = d.Name, MTU
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: d.Name, PeerMTU: MTU, PeerNamespace: netlink.NsFd(host)}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	if err := errors.Join(noIPv6, nl.LinkAdd(pair)); err != nil {
		return fmt.Errorf("make devices %s: %w", d.Name, err)
	}
	link, err := nl.LinkByName(d.Name)
	if err != nil {
		return err
	}
	d.DirectorMAC = wire.MAC(link.Attrs().HardwareAddr)
	return nl.LinkSetUp(link)
}

// prepareHostSide lets the host receive on the device and disables everything
// else there. It changes the device's settings only. The kernel filters by the
// greater of the device's and the host's rp_filter, and loose (2) is greater
// than strict (1), so loose here overrides strict there.
func (d *Pair) prepareHostSide() error {
	link, err := netlink.LinkByName(d.Name)
	if err != nil {
		return fmt.Errorf("find device %s: %w", d.Name, err)
	}
	d.HostMAC, d.HostIndex = wire.MAC(link.Attrs().HardwareAddr), link.Attrs().Index
	v4, v6 := "/proc/sys/net/ipv4/conf/"+d.Name+"/", "/proc/sys/net/ipv6/conf/"+d.Name+"/"
	err = errors.Join(
		write(v4+"rp_filter", "2"), write(v4+"forwarding", "0"), write(v4+"arp_ignore", "8"),
		netlink.LinkSetARPOff(link), netlink.AddrAdd(link, hostAddr))
	if _, none := os.Stat(v6); none == nil {
		err = errors.Join(err, write(v6+"addr_gen_mode", "1"), write(v6+"accept_ra", "0"), write(v6+"forwarding", "0"))
	}
	return errors.Join(err, netlink.LinkSetUp(link))
}

// write sets a sysctl.
func write(path, value string) error { return os.WriteFile(path, []byte(value), 0) }
