package director

import (
	"uvs/conntrack"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
)

// firstVPort is the lowest port to which clients may be told to connect. If a port is
// taken, the next one tried is vportStep further, vportTries times. vportStep is a
// prime, so that every port can be reached.
const (
	firstVPort = wire.PortUnprivileged
	vportStep  = 7919
	vportTries = 8
)

// ExpectPassive lets the client of the control connection connect to VIP:vport once; the
// server listens at port. The ports differ only if vport would lead elsewhere: to a
// service, or to what another control connection of the client announced.
func (h *helperContext) ExpectPassive(server wire.Addr, port uint16) (vport uint16, ok bool) {
	c := h.d.conns.Conn(h.ref)
	switch {
	case server != h.context.Server: // packets for another address would reach this server
		return 0, false
	case port < firstVPort: // it may be another service of the server, announced to expose it
		return 0, false
	}
	h.cancelPassive(c)
	n := h.expectation(c)
	n.NoClientPort, n.SPort = true, port
	vport = port
	for range vportTries {
		key := Endpoint{Addr: n.VIP, Port: vport, Proto: n.Proto}
		if n.VPort = vport; h.d.table.serviceAt(key) == nil && h.d.expect(h.ref, server) {
			h.session.Pending.Passive = vport
			return vport, true
		}
		vport = firstVPort + uint16((uint32(vport)+vportStep)%(1<<16-firstVPort))
	}
	return 0, false
}

// ExpectActive lets the server of the control connection connect to the client's port
// once, from any port of the server. The client sees helper.DataPort of the VIP.
func (h *helperContext) ExpectActive(client wire.Addr, port uint16) (ok bool) {
	c := h.d.conns.Conn(h.ref)
	if port == 0 {
		return false
	}
	h.cancelActive(c)
	n := h.expectation(c)
	_, vport := c.VIP()
	_, sport := c.Server()
	n.NoServerPort, n.VPort, n.SPort = true, helper.DataPort(vport), helper.DataPort(sport)
	if n.Client != client {
		n.ReturnHop = 0 // not where this client's packets come from
	}
	n.Client, n.ClientPort = client, port
	if !h.d.expireOldData(n) || !h.d.expect(h.ref, h.context.Server) {
		return false
	}
	h.session.Pending.Active, h.session.Pending.ActivePort = client, port
	return true
}

// ExpectReply implements helper.Expecter. The expectation has no port of the VIP:
// that becomes the port from which the server replies.
func (h *helperContext) ExpectReply(clientPort uint16) {
	c := h.d.conns.Conn(h.ref)
	n := h.expectation(c)
	n.State = conntrack.UDPNormal
	n.NoServerPort, n.ClientPort = true, clientPort
	_, n.SPort = c.Server()
	h.d.expect(h.ref, h.context.Server)
}

// expectation sets Director.entry to an expectation of conn c that has no ports yet.
func (h *helperContext) expectation(c *conntrack.Conn) *conntrack.Entry {
	n := &h.d.entry
	*n = conntrack.Entry{
		Proto: c.Proto(), State: conntrack.TCPListen, Method: conntrack.MethodNAT,
		ServerID: c.ServerID(), Control: h.ref, ReturnHop: c.ReturnHop(),
		Timeout: h.d.conns.Timeout(conntrack.TCPListen, h.server.Timeouts),
		Client:  h.context.Client, VIP: h.context.VIP, Server: h.context.Server,
	}
	return n
}

// expect inserts Director.entry. It replaces an entry of the same key that this control
// connection, or another one to the same server, announced. It returns false if the key
// belongs to another server, or if the table is full.
func (d *Director) expect(control conntrack.Ref, server wire.Addr) bool {
	for range 2 {
		ref, created := d.conns.Insert(&d.entry)
		if created || ref == 0 {
			return created
		}
		c := d.conns.Conn(ref)
		if known, _ := c.Server(); c.Control() != control && known != server {
			return false
		}
		d.conns.Expire(ref)
	}
	return false
}

// expireOldData expires an old data connection between the endpoints of the one that a
// server is to open. It returns false if the old connection is in use.
func (d *Director) expireOldData(n *conntrack.Entry) bool {
	ref := d.find(conntrack.Query{
		Proto: n.Proto, Dir: conntrack.DirIn,
		Client: n.Client, ClientPort: n.ClientPort, Peer: n.VIP, PeerPort: n.VPort,
	})
	if ref == 0 || d.conns.Conn(ref).Expectation() {
		return true
	}
	if d.conns.Conn(ref).State() == conntrack.TCPEstablished {
		return false
	}
	d.conns.Expire(ref)
	return true
}

// cancelPassive expires the control connection's pending passive expectation, and
// cancelActive its active one, so that it has at most one of each kind.
func (h *helperContext) cancelPassive(c *conntrack.Conn) {
	pending := &h.session.Pending
	if pending.Passive == 0 {
		return
	}
	h.cancel(conntrack.Query{
		Proto: c.Proto(), Dir: conntrack.DirIn, Client: h.context.Client, Peer: h.context.VIP,
		PeerPort: pending.Passive,
	})
	pending.Passive = 0
}

func (h *helperContext) cancelActive(c *conntrack.Conn) {
	pending := &h.session.Pending
	if pending.ActivePort == 0 {
		return
	}
	h.cancel(conntrack.Query{
		Proto: c.Proto(), Dir: conntrack.DirOut, Client: pending.Active, ClientPort: pending.ActivePort,
		Peer: h.context.Server,
	})
	pending.ActivePort = 0
}

// cancel expires the expectation that a query finds, if it is this control
// connection's.
func (h *helperContext) cancel(q conntrack.Query) {
	if ref := h.d.find(q); ref != 0 {
		if e := h.d.conns.Conn(ref); e.Expectation() && e.Control() == h.ref {
			h.d.conns.Expire(ref)
		}
	}
}

// matchClientExpectation handles a client's packet for which the lookup found only an
// expectation. A packet that opens a connection gets it; any other is a miss.
func (d *Director) matchClientExpectation(p *packet) Verdict {
	ref, server := p.query.Ref, d.table.server(d.conns.Conn(p.query.Ref).ServerID())
	p.query.Ref = 0
	if !opensConn(p) || !server.InService {
		return d.newConn(p)
	}
	if p.query.Ref = d.conns.SetPort(ref, p.SrcPort); p.query.Ref == 0 {
		return DroppedTableFull
	}
	return d.toServer(p, server)
}

// matchServerExpectation is matchClientExpectation for a server's packet.
func (d *Director) matchServerExpectation(p *packet) Verdict {
	if p.Proto == wire.ProtoTCP && !opensConn(p) {
		return d.unmatchedReply(p)
	}
	if p.query.Ref = d.conns.SetPort(p.query.Ref, p.SrcPort); p.query.Ref == 0 {
		return DroppedTableFull
	}
	if _, port := d.conns.Conn(p.query.Ref).Server(); port != p.SrcPort {
		return DroppedUnexpected // the server replies from two ports at once
	}
	return d.fromServer(p)
}
