package routes

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/gaissmai/bart"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// host is the kernel's last known state in its own terms: interface indexes
// instead of ports.
type host struct {
	links      map[int]link
	addrs      []netlink.Addr
	routes     map[netip.Prefix]netlink.Route // the best of each prefix
	forwarding map[forwardingKey]bool
	neighbours map[neighbourID]neighbour
}

type link struct {
	name string
	mac  wire.MAC
	mtu  int
	up   bool // IFF_UP and IFF_RUNNING: set up, with a carrier

	kind   string // of virtual devices: bridge, bond …
	master int    // index of the device that it is enslaved to; 0: none
}

// linkID identifies the link of a port. vlan is not 0 for a VLAN without a device,
// which is no link to the kernel; index is then the trunk's.
type linkID struct {
	index int
	vlan  uint16
}

// neighbourID is an address on a link.
type neighbourID struct {
	link linkID
	addr netip.Addr
}

type neighbour struct {
	mac   wire.MAC
	state int // one of netlink.NUD_*
	flags int // netlink.NTF_*
}

// usable reports whether frames may be sent to a neighbour: its state is in the
// kernel's NUD_VALID, and it has a unicast address.
func (n neighbour) usable() bool {
	const valid = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE |
		netlink.NUD_PROBE | netlink.NUD_STALE | netlink.NUD_DELAY
	return n.state&valid != 0 && !n.mac.IsZero() && !n.mac.IsGroup()
}

// readLinks, readRoutes and readNeighbours read from the kernel. The error may be
// netlink.ErrDumpInterrupted: something changed meanwhile, so read again.

func readLinks(nl *netlink.Handle) (map[int]link, error) {
	list, err := nl.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	links := map[int]link{}
	for _, l := range list {
		a := l.Attrs()
		links[a.Index] = link{
			name: a.Name, mac: macOf(a.HardwareAddr), mtu: a.MTU,
			kind: l.Type(), master: a.MasterIndex,
			up: a.RawFlags&(unix.IFF_UP|unix.IFF_RUNNING) == unix.IFF_UP|unix.IFF_RUNNING,
		}
	}
	return links, nil
}

// macOf returns an Ethernet address, or zero for an address of another length.
func macOf(a net.HardwareAddr) wire.MAC {
	if len(a) != len(wire.MAC{}) {
		return wire.MAC{}
	}
	return wire.MAC(a)
}

func readRoutes(nl *netlink.Handle) (map[netip.Prefix]netlink.Route, error) {
	routes := map[netip.Prefix]netlink.Route{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := nl.RouteList(nil, family) // of the main table
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range list {
			addBest(routes, r)
		}
	}
	return routes, nil
}

// addBest stores a route unless its prefix already has one whose metric is at
// most as high.
func addBest(routes map[netip.Prefix]netlink.Route, r netlink.Route) {
	p, ok := prefixOf(r)
	if !ok || r.Tos != 0 || r.Type == unix.RTN_THROW {
		return
	}
	if len(r.MultiPath) > 0 {
		n := r.MultiPath[0]
		for _, other := range r.MultiPath {
			if n.Flags&unix.RTNH_F_DEAD != 0 {
				n = other
			}
		}
		r.LinkIndex, r.Gw, r.Via, r.Encap, r.Flags = n.LinkIndex, n.Gw, n.Via, n.Encap, n.Flags
	}
	if r.Flags&unix.RTNH_F_DEAD != 0 {
		return
	}
	if old, ok := routes[p]; !ok || r.Priority < old.Priority {
		routes[p] = r
	}
}

// prefixOf returns the destination of a route. A route without one is a default route.
func prefixOf(r netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil {
		if r.Family == netlink.FAMILY_V6 {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0), true
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), true
	}
	a, ok := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits), ok
}

func readNeighbours(nl *netlink.Handle) (map[neighbourID]neighbour, error) {
	list, err := nl.NeighList(0, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	all := map[neighbourID]neighbour{}
	for _, n := range list {
		if id, ok := neighbourIDOf(&n); ok {
			all[id] = neighbour{macOf(n.HardwareAddr), n.State, n.Flags}
		}
	}
	return all, nil
}

// neighbourIDOf returns false for entries of bridges and proxies, which are no
// next hops.
func neighbourIDOf(n *netlink.Neigh) (neighbourID, bool) {
	a, ok := netip.AddrFromSlice(n.IP)
	ip := n.Family == netlink.FAMILY_V4 || n.Family == netlink.FAMILY_V6
	return neighbourID{linkID{index: n.LinkIndex}, a}, ok && ip && n.Flags&netlink.NTF_PROXY == 0
}

// read reads everything except neighbours.
func (h *host) read(nl *netlink.Handle, conf *netconf) error {
	links, err1 := readLinks(nl)
	addrs, err2 := nl.AddrList(nil, netlink.FAMILY_ALL)
	if err2 != nil {
		err2 = fmt.Errorf("list addresses: %w", err2)
	}
	routes, err3 := readRoutes(nl)
	forwarding, err4 := conf.read()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	h.links, h.addrs, h.routes, h.forwarding = links, addrs, routes, forwarding
	return nil
}

func linkOf(p director.Port) linkID { return linkID{p.Index, p.VLAN} }

func portsByLink(ports []director.Port) map[linkID]uint16 {
	m := map[linkID]uint16{}
	for i, p := range ports {
		if p.Index != 0 {
			m[linkOf(p)] = uint16(i)
		}
	}
	return m
}

// hostNet makes a director.HostNet with the given routes.
func (h *host) hostNet(ports []director.Port, routes *bart.Table[director.Route]) *director.HostNet {
	hostNet := &director.HostNet{
		Ports: ports, Routes: routes,
		Neighbours: map[director.NeighbourKey]wire.MAC{}, HostAddrs: map[wire.Addr]int{},
	}
	for _, a := range h.addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			hostNet.HostAddrs[wire.AddrFrom(addr)] = a.LinkIndex
		}
	}
	index := portsByLink(ports)
	for id, n := range h.neighbours {
		if port, ok := index[id.link]; ok && n.usable() {
			hostNet.Neighbours[director.NeighbourKey{Port: port, Addr: wire.AddrFrom(id.addr)}] = n.mac
		}
	}
	return hostNet
}

// routeTable makes the director's routes from the host's. The nets of VLANs
// override them. It returns old if nothing differs.
func (h *host) routeTable(ports []director.Port, vlans []VLAN,
	old *bart.Table[director.Route],
) *bart.Table[director.Route] {
	index := portsByLink(ports)
	routes := new(bart.Table[director.Route])
	for p, r := range h.routes {
		routes.Insert(p, directorRoute(r, index))
	}
	for i, v := range vlans {
		for _, a := range v.Addrs {
			routes.Insert(a.Masked(), director.Route{Port: uint16(len(ports) - len(vlans) + i), Source: a.Addr()})
		}
	}
	if old == nil || old.Size() != routes.Size() {
		return routes
	}
	for p, r := range routes.All() {
		if before, ok := old.Get(p); !ok || before != r {
			return routes
		}
	}
	return old
}

// directorRoute converts a route; index maps interfaces to ports.
func directorRoute(r netlink.Route, index map[linkID]uint16) director.Route {
	port, ok := index[linkID{index: r.LinkIndex}]
	if !ok || r.Type != unix.RTN_UNICAST || r.Encap != nil {
		return director.Route{Port: wire.NoPort}
	}
	out := director.Route{Port: port, MTU: r.MTU}
	out.Source, _ = netip.AddrFromSlice(r.Src)
	out.Via, _ = netip.AddrFromSlice(r.Gw)
	if via, ok := r.Via.(*netlink.Via); ok { // a gateway of the other family
		out.Via, _ = netip.AddrFromSlice(via.Addr)
	}
	out.Source, out.Via = out.Source.Unmap(), out.Via.Unmap()
	for _, hop := range r.MultiPath {
		if port, ok := index[linkID{index: hop.LinkIndex}]; ok && port < 64 && port != out.Port {
			out.Ports |= 1 << port
		}
	}
	return out
}

// port makes the director's port of an interface.
func (h *host) port(index int, name string) director.Port {
	l, ok := h.links[index]
	if !ok {
		return director.Port{Name: name}
	}
	p := director.Port{Name: l.name, Index: index, MAC: l.mac, MTU: l.mtu}
	p.Forwards4 = h.forwarding[forwardingKey{unix.AF_INET, index}]
	p.Forwards6 = h.forwarding[forwardingKey{unix.AF_INET6, index}] &&
		h.forwarding[forwardingKey{unix.AF_INET6, allLinks}]
	for _, a := range h.addrs {
		addr, ok := netip.AddrFromSlice(a.IP)
		switch {
		case !ok || a.LinkIndex != index || a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0:
		case addr.Is4() && !p.Addr4.IsValid():
			p.Addr4 = addr
		case addr.Is6() && (!p.Addr6.IsValid() || p.Addr6.IsLinkLocalUnicast() && !addr.IsLinkLocalUnicast()):
			p.Addr6 = addr
		}
	}
	return p
}
