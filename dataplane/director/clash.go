package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
)

// A server's reply by NAT shows the server and the client, not the VIP. So two flows of
// one client port to one server clash: nothing shows whose reply it is. The flow that
// stands keeps its replies. A new one goes to another server or is refused.

// sameReplies returns the conn that the server's replies to a client's packet would
// find, 0 if there is none.
func (d *Director) sameReplies(p *packet, method conntrack.Method, server wire.Addr, port uint16) conntrack.Ref {
	if method != conntrack.MethodNAT {
		return 0
	}
	ref := d.find(conntrack.Query{
		Proto: p.Proto, Dir: conntrack.DirOut,
		Client: p.Src, ClientPort: p.SrcPort, Peer: server, PeerPort: port,
	})
	if ref != 0 && d.conns.Conn(ref).Expectation() {
		return 0
	}
	return ref
}

// clashes reports whether a new flow to a server's endpoint would clash. A connection
// that is over is expired to make room.
func (d *Director) clashes(p *packet, method conntrack.Method, server wire.Addr, port uint16) bool {
	ref := d.sameReplies(p, method, server, port)
	if ref != 0 && opensConn(p) && isReplaceable(d.conns.Conn(ref).State()) {
		d.conns.Expire(ref)
		return false
	}
	return ref != 0
}

// withoutClash returns server, or if it would clash, another eligible server. nil: there
// is none, or the template or sorry server allows no other.
func (d *Director) withoutClash(svc *Service, server *Server, p *packet, byTemplate bool) *Server {
	if !d.clashes(p, server.Method, server.Addr, serverPort(svc, server, p)) {
		return server
	}
	if byTemplate || server.ID == svc.Sorry {
		return nil
	}
	for i := range svc.Servers { // start at an index from the client port, to spread such flows
		other := d.table.server(svc.Servers[(int(p.SrcPort)+i)%len(svc.Servers)])
		if other.eligible() && !d.clashes(p, other.Method, other.Addr, serverPort(svc, other, p)) {
			return other
		}
	}
	return nil
}

// eligible reports whether schedulers may pick the server.
func (s *Server) eligible() bool {
	return s.InService && s.Weight > 0 && !s.Down && (s.Threshold == nil || !s.Threshold.Overload.Load())
}

// checkDirectFlow handles a packet that the host routes. A client may open a flow to a
// server's own address. If its port already has a conn at that server, the replies would
// be translated; so the flow is refused.
func (d *Director) checkDirectFlow(p *packet) Verdict {
	if p.Proto != wire.ProtoUDP && !opensConn(p) || !d.table.hidesFromHost(p.Dst, p.DstPort, p.Proto) ||
		!d.clashes(p, conntrack.MethodNAT, p.Dst, p.DstPort) {
		return NotOurs
	}
	return d.refuseConn(p, RefusedClash)
}
