package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd/reply"
	"uvs/sched"
)

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
	server, refused := d.admit(svc, p, svc.OnePacket && p.Proto == wire.ProtoUDP)
	switch {
	case refused == RefusedNoServer:
		return d.noServer(svc, p)
	case server == nil:
		return refused
	}
	return d.toServer(p, server)
}

// noService treats a packet to a VIP and port without a service: the host's, if
// the host holds the address, else refused as a host would.
func (d *Director) noService(p *packet) Verdict {
	vip, ok := d.table.VIPs[p.Dst]
	switch {
	case !ok: // in the net of a rule
		return d.unmatchedReply(p)
	case !vip.Ours:
		return NotOurs
	}
	if v := d.table.martian(p); v != NotOurs {
		return v
	}
	if p.Proto == wire.ProtoTCP {
		return d.reset(p, RefusedNoService)
	}
	return d.refuse(p, reply.PortUnreachable, p.Dst, 0, RefusedNoService)
}

// noServer answers a connection that no server of its service can take.
func (d *Director) noServer(svc *Service, p *packet) Verdict {
	if svc.Reset && p.Proto == wire.ProtoTCP {
		return d.reset(p, RefusedNoServer)
	}
	return d.refuse(p, reply.PortUnreachable, p.Dst, 0, RefusedNoServer)
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
	_, helped := svc.Helper.At(p.Proto, p.DstPort)
	d.entry = conntrack.Entry{
		Proto:  p.Proto,
		Client: p.Src, ClientPort: p.SrcPort,
		VIP: p.Dst, VPort: p.DstPort,
		Server: server.Addr, SPort: serverPort(svc, server, p),
		Method: server.Method, ServerID: server.ID, ServiceID: svc.ID,
		OnePacket: onePacket,
		Helped:    server.Method == conntrack.MethodMasq && helped,
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
