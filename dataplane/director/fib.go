package director

import (
	"net/netip"

	"github.com/gaissmai/bart"

	"uvs/dataplane/wire"
	"uvs/fwd"
)

// Port is one way in and out of the director: an interface it runs on. Its
// index in Hops.Ports is the In and Out of frames.
type Port struct {
	Name  string
	Index int // the host's interface index
	MAC   wire.MAC
	MTU   int        // bytes of an IP packet
	Addr4 netip.Addr // first address of the interface; invalid: none
	Addr6 netip.Addr // first global address, else link-local; invalid: none

	// VLAN, when not 0, makes this a VLAN of the port Trunk without a device of
	// its own: its frames come and go by that port with a tag, which nothing but
	// Process sees. Index is the trunk's.
	VLAN  uint16
	Trunk uint16
}

// tagged is a VLAN of a port.
type tagged struct{ port, vlan uint16 }

// Route is one route of the host that leaves by a port, or that says the
// destination is not to be had there.
type Route struct {
	Port   uint16     // index into Hops.Ports; wire.NoPort: leaves by an interface uvs does not run on
	Via    netip.Addr // gateway; invalid: the destination is on the link
	Source netip.Addr // preferred source of the route; invalid: the port's address
	MTU    int        // 0: the port's
}

// NeighbourKey is an address on the link of a port.
type NeighbourKey struct {
	Port uint16
	Addr wire.Addr
}

// HostNet is what the host knows of the ways out: ports, routes, neighbours and
// its own addresses. It is built whole and never changed afterwards.
type HostNet struct {
	Ports      []Port
	Routes     *bart.Table[Route]
	Neighbours map[NeighbourKey]wire.MAC // only usable ones
	HostAddrs  map[wire.Addr]int         // the host's own addresses, and the index of the interface that has each
}

// IsLocal says whether an address is the host's own, on whatever interface.
func (h *HostNet) IsLocal(a wire.Addr) bool {
	_, ok := h.HostAddrs[a]
	return ok
}

// HopState is how much is known of a next hop.
type HopState uint8

const (
	NoRoute    HopState = iota // no route, or one that leaves by an interface uvs does not run on
	Unresolved                 // on the link of a port; its hardware address is not known
	Resolved                   // the link header is complete
)

// NextHop is how to get to an address.
type NextHop struct {
	State  HopState
	Link   fwd.LinkHeader // Dst is valid if Resolved; Port and Src unless NoRoute
	MTU    int            // bytes of an IP packet
	Source wire.Addr
}

// FIB answers where a packet goes next. It is Hops with every gateway looked
// up beforehand, so that the packet path asks once; immutable.
type FIB struct {
	*HostNet
	// Host is the way into the host's own stack, for flows whose server is the
	// host; NoRoute if there is none.
	Host   NextHop
	routes *bart.Table[fibRoute]
	links  []linkHops        // by port
	vlans  map[tagged]uint16 // the ports that are VLANs; nil: none
}

// linkHops are the ways to anything on the link of a port, by family.
type linkHops struct{ v4, v6 NextHop }

// fibRoute is the Way of a whole route; onLink: each address has its own
// hardware address.
type fibRoute struct {
	hop    NextHop
	onLink bool
}

// NewFIB prepares hops for the packet path.
func NewFIB(h *HostNet) *FIB {
	w := &FIB{HostNet: h, routes: new(bart.Table[fibRoute])}
	for i := range h.Ports {
		p := &h.Ports[i]
		w.links = append(w.links, p.hops(uint16(i)))
		if p.VLAN != 0 {
			if w.vlans == nil {
				w.vlans = map[tagged]uint16{}
			}
			w.vlans[tagged{p.Trunk, p.VLAN}] = uint16(i)
		}
	}
	for pfx, r := range h.Routes.All() {
		w.routes.Insert(pfx, w.compileRoute(r, pfx.Addr().Is4()))
	}
	return w
}

func (w *FIB) compileRoute(r Route, is4 bool) fibRoute {
	if r.Port == wire.NoPort {
		return fibRoute{}
	}
	way := w.onLink(r.Port, is4)
	if r.MTU > 0 {
		way.MTU = min(way.MTU, r.MTU)
	}
	if r.Source.IsValid() {
		way.Source = wire.AddrFrom(r.Source)
	}
	if r.Via.IsValid() {
		w.resolve(&way, wire.AddrFrom(r.Via))
	}
	return fibRoute{hop: way, onLink: !r.Via.IsValid()}
}

// hops is the ways to anything on the port's link. A loopback's MTU is longer than any packet.
func (p *Port) hops(index uint16) linkHops {
	way := NextHop{State: Unresolved, Link: fwd.LinkHeader{Port: index, Src: p.MAC}, MTU: min(p.MTU, wire.MaxIPLen)}
	l := linkHops{way, way}
	l.v4.Source, l.v6.Source = wire.AddrFrom(p.Addr4), wire.AddrFrom(p.Addr6)
	return l
}

// onLink is the way to anything on the link of a port.
func (w *FIB) onLink(port uint16, is4 bool) NextHop {
	if is4 {
		return w.links[port].v4
	}
	return w.links[port].v6
}

func (w *FIB) resolve(way *NextHop, addr wire.Addr) {
	if mac, ok := w.Neighbours[NeighbourKey{way.Link.Port, addr}]; ok {
		way.Link.Dst, way.State = mac, Resolved
	}
}

// NextHop finds the way to an address by the host's routes. An address without any
// route counts as on the link of the first port that has it as a neighbour.
func (w *FIB) NextHop(addr wire.Addr) NextHop {
	r, ok := w.routes.Lookup(addr.Netip())
	if !ok {
		return w.viaNeighbour(addr)
	}
	if r.onLink {
		w.resolve(&r.hop, addr)
	}
	return r.hop
}

func (w *FIB) viaNeighbour(addr wire.Addr) NextHop {
	for port := range w.Ports {
		way := w.onLink(uint16(port), addr.Is4())
		if w.resolve(&way, addr); way.State == Resolved {
			return way
		}
	}
	return NextHop{}
}

// ReturnHop is the way to a client: by the host's route to a gateway of ours, else to
// where the client's last frame came from (its hardware address and port). So
// clients on the link need no neighbour entry, and a host can answer that has no
// addresses, no routes, or only one by an interface uvs does not run on. Of a
// VLAN without a device the host's routes know nothing: there it is always the
// latter.
func (w *FIB) ReturnHop(client wire.Addr, last uint64) NextHop {
	mac, port := unpackReturnHop(last)
	known := int(port) < len(w.Ports) && !mac.IsZero()
	if w.vlans == nil || !known || w.Ports[port].VLAN == 0 {
		r, ok := w.routes.Lookup(client.Netip())
		if ok && r.hop.State == Resolved {
			return r.hop
		}
	}
	if !known {
		return w.NextHop(client)
	}
	way := w.onLink(port, client.Is4())
	way.Link.Dst, way.State = mac, Resolved
	return way
}

// packReturnHop puts a hardware address and a port into the word a conn keeps of
// its client: MAC in the upper 48 bits, port in the lower 16.
func packReturnHop(mac []byte, port uint16) uint64 {
	_ = mac[5]
	return uint64(mac[0])<<56 | uint64(mac[1])<<48 | uint64(mac[2])<<40 |
		uint64(mac[3])<<32 | uint64(mac[4])<<24 | uint64(mac[5])<<16 | uint64(port)
}

func unpackReturnHop(w uint64) (wire.MAC, uint16) {
	return wire.MAC{byte(w >> 56), byte(w >> 48), byte(w >> 40), byte(w >> 32), byte(w >> 24), byte(w >> 16)}, uint16(w)
}
