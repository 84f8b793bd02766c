package guard

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
)

// refCounts is how many rules need each element of each set: set name to key,
// in the kernel's bytes, to a count. As a difference, it holds the changes of
// the counts. No count is 0.
type refCounts map[string]map[string]int

// difference returns by how much the counts change when the added rules come
// and the removed ones go.
func difference(added, removed []*ServiceRules) (refCounts, error) {
	e := refCounts{}
	for _, rules := range added {
		if err := e.addService(rules, 1); err != nil {
			return nil, err
		}
	}
	for _, rules := range removed {
		if err := e.addService(rules, -1); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// addHostAddrs adds the difference between two lists of the host's addresses.
func (e refCounts) addHostAddrs(old, new []netip.Addr) error {
	if err := e.addAll("local address", "locals", new, 1); err != nil {
		return err
	}
	return e.addAll("local address", "locals", old, -1)
}

// without returns the elements of a that are not in b.
func without(a, b *ServiceSet) (list []*ServiceRules) {
	for p := range a.Without(b) {
		list = append(list, p)
	}
	return list
}

// addService adds n to the count of every element that p needs.
func (e refCounts) addService(p *ServiceRules, n int) error {
	if err := e.addAll("VIP", "vips", p.VIPs, n); err != nil {
		return err
	}
	for _, list := range []struct {
		what, set string
		endpoints []Endpoint
		add       func(refCounts, Endpoint, string, int) error
	}{
		{"helper server", "helperservers", p.HelperServers, refCounts.addAnyPort},
		{"service", "services", p.Destinations, refCounts.addEndpoint},
		{"source", "sources", p.ReplySources, refCounts.addEndpoint},
		{"LocalNode server", "localservers", p.LocalServers, refCounts.addEndpoint},
		{"source", "sourceaddrs", p.ReplySources, refCounts.addAnyPort},
	} {
		for _, endpoint := range list.endpoints {
			if err := list.add(e, endpoint, list.set, n); err != nil {
				return fmt.Errorf("%s: %w", list.what, err)
			}
		}
	}
	return nil
}

func (e refCounts) addAll(what, set string, addrs []netip.Addr, n int) error {
	for _, a := range addrs {
		if err := e.add(a, set, nil, n); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// addEndpoint adds n to the count of an endpoint: in the set itself, or for
// port 0 in the set of every port.
func (e refCounts) addEndpoint(p Endpoint, set string, n int) error {
	if p.Port == 0 {
		return e.addAnyPort(p, "any"+set, n)
	}
	return e.add(p.Addr, set, []byte{p.Proto, 0, 0, 0, byte(p.Port >> 8), byte(p.Port), 0, 0}, n)
}

// addAnyPort adds n to the count of an endpoint whatever its port. Each field
// of a key fills whole 32-bit words.
func (e refCounts) addAnyPort(p Endpoint, set string, n int) error {
	return e.add(p.Addr, set, []byte{p.Proto, 0, 0, 0}, n)
}

// add adds n to the count of the key that starts with a, in the set of a's
// family.
func (e refCounts) add(a netip.Addr, set string, rest []byte, n int) error {
	if !a.IsValid() {
		return fmt.Errorf("no address given, want an IPv4 or IPv6 address")
	}
	a = a.Unmap()
	name := set + ipv6.suffix
	if a.Is4() {
		name = set + ipv4.suffix
	}
	e.addCount(name, string(append(a.AsSlice(), rest...)), n)
	return nil
}

func (e refCounts) addCount(set, key string, n int) {
	if e[set] == nil {
		e[set] = map[string]int{}
	}
	if e[set][key] += n; e[set][key] == 0 {
		delete(e[set], key)
	}
}

// merge adds the counts of more to e and returns e, which it makes if e is nil.
func (e refCounts) merge(more refCounts) refCounts {
	if e == nil {
		e = refCounts{}
	}
	for set, keys := range more {
		for key, n := range keys {
			e.addCount(set, key, n)
		}
	}
	return e
}

// elementsPerMessage bounds the elements in one netlink message. An attribute
// holds at most 64 KiB (its length has 16 bits), and an element with an IPv6
// address takes 36 bytes.
const elementsPerMessage = 1024

// update queues the elements to add to and delete from a set whose counts are
// has and change by more.
func (g *Guard) update(set *nftables.Set, has, more map[string]int) error {
	var add, remove []nftables.SetElement
	for key, n := range more {
		switch before := has[key]; {
		case before == 0:
			add = append(add, nftables.SetElement{Key: []byte(key)})
		case before+n == 0:
			remove = append(remove, nftables.SetElement{Key: []byte(key)})
		}
	}
	for part := range slices.Chunk(add, elementsPerMessage) {
		if err := g.conn.SetAddElements(set, part); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(remove, elementsPerMessage) {
		if err := g.conn.SetDeleteElements(set, part); err != nil {
			return err
		}
	}
	return nil
}
