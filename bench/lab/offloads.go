package lab

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// Offloads are what a host's network device does with many packets at once.
type Offloads struct {
	GSO bool // it takes super-frames and half-made checksums to send
	GRO bool // it joins received segments
}

// AllOffloads are the four mixes. A device without any is given finished
// checksums; one with GRO alone, half-made ones.
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

// ParseOffloads reads what String wrote.
func ParseOffloads(text string) (Offloads, error) {
	i := slices.IndexFunc(AllOffloads, func(o Offloads) bool { return o.String() == text })
	if i < 0 {
		return Offloads{}, fmt.Errorf("offloads are %q; want one of %v", text, AllOffloads)
	}
	return AllOffloads[i], nil
}

// SetMTU changes the MTU of every link of a lab that is up. Below 1280 the
// kernel takes IPv6 off them, for good. Of a node with several interfaces that
// of the last one changes last.
func (l *Lab) SetMTU(mtu int) error {
	return l.eachSide(func(_ port, _ bool, name string) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(link, mtu)
	})
}

// SetMaxGSO changes how long super-frames may be, on every link of a lab that
// is up: bytes with all headers, 65536 if nobody says otherwise. Longer ones are
// what Linux calls BIG TCP.
func (l *Lab) SetMaxGSO(size int) error {
	return l.eachSide(func(_ port, _ bool, name string) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
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

// SetOffloads changes the offloads of the devices at the ends (of clients and
// servers) and of the director, in a lab that is up.
//
// To the ends the wire is like a real one: it carries finished frames of at most
// one MTU, so that the receiving kernel verifies every checksum. What the
// director gets depends on its GRO: without, frames as the sender handed them
// over, as from a guest on the same host; with, segments, which its device
// joins.
func (l *Lab) SetOffloads(ends, director Offloads) error {
	return l.eachSide(func(p port, atSwitch bool, name string) error {
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

// eachSide calls f for both ends of every link, in the namespace the end is in.
func (l *Lab) eachSide(f func(p port, atSwitch bool, name string) error) error {
	for _, p := range l.layout().ports {
		err := l.Do(p.node, func() error { return f(p, false, p.iface) })
		if err == nil {
			err = l.Do(switchNode, func() error { return f(p, true, p.switchIface()) })
		}
		if err != nil {
			return fmt.Errorf("change %s of %s: %w", p.iface, p.node, err)
		}
	}
	return nil
}
