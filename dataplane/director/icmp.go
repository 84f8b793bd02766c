package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// forwardError sends an ICMP error about a known flow to the end that sent the
// quoted packet. It is counted with the flow's packets but moves neither state
// nor timer (reference 5.7).
func (d *Director) forwardError(t *Table, f *wire.Frame, i int) Verdict {
	p, in, q := &d.packets[i], &d.quoted[i], &d.queries[i]
	if !wire.VerifyTransport(f, p) {
		return DroppedICMPSum
	}
	c := d.conns.Conn(q.Ref)
	server := t.server(c.ServerID())
	if q.Dir == conntrack.DirIn {
		return d.errorToServer(f, p, in, c, server)
	}
	if server.Counters != nil {
		server.Counters.shards[d.worker].out(p.Len)
	}
	vip, vport := c.VIP()
	way := t.Ways.Back(p.Dst, c.Back())
	v, ok := d.route(f, p, &way, vip, ErrorToClient)
	if ok && c.Method() == conntrack.MethodMasq {
		fwd.ErrorFromServer(f, p, in, vip, vport)
	}
	return v
}

// errorToServer sends a client-side error about a reply to the server, by the
// method its packets take.
func (d *Director) errorToServer(f *wire.Frame, p, in *wire.Packet, c *conntrack.Conn, server *Server) Verdict {
	switch {
	case !server.Available:
		return DroppedServerGone
	case server.Way.Reach != ReachResolved:
		return DroppedNoNeighbour
	case fwd.TTLExpired(f, p):
		return DroppedSilent
	}
	server.Counters.shards[d.worker].in(p.Len)
	fwd.DecTTL(f, p)
	outer := 0
	switch c.Method() {
	case conntrack.MethodMasq:
		addr, port := c.Server()
		fwd.ErrorToServer(f, p, in, addr, port)
	case conntrack.MethodTunnel:
		outer = server.Tunnel.Overhead()
	}
	if !d.fits(f, p, server.Way.MTU, outer) {
		return DroppedSilent // errors are never answered with errors
	}
	if outer > 0 && !server.Tunnel.Encap(f, p) {
		return DroppedNoRoom
	}
	server.Way.Hop.Send(f)
	return ErrorToServer
}

// unknownError treats an ICMP error about a flow we do not know. If it quotes a
// packet to an end the guard hides from the host, we route it on unchanged.
func (d *Director) unknownError(t *Table, f *wire.Frame, i int) Verdict {
	p, in := &d.packets[i], &d.quoted[i]
	if t.hides(in.Dst, in.DstPort, in.Proto) && !t.Ways.Holds(p.Dst) {
		return d.pass(t, f, p)
	}
	return d.answer(t, f, p)
}
