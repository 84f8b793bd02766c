package routes

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"uvs/dataplane/director"
)

// VLAN is a VLAN of an interface that is no device of the host. The host has no
// addresses, routes or neighbours for it. So uvs owns its addresses, its nets
// are those of these addresses, and uvs resolves the neighbours itself.
type VLAN struct {
	Trunk string         // the interface
	ID    uint16         // 1 to 4094
	Addrs []netip.Prefix // at most one of each family
}

// Name returns the name of the port.
func (v VLAN) Name() string { return fmt.Sprintf("%s.%d", v.Trunk, v.ID) }

// maxVLAN is the greatest number; 4095 is reserved (IEEE 802.1Q section 9.6).
const maxVLAN = 4094

// ParseVLAN parses "eth0.7" or "eth0.7=10.7.0.1/24,fd00:7::1/64".
func ParseVLAN(s string) (v VLAN, err error) {
	name, addrs, hasAddrs := strings.Cut(s, "=")
	dot := strings.LastIndexByte(name, '.')
	if dot < 1 {
		return v, fmt.Errorf("VLAN %q is not INTERFACE.NUMBER[=ADDRESS/BITS,...], as eth0.7=10.7.0.1/24", s)
	}
	id, err := strconv.ParseUint(name[dot+1:], 10, 16)
	if err != nil || id < 1 || id > maxVLAN {
		return v, fmt.Errorf("VLAN %q: number %q is not 1 to %d", s, name[dot+1:], maxVLAN)
	}
	v.Trunk, v.ID = name[:dot], uint16(id)
	if !hasAddrs {
		return v, nil
	}
	for a := range strings.SplitSeq(addrs, ",") {
		p, err := netip.ParsePrefix(a)
		if err != nil || p.Addr().Is4In6() || !p.Addr().IsGlobalUnicast() {
			return v, fmt.Errorf("VLAN %q: %q is not a unicast address with its prefix length, as 10.7.0.1/24",
				s, a)
		}
		if slices.ContainsFunc(v.Addrs, func(o netip.Prefix) bool { return o.Addr().Is4() == p.Addr().Is4() }) {
			return v, fmt.Errorf("VLAN %q: more than one address of a family", s)
		}
		v.Addrs = append(v.Addrs, p)
	}
	return v, nil
}

// withVLANs appends the ports of VLANs to those of the interfaces with these
// names.
func withVLANs(ports []director.Port, names []string, vlans []VLAN) []director.Port {
	for _, v := range vlans {
		trunk := slices.Index(names, v.Trunk)
		port := ports[trunk]
		port.Name, port.VLAN, port.Trunk = v.Name(), v.ID, uint16(trunk)
		port.Addr4, port.Addr6 = netip.Addr{}, netip.Addr{}
		for _, a := range v.Addrs {
			if a.Addr().Is4() {
				port.Addr4 = a.Addr()
			} else {
				port.Addr6 = a.Addr()
			}
		}
		ports = append(ports, port)
	}
	return ports
}

// checkVLANs returns what is wrong with the first wrong VLAN.
func (h *host) checkVLANs(names []string, vlans []VLAN) error {
	for i, v := range vlans {
		switch {
		case !slices.Contains(names, v.Trunk):
			return fmt.Errorf("VLAN %s: the director does not run on interface %q; give it too", v.Name(), v.Trunk)
		case h.indexOf(v.Name()) != 0:
			return fmt.Errorf("VLAN %s is an interface of the host; run on it as on any other", v.Name())
		case slices.ContainsFunc(vlans[:i], func(o VLAN) bool { return o.Name() == v.Name() }):
			return fmt.Errorf("VLAN %s is given twice", v.Name())
		}
	}
	return nil
}
