package director

import (
	"net/netip"

	"github.com/gaissmai/bart"

	"uvs/dataplane/wire"
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
}

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

// Hops is what the host knows of the ways out: ports, routes, neighbours and
// its own addresses. It is built whole and never changed afterwards.
type Hops struct {
	Ports      []Port
	Routes     *bart.Table[Route]
	Neighbours map[NeighbourKey]wire.MAC // only usable ones
	Local      map[wire.Addr]bool        // the host's own addresses, every interface
}
