package routes

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// nextHops is where the frames for an address go first: nowhere if it is the
// host's own or has no usable route, to one gateway or itself on one link, or,
// without any route, to itself on the link of any port.
func nextHops(hostNet *director.HostNet, addr netip.Addr) []director.NeighbourKey {
	addr = addr.Unmap()
	self := wire.AddrFrom(addr)
	if !addr.IsValid() || addr.IsMulticast() || addr.IsUnspecified() || addr.IsLoopback() || hostNet.IsLocal(self) {
		return nil
	}
	r, ok := hostNet.Routes.Lookup(addr)
	switch {
	case ok && r.Port == wire.NoPort:
		return nil
	case ok && r.Via.IsValid():
		return []director.NeighbourKey{{Port: r.Port, Addr: wire.AddrFrom(r.Via)}}
	case ok:
		return []director.NeighbourKey{{Port: r.Port, Addr: self}}
	}
	keys := make([]director.NeighbourKey, len(hostNet.Ports))
	for port := range hostNet.Ports {
		keys[port] = director.NeighbourKey{Port: uint16(port), Addr: self}
	}
	return keys
}

// resolved says whether frames can be sent to an address now; the host's own
// need no hop.
func resolved(hostNet *director.HostNet, addr netip.Addr) bool {
	if hostNet.IsLocal(wire.AddrFrom(addr)) {
		return true
	}
	for _, key := range nextHops(hostNet, addr) {
		if _, ok := hostNet.Neighbours[key]; ok {
			return true
		}
	}
	return false
}

// gateways are the next hops that routes over our ports name.
func gateways(hostNet *director.HostNet) map[director.NeighbourKey]bool {
	gateways := map[director.NeighbourKey]bool{}
	for _, r := range hostNet.Routes.All() {
		if r.Port != wire.NoPort && r.Via.IsValid() {
			gateways[director.NeighbourKey{Port: r.Port, Addr: wire.AddrFrom(r.Via)}] = true
		}
	}
	return gateways
}

// findTargets says which neighbours are to be kept resolved.
func (w *Watcher) findTargets() map[director.NeighbourKey]bool {
	targets := maps.Clone(w.gateways)
	for _, addr := range w.wanted {
		keys := nextHops(w.hostNet, addr)
		found := slices.IndexFunc(keys, func(key director.NeighbourKey) bool {
			_, ok := w.hostNet.Neighbours[key]
			return ok
		})
		if found >= 0 {
			keys = keys[found : found+1] // no need to look on other ports
		}
		for _, key := range keys {
			targets[key] = true
		}
	}
	return targets
}

// resolve sees to it that every target is known or being asked for; the package
// comment has the rule.
func (w *Watcher) resolve(now time.Time) {
	if w.retargetDue {
		w.targets, w.retargetDue = w.findTargets(), false
	}
	wanted := map[neighbourID]bool{}
	for key := range w.targets {
		port := w.hostNet.Ports[key.Port]
		id := neighbourID{linkKey(port), key.Addr.Netip()}
		if port.Index == 0 || !w.up[key.Port] {
			continue
		}
		wanted[id] = true
		if w.dueForSolicit(id, now) {
			w.solicited[id] = now
			w.solicit(port, id)
		}
	}
	maps.DeleteFunc(w.solicited, func(id neighbourID, _ time.Time) bool { return !wanted[id] })
	w.neighbourChanged = w.prober.expire(wanted, now) || w.neighbourChanged
}

// dueForSolicit says whether a neighbour is to be asked for now: it is not known or went
// stale, nobody is busy finding it out, and it was not asked for just now.
func (w *Watcher) dueForSolicit(id neighbourID, now time.Time) bool {
	const busy = netlink.NUD_INCOMPLETE | netlink.NUD_DELAY | netlink.NUD_PROBE
	n := w.host.neighbours[id]
	switch {
	case n.state&busy != 0, n.usable() && n.state != netlink.NUD_STALE, w.prober.isReachable(id, now):
		return false
	}
	return now.Sub(w.solicited[id]) >= retransTime-coalesceDelay // ticks are not exact
}

// solicit has the kernel find out a neighbour, or does it where the kernel cannot.
func (w *Watcher) solicit(port director.Port, id neighbourID) {
	var err error
	if n := w.host.neighbours[id]; port.VLAN == 0 && w.kernelCanSolicit(id, n) {
		// What another program says of the entry stays.
		err = w.nl.NeighSet(&netlink.Neigh{
			LinkIndex: id.link, IP: id.addr.AsSlice(), State: netlink.NUD_NONE,
			Flags: netlink.NTF_USE | n.flags&netlink.NTF_EXT_LEARNED,
		})
	} else {
		err = w.prober.solicit(port, id)
	}
	if err != nil {
		w.log.Debug().Err(err).Stringer("address", id.addr).Str("interface", port.Name).
			Msg("routes: cannot ask for a neighbour")
	}
}

// kernelCanSolicit says whether the kernel is able to ask for a neighbour; the package
// comment says when it is not.
func (w *Watcher) kernelCanSolicit(id neighbourID, n neighbour) bool {
	if n.state&netlink.NUD_NOARP != 0 {
		return false
	}
	return slices.ContainsFunc(w.host.addrs, func(a netlink.Addr) bool {
		if id.addr.Is4() {
			return a.IP.To4() != nil
		}
		return a.LinkIndex == id.link && a.IP.To4() == nil && a.IP.IsLinkLocalUnicast()
	})
}
