package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd"
	"uvs/fwd/answer"
)

// fromClient handles a client's packet that has a conn.
func (d *Director) fromClient(p *packet) Verdict {
	c := d.conns.Conn(p.query.Ref)
	if c.Expectation() {
		return d.matchClientExpectation(p)
	}
	server := d.table.server(c.ServerID())
	switch {
	case server.ID == 0:
		return DroppedServerGone // another worker has a newer table; the next batch has it too
	case opensConn(p) && p.TCPFlags&wire.TCPAck == 0 && // a SYN+ACK answers the server's SYN (active FTP)
		d.table.Settings.replacesConn(c, server, d.hasTemplate(c)): // continue after the switch
	case c.State() == conntrack.TCPForgotten:
		return d.reset(p, RefusedForgotten)
	case server.servesConns():
		return d.toServer(p, server)
	case d.waits(p, server):
		return d.awaitServer(p)
	case !d.table.Settings.RescheduleRemoved:
		return DroppedServerGone
	}
	// The client begins a new connection, or its server was removed. The old conn
	// ends, and this packet is handled as if there had been none.
	d.conns.Expire(p.query.Ref)
	p.query.Ref = 0
	if d.isExpected(c) && d.lookup(p.query) && d.conns.Conn(p.query.Ref).Expectation() {
		return d.matchClientExpectation(p)
	}
	return d.newConn(p)
}

// replacesConn reports whether a SYN on a conn begins a new connection, instead of
// repeating the old SYN (net/netfilter/ipvs/ip_vs_core.c, is_new_conn_expected).
// hasTemplate: a template chose the server, and would choose it again.
func (r *Settings) replacesConn(c *conntrack.Conn, server *Server, hasTemplate bool) bool {
	if r.RescheduleRemoved && (server.Weight == 0 || server.Down) {
		return true
	}
	if c.State() == conntrack.TCPForgotten { // the timeout has passed; the conn lives only to be reset
		return true
	}
	if r.ConnReuseMode == 0 || hasTemplate {
		return false
	}
	return isReplaceable(c.State()) || c.State() == conntrack.TCPFinWait && r.ConnReuseMode&2 != 0 && c.NoOutput()
}

// isReplaceable reports whether a SYN may begin a new connection in place of one in this
// state: IPVS's choice (is_new_conn_expected). Neither end sends data in LAST_ACK,
// SHUTDOWN-ACK-SENT and REJECTED either, but there IPVS keeps the conn.
func isReplaceable(s conntrack.State) bool {
	switch s {
	case conntrack.TCPTimeWait, conntrack.TCPClose, conntrack.TCPForgotten, conntrack.SCTPClosed:
		return true
	}
	return false
}

// toServer counts a client's packet, steps its conn's state and transmits it by the
// conn's method.
func (d *Director) toServer(p *packet, server *Server) Verdict {
	c := d.conns.Conn(p.query.Ref)
	if hop := p.returnHop(); c.ReturnHop() != hop {
		if v := d.table.martianMAC(p); v != NoVerdict {
			return v
		}
		c.SetReturnHop(hop)
	}
	if p != &d.unresolved.packet { // else it was counted when it came
		server.Counters.shards[d.worker].in(p.Len)
		if p.Fragment != wire.FragmentLater {
			d.conns.Step(p.query.Ref, conntrack.DirIn, event(p), server.Timeouts)
		}
	}
	if fwd.TTLExpired(p.frame, &p.Packet) {
		return d.answerError(p, answer.TimeExceeded, p.Dst, 0, AnsweredTTLExceeded)
	}
	switch hop := server.NextHop.State; {
	case hop == NoRoute && !d.table.FIB.onAnyLink(server.Addr):
		return d.answerError(p, answer.HostUnreachable, p.Dst, 0, AnsweredNoRoute)
	case hop != Resolved:
		return d.awaitNeighbour(p, server.Addr, p.Dst)
	}
	if c.Helped() { // last, so that helpers see only text that goes on
		if v, ok := d.runHelper(conntrack.DirIn, p, server); !ok {
			return v
		}
	}
	fwd.DecTTL(p.frame, &p.Packet)
	return d.transmit(p, c, server)
}

// fromServer handles a server's packet that has a conn.
func (d *Director) fromServer(p *packet) Verdict {
	c := d.conns.Conn(p.query.Ref)
	server := d.table.server(c.ServerID())
	switch {
	case p.frame.In != server.NextHop.Link.Port && !d.table.isBehind(server, p.frame.In):
		return DroppedReversePath
	case c.Expectation():
		return d.matchServerExpectation(p)
	case c.State() == conntrack.TCPForgotten:
		return d.reset(p, RefusedForgotten)
	}
	if p != &d.unresolved.packet {
		if server.Counters != nil {
			server.Counters.shards[d.worker].out(p.Len)
		}
		if p.Fragment != wire.FragmentLater {
			d.conns.Step(p.query.Ref, conntrack.DirOut, event(p), server.Timeouts)
		}
	}
	vip, vport := c.VIP()
	hop := d.table.FIB.ReturnHop(p.Dst, c.ReturnHop())
	if hop.State == Unresolved {
		return d.awaitNeighbour(p, p.Dst, vip)
	}
	if c.Helped() {
		if v, ok := d.runHelper(conntrack.DirOut, p, server); !ok {
			return v
		}
	}
	verdict := ReturnedAsIs
	if c.Method() == conntrack.MethodNAT {
		if v := dropForNAT(p, p.SrcPort, vport); v != NoVerdict {
			return v
		}
		verdict = ReturnedMasq
	}
	if v, ok := d.route(p, &hop, vip, verdict); !ok {
		return v
	}
	if p.TCPFlags&wire.TCPSyn != 0 && server.MSS != 0 {
		d.clampMSS(p, p.Dst, c, server)
	}
	if verdict == ReturnedMasq {
		fwd.FromServer(p.frame, &p.Packet, vip, vport)
	}
	return verdict
}

// event returns what a packet means to the state of its conn.
func event(p *packet) conntrack.Event {
	switch p.Proto {
	case wire.ProtoTCP:
		return conntrack.TCPEvent(p.TCPFlags)
	case wire.ProtoSCTP:
		return sctpEvent(p)
	}
	return conntrack.EventData
}

// sctpEvent reads the types of the first two chunks of an SCTP packet.
func sctpEvent(p *packet) conntrack.Event {
	b := p.frame.Bytes()[min(int(p.L4)+wire.SCTPLen, p.frame.Len()):]
	if len(b) < wire.ChunkLen {
		return conntrack.SCTPEvent(0, 0)
	}
	first, next := b[0], byte(0)
	if n := wire.PaddedChunk(b); n >= wire.ChunkLen && n+wire.ChunkLen <= len(b) {
		next = b[n]
	}
	return conntrack.SCTPEvent(first, next)
}

// opensConn reports whether a packet asks for a new connection: a SYN or an SCTP INIT.
func opensConn(p *packet) bool {
	switch p.Proto {
	case wire.ProtoTCP:
		return p.TCPFlags&(wire.TCPSyn|wire.TCPRst) == wire.TCPSyn
	case wire.ProtoSCTP:
		return sctpEvent(p) == conntrack.EventInit
	}
	return false
}

// abortsConn reports whether a packet ends a connection at once: an RST or an SCTP
// ABORT.
func abortsConn(p *packet) bool {
	return p.Proto == wire.ProtoTCP && p.TCPFlags&wire.TCPRst != 0 ||
		p.Proto == wire.ProtoSCTP && sctpEvent(p) == conntrack.EventAbort
}
