package director

import (
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// ReversePath is which ports packets from an address may come in by (reverse_path). The
// values are those of the kernel's rp_filter.
type ReversePath uint8

const (
	ReversePathOff    ReversePath = iota // any
	ReversePathStrict                    // those by which packets to the address leave
	ReversePathLoose                     // any, if there is a way to the address
)

// maxReverseServers bounds the servers that are looked at for a packet from a VIP.
const maxReverseServers = 64

// isBehind reports whether packets from an address may come in by a port
// (net/ipv4/fib_frontend.c, __fib_validate_source).
func (fib *FIB) isBehind(addr wire.Addr, port uint16, mode ReversePath) bool {
	switch {
	case mode == ReversePathOff, fwd.ScopeOf(addr) == fwd.ScopeLink:
		return true
	case fib.IsLocal(addr):
		return fib.Host.State != NoRoute && fib.Host.Link.Port == port
	}
	r := fib.routes.Lookup(&addr)
	switch {
	case r == nil && mode == ReversePathLoose:
		return fib.viaNeighbour(addr).State != NoRoute
	case r == nil:
		_, ok := fib.Neighbours[NeighbourKey{port, addr}]
		return ok
	case mode == ReversePathLoose:
		return true
	}
	return r.gateway.Port == port || port < 64 && r.ports>>port&1 != 0
}

// isBehind reports whether a server's packets may come in by a port. A server that
// frames cannot be sent to by a route may be anywhere.
func (t *Table) isBehind(s *Server, port uint16) bool {
	return s.NextHop.State == NoRoute || s.NextHop.Link.Port == port ||
		t.FIB.isBehind(s.Addr, port, t.Settings.ReversePath)
}

// maySend reports whether a packet that shows no conn may come from a server, by the port
// that it came in by. A packet from a VIP comes from one of the servers of its service.
func (t *Table) maySend(p *packet) bool {
	if _, vip := t.vip(&p.Src); vip && t.Settings.ReversePath != ReversePathOff {
		svc := t.serviceAt(Endpoint{Addr: p.Src, Port: p.SrcPort, Proto: p.Proto})
		if svc == nil {
			svc = t.serviceAt(Endpoint{Addr: p.Src, Proto: p.Proto})
		}
		if svc != nil {
			for _, id := range svc.Servers[:min(len(svc.Servers), maxReverseServers)] {
				if s := t.server(id); t.isBehind(s, p.frame.In) {
					return true
				}
			}
			return false
		}
	}
	return t.FIB.isBehind(p.Src, p.frame.In, t.Settings.ReversePath)
}
