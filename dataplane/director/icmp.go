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
	if !wire.VerifyChecksum(f, p) {
		return DroppedBadICMPChecksum
	}
	c := d.conns.Conn(q.Ref)
	if c.Expectation() {
		return d.unknownError(t, f, i)
	}
	if c.Helped() && !d.renumberQuote(t, f, i) {
		return DroppedHelperBusy
	}
	server := t.server(c.ServerID())
	if q.Dir == conntrack.DirIn {
		return d.errorToServer(f, p, in, c, server)
	}
	if server.Counters != nil {
		server.Counters.shards[d.worker].out(p.Len)
		if mtu, ok := fwd.ReportedMTU(f, p); ok && c.Method() != conntrack.MethodTunnel {
			server.Path.learn(d.now, mtu, server.NextHop.MTU, p.IPv6, p.Src)
		}
	}
	vip, vport := c.VIP()
	way := t.FIB.ReturnHop(p.Dst, c.ReturnHop())
	v, ok := d.route(f, p, &way, vip, ICMPErrorToClient)
	if ok && c.Method() == conntrack.MethodMasq {
		fwd.ErrorFromServer(f, p, in, vip, vport)
	}
	return v
}

// renumberQuote puts the sequence number of the segment that an error quotes back
// into its sender's numbering, if a helper has changed what went before: a host
// ignores errors about numbers it has not sent. False: the conn is in another
// worker's hands.
func (d *Director) renumberQuote(t *Table, f *wire.Frame, i int) bool {
	p, in, q := &d.packets[i], &d.quoted[i], &d.queries[i]
	seq, ok := fwd.QuotedSeq(f, in)
	if !ok || t.Sessions == nil {
		return true
	}
	number, busy := d.conns.LockSession(q.Ref)
	if number == 0 {
		return !busy
	}
	own := t.Sessions.slab.Items[number].ftp.Quoted(q.Dir.Opposite(), seq)
	d.conns.UnlockSession(q.Ref, number)
	if own != seq {
		fwd.SetQuotedSeq(f, p, in, own)
	}
	return true
}

// errorToServer sends a client-side error about a reply to the server, by the
// method its packets take.
func (d *Director) errorToServer(f *wire.Frame, p, in *wire.Packet, c *conntrack.Conn, server *Server) Verdict {
	switch {
	case !server.Available:
		return DroppedServerGone
	case server.NextHop.State != Resolved:
		return DroppedNoNeighbour
	case fwd.TTLExpired(f, p):
		return DroppedUnanswered
	}
	server.Counters.shards[d.worker].in(p.Len)
	fwd.DecTTL(f, p)
	mtu := server.NextHop.MTU
	var tunnel *fwd.Tunnel
	switch c.Method() {
	case conntrack.MethodMasq:
		addr, port := c.Server()
		fwd.ErrorToServer(f, p, in, addr, port)
	case conntrack.MethodTunnel:
		tunnel, mtu = &server.Tunnel, server.Path.mtu(d.now, mtu)
	}
	if fit(f, p, mtu, tunnel) == tooLong {
		return DroppedUnanswered // errors are never answered with errors
	}
	if tunnel != nil && !tunnel.Encap(f, p) {
		return DroppedNoRoom
	}
	server.NextHop.Link.Apply(f)
	return ICMPErrorToServer
}

// tunnelError treats an ICMP error about a packet of our own tunnels: one to the
// end that is ours, about what we sent to a server. Path MTUs are learned from it
// even if it quotes no more than RFC 792 demands, eight bytes behind the outer
// header, which do not say whose the packet inside was. ok is false, and nothing
// done, for any other error.
func (d *Director) tunnelError(t *Table, f *wire.Frame, p *wire.Packet) (v Verdict, ok bool) {
	outer := &d.outer
	if !d.forUs(t, f) || !wire.ParseQuoted(f, p, outer) || outer.Src != p.Dst {
		return NotOurs, false
	}
	server := t.server(t.Tunnels[quotedTunnel(outer)])
	if server.ID == 0 || server.Tunnel.Src != outer.Src {
		return NotOurs, false
	}
	if !wire.VerifyChecksum(f, p) {
		return DroppedBadICMPChecksum, true
	}
	reported, tooBig := fwd.ReportedMTU(f, p)
	if tooBig {
		server.Path.learn(d.now, reported, server.NextHop.MTU, p.IPv6, p.Src)
	}
	return d.tellClient(t, f, p, tooBig), true
}

// tellClient tells the client whose packet was in the tunnel packet that error p
// is about. Noted is what it need not know: what comes next will be fragmented,
// or nobody is known who sent it.
func (d *Director) tellClient(t *Table, f *wire.Frame, p *wire.Packet, tooBig bool) Verdict {
	in := &d.inner
	at, ok := fwd.QuotedInner(f, &d.outer)
	if !ok || wire.ParseIPAt(f, at, in, wire.Quoted) != wire.FlawNone || in.Fragment == wire.FragmentLater || !ofConn(in) {
		return ICMPErrorNoted
	}
	var q conntrack.Query
	if fill(&q, in, true); !d.found(&q) {
		return ICMPErrorNoted
	}
	c := d.conns.Conn(q.Ref)
	server := t.server(c.ServerID())
	if c.Method() != conntrack.MethodTunnel || server.Addr != d.outer.Dst {
		return ICMPErrorNoted
	}
	mtu := 0
	if tooBig {
		mtu = longest(in, server.Path.mtu(d.now, server.NextHop.MTU), &server.Tunnel)
		if fwd.StatedLen(f, in) <= mtu || !in.IPv6 && (server.Tunnel.IgnoreDF || !fwd.DontFragment(f, in)) {
			return ICMPErrorNoted
		}
	}
	way := t.FIB.ReturnHop(in.Src, c.ReturnHop())
	switch {
	case way.State != Resolved:
		return DroppedNoNeighbour
	case d.limit.spent():
		return DroppedAnswerLimit
	case !fwd.ErrorFromTunnel(f, p, in, in.Dst, uint32(mtu), way.MTU):
		return DroppedUnanswered
	}
	d.limit.take()
	way.Link.Apply(f)
	return ICMPErrorToClient
}

// quotedTunnel is the name of the tunnel that a quoted packet went by.
func quotedTunnel(outer *wire.Packet) Endpoint {
	key := Endpoint{Addr: outer.Dst, Proto: outer.Proto, Port: outer.DstPort}
	if outer.Proto == wire.ProtoIPv6 {
		key.Proto = wire.ProtoIPIP
	}
	return key
}

// unknownError treats an ICMP error about a flow we do not know. Under
// schedule_icmp one about a service's reply is scheduled. If it quotes a packet to
// an end the guard hides from the host, we route it on unchanged.
func (d *Director) unknownError(t *Table, f *wire.Frame, i int) Verdict {
	p, in := &d.packets[i], &d.quoted[i]
	if t.Settings.ScheduleICMP && d.queries[i].Dir == conntrack.DirIn && in.HasPorts() {
		if v, ok := d.scheduleError(t, f, p, in); ok {
			return v
		}
	}
	if t.hides(in.Dst, in.DstPort, in.Proto) && !t.FIB.IsLocal(p.Dst) {
		return d.pass(t, f, p)
	}
	return d.answer(t, f, p)
}

// scheduleError gives an ICMP error about a service's reply to the server that
// the client's next packet would go to: where several directors share a VIP and
// schedule alike, that is the server that sent it (schedule_icmp). The conn is
// forgotten after two seconds, that of a UDP flow at once, unless the client is
// heard of. ok is false if what is quoted is of no service.
func (d *Director) scheduleError(t *Table, f *wire.Frame, p, in *wire.Packet) (v Verdict, ok bool) {
	request := &d.inner
	*request = *in
	request.Src, request.Dst, request.SrcPort, request.DstPort = in.Dst, in.Src, in.DstPort, in.SrcPort
	svc := t.service(f, request)
	switch {
	case svc == nil:
		return NotOurs, false
	case !wire.VerifyChecksum(f, p):
		return DroppedBadICMPChecksum, true
	}
	if v := t.badSource(f, request); v != NotOurs {
		return v, true
	}
	if d.conns.DropPacket() {
		return DroppedDefence, true
	}
	ref, server, v := d.place(t, svc, f, request, request.Proto == wire.ProtoUDP)
	switch {
	case v == RefusedNoServer:
		return DroppedUnanswered, true // errors are never answered with errors
	case ref == 0:
		return v, true
	}
	return d.errorToServer(f, p, in, d.conns.Conn(ref), server), true
}
