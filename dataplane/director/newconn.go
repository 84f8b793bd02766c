package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd/answer"
	"uvs/sched"
)

// newConn handles a packet to a VIP that has no conn.
func (d *Director) newConn(p *packet) Verdict {
	if isIPsec(p.Proto) {
		return d.table.noIKE(p)
	}
	if p == &d.unresolved.packet && d.unresolved.server != 0 {
		return d.followOnePacket(p, d.unresolved.server, d.unresolved.port)
	}
	svc := d.table.service(p)
	if svc == nil {
		return d.noService(p)
	}
	if v := d.table.martian(p); v != NoVerdict {
		return v
	}
	switch {
	case !d.table.Settings.schedulable(p):
		return d.refuseConn(p, RefusedNoConn)
	case d.conns.DropPacket():
		return DroppedDefence
	}
	server, verdict := d.admit(svc, p, svc.OnePacket && p.Proto == wire.ProtoUDP)
	switch {
	case verdict == RefusedNoServer:
		return d.noServer(svc, p)
	case verdict == RefusedClash:
		return d.refuseConn(p, RefusedClash)
	case server == nil:
		return verdict
	}
	return d.toServer(p, server)
}

// noService handles a packet to a VIP and port without a service. If the host has the
// address and gets the packet, it is the host's. Otherwise it is refused as a host
// without a socket refuses it.
func (d *Director) noService(p *packet) Verdict {
	vip, ok := d.table.vip(&p.Dst)
	switch {
	case d.table.Removed != nil && d.table.Removed.service(p) != nil: // the guard hides it
	case !ok: // in the net of a mark rule
		return d.unmatchedReply(p)
	case !vip.DirectorOnly:
		return NotOurs
	}
	if v := d.table.martian(p); v != NoVerdict {
		return v
	}
	return d.refuseConn(p, RefusedNoService)
}

// noServer answers a connection that no server of its service can take.
func (d *Director) noServer(svc *Service, p *packet) Verdict {
	if svc.Reset {
		return d.refuseConn(p, RefusedNoServer)
	}
	return d.answerError(p, answer.PortUnreachable, p.Dst, 0, RefusedNoServer)
}

// schedulable reports whether a packet may begin a connection: a SYN without RST, a
// datagram, an SCTP INIT, or nearly anything if sloppy. A packet from port 20 never
// does: it is FTP data on its way from a server (net/netfilter/ipvs/ip_vs_core.c,
// ip_vs_schedule).
func (r *Settings) schedulable(p *packet) bool {
	switch {
	case p.SrcPort == wire.PortFTPData:
		return false
	case p.Proto == wire.ProtoTCP:
		return opensConn(p) || r.SloppyTCP && p.TCPFlags&wire.TCPRst == 0
	case p.Proto == wire.ProtoSCTP:
		return opensConn(p) || r.SloppySCTP && sctpEvent(p) != conntrack.EventAbort
	}
	return true
}

// admit selects a server for a client's packet and inserts the conn, which p.query then
// has. If it cannot, server is nil and refused says why.
func (d *Director) admit(svc *Service, p *packet, onePacket bool) (server *Server, verdict Verdict) {
	limit := svc.Limit
	if limit != nil && limit.Rate > 0 && !limit.Policers.allow(svc.ID, &p.Src, d.now, limit.Rate) {
		return nil, DroppedClientRate
	}
	client, ok := svc.templateClient(p)
	if !ok {
		return nil, DroppedNoCallID
	}
	server, control := d.selectServer(svc, p, client)
	if server == nil {
		return nil, RefusedNoServer
	}
	if limit != nil && limit.Conns > 0 && !svc.OnePacket {
		if control, ok = d.admitClient(svc, p, control); !ok {
			return nil, DroppedClientConns
		}
	}
	ref, created := d.insert(svc, server, p, control, onePacket)
	if ref == 0 && d.sameReplies(p, server.Method, server.Addr, d.entry.SPort) != 0 {
		if server = d.withoutClash(svc, server, p, svc.Persist > 0); server == nil {
			return nil, RefusedClash
		}
		ref, created = d.insert(svc, server, p, control, onePacket)
	}
	if ref == 0 {
		return nil, DroppedTableFull
	}
	p.query.Ref = ref
	if created {
		d.countConn(server)
	} else if server = d.table.server(d.conns.Conn(ref).ServerID()); !server.InService {
		return nil, DroppedServerGone // another worker was first, with another table
	}
	if d.entry.OnePacket {
		d.onePacketServer = server.ID
	}
	return server, NoVerdict
}

// insert inserts the conn of a client's packet at a server.
func (d *Director) insert(svc *Service, server *Server, p *packet, control conntrack.Ref, onePacket bool) (
	ref conntrack.Ref, created bool,
) {
	_, helped := svc.Helper.At(p.Proto, p.DstPort)
	d.entry = conntrack.Entry{
		Proto:  p.Proto,
		Client: p.Src, ClientPort: p.SrcPort,
		VIP: p.Dst, VPort: p.DstPort,
		Server: server.Addr, SPort: serverPort(svc, server, p),
		Method: server.Method, ServerID: server.ID,
		OnePacket: onePacket,
		Helped:    server.Method == conntrack.MethodNAT && helped,
		Control:   control,
		ReturnHop: p.returnHop(),
	}
	return d.conns.Insert(&d.entry)
}

// countConn counts a new conn of a server.
func (d *Director) countConn(server *Server) {
	server.Counters.shards[d.worker].conns.Add(1)
	if server.Threshold != nil {
		server.Threshold.raise()
	}
}

// serverPort returns the port that a packet goes to at its server (docs/ipvs.md,
// "Templates and persistence" and "Marks"):
//
//   - the server's, for a packet by NAT to the service's own port
//   - the server's, for a packet by NAT of a mark that is not persistent
//   - the packet's in every other case, and if the server has no port
func serverPort(svc *Service, server *Server, p *packet) uint16 {
	own := svc.Port == p.DstPort || svc.Mark && svc.Persist == 0
	if server.Method == conntrack.MethodNAT && own && server.Port != 0 {
		return server.Port
	}
	return p.DstPort
}

// selectServer selects the server of a new connection. If the service is persistent, it
// also returns the template that names the server. client is what templateClient
// returned.
func (d *Director) selectServer(svc *Service, p *packet, client wire.Addr) (*Server, conntrack.Ref) {
	if svc.Persist > 0 {
		return d.persistentServer(svc, p, client)
	}
	return d.schedule(svc, p), 0
}

// schedule returns the scheduler's choice, or the sorry server if there is none. New
// connections stay with the sorry server until they end. nil: the service has neither.
func (d *Director) schedule(svc *Service, p *packet) *Server {
	for _, id := range svc.WithThreshold {
		d.table.server(id).Threshold.clear()
	}
	flow := sched.Flow{Client: p.Src, VIP: p.Dst, ClientPort: p.SrcPort, Port: p.DstPort, Now: int64(d.now)}
	i := svc.Picker.Pick(svc.Cursor, flow)
	switch {
	case i >= 0:
		return d.table.server(svc.Servers[i])
	case svc.Sorry != 0:
		return d.table.server(svc.Sorry)
	}
	return nil
}
