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

// hopsTo is where the frames for an address go first: nowhere if it is the
// host's own or has no usable route, to one gateway or itself on one link, or,
// without any route, to itself on the link of any port.
func hopsTo(hops *director.HostNet, addr netip.Addr) []director.NeighbourKey {
	addr = addr.Unmap()
	self := wire.AddrFrom(addr)
	if !addr.IsValid() || addr.IsMulticast() || addr.IsUnspecified() || addr.IsLoopback() || hops.IsLocal(self) {
		return nil
	}
	r, ok := hops.Routes.Lookup(addr)
	switch {
	case ok && r.Port == wire.NoPort:
		return nil
	case ok && r.Via.IsValid():
		return []director.NeighbourKey{{Port: r.Port, Addr: wire.AddrFrom(r.Via)}}
	case ok:
		return []director.NeighbourKey{{Port: r.Port, Addr: self}}
	}
	keys := make([]director.NeighbourKey, len(hops.Ports))
	for port := range hops.Ports {
		keys[port] = director.NeighbourKey{Port: uint16(port), Addr: self}
	}
	return keys
}

// resolved says whether frames can be sent to an address now; the host's own
// need no hop.
func resolved(hops *director.HostNet, addr netip.Addr) bool {
	if hops.IsLocal(wire.AddrFrom(addr)) {
		return true
	}
	for _, key := range hopsTo(hops, addr) {
		if _, ok := hops.Neighbours[key]; ok {
			return true
		}
	}
	return false
}

// gatewaysOf are the next hops that routes over our ports name.
func gatewaysOf(hops *director.HostNet) map[director.NeighbourKey]bool {
	gateways := map[director.NeighbourKey]bool{}
	for _, r := range hops.Routes.All() {
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
		keys := hopsTo(w.hops, addr)
		found := slices.IndexFunc(keys, func(key director.NeighbourKey) bool {
			_, ok := w.hops.Neighbours[key]
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
	if w.retarget {
		w.targets, w.retarget = w.findTargets(), false
	}
	wanted := map[neighbourID]bool{}
	for key := range w.targets {
		port := w.hops.Ports[key.Port]
		id := neighbourID{linkOf(port), key.Addr.Netip()}
		if port.Index == 0 || !w.up[key.Port] {
			continue
		}
		wanted[id] = true
		if w.isDue(id, now) {
			w.asked[id] = now
			w.ask(port, id)
		}
	}
	maps.DeleteFunc(w.asked, func(id neighbourID, _ time.Time) bool { return !wanted[id] })
	w.moved = w.prober.forget(wanted, now) || w.moved
}

// isDue says whether a neighbour is to be asked for now: it is not known or went
// stale, nobody is busy finding it out, and it was not asked for just now.
func (w *Watcher) isDue(id neighbourID, now time.Time) bool {
	const busy = netlink.NUD_INCOMPLETE | netlink.NUD_DELAY | netlink.NUD_PROBE
	n := w.host.neighbours[id]
	switch {
	case n.state&busy != 0, n.usable() && n.state != netlink.NUD_STALE, w.prober.fresh(id, now):
		return false
	}
	return now.Sub(w.asked[id]) >= second-settle // ticks are not exact
}

// ask has the kernel find out a neighbour, or does it where the kernel cannot.
func (w *Watcher) ask(port director.Port, id neighbourID) {
	var err error
	if n := w.host.neighbours[id]; port.VLAN == 0 && w.canAsk(id, n) {
		// What another program says of the entry stays.
		err = w.nl.NeighSet(&netlink.Neigh{
			LinkIndex: id.index, IP: id.addr.AsSlice(), State: netlink.NUD_NONE,
			Flags: netlink.NTF_USE | n.flags&netlink.NTF_EXT_LEARNED,
		})
	} else {
		err = w.prober.ask(port, id)
	}
	if err != nil {
		w.log.Debug().Err(err).Stringer("address", id.addr).Str("interface", port.Name).Msg("hop: cannot ask for a neighbour")
	}
}

// canAsk says whether the kernel is able to ask for a neighbour; the package
// comment says when it is not.
func (w *Watcher) canAsk(id neighbourID, n neighbour) bool {
	if n.state&netlink.NUD_NOARP != 0 {
		return false
	}
	return slices.ContainsFunc(w.host.addrs, func(a netlink.Addr) bool {
		if id.addr.Is4() {
			return a.IP.To4() != nil
		}
		return a.LinkIndex == id.index && a.IP.To4() == nil && a.IP.IsLinkLocalUnicast()
	})
}
