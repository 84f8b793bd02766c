package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// miss treats a packet whose conn the batch's lookup did not find.
func (d *Director) miss(t *Table, f *wire.Frame, i int) Verdict {
	p, q := &d.packets[i], &d.queries[i]
	if t.ambiguous(q) {
		if r := reversed(q); d.found(&r) {
			*q = r
			if ofConn(p) {
				return d.fromServer(t, f, p, q.Ref)
			}
			return d.forwardError(t, f, i)
		}
	}
	if !ofConn(p) {
		return d.unknownError(t, f, i)
	}
	if q.Dir == conntrack.DirOut {
		return d.unknownReply(t, f, p)
	}
	// A frame before this one in the batch may have made the conn meanwhile.
	if d.found(q) {
		return d.known(t, f, p, q)
	}
	return d.begin(t, f, p)
}

// begin treats a packet to a VIP that has no conn.
func (d *Director) begin(t *Table, f *wire.Frame, p *wire.Packet) Verdict {
	if isIPsec(p.Proto) {
		return t.noIKE(p)
	}
	svc := t.service(f, p)
	if svc == nil {
		return d.noService(t, f, p)
	}
	if v := t.badSource(f, p); v != NotOurs {
		return v
	}
	switch {
	case !t.Settings.schedulable(f, p):
		return d.reset(f, p, RefusedNoConn)
	case d.conns.DropPacket():
		return DroppedDefence
	}
	return d.schedule(t, svc, f, p)
}

// found asks a question now, and says whether there is a conn.
func (d *Director) found(q *conntrack.Query) bool {
	d.again[0] = *q
	d.conns.Lookup(d.again[:])
	q.Ref = d.again[0].Ref
	return q.Ref != 0
}

// schedulable says whether a packet may begin a connection (reference 3.4):
// a SYN without RST, a datagram, an SCTP INIT, or nearly anything if sloppy;
// never one from port 20, which is FTP data on its way from a server.
func (r *Settings) schedulable(f *wire.Frame, p *wire.Packet) bool {
	switch {
	case p.SrcPort == 20:
		return false
	case p.Proto == wire.ProtoTCP:
		return opens(f, p) || r.SloppyTCP && p.TCPFlags&wire.TCPRst == 0
	case p.Proto == wire.ProtoSCTP:
		return opens(f, p) || r.SloppySCTP && sctpEvent(f, p) != conntrack.EventAbort
	}
	return true
}

// schedule picks a server for a packet that begins a connection, enters the
// conn and sends the packet on.
func (d *Director) schedule(t *Table, svc *Service, f *wire.Frame, p *wire.Packet) Verdict {
	ref, server, v := d.place(t, svc, f, p, svc.OnePacket && p.Proto == wire.ProtoUDP)
	switch {
	case v == RefusedNoServer:
		return d.noServer(svc, f, p)
	case ref == 0:
		return v
	}
	return d.toServer(t, f, p, ref, server)
}

// place picks a server for a client's packet p, which frame f brought, and enters
// the conn. If there is none to be had, ref is 0 and v says why.
func (d *Director) place(t *Table, svc *Service, f *wire.Frame, p *wire.Packet, onePacket bool) (ref conntrack.Ref, server *Server, v Verdict) {
	limit := svc.Limit
	if limit != nil && limit.Rate > 0 && !limit.Policers.admit(svc.ID, &p.Src, d.now, limit.Rate) {
		return 0, nil, DroppedClientRate
	}
	holder, ok := svc.holder(f, p)
	if !ok {
		return 0, nil, DroppedNoCallID
	}
	server, control := d.choose(t, svc, p, holder)
	if server == nil {
		return 0, nil, RefusedNoServer
	}
	if limit != nil && limit.Conns > 0 && !svc.OnePacket {
		if control, ok = d.tally(svc, p, control); !ok {
			return 0, nil, DroppedClientConns
		}
	}
	d.fresh = conntrack.Entry{
		Proto:  p.Proto,
		Client: p.Src, ClientPort: p.SrcPort,
		VIP: p.Dst, VPort: p.DstPort,
		Server: server.Addr, SPort: serverPort(svc, server, p),
		Method: server.Method, ServerID: server.ID, ServiceID: svc.ID,
		OnePacket: onePacket,
		Helped:    server.Method == conntrack.MethodMasq && svc.Helper.helps(p.Proto, p.DstPort),
		Control:   control,
		ReturnHop: packReturnHop(f.Buf[f.Off+6:f.Off+12], f.In),
	}
	ref, fresh := d.conns.Insert(&d.fresh)
	if ref == 0 {
		return 0, nil, DroppedTableFull
	}
	if fresh {
		d.bound(server)
	} else if server = t.server(d.conns.Conn(ref).ServerID()); !server.Available {
		return 0, nil, DroppedServerGone // another worker was first, by another table
	}
	if d.fresh.OnePacket {
		d.pieces.picked = server.ID
	}
	return ref, server, v
}

// bound accounts for a new conn of a server.
func (d *Director) bound(server *Server) {
	server.Counters.shards[d.worker].conns.Add(1)
	if server.Threshold != nil {
		server.Threshold.bound()
	}
}

// serverPort is the port a packet goes to at its server: the server's own if
// it has one and the packet came to the service's very port, or by a mark that
// is not persistent; else the packet's (reference 1.3 and 4).
func serverPort(svc *Service, server *Server, p *wire.Packet) uint16 {
	own := svc.Port == p.DstPort || svc.Mark && svc.Persist == 0
	if server.Method == conntrack.MethodMasq && own && server.Port != 0 {
		return server.Port
	}
	return p.DstPort
}

// choose picks the server of a new connection: the one its template names, else
// the scheduler's choice, which a persistent service remembers in a new template
// of the holder.
func (d *Director) choose(t *Table, svc *Service, p *wire.Packet, holder wire.Addr) (*Server, conntrack.Ref) {
	if svc.Persist > 0 {
		return d.persistent(t, svc, p, holder)
	}
	return d.pick(t, svc, p), 0
}

// pick is the scheduler's choice. While it has none the sorry server, if there is
// one, takes what begins; what it took stays with it until it ends.
func (d *Director) pick(t *Table, svc *Service, p *wire.Packet) *Server {
	for _, id := range svc.Limited {
		t.Servers[id].Threshold.relax()
	}
	flow := sched.Flow{Client: p.Src, VIP: p.Dst, ClientPort: p.SrcPort, Port: p.DstPort, Now: int64(d.now)}
	i := svc.Picker.Pick(svc.Cursor, flow)
	switch {
	case i >= 0:
		return &t.Servers[svc.Servers[i]]
	case svc.Sorry != 0:
		return &t.Servers[svc.Sorry]
	}
	return nil
}

// holder is what the templates of a persistent service hold to a server: the
// masked address of a client, or a call. ok is false if it should be a call, but
// the packet names none.
func (s *Service) holder(f *wire.Frame, p *wire.Packet) (holder wire.Addr, ok bool) {
	switch {
	case s.Persist == 0:
		return holder, true
	case s.SIPCalls != nil:
		return s.SIPCalls.of(f, p, p.Src)
	}
	holder = p.Src
	for i := range holder {
		holder[i] &= s.Mask[i]
	}
	return holder, true
}

// persistent finds or makes the template of a holder.
func (d *Director) persistent(t *Table, svc *Service, p *wire.Packet, holder wire.Addr) (*Server, conntrack.Ref) {
	group := svc.group(p)
	if ref := d.template(holder, group); ref != 0 {
		server := t.server(d.conns.Conn(ref).ServerID())
		if server.Available && !server.Down && (server.Weight > 0 || !svc.ExpireQuiescent) {
			d.conns.Renew(ref, 0) // with its own timeout: a changed -p is for new ones
			return server, ref
		}
		d.conns.Expire(ref) // its server takes nothing new
	}
	server := d.pick(t, svc, p)
	if server == nil || server.ID == svc.Sorry {
		return server, 0 // nothing that a client should be held to
	}
	ref := d.hold(svc, server, holder, group)
	if ref == 0 {
		return server, 0
	}
	if other := t.server(d.conns.Conn(ref).ServerID()); other.Available {
		server = other // the same, unless another worker was first
	}
	return server, ref
}

// template finds a template: an entry whose client is the holder, with port 0
// (reference 4, "Template key"); 0: there is none.
func (d *Director) template(holder wire.Addr, group Endpoint) conntrack.Ref {
	d.again[0] = conntrack.Query{
		Proto: group.Proto, Dir: conntrack.DirIn, Template: true,
		Client: holder, Peer: group.Addr, PeerPort: group.Port,
	}
	d.conns.Lookup(d.again[:])
	return d.again[0].Ref
}

// hold makes a template; 0: the table is full.
func (d *Director) hold(svc *Service, server *Server, holder wire.Addr, group Endpoint) conntrack.Ref {
	d.fresh = conntrack.Entry{
		Proto: group.Proto, Template: true, Timeout: svc.Persist,
		Client: holder, VIP: group.Addr, VPort: group.Port,
		Server: server.Addr, SPort: server.Port,
		Method: server.Method, ServerID: server.ID, ServiceID: svc.ID,
	}
	if group.Port == 0 {
		d.fresh.SPort = 0
	}
	ref, _ := d.conns.Insert(&d.fresh)
	return ref
}

// group is what a template stands for beside its client (reference 4, "Template
// key"): the service's port, every port of the VIP if the packet came by another
// or to port 21, or all that a mark joins.
func (s *Service) group(p *wire.Packet) Endpoint {
	switch {
	case s.Mark:
		return Endpoint{Addr: s.Group}
	case s.Port != p.DstPort || s.Port == wire.PortFTP:
		return Endpoint{Addr: p.Dst, Proto: p.Proto}
	}
	return Endpoint{Addr: p.Dst, Port: s.Port, Proto: p.Proto}
}
