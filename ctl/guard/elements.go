package guard

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
)

// elements is what each set holds or should hold: set name to the keys in it,
// as the kernel's bytes.
type elements map[string]map[string]bool

// compile says which elements make the sets mean r.
func compile(r Rules) (elements, error) {
	e := elements{}
	for _, a := range r.VIPs {
		if err := e.add(a, "vips", nil); err != nil {
			return nil, fmt.Errorf("VIP: %w", err)
		}
	}
	for _, a := range r.Local {
		if err := e.add(a, "locals", nil); err != nil {
			return nil, fmt.Errorf("local address: %w", err)
		}
	}
	for _, s := range r.Services {
		if err := e.addEndpoint(s, "services"); err != nil {
			return nil, fmt.Errorf("service: %w", err)
		}
	}
	for _, s := range r.Sources {
		if err := e.addEndpoint(s, "sources"); err != nil {
			return nil, fmt.Errorf("source: %w", err)
		}
	}
	for _, s := range r.Returns {
		if err := e.addEndpoint(s, "returns"); err != nil {
			return nil, fmt.Errorf("return: %w", err)
		}
	}
	return e, nil
}

// addEndpoint puts an endpoint into the set, or into the one of every port.
func (e elements) addEndpoint(p Endpoint, set string) error {
	rest := []byte{p.Proto, 0, 0, 0} // every part of a key fills whole words
	if p.Port == 0 {
		return e.add(p.Addr, "any"+set, rest)
	}
	rest = binary.BigEndian.AppendUint16(rest, p.Port)
	return e.add(p.Addr, set, append(rest, 0, 0))
}

// add puts the key that starts with a into the set of a's family.
func (e elements) add(a netip.Addr, set string, rest []byte) error {
	if !a.IsValid() {
		return fmt.Errorf("no address given, want an IPv4 or IPv6 address")
	}
	a = a.Unmap()
	name := set + ipv6.suffix
	if a.Is4() {
		name = set + ipv4.suffix
	}
	if e[name] == nil {
		e[name] = map[string]bool{}
	}
	e[name][string(append(a.AsSlice(), rest...))] = true
	return nil
}

// chunk is how many elements one message carries: a netlink attribute holds at
// most 64 KiB (its length has 16 bits), an element with an IPv6 address takes 36
// bytes.
const chunk = 1024

// update queues what turns the elements in has into those in want.
func (g *Guard) update(set *nftables.Set, has, want map[string]bool) error {
	if err := each(want, has, func(part []nftables.SetElement) error {
		return g.conn.SetAddElements(set, part)
	}); err != nil {
		return err
	}
	return each(has, want, func(part []nftables.SetElement) error {
		return g.conn.SetDeleteElements(set, part)
	})
}

// each calls do with the keys that are in a and not in b, a chunk at a time.
func each(a, b map[string]bool, do func([]nftables.SetElement) error) error {
	var part []nftables.SetElement
	for key := range a {
		if b[key] {
			continue
		}
		if part = append(part, nftables.SetElement{Key: []byte(key)}); len(part) == chunk {
			if err := do(part); err != nil {
				return err
			}
			part = nil
		}
	}
	if len(part) == 0 {
		return nil
	}
	return do(part)
}
