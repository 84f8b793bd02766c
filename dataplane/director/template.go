package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
)

// persistentServer finds or makes the template of a holder.
func (d *Director) persistentServer(svc *Service, p *packet, holder wire.Addr) (*Server, conntrack.Ref) {
	group := svc.templateEndpoint(p)
	if ref := d.findTemplate(holder, group); ref != 0 {
		server := d.table.server(d.conns.Conn(ref).ServerID())
		if server.Available && !server.Down && (server.Weight > 0 || !svc.ExpireQuiescent) {
			d.conns.Renew(ref, 0) // with its own timeout: a changed -p is for new ones
			return server, ref
		}
		d.conns.Expire(ref) // its server takes nothing new
	}
	server := d.schedule(svc, p)
	if server == nil || server.ID == svc.Sorry {
		return server, 0 // nothing that a client should be held to
	}
	ref := d.makeTemplate(svc, server, holder, group)
	if ref == 0 {
		return server, 0
	}
	if other := d.table.server(d.conns.Conn(ref).ServerID()); other.Available {
		server = other // the same, unless another worker was first
	}
	return server, ref
}

// templateClient is what the templates of a persistent service hold to a server: the
// masked address of a client, or a call. ok is false if it should be a call, but
// the packet names none.
func (s *Service) templateClient(p *packet) (holder wire.Addr, ok bool) {
	switch {
	case s.Persist == 0:
		return holder, true
	case s.SIPCalls != nil:
		return s.SIPCalls.Record(p.frame, &p.Packet, p.Src)
	}
	holder = p.Src
	for i := range holder {
		holder[i] &= s.Mask[i]
	}
	return holder, true
}

// templateEndpoint is what a template stands for beside its client (reference 4, "Template
// key"): the service's port, every port of the VIP if the packet came by another
// or to port 21, or all that a mark joins.
func (s *Service) templateEndpoint(p *packet) Endpoint {
	switch {
	case s.Mark:
		return Endpoint{Addr: s.MarkAddr}
	case s.Port != p.DstPort || s.Port == wire.PortFTP:
		return Endpoint{Addr: p.Dst, Proto: p.Proto}
	}
	return Endpoint{Addr: p.Dst, Port: s.Port, Proto: p.Proto}
}

// findTemplate finds a template: an entry whose client is the holder, with port 0
// (reference 4, "Template key"); 0: there is none.
func (d *Director) findTemplate(holder wire.Addr, group Endpoint) conntrack.Ref {
	d.single[0] = conntrack.Query{
		Proto: group.Proto, Dir: conntrack.DirIn, Template: true,
		Client: holder, Peer: group.Addr, PeerPort: group.Port,
	}
	d.conns.Lookup(d.single[:])
	return d.single[0].Ref
}

// makeTemplate makes a template; 0: the table is full.
func (d *Director) makeTemplate(svc *Service, server *Server, holder wire.Addr, group Endpoint) conntrack.Ref {
	d.entry = conntrack.Entry{
		Proto: group.Proto, Template: true, Timeout: svc.Persist,
		Client: holder, VIP: group.Addr, VPort: group.Port,
		Server: server.Addr, SPort: server.Port,
		Method: server.Method, ServerID: server.ID, ServiceID: svc.ID,
	}
	if group.Port == 0 {
		d.entry.SPort = 0
	}
	ref, _ := d.conns.Insert(&d.entry)
	return ref
}

// hasTemplate says whether a conn has a template that says which server it has, which a
// mere tally does not.
func (d *Director) hasTemplate(c *conntrack.Conn) bool {
	if c.Control() == 0 {
		return false
	}
	parent := d.conns.Conn(c.Control())
	return parent.Template() && parent.ServerID() != 0
}

// isExpected says whether a conn is one that another conn announced.
func (d *Director) isExpected(c *conntrack.Conn) bool {
	return c.Control() != 0 && !d.conns.Conn(c.Control()).Template()
}
