package lab

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// Offloads are the offloads of a host's network device.
type Offloads struct {
	GSO bool // the stack gives it GSO frames and partial checksums
	GRO bool // it merges received segments
}

// AllOffloads are the four mixes. A device with neither gets complete
// checksums, and one with GRO alone gets partial ones.
var AllOffloads = []Offloads{{true, true}, {true, false}, {false, true}, {false, false}}

func (o Offloads) String() string {
	var names []string
	if o.GSO {
		names = append(names, "gso")
	}
	if o.GRO {
		names = append(names, "gro")
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, "+")
}

// ParseOffloads parses the output of String.
func ParseOffloads(text string) (Offloads, error) {
	i := slices.IndexFunc(AllOffloads, func(o Offloads) bool { return o.String() == text })
	if i < 0 {
		return Offloads{}, fmt.Errorf("offloads are %q; want one of %v", text, AllOffloads)
	}
	return AllOffloads[i], nil
}

// SetMTU changes the MTU of every link of a lab that is up. Below 1280 the
// kernel takes IPv6 off the links for good. Of a node with several interfaces,
// the last one changes last.
func (l *Lab) SetMTU(mtu int) error {
	return l.eachSide(func(_ port, _ bool, link netlink.Link) error { return netlink.LinkSetMTU(link, mtu) })
}

// SetMaxGSO changes the longest GSO frame on every link of a lab that is up, in
// bytes with all headers. The kernel's default is 65536; more is what Linux
// calls BIG TCP.
func (l *Lab) SetMaxGSO(size int) error {
	return l.eachSide(func(_ port, _ bool, link netlink.Link) error {
		for _, set := range []func(netlink.Link, int) error{
			netlink.LinkSetGSOMaxSize, netlink.LinkSetGSOIPv4MaxSize, netlink.LinkSetGROMaxSize,
			netlink.LinkSetGROIPv4MaxSize,
		} {
			if err := set(link, size); err != nil {
				return err
			}
		}
		return nil
	})
}

// SetOffloads changes the offloads of the devices at the ends (clients and
// servers) and at the director, in a lab that is up.
//
// At the ends the wire is like a real one: it carries frames of at most one MTU
// with complete checksums, so that the receiving kernel verifies every
// checksum. What the director receives depends on its GRO. Without GRO it
// receives frames as the sender handed them over, as from a guest on the same
// host. With GRO it receives segments, which its device merges.
func (l *Lab) SetOffloads(ends, director Offloads) error {
	return l.eachSide(func(p port, atSwitch bool, link netlink.Link) error {
		name := link.Attrs().Name
		o, ofDirector := ends, p.node == DirectorNode
		if ofDirector {
			o = director
		}
		switch {
		case p.node == routerNode:
			return nil
		case !atSwitch:
			return setOffloads(name, o.GSO, o.GRO, o != Offloads{})
		}
		return setOffloads(name, ofDirector && !o.GRO, false, ofDirector)
	})
}

// eachSide calls f for both sides of every link, in the namespace of that side.
func (l *Lab) eachSide(f func(p port, atSwitch bool, link netlink.Link) error) error {
	for _, p := range l.layout().ports {
		err := l.doLink(p.node, p.iface, func(link netlink.Link) error { return f(p, false, link) })
		if err == nil {
			err = l.doLink(switchNode, p.switchIface(), func(link netlink.Link) error { return f(p, true, link) })
		}
		if err != nil {
			return fmt.Errorf("change %s of %s: %w", p.iface, p.node, err)
		}
	}
	return nil
}
