package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd"
	"uvs/fwd/reply"
	"uvs/fwd/tunnel"
)

// established treats a client's packet that has a conn.
func (d *Director) established(p *packet) Verdict {
	c := d.conns.Conn(p.query.Ref)
	if c.Expectation() {
		return d.metByClient(p)
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
		return d.metByClient(p)
	}
	return d.newConn(p)
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
		if v, ok := d.help(conntrack.DirIn, p, server); !ok {
			return v
		}
	}
	fwd.DecTTL(p.frame, &p.Packet)
	return d.transmit(p, c, server)
}

// transmit rewrites the frame for its server, by the method the conn began with, and
// gives it a way out.
func (d *Director) transmit(p *packet, c *conntrack.Conn, server *Server) Verdict {
	if p.TCPFlags&wire.TCPSyn != 0 && server.MSS != 0 {
		d.clampMSS(p, p.Src, c, server)
	}
	verdict, mtu := ForwardedRoute, server.NextHop.MTU
	var tun *tunnel.Tunnel
	if c.Method() == conntrack.MethodTunnel {
		tun, mtu = &server.Tunnel, server.Path.mtu(d.now, mtu)
	}
	switch fitMTU(p, mtu, tun) {
	case exceedsMTU:
		server.Counters.shards[d.worker].tooBig.Add(1)
		return d.refuse(p, reply.TooBig, p.Dst, uint32(longestPacket(p.IPv6, mtu, tun)), AnsweredTooBig)
	case splitToMTU:
		server.Counters.shards[d.worker].split.Add(1)
	}
	switch c.Method() {
	case conntrack.MethodMasq:
		if fwd.UDP6NoChecksum(p.frame, &p.Packet) {
			return DroppedUDP6NoChecksum
		}
		_, port := c.Server()
		if crcSpansFragments(p, p.DstPort, port) {
			return DroppedFragmentSCTP
		}
		fwd.ToServer(p.frame, &p.Packet, server.Addr, port)
		verdict = ForwardedMasq
	case conntrack.MethodTunnel:
		if !tun.Encap(p.frame, &p.Packet) {
			return DroppedNoRoom
		}
		verdict = ForwardedTunnel
	}
	server.NextHop.Link.Apply(p.frame)
	return verdict
}

// crcSpansFragments says whether a change of port would need SCTP's CRC made anew,
// which covers fragments that are not at hand.
func crcSpansFragments(p *packet, old, new uint16) bool {
	return p.Fragment == wire.FragmentFirst && p.Proto == wire.ProtoSCTP && old != new
}

// mtuFit is how a packet fits the way it leaves by.
type mtuFit uint8

const (
	fitsMTU    mtuFit = iota
	splitToMTU        // the link fragments it
	exceedsMTU        // it must not be fragmented
)

// fitMTU says how a packet fits a way of the given MTU, by a tunnel if there is
// one, and asks the link to split what may be. By a tunnel even IPv6 packets up
// to leastMTU6 may be: it is the tunnel's own packets that are fragmented.
func fitMTU(p *packet, mtu int, tun *tunnel.Tunnel) mtuFit {
	outer, fitting := 0, fitsMTU
	if tun != nil {
		outer = tun.Overhead()
	}
	if fwd.TooLong(p.frame, &p.Packet, mtu, outer) {
		switch {
		case p.IPv6 && (tun == nil || fwd.TooLong(p.frame, &p.Packet, leastMTU6, 0)),
			!p.IPv6 && (tun == nil || !tun.IgnoreDF) && fwd.DontFragment(p.frame, &p.Packet):
			return exceedsMTU
		}
		p.frame.MTU, fitting = uint16(mtu), splitToMTU
	}
	if p.frame.IsGSO() && tun != nil {
		p.frame.MTU = uint16(mtu) // a tunnelled super-frame is always cut by the link
	}
	return fitting
}

// longestPacket is the longest packet of p's kind that fit never calls too long.
func longestPacket(ipv6 bool, mtu int, tun *tunnel.Tunnel) int {
	switch {
	case tun == nil:
		return mtu
	case ipv6:
		return max(mtu-tun.Overhead(), leastMTU6)
	}
	return max(mtu-tun.Overhead(), leastMTU4)
}

// fromServer treats a server's packet that has a conn.
func (d *Director) fromServer(p *packet) Verdict {
	c := d.conns.Conn(p.query.Ref)
	if c.Expectation() {
		return d.metByServer(p)
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
		if v, ok := d.help(conntrack.DirOut, p, server); !ok {
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

// route sends a packet on as a router does: TTL, MTU, next hop. self is the
// address that answers when it cannot be; ok is false if the frame is not, or
// not as itself, on its way.
func (d *Director) route(p *packet, way *NextHop, self wire.Addr, good Verdict) (v Verdict, ok bool) {
	if fwd.TTLExpired(p.frame, &p.Packet) {
		return d.refuse(p, reply.TimeExceeded, self, 0, AnsweredTTLExceeded), false
	}
	switch way.State {
	case NoRoute:
		return d.refuse(p, reply.HostUnreachable, self, 0, AnsweredNoRoute), false
	case Unresolved:
		return DroppedNoNeighbour, false
	}
	fwd.DecTTL(p.frame, &p.Packet)
	if fitMTU(p, way.MTU, nil) == exceedsMTU {
		return d.refuse(p, reply.TooBig, self, uint32(way.MTU), AnsweredTooBig), false
	}
	way.Link.Apply(p.frame)
	return good, true
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
