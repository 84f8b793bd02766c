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

// nextHops returns the possible next hops for an address. There is none if it
// is the host's own or has no usable route. With a route, it is the gateway or
// the address itself on one link. Without any route, it is the address itself
// on the link of every port.
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

// findTargets returns the neighbours to keep resolved.
func (w *Watcher) findTargets() map[director.NeighbourKey]bool {
	targets := maps.Clone(w.gateways)
	for _, addr := range w.addrs {
		keys := nextHops(w.hostNet, addr)
		found := slices.IndexFunc(keys, func(key director.NeighbourKey) bool {
			_, ok := w.hostNet.Neighbours[key]
			return ok
		})
		if found >= 0 {
			keys = keys[found : found+1] // it is known on this port, so do not solicit it on others
		}
		for _, key := range keys {
			targets[key] = true
		}
	}
	return targets
}

// solicitDue solicits the targets that are due; the package comment has the rule.
func (w *Watcher) solicitDue(now time.Time) {
	if w.retargetDue {
		w.targets, w.retargetDue = w.findTargets(), false
	}
	maps.DeleteFunc(w.requested, func(_ neighbourID, r request) bool { return now.Sub(r.at) >= requestTime })
	current := map[neighbourID]bool{}
	keep := func(on uint16, id neighbourID) {
		port := w.hostNet.Ports[on]
		if id.link != linkOf(port) || port.Index == 0 || !w.up[on] {
			return
		}
		current[id] = true
		if w.dueForSolicit(id, now) {
			w.solicited[id] = now
			w.solicit(port, id)
		}
	}
	for key := range w.targets {
		keep(key.Port, neighbourID{linkOf(w.hostNet.Ports[key.Port]), key.Addr.Netip()})
	}
	for id, r := range w.requested {
		keep(r.port, id)
	}
	maps.DeleteFunc(w.solicited, func(id neighbourID, _ time.Time) bool { return !current[id] })
	w.neighbourChanged = w.prober.expire(current, now) || w.neighbourChanged
}

// takeRequest takes over a request of Resolve. A director requests a neighbour once in
// requestTime, or when the host has forgotten it. So it is solicited at once, even if it was
// a moment ago.
func (w *Watcher) takeRequest(hop director.NeighbourKey, now time.Time) {
	if len(w.requested) == maxRequested || int(hop.Port) >= len(w.hostNet.Ports) {
		return
	}
	id := neighbourID{linkOf(w.hostNet.Ports[hop.Port]), hop.Addr.Netip()}
	if !w.host.neighbours[id].usable() { // else a new state has it
		w.requested[id] = request{hop.Port, now}
		delete(w.solicited, id)
	}
}

// dueForSolicit reports whether to solicit a neighbour now: it is missing or stale, the
// kernel is not resolving it, and the last solicitation is a second ago.
func (w *Watcher) dueForSolicit(id neighbourID, now time.Time) bool {
	const busy = netlink.NUD_INCOMPLETE | netlink.NUD_DELAY | netlink.NUD_PROBE
	n := w.host.neighbours[id]
	switch {
	case n.state&busy != 0, n.usable() && n.state != netlink.NUD_STALE, w.prober.isReachable(id, now):
		return false
	}
	return now.Sub(w.solicited[id]) >= retransTime-coalesceDelay // ticks are not exact
}

// solicit makes the kernel resolve a neighbour, or solicits it from a packet
// socket where the kernel cannot.
func (w *Watcher) solicit(port director.Port, id neighbourID) {
	var err error
	if n := w.host.neighbours[id]; port.VLAN == 0 && w.kernelCanSolicit(id, n) {
		// Keep the flag of another program.
		err = w.privileged.Solicit(id.link.index, id.addr, n.flags&netlink.NTF_EXT_LEARNED)
	} else {
		err = w.prober.solicit(port, id)
	}
	if err != nil {
		w.log.Debug().Err(err).Stringer("address", id.addr).Str("interface", port.Name).
			Msg("routes: cannot solicit a neighbour")
	}
}

// kernelCanSolicit reports whether the kernel can resolve a neighbour; the
// package comment has the exceptions.
func (w *Watcher) kernelCanSolicit(id neighbourID, n neighbour) bool {
	if n.state&netlink.NUD_NOARP != 0 {
		return false
	}
	return slices.ContainsFunc(w.host.addrs, func(a netlink.Addr) bool {
		if id.addr.Is4() {
			return a.IP.To4() != nil
		}
		return a.LinkIndex == id.link.index && a.IP.To4() == nil && a.IP.IsLinkLocalUnicast()
	})
}
