package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// miss treats a packet whose conn the batch's lookup did not find.
func (d *Director) miss(p *packet) Verdict {
	if d.table.mayBeReply(p.query) {
		if r := reversed(p.query); d.lookup(&r) {
			*p.query = r
			if ofConn(&p.Packet) {
				return d.fromServer(p)
			}
			return d.relayError(p)
		}
	}
	if !ofConn(&p.Packet) {
		return d.unmatchedError(p)
	}
	if p.query.Dir == conntrack.DirOut {
		return d.unmatchedReply(p)
	}
	// A frame before this one in the batch may have made the conn meanwhile.
	if d.lookup(p.query) {
		return d.established(p)
	}
	return d.newConn(p)
}

// newConn treats a packet to a VIP that has no conn.
func (d *Director) newConn(p *packet) Verdict {
	if isIPsec(p.Proto) {
		return d.table.noIKE(p)
	}
	svc := d.table.service(p)
	if svc == nil {
		return d.noService(p)
	}
	if v := d.table.martian(p); v != NotOurs {
		return v
	}
	switch {
	case !d.table.Settings.schedulable(p):
		return d.reset(p, RefusedNoConn)
	case d.conns.DropPacket():
		return DroppedDefence
	}
	return d.admitAndSend(svc, p)
}

// lookup asks a question now, and says whether there is a conn.
func (d *Director) lookup(q *conntrack.Query) bool {
	d.single[0] = *q
	d.conns.Lookup(d.single[:])
	q.Ref = d.single[0].Ref
	return q.Ref != 0
}

// schedulable says whether a packet may begin a connection (reference 3.4):
// a SYN without RST, a datagram, an SCTP INIT, or nearly anything if sloppy;
// never one from port 20, which is FTP data on its way from a server.
func (r *Settings) schedulable(p *packet) bool {
	switch {
	case p.SrcPort == 20:
		return false
	case p.Proto == wire.ProtoTCP:
		return opensConn(p) || r.SloppyTCP && p.TCPFlags&wire.TCPRst == 0
	case p.Proto == wire.ProtoSCTP:
		return opensConn(p) || r.SloppySCTP && sctpEvent(p) != conntrack.EventAbort
	}
	return true
}

// admitAndSend picks a server for a packet that begins a connection, enters the
// conn and sends the packet on.
func (d *Director) admitAndSend(svc *Service, p *packet) Verdict {
	server, v := d.admit(svc, p, svc.OnePacket && p.Proto == wire.ProtoUDP)
	switch {
	case v == RefusedNoServer:
		return d.noServer(svc, p)
	case server == nil:
		return v
	}
	return d.toServer(p, server)
}

// admit picks a server for a client's packet p, which frame f brought, and enters
// the conn. If there is none to be had, ref is 0 and v says why.
func (d *Director) admit(svc *Service, p *packet, onePacket bool) (server *Server, v Verdict) {
	limit := svc.Limit
	if limit != nil && limit.Rate > 0 && !limit.Policers.allow(svc.ID, &p.Src, d.now, limit.Rate) {
		return nil, DroppedClientRate
	}
	holder, ok := svc.templateClient(p)
	if !ok {
		return nil, DroppedNoCallID
	}
	server, control := d.selectServer(svc, p, holder)
	if server == nil {
		return nil, RefusedNoServer
	}
	if limit != nil && limit.Conns > 0 && !svc.OnePacket {
		if control, ok = d.admitClient(svc, p, control); !ok {
			return nil, DroppedClientConns
		}
	}
	d.entry = conntrack.Entry{
		Proto:  p.Proto,
		Client: p.Src, ClientPort: p.SrcPort,
		VIP: p.Dst, VPort: p.DstPort,
		Server: server.Addr, SPort: serverPort(svc, server, p),
		Method: server.Method, ServerID: server.ID, ServiceID: svc.ID,
		OnePacket: onePacket,
		Helped:    server.Method == conntrack.MethodMasq && svc.Helper.helps(p.Proto, p.DstPort),
		Control:   control,
		ReturnHop: packReturnHop(p.frame.Buf[p.frame.Off+6:p.frame.Off+12], p.frame.In),
	}
	ref, fresh := d.conns.Insert(&d.entry)
	if ref == 0 {
		return nil, DroppedTableFull
	}
	p.query.Ref = ref
	if fresh {
		d.countBound(server)
	} else if server = d.table.server(d.conns.Conn(ref).ServerID()); !server.Available {
		return nil, DroppedServerGone // another worker was first, by another table
	}
	if d.entry.OnePacket {
		d.held.onePacketServer = server.ID
	}
	return server, v
}

// countBound accounts for a new conn of a server.
func (d *Director) countBound(server *Server) {
	server.Counters.shards[d.worker].conns.Add(1)
	if server.Threshold != nil {
		server.Threshold.raise()
	}
}

// serverPort is the port a packet goes to at its server: the server's own if
// it has one and the packet came to the service's very port, or by a mark that
// is not persistent; else the packet's (reference 1.3 and 4).
func serverPort(svc *Service, server *Server, p *packet) uint16 {
	own := svc.Port == p.DstPort || svc.Mark && svc.Persist == 0
	if server.Method == conntrack.MethodMasq && own && server.Port != 0 {
		return server.Port
	}
	return p.DstPort
}

// selectServer picks the server of a new connection: the one its template names, else
// the scheduler's choice, which a persistent service remembers in a new template
// of the holder.
func (d *Director) selectServer(svc *Service, p *packet, holder wire.Addr) (*Server, conntrack.Ref) {
	if svc.Persist > 0 {
		return d.persistentServer(svc, p, holder)
	}
	return d.schedule(svc, p), 0
}

// schedule is the scheduler's choice. While it has none the sorry server, if there is
// one, takes what begins; what it took stays with it until it ends.
func (d *Director) schedule(svc *Service, p *packet) *Server {
	for _, id := range svc.WithThreshold {
		d.table.Servers[id].Threshold.clear()
	}
	flow := sched.Flow{Client: p.Src, VIP: p.Dst, ClientPort: p.SrcPort, Port: p.DstPort, Now: int64(d.now)}
	i := svc.Picker.Pick(svc.Cursor, flow)
	switch {
	case i >= 0:
		return &d.table.Servers[svc.Servers[i]]
	case svc.Sorry != 0:
		return &d.table.Servers[svc.Sorry]
	}
	return nil
}

// templateClient is what the templates of a persistent service hold to a server: the
// masked address of a client, or a call. ok is false if it should be a call, but
// the packet names none.
func (s *Service) templateClient(p *packet) (holder wire.Addr, ok bool) {
	switch {
	case s.Persist == 0:
		return holder, true
	case s.SIPCalls != nil:
		return s.SIPCalls.of(p, p.Src)
	}
	holder = p.Src
	for i := range holder {
		holder[i] &= s.Mask[i]
	}
	return holder, true
}

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
