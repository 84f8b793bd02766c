package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd"
	"uvs/fwd/answer"
	"uvs/fwd/tunnel"
)

// relayError sends an ICMP error about a known flow to the end that sent the quoted
// packet. Counters of the flow count it, but it moves neither state nor timer
// (net/netfilter/ipvs/ip_vs_core.c, ip_vs_in_icmp).
func (d *Director) relayError(p *packet) Verdict {
	if !wire.VerifyChecksum(p.frame, &p.Packet) {
		return DroppedBadICMPChecksum
	}
	c := d.conns.Conn(p.query.Ref)
	if c.Expectation() {
		return d.unmatchedError(p)
	}
	if c.Helped() && !d.renumberQuote(p) {
		return DroppedHelperBusy
	}
	server := d.table.server(c.ServerID())
	if p.query.Dir == conntrack.DirIn {
		return d.errorToServer(p, c, server)
	}
	if !d.table.isBehind(server, p.frame.In) {
		return DroppedReversePath
	}
	if server.Counters != nil {
		server.Counters.shards[d.worker].out(p.Len)
		if mtu, ok := fwd.ReportedMTU(p.frame, &p.Packet); ok && c.Method() != conntrack.MethodTunnel {
			server.Path.learn(d.now, mtu, server.NextHop.MTU, p.IPv6, p.Src)
		}
	}
	vip, vport := c.VIP()
	hop := d.table.FIB.ReturnHop(p.Dst, c.ReturnHop())
	v, ok := d.route(p, &hop, vip, ICMPErrorToClient)
	if ok && c.Method() == conntrack.MethodNAT {
		fwd.ErrorFromServer(p.frame, &p.Packet, p.inner, vip, vport)
	}
	return v
}

// errorToServer sends an error about a reply from the clients' side to the server, by
// the conn's method.
func (d *Director) errorToServer(p *packet, c *conntrack.Conn, server *Server) Verdict {
	switch {
	case !server.servesConns():
		return DroppedServerGone
	case server.NextHop.State != Resolved:
		return DroppedNoNeighbour
	case fwd.TTLExpired(p.frame, &p.Packet):
		return DroppedUnanswered
	}
	server.Counters.shards[d.worker].in(p.Len)
	fwd.DecTTL(p.frame, &p.Packet)
	mtu := server.NextHop.MTU
	var tun *tunnel.Tunnel
	switch c.Method() {
	case conntrack.MethodNAT:
		addr, port := c.Server()
		fwd.ErrorToServer(p.frame, &p.Packet, p.inner, addr, port)
	case conntrack.MethodTunnel:
		tun, mtu = &server.Tunnel, server.Path.mtu(d.now, mtu)
	}
	if fitMTU(p, mtu, tun) == exceedsMTU {
		return DroppedUnanswered // errors are never answered with errors
	}
	if tun != nil && !tun.Encap(p.frame, &p.Packet) {
		return DroppedNoRoom
	}
	server.NextHop.Link.Apply(p.frame)
	return ICMPErrorToServer
}

// tunnelError handles an ICMP error about a packet of the director's tunnels: one sent to
// the tunnel's source address, about what went to a server. It learns path MTUs from any
// such error. Some errors quote only the eight bytes after the outer header that RFC 792
// demands. They do not show whose packet was inside. For any other error ok is false,
// and nothing is done.
func (d *Director) tunnelError(p *packet) (v Verdict, ok bool) {
	outer := &d.outer
	if !d.isForDirector(p) || !wire.ParseQuoted(p.frame, &p.Packet, outer) || outer.Src != p.Dst {
		return NoVerdict, false
	}
	key := quotedTunnel(outer)
	id := d.table.Tunnels.Shard(key.Shard())[key]
	server := d.table.server(id)
	if server.ID == 0 || server.Tunnel.Src != outer.Src {
		return NoVerdict, false
	}
	if !d.table.isBehind(server, p.frame.In) {
		return DroppedReversePath, true
	}
	if !wire.VerifyChecksum(p.frame, &p.Packet) {
		return DroppedBadICMPChecksum, true
	}
	reported, tooBig := fwd.ReportedMTU(p.frame, &p.Packet)
	if tooBig {
		server.Path.learn(d.now, reported, server.NextHop.MTU, p.IPv6, p.Src)
	}
	return d.relayTunnelError(p, &server.Tunnel, tooBig), true
}

// relayTunnelError passes an error about a tunnel on to the client whose packet was
// inside. ICMPErrorNoted: the client need not know, because its next packets will be
// fragmented, or the client is not known.
func (d *Director) relayTunnelError(p *packet, tun *tunnel.Tunnel, tooBig bool) Verdict {
	inner := p.inner
	at, ok := tun.QuotedInner(p.frame, &d.outer)
	if !ok || wire.ParseIPAt(p.frame, at, inner, wire.Quoted) != wire.FlawNone ||
		inner.Fragment == wire.FragmentLater || !hasConnKey(inner) {
		return ICMPErrorNoted
	}
	if fillQuery(p.query, inner, true); !d.lookup(p.query) {
		return ICMPErrorNoted
	}
	c := d.conns.Conn(p.query.Ref)
	server := d.table.server(c.ServerID())
	if c.Method() != conntrack.MethodTunnel || server.Addr != d.outer.Dst {
		return ICMPErrorNoted
	}
	mtu := 0
	if tooBig {
		mtu = longestPacket(inner.IPv6, server.Path.mtu(d.now, server.NextHop.MTU), &server.Tunnel)
		if fwd.TotalLen(p.frame, inner) <= mtu ||
			!inner.IPv6 && (server.Tunnel.IgnoreDF || !fwd.DontFragment(p.frame, inner)) {
			return ICMPErrorNoted
		}
	}
	hop := d.table.FIB.ReturnHop(inner.Src, c.ReturnHop())
	to := inner.Src
	limit := d.answerLimits.check(&to, tooBig, d.now)
	switch {
	case hop.State != Resolved:
		return DroppedNoNeighbour
	case limit != NoVerdict:
		return limit
	case !answer.RelayError(p.frame, &p.Packet, inner, inner.Dst, uint32(mtu), hop.MTU):
		return DroppedUnanswered
	}
	d.answerLimits.spend(&to, tooBig, d.now)
	hop.Link.Apply(p.frame)
	return ICMPErrorToClient
}

// quotedTunnel returns the key in Table.Tunnels of the tunnel that a quoted packet
// took.
func quotedTunnel(outer *wire.Packet) Endpoint {
	key := Endpoint{Addr: outer.Dst, Proto: outer.Proto, Port: outer.DstPort}
	if outer.Proto == wire.ProtoIPv6 {
		key.Proto = wire.ProtoIPIP
	}
	return key
}

// unmatchedError handles an ICMP error about a flow without a conn. Under schedule_icmp
// an error about a service's reply is scheduled. An error about a packet to a server's
// port, which the guard hides from the host, is routed unchanged.
func (d *Director) unmatchedError(p *packet) Verdict {
	if d.table.Settings.ScheduleICMP && p.query.Dir == conntrack.DirIn && p.inner.HasPorts() {
		if v, ok := d.scheduleError(p); ok {
			return v
		}
	}
	if d.table.hidesFromHost(p.inner.Dst, p.inner.DstPort, p.inner.Proto) && !d.table.FIB.IsLocal(p.Dst) {
		if !d.table.FIB.isBehind(p.Src, p.frame.In, d.table.Settings.ReversePath) {
			return DroppedReversePath
		}
		return d.routeUnchanged(p)
	}
	return d.untracked(p)
}

// scheduleError sends an ICMP error about a service's reply to the server that the
// client's next packet would go to (schedule_icmp). Where several directors share a VIP
// and schedule alike, that server sent the reply. Unless the client sends, the conn ends
// after three seconds; a UDP conn ends at once. ok is false if the quoted packet is of
// no service.
func (d *Director) scheduleError(p *packet) (v Verdict, ok bool) {
	request := &d.request
	*request = packet{Packet: *p.inner, frame: p.frame, query: p.query}
	request.Src, request.SrcPort = p.inner.Dst, p.inner.DstPort
	request.Dst, request.DstPort = p.inner.Src, p.inner.SrcPort
	svc := d.table.service(request)
	switch {
	case svc == nil:
		return NoVerdict, false
	case !wire.VerifyChecksum(p.frame, &p.Packet):
		return DroppedBadICMPChecksum, true
	}
	if v := d.table.martian(request); v != NoVerdict {
		return v, true
	}
	if d.conns.DropPacket() {
		return DroppedDefence, true
	}
	server, verdict := d.admit(svc, request, request.Proto == wire.ProtoUDP)
	switch {
	case verdict == RefusedNoServer, verdict == RefusedClash:
		return DroppedUnanswered, true // errors are never answered with errors
	case server == nil:
		return verdict, true
	}
	return d.errorToServer(p, d.conns.Conn(p.query.Ref), server), true
}
