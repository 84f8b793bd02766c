package routes

import (
	"fmt"
	"slices"
	"strings"

	"uvs/dataplane/director"
)

// findPorts finds the configured interfaces.
func (h *host) findPorts(names []string) ([]director.Port, error) {
	var ports []director.Port
	for i, name := range names {
		index := h.indexOf(name)
		switch {
		case index == 0:
			var ethernet []string
			for _, l := range h.links {
				if !l.mac.IsZero() {
					ethernet = append(ethernet, l.name)
				}
			}
			slices.Sort(ethernet)
			return nil, fmt.Errorf("no interface %q; there are %s", name, strings.Join(ethernet, ", "))
		case h.links[index].mac.IsZero():
			return nil, fmt.Errorf("interface %q has no Ethernet address; want an Ethernet interface", name)
		case slices.Contains(names[:i], name):
			return nil, fmt.Errorf("interface %q is given twice", name)
		}
		ports = append(ports, h.port(index, name))
	}
	return ports, nil
}

// warnOfMasters warns of ports that are enslaved to another device, which has
// their addresses, routes and neighbours.
func (w *Watcher) warnOfMasters(ports []director.Port) {
	for _, p := range ports {
		switch master := w.host.links[w.host.links[p.Index].master]; master.kind {
		case "bridge", "bond", "team":
			w.log.Warn().Str("interface", p.Name).Str("master", master.name).
				Msg("routes: interface is enslaved to another, which has the addresses and routes; run on that one")
		}
	}
}

// indexOf returns the index of the interface with that name, or 0.
func (h *host) indexOf(name string) int {
	for index, l := range h.links {
		if l.name == name {
			return index
		}
	}
	return 0
}

// linksUp reports which ports are up.
func (h *host) linksUp(ports []director.Port) []bool {
	up := make([]bool, len(ports))
	for i, p := range ports {
		up[i] = h.links[p.Index].up
	}
	return up
}

// updatePorts finds the ports again. It keeps an interface that still exists,
// whatever its name is now. It looks for one that is gone under its configured
// name.
func (w *Watcher) updatePorts(old []director.Port) []director.Port {
	ports := make([]director.Port, len(w.names))
	for i, p := range old[:len(w.names)] {
		if _, ok := w.host.links[p.Index]; !ok {
			p.Index = w.host.indexOf(w.names[i])
		}
		ports[i] = w.host.port(p.Index, w.names[i])
	}
	return withVLANs(ports, w.names, w.vlans)
}

// portsChanged logs one line for each port that changed, and announces the VIPs
// again on ports that came up or have a new hardware address.
func (w *Watcher) portsChanged(old, now []director.Port) {
	wasUp := w.up
	w.up = w.host.linksUp(now)
	for i, p := range now {
		was := old[i]
		line := w.log.Info().Str("interface", p.Name)
		switch {
		case p.Index == 0 && was.Index != 0:
			line.Msg("routes: interface is gone, waiting for it to come back")
		case p.Index != was.Index:
			line.Int("index", p.Index).Stringer("mac", p.MAC).Msg("routes: interface is back")
		case p.Name != was.Name:
			line.Str("was", was.Name).Msg("routes: interface was renamed")
		case p.MAC != was.MAC:
			line.Stringer("mac", p.MAC).Msg("routes: hardware address changed")
		case w.up[i] != wasUp[i]:
			line.Bool("up", w.up[i]).Msg("routes: carrier changed")
		case p.Forwards4 != was.Forwards4 || p.Forwards6 != was.Forwards6:
			line.Bool("ipv4", p.Forwards4).Bool("ipv6", p.Forwards6).Msg("routes: forwarding changed")
		case p.MTU != was.MTU:
			line.Int("mtu", p.MTU).Msg("routes: MTU changed")
		default:
			line.Discard().Send()
		}
		if w.up[i] && (!wasUp[i] || p.MAC != was.MAC || p.Index != was.Index) {
			w.announceOn(uint16(i))
		}
	}
}
