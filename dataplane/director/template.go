package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
)

// persistentServer returns the server that the client's template names, and the
// template. If there is none, it schedules a server and makes the template; ref 0: it
// cannot.
func (d *Director) persistentServer(svc *Service, p *packet, client wire.Addr) (*Server, conntrack.Ref) {
	dst := svc.templateEndpoint(p)
	if ref := d.findTemplate(client, dst); ref != 0 {
		server := d.table.server(d.conns.Conn(ref).ServerID())
		if server.InService && !server.Down && (server.Weight > 0 || !svc.ExpireQuiescent) {
			d.conns.Renew(ref, 0) // with its own timeout: a changed -p applies to new templates
			return server, ref
		}
		if !server.InService && d.now < server.GraceEnd {
			return d.schedule(svc, p), 0 // the template waits for its server
		}
		d.conns.Expire(ref) // its server takes nothing new
	}
	server := d.schedule(svc, p)
	if server == nil || server.ID == svc.Sorry {
		return server, 0 // not for a template: a better server may come
	}
	if other := d.withoutClash(svc, server, p, false); other != nil {
		server = other
	}
	ref := d.makeTemplate(svc, server, client, dst)
	if ref == 0 {
		return server, 0
	}
	if other := d.table.server(d.conns.Conn(ref).ServerID()); other.InService {
		server = other // the same, unless another worker was first
	}
	return server, ref
}

// templateClient returns what the templates of a persistent service have as their
// client: the masked address of the packet's source, or a SIP call. ok is false if the
// packet should name a call but does not.
func (s *Service) templateClient(p *packet) (client wire.Addr, ok bool) {
	switch {
	case s.Persist == 0:
		return client, true
	case s.SIPCalls != nil:
		return s.SIPCalls.Record(p.frame, &p.Packet, p.Src)
	}
	client = p.Src
	for i := range client {
		client[i] &= s.Mask[i]
	}
	return client, true
}

// templateEndpoint returns the destination of the packet's template
// (net/netfilter/ipvs/ip_vs_core.c, ip_vs_sched_persist):
//   - of a mark's service: everything that the mark joins
//   - of a packet to another port than the service's, or to port 21: the whole VIP
//   - otherwise: the service's port of the VIP
func (s *Service) templateEndpoint(p *packet) Endpoint {
	switch {
	case s.Mark:
		return Endpoint{Addr: s.MarkAddr}
	case s.Port != p.DstPort || s.Port == wire.PortFTP:
		return Endpoint{Addr: p.Dst, Proto: p.Proto}
	}
	return Endpoint{Addr: p.Dst, Port: s.Port, Proto: p.Proto}
}

// findTemplate returns the template of a client for a destination; 0: there is none.
func (d *Director) findTemplate(client wire.Addr, dst Endpoint) conntrack.Ref {
	return d.find(conntrack.Query{
		Proto: dst.Proto, Dir: conntrack.DirIn, Template: true,
		Client: client, Peer: dst.Addr, PeerPort: dst.Port,
	})
}

// makeTemplate makes a template; 0: the table is full.
func (d *Director) makeTemplate(svc *Service, server *Server, client wire.Addr, dst Endpoint) conntrack.Ref {
	d.entry = conntrack.Entry{
		Proto: dst.Proto, Template: true, Timeout: svc.Persist,
		Client: client, VIP: dst.Addr, VPort: dst.Port,
		Server: server.Addr, SPort: server.Port,
		Method: server.Method, ServerID: server.ID,
	}
	if dst.Port == 0 {
		d.entry.SPort = 0
	}
	ref, _ := d.conns.Insert(&d.entry)
	return ref
}

// hasTemplate reports whether a conn has a template, which names a server; a client's
// counter does not.
func (d *Director) hasTemplate(c *conntrack.Conn) bool {
	if c.Control() == 0 {
		return false
	}
	parent := d.conns.Conn(c.Control())
	return parent.Template() && parent.ServerID() != 0
}

// isExpected reports whether a conn was announced by another, which controls it.
func (d *Director) isExpected(c *conntrack.Conn) bool {
	return c.Control() != 0 && !d.conns.Conn(c.Control()).Template()
}
