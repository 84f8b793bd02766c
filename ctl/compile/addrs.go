package compile

import (
	"net/netip"

	"uvs/dataplane/cow"
	"uvs/dataplane/wire"
)

// Addrs are addresses with the number of services that have each.
type Addrs struct {
	counts  cow.Map[addr, int]
	Changed bool // since the table before
}

type addr netip.Addr

// Shard makes an addr a cow.Key.
func (a addr) Shard() uint8 { return wire.AddrFrom(netip.Addr(a)).Shard() }

func (s *Addrs) clone() Addrs { return Addrs{counts: s.counts.Clone()} }

// replace replaces the addresses of a service.
func (s *Addrs) replace(before, after []netip.Addr) {
	for _, a := range after {
		s.Changed = cow.Add(&s.counts, addr(a), 1) || s.Changed
	}
	for _, a := range before {
		s.Changed = cow.Add(&s.counts, addr(a), -1) || s.Changed
	}
}

// List lists the addresses, in no order.
func (s *Addrs) List() []netip.Addr {
	list := make([]netip.Addr, 0, s.counts.Len())
	for a := range s.counts.All() {
		list = append(list, netip.Addr(a))
	}
	return list
}
