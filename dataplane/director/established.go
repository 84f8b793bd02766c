package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd"
	"uvs/fwd/reply"
)

// established treats a client's packet that has a conn.
func (d *Director) established(p *packet) Verdict {
	c := d.conns.Conn(p.query.Ref)
	if c.Expectation() {
		return d.matchClientExpectation(p)
	}
	server := d.table.server(c.ServerID())
	switch {
	case server.ID == 0:
		return DroppedServerGone // for this turn only: the next has the newer table
	case opensConn(p) && p.TCPFlags&wire.TCPAck == 0 && d.table.Settings.replacesConn(c, server, d.hasTemplate(c)): // with ACK it answers the server's SYN
	case c.State() == conntrack.TCPForgotten:
		return d.resetTimedOut(p)
	case server.Available:
		return d.toServer(p, server)
	case !d.table.Settings.ExpireNoServer:
		return DroppedServerGone
	}
	// The client begins anew, or its server was removed: the old conn is
	// forgotten and this very packet is treated as if there never was one.
	d.conns.Expire(p.query.Ref)
	p.query.Ref = 0
	if d.isExpected(c) && d.lookup(p.query) && d.conns.Conn(p.query.Ref).Expectation() {
		return d.matchClientExpectation(p)
	}
	return d.newConn(p)
}

// replacesConn says whether a SYN on a conn means a new connection rather than the
// same SYN again (reference 3.6, step 1). placed: its parent says which server it has.
func (r *Settings) replacesConn(c *conntrack.Conn, server *Server, placed bool) bool {
	if r.ExpireNoServer && (server.Weight == 0 || server.Down) {
		return true
	}
	if c.State() == conntrack.TCPForgotten { // without reset_forgotten there was no conn
		return true
	}
	if r.ReuseMode == 0 || placed { // its parent would have it back
		return false
	}
	switch c.State() {
	case conntrack.TCPTimeWait, conntrack.TCPClose, conntrack.SCTPClosed:
		return true
	case conntrack.TCPFinWait:
		return r.ReuseMode&2 != 0 && c.NoOutput()
	}
	return false
}

// toServer counts a client's packet, moves the conn's state and sends the frame
// on by the server's method.
func (d *Director) toServer(p *packet, server *Server) Verdict {
	c := d.conns.Conn(p.query.Ref)
	if back := packReturnHop(p.frame.Buf[p.frame.Off+6:p.frame.Off+12], p.frame.In); c.ReturnHop() != back {
		if v := d.table.martianMAC(p); v != NotOurs {
			return v
		}
		c.SetReturnHop(back)
	}
	server.Counters.shards[d.worker].in(p.Len)
	if p.Fragment != wire.FragmentLater {
		d.conns.Step(p.query.Ref, conntrack.DirIn, event(p), server.Timeouts)
	}
	if fwd.TTLExpired(p.frame, &p.Packet) {
		return d.refuse(p, reply.TimeExceeded, p.Dst, 0, AnsweredTTLExceeded)
	}
	way := &server.NextHop
	switch way.State {
	case NoRoute:
		return d.refuse(p, reply.HostUnreachable, p.Dst, 0, AnsweredNoRoute)
	case Unresolved:
		return DroppedNoNeighbour
	}
	if c.Helped() { // what does not get this far does not count as said
		if v, ok := d.runHelper(conntrack.DirIn, p, server); !ok {
			return v
		}
	}
	fwd.DecTTL(p.frame, &p.Packet)
	return d.transmit(p, c, server)
}

// fromServer treats a server's packet that has a conn.
func (d *Director) fromServer(p *packet) Verdict {
	c := d.conns.Conn(p.query.Ref)
	if c.Expectation() {
		return d.matchServerExpectation(p)
	}
	if c.State() == conntrack.TCPForgotten {
		return d.resetTimedOut(p)
	}
	server := d.table.server(c.ServerID())
	if server.Counters != nil {
		server.Counters.shards[d.worker].out(p.Len)
	}
	if p.Fragment != wire.FragmentLater {
		d.conns.Step(p.query.Ref, conntrack.DirOut, event(p), server.Timeouts)
	}
	if c.Helped() {
		if v, ok := d.runHelper(conntrack.DirOut, p, server); !ok {
			return v
		}
	}
	verdict := ReturnedAsIs
	if c.Method() == conntrack.MethodMasq {
		if fwd.UDP6NoChecksum(p.frame, &p.Packet) {
			return DroppedUDP6NoChecksum
		}
		verdict = ReturnedMasq
	}
	vip, vport := c.VIP()
	if verdict == ReturnedMasq && crcSpansFragments(p, p.SrcPort, vport) {
		return DroppedFragmentSCTP
	}
	way := d.table.FIB.ReturnHop(p.Dst, c.ReturnHop())
	if v, ok := d.route(p, &way, vip, verdict); !ok {
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

// event is what a packet means to its conn's state.
func event(p *packet) conntrack.Event {
	switch p.Proto {
	case wire.ProtoTCP:
		return conntrack.TCPEvent(p.TCPFlags)
	case wire.ProtoSCTP:
		return sctpEvent(p)
	}
	return conntrack.EventData
}

// sctpEvent reads the first chunk's type, and the second's, of an SCTP packet
// (RFC 9260 section 3.1: a 12-byte common header, then chunks of a 4-byte
// header with the length in its last two bytes, padded to four).
func sctpEvent(p *packet) conntrack.Event {
	b := p.frame.Bytes()[min(int(p.L4)+12, p.frame.Len()):]
	if len(b) < 4 {
		return conntrack.SCTPEvent(0, 0)
	}
	first, next := b[0], byte(0)
	if n := (int(b[2])<<8 | int(b[3]) + 3) &^ 3; n >= 4 && n+4 <= len(b) {
		next = b[n]
	}
	return conntrack.SCTPEvent(first, next)
}

// opensConn says whether a packet asks for a new connection: a SYN, an SCTP INIT.
func opensConn(p *packet) bool {
	switch p.Proto {
	case wire.ProtoTCP:
		return p.TCPFlags&(wire.TCPSyn|wire.TCPRst) == wire.TCPSyn
	case wire.ProtoSCTP:
		return sctpEvent(p) == conntrack.EventInit
	}
	return false
}

// abortsConn says whether a packet ends a connection at once: an RST, an SCTP ABORT.
func abortsConn(p *packet) bool {
	return p.Proto == wire.ProtoTCP && p.TCPFlags&wire.TCPRst != 0 ||
		p.Proto == wire.ProtoSCTP && sctpEvent(p) == conntrack.EventAbort
}
