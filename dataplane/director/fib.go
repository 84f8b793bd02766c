package director

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"uvs/dataplane/lpm"
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// Port is an interface that the director runs on. Its index in HostNet.Ports is the In
// and Out of frames.
type Port struct {
	Name  string
	Index int // the host's interface index
	MAC   wire.MAC
	MTU   int        // bytes of an IP packet
	Addr4 netip.Addr // first address of the interface; invalid: none
	Addr6 netip.Addr // first global address, else link-local; invalid: none

	// Forwards4 and Forwards6: the host forwards what comes in by the port, so the
	// director may do that in its place.
	Forwards4, Forwards6 bool

	// VLAN, unless 0, makes this a VLAN of the port Trunk without a device. Its
	// frames come and go by that port with a tag, which only Process sees. Index
	// is the trunk's.
	VLAN  uint16
	Trunk uint16
}

// tagged is a VLAN of a port.
type tagged struct{ port, vlan uint16 }

// Route is a route of the host.
type Route struct {
	Port   uint16     // index into HostNet.Ports; wire.NoPort: an interface that uvs does not run on
	Via    netip.Addr // gateway; invalid: the destination is on the link
	Source netip.Addr // preferred source of the route; invalid: the port's address
	MTU    int        // 0: the port's
	// Ports has bit n set if another next hop of a multipath route is by port n.
	Ports uint64
}

// NeighbourKey is an address on the link of a port.
type NeighbourKey struct {
	Port uint16
	Addr wire.Addr
}

// HostNet is what the host knows: ports, routes, neighbours and its own addresses. It
// is immutable.
type HostNet struct {
	Ports      []Port
	Routes     *bart.Table[Route]
	Neighbours map[NeighbourKey]wire.MAC // only usable ones
	HostAddrs  map[wire.Addr]int         // the host's addresses, and the index of the interface of each
}

// IsLocal reports whether the host has the address, on any interface.
func (h *HostNet) IsLocal(a wire.Addr) bool {
	_, ok := h.HostAddrs[a]
	return ok
}

// SameButNeighbours reports whether two hosts differ in their neighbours only.
func (h *HostNet) SameButNeighbours(o *HostNet) bool {
	return h.Routes == o.Routes && slices.Equal(h.Ports, o.Ports) && maps.Equal(h.HostAddrs, o.HostAddrs)
}

// Gateways returns those of the routes by ports.
func (h *HostNet) Gateways() map[NeighbourKey]bool {
	gateways := map[NeighbourKey]bool{}
	for _, r := range h.Routes.All() {
		if r.Port != wire.NoPort && r.Via.IsValid() {
			gateways[NeighbourKey{Port: r.Port, Addr: wire.AddrFrom(r.Via)}] = true
		}
	}
	return gateways
}

// HopState is how much is known of a next hop.
type HopState uint8

const (
	NoRoute    HopState = iota // no route, or one by an interface that uvs does not run on
	Unresolved                 // on the link of a port; its hardware address is not known
	Resolved                   // the link header is complete
)

// NextHop is how a packet leaves for an address.
type NextHop struct {
	State  HopState
	Link   fwd.LinkHeader // Dst is valid if Resolved; Port and Src unless NoRoute
	MTU    int            // bytes of an IP packet
	Source wire.Addr
}

// FIB finds next hops. It is a HostNet with the gateways resolved, so that a packet
// takes one lookup. It is immutable.
type FIB struct {
	*HostNet
	// Host is the next hop into the host's own stack, for servers that are the host
	// (LocalNode); NoRoute: none.
	Host   NextHop
	routes *lpm.Table[fibRoute]
	// gateways are those of the routes.
	gateways map[NeighbourKey]bool
	links    []linkHops        // by port
	vlans    map[tagged]uint16 // the ports that are VLANs; nil: none
	// sources are the addresses that next hops have as their Source.
	sources map[wire.Addr]bool
}

// linkHops are the next hops to any address on a port's link, by family.
type linkHops struct{ v4, v6 NextHop }

// fibRoute is the next hop of a route. If gateway has no address, each address is its own
// next hop, and hop lacks the hardware address.
type fibRoute struct {
	hop     NextHop
	gateway NeighbourKey
	ports   uint64 // as Route.Ports
}

// NewFIB compiles what the host knows.
func NewFIB(h *HostNet) *FIB {
	fib := &FIB{HostNet: h, gateways: h.Gateways(), sources: map[wire.Addr]bool{}}
	for i := range h.Ports {
		p := &h.Ports[i]
		hops := p.hops(uint16(i))
		fib.links = append(fib.links, hops)
		fib.sources[hops.v4.Source], fib.sources[hops.v6.Source] = true, true
		if p.VLAN != 0 {
			if fib.vlans == nil {
				fib.vlans = map[tagged]uint16{}
			}
			fib.vlans[tagged{p.Trunk, p.VLAN}] = uint16(i)
		}
	}
	fib.routes = lpm.New(func(yield func(netip.Prefix, fibRoute) bool) {
		for pfx, r := range h.Routes.All() {
			if !yield(pfx, fib.compileRoute(r, pfx.Addr().Is4())) {
				return
			}
		}
	})
	return fib
}

// WithNeighbours returns the FIB of the same host with other neighbours. It shares the
// routes unless a gateway changed.
func (fib *FIB) WithNeighbours(neighbours map[NeighbourKey]wire.MAC) *FIB {
	host := *fib.HostNet
	host.Neighbours = neighbours
	for gateway := range fib.gateways {
		if neighbours[gateway] != fib.Neighbours[gateway] {
			next := NewFIB(&host)
			next.Host = fib.Host
			return next
		}
	}
	next := *fib
	next.HostNet = &host
	return &next
}

func (fib *FIB) compileRoute(r Route, is4 bool) fibRoute {
	c := fibRoute{gateway: NeighbourKey{Port: r.Port}, ports: r.Ports}
	if r.Via.IsValid() {
		c.gateway.Addr = wire.AddrFrom(r.Via)
	}
	if r.Port == wire.NoPort {
		return c
	}
	hop := fib.onLink(r.Port, is4)
	if r.MTU > 0 {
		hop.MTU = min(hop.MTU, r.MTU)
	}
	if r.Source.IsValid() {
		hop.Source = wire.AddrFrom(r.Source)
		fib.sources[hop.Source] = true
	}
	if r.Via.IsValid() {
		fib.lookUpNeighbour(&hop, c.gateway.Addr)
	}
	c.hop = hop
	return c
}

// hops returns the next hops to addresses on the port's link. The MTU of a loopback is
// longer than any packet.
func (p *Port) hops(index uint16) linkHops {
	link := fwd.LinkHeader{Port: index, Src: p.MAC}
	hop := NextHop{State: Unresolved, Link: link, MTU: min(p.MTU, wire.MaxIPLen)}
	l := linkHops{hop, hop}
	l.v4.Source, l.v6.Source = wire.AddrFrom(p.Addr4), wire.AddrFrom(p.Addr6)
	return l
}

// IsSource reports whether packets of the director may have an address as their source,
// because the host has it or a next hop names it.
func (fib *FIB) IsSource(a wire.Addr) bool { return fib.sources[a] || fib.IsLocal(a) }

// onLink returns the next hop, not resolved, to addresses on the link of a port.
func (fib *FIB) onLink(port uint16, is4 bool) NextHop {
	if is4 {
		return fib.links[port].v4
	}
	return fib.links[port].v6
}

func (fib *FIB) lookUpNeighbour(hop *NextHop, addr wire.Addr) {
	if mac, ok := fib.Neighbours[NeighbourKey{hop.Link.Port, addr}]; ok {
		hop.Link.Dst, hop.State = mac, Resolved
	}
}

// NextHop finds the next hop to an address by the host's routes. An address without a
// route is taken to be on the link of the first port that has it as a neighbour.
func (fib *FIB) NextHop(addr wire.Addr) NextHop {
	r := fib.routes.Lookup(&addr)
	if r == nil {
		return fib.viaNeighbour(addr)
	}
	hop := r.hop
	if hop.State == Unresolved && r.gateway.Addr.IsZero() {
		fib.lookUpNeighbour(&hop, addr)
	}
	return hop
}

// neighbour returns the next hop to an address: the gateway of its route, else itself. The
// port of an address without a route is wire.NoPort.
func (fib *FIB) neighbour(addr wire.Addr) NeighbourKey {
	r := fib.routes.Lookup(&addr)
	switch {
	case r == nil:
		return NeighbourKey{wire.NoPort, addr}
	case r.gateway.Addr.IsZero():
		return NeighbourKey{r.gateway.Port, addr}
	}
	return r.gateway
}

// onAnyLink reports whether an address has no route, so that it may be on the link of each
// port.
func (fib *FIB) onAnyLink(addr wire.Addr) bool {
	return fib.routes.Lookup(&addr) == nil && !fib.IsLocal(addr)
}

// knows reports whether frames can be sent to a next hop that neighbour returned.
func (fib *FIB) knows(hop NeighbourKey) bool {
	if hop.Port == wire.NoPort {
		return fib.viaNeighbour(hop.Addr).State == Resolved
	}
	_, ok := fib.Neighbours[hop]
	return ok
}

func (fib *FIB) viaNeighbour(addr wire.Addr) NextHop {
	for port := range fib.Ports {
		hop := fib.onLink(uint16(port), addr.Is4())
		if fib.lookUpNeighbour(&hop, addr); hop.State == Resolved {
			return hop
		}
	}
	return NextHop{}
}

// ReturnHop returns the next hop to a client: by the host's route if that has a
// gateway, else where the client's last frame came from, which packet.returnHop packed.
//
// So clients on the link need no neighbour entry. Clients also get replies if the host
// has no addresses, no routes, or only a route by an interface that uvs does not run on.
// A VLAN without a device has no routes of the host. There, replies always go to where
// the last frame came from.
func (fib *FIB) ReturnHop(client wire.Addr, last uint64) NextHop {
	mac, port := unpackReturnHop(last)
	known := int(port) < len(fib.Ports) && !mac.IsZero()
	if fib.vlans == nil || !known || fib.Ports[port].VLAN == 0 {
		r := fib.routes.Lookup(&client)
		if r != nil && r.hop.State == Resolved {
			return r.hop
		}
	}
	if !known {
		return fib.NextHop(client)
	}
	hop := fib.onLink(port, client.Is4())
	hop.Link.Dst, hop.State = mac, Resolved
	return hop
}

// returnHop packs where the frame came from into a word, which a conn keeps: the source
// hardware address in the upper 48 bits, the port in the lower 16.
func (p *packet) returnHop() uint64 {
	srcAndType := binary.BigEndian.Uint64(p.frame.Buf[p.frame.Off+6:])
	return srcAndType&^0xffff | uint64(p.frame.In)
}

func unpackReturnHop(w uint64) (wire.MAC, uint16) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], w)
	return wire.MAC(b[:6]), uint16(w)
}
