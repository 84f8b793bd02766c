package realserver

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addVIPs adds the VIPs to the loopback device. The host receives packets for
// them, but does not announce them to the network: this is the ARP problem of
// direct routing and tunnels. The kernel does not answer neighbour
// solicitations for an IPv6 address of another device; IPv4 needs the two
// sysctls.
//
// A VIP that the host has already is left alone.
func addVIPs(vips []netip.Addr, undo *cleanups) error {
	if len(vips) == 0 {
		return nil
	}
	// arp_ignore 1: answer only for addresses of the interface that received
	// the request. arp_announce 2: never use a VIP as the source of an ARP
	// request. For both, the kernel takes the larger of "all" and the device's
	// own value (Documentation/networking/ip-sysctl.rst).
	for key, value := range map[string]string{"arp_ignore": "1", "arp_announce": "2"} {
		if err := setSysctl("net/ipv4/conf/all/"+key, value, undo); err != nil {
			return fmt.Errorf("add VIP: %w", err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("add VIP: find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("add VIP: bring lo up: %w", err)
	}
	for _, vip := range vips {
		if err := addVIP(lo, vip.Unmap(), undo); err != nil {
			return fmt.Errorf("add VIP %s: %w", vip, err)
		}
	}
	return nil
}

// addVIP adds one VIP with a host prefix. An IPv6 VIP is added without
// duplicate address detection and as deprecated, so that it is never the source
// of the server's own connections.
func addVIP(lo netlink.Link, vip netip.Addr, undo *cleanups) error {
	addr, err := netlink.ParseAddr(netip.PrefixFrom(vip, vip.BitLen()).String())
	if err != nil {
		return err
	}
	if vip.Is6() {
		addr.Flags = unix.IFA_F_NODAD
		addr.ValidLft = math.MaxInt32 // seconds; an int has 32 bits on some machines
		addr.PreferedLft = 0
	} else {
		addr.Scope = unix.RT_SCOPE_HOST
	}
	if err := netlink.AddrAdd(lo, addr); errors.Is(err, syscall.EEXIST) {
		return nil
	} else if err != nil {
		return err
	}
	undo.add(func() error {
		if err := netlink.AddrDel(lo, addr); err != nil {
			return fmt.Errorf("remove VIP %s: %w", vip, err)
		}
		return nil
	})
	return nil
}

// setSysctl writes a value below /proc/sys, in the network namespace of the
// calling thread, and adds a cleanup that restores the old one.
func setSysctl(key, value string, undo *cleanups) error {
	path := "/proc/sys/" + key
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if string(bytes.TrimSpace(old)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return err
	}
	undo.add(func() error { return os.WriteFile(path, old, 0) })
	return nil
}
