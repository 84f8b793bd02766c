package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// build makes what the plan's layout has.
func (l *Lab) build() error {
	if err := shareNetnsDir(); err != nil {
		return fmt.Errorf("make %s a shared mount: %w", netnsDir, err)
	}
	layout := l.layout()
	for _, node := range layout.nodes {
		if err := l.addNode(node); err != nil {
			return fmt.Errorf("make node %s: %w", node, err)
		}
	}
	if err := l.Do(switchNode, disableBridgeNetfilter); err != nil {
		return fmt.Errorf("turn netfilter off on the bridges: %w", err)
	}
	for _, s := range []segment{front, back} {
		if err := l.Do(switchNode, func() error { return addBridge(s.bridge) }); err != nil {
			return fmt.Errorf("make segment %s: %w", s.bridge, err)
		}
	}
	for _, p := range layout.ports {
		if err := l.addPort(p); err != nil {
			return fmt.Errorf("join %s to %s: %w", p.node, p.segment.bridge, err)
		}
	}
	for node, gateways := range layout.gateways {
		if err := l.Do(node, func() error { return addGateways(gateways) }); err != nil {
			return fmt.Errorf("give %s a gateway: %w", node, err)
		}
	}
	if l.VIPOnDirector {
		if err := l.Do(DirectorNode, l.addVIPs); err != nil {
			return fmt.Errorf("configure vip on director: %w", err)
		}
	}
	return nil
}

// shareNetnsDir makes the directory of named namespaces a shared mount, under
// iproute2's lock (ip/ipnetns.c, netns_add). Otherwise the first `ip netns add`
// does it, and hides the mounts of the names that are there already.
func shareNetnsDir() error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	lock, err := os.Open(netnsDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	share := func() error { return unix.Mount("", netnsDir, "none", unix.MS_SHARED|unix.MS_REC, "") }
	if err = share(); errors.Is(err, unix.EINVAL) { // it is no mount yet
		err = errors.Join(unix.Mount(netnsDir, netnsDir, "none", unix.MS_BIND|unix.MS_REC, ""), share())
	}
	return err
}

// addNode makes a node's namespace. It writes the sysctls before it makes
// links, because a new link takes the "default" ones.
func (l *Lab) addNode(node string) error {
	return restoringNetns(func() error {
		ns, err := netns.NewNamed(netnsName(l.Name, node))
		if err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		ns.Close()
		for _, s := range l.sysctls(node) {
			if err := os.WriteFile(filepath.Join("/proc/sys/net", s.key), []byte(s.value), 0); err != nil {
				return err
			}
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find lo: %w", err)
		}
		return netlink.LinkSetUp(lo)
	})
}

type sysctl struct{ key, value string }

// sysctls returns a node's settings below /proc/sys/net.
func (l *Lab) sysctls(node string) []sysctl {
	if node == switchNode { // bridges only: without addresses they send nothing themselves
		return []sysctl{{"ipv6/conf/all/disable_ipv6", "1"}, {"ipv6/conf/default/disable_ipv6", "1"}}
	}
	forward := "0"
	if node == routerNode || node == DirectorNode && l.Forward {
		forward = "1"
	}
	// ip_forward first: it resets the others.
	list := []sysctl{{"ipv4/ip_forward", forward}, {"ipv6/conf/all/forwarding", forward}}
	for _, dev := range []string{"all", "default"} {
		list = append(list,
			sysctl{"ipv4/conf/" + dev + "/rp_filter", "0"}, // replies may use another interface than requests
			sysctl{"ipv4/conf/" + dev + "/send_redirects", "0"},
			sysctl{"ipv4/conf/" + dev + "/arp_ignore", "0"},
			sysctl{"ipv4/conf/" + dev + "/arp_announce", "0"},
			sysctl{"ipv6/conf/" + dev + "/accept_dad", "0"}, // link-local addresses are usable at once
			sysctl{"ipv6/conf/" + dev + "/accept_ra", "0"},
			sysctl{"ipv6/conf/" + dev + "/autoconf", "0"},
		)
	}
	return list
}

// disableBridgeNetfilter makes the bridges in the namespace of the calling
// thread forward every frame. If the host has loaded br_netfilter, they would
// filter IP packets, and drop GSO frames with IPv6's jumbo payload option.
func disableBridgeNetfilter() error {
	for _, key := range []string{"iptables", "ip6tables", "arptables"} {
		err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+key, []byte("0"), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// addBridge makes a segment. It floods multicast: IPv6 resolves neighbours by
// it, also for addresses whose group no kernel on the segment has joined.
func addBridge(name string) error {
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &snooping}
	bridge.Name = name
	if err := netlink.LinkAdd(bridge); err != nil {
		return err
	}
	return netlink.LinkSetUp(bridge)
}

// addPort joins a node to a segment by a veth link.
func (l *Lab) addPort(p port) error {
	ns, err := l.openNetns(p.node)
	if err != nil {
		return err
	}
	defer ns.Close()
	switchEnd := p.switchIface()
	err = l.doLink(switchNode, p.segment.bridge, func(bridge netlink.Link) error {
		link := netlink.NewVeth(netlink.NewLinkAttrs())
		link.Name, link.MTU, link.MasterIndex = switchEnd, l.MTU, bridge.Attrs().Index
		link.PeerName, link.PeerMTU, link.PeerNamespace = p.iface, uint32(l.MTU), netlink.NsFd(ns)
		link.PeerHardwareAddr = p.mac()
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		return l.setUpLink(switchEnd)
	})
	if err != nil {
		return err
	}
	return l.Do(p.node, func() error {
		err := l.setUpLink(p.iface)
		for _, s := range p.addrs {
			err = errors.Join(err, addAddr(p.iface, s.prefix(4, p.host)), addAddr(p.iface, s.prefix(6, p.host)))
		}
		return err
	})
}

// setUpLink sets the offloads and the queue of one side of a link, in the
// namespace of the calling thread, and sets it up.
func (l *Lab) setUpLink(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if l.NoOffloads {
		if err := setOffloads(name, false, false, false); err != nil {
			return fmt.Errorf("turn offloads off: %w", err)
		}
	}
	if l.LossFree {
		if err := linkQueue(link); err != nil {
			return fmt.Errorf("make loss-free: %w", err)
		}
	}
	return netlink.LinkSetUp(link)
}

// addAddr gives an interface an address that is usable at once.
func addAddr(iface string, prefix netip.Prefix) error {
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(prefix.String())
	if err != nil {
		return err
	}
	if prefix.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add %s to %s: %w", prefix, iface, err)
	}
	return nil
}

func (l *Lab) addVIPs() error {
	return errors.Join(addAddr("lo", netip.PrefixFrom(l.VIP(4), 32)), addAddr("lo", netip.PrefixFrom(l.VIP(6), 128)))
}

// addGateways adds the default routes.
func addGateways(gateways [2]netip.Addr) error {
	for _, gw := range gateways {
		if err := netlink.RouteAdd(&netlink.Route{Gw: gw.AsSlice()}); err != nil {
			return fmt.Errorf("default route via %s: %w", gw, err)
		}
	}
	return nil
}
