package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd"
	"uvs/fwd/reply"
	"uvs/fwd/tunnel"
)

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

// leastMTU4 and leastMTU6 are the packets every link takes (RFC 791 section 3.2,
// RFC 8200 section 5), of IPv6 also one that is a tunnel: RFC 2473 section 7.1,
// RFC 4213 section 3.2.
const (
	leastMTU4 = 68
	leastMTU6 = 1280
)

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

// crcSpansFragments says whether a change of port would need SCTP's CRC made anew,
// which covers fragments that are not at hand.
func crcSpansFragments(p *packet, old, new uint16) bool {
	return p.Fragment == wire.FragmentFirst && p.Proto == wire.ProtoSCTP && old != new
}

// AutoMSS, as a Server's MSS, is what the ways take.
const AutoMSS = 1

// clampMSS lowers what a SYN, the client's or the server's, says its sender
// receives in a segment: MTU less the headers without options, RFC 6691.
func (d *Director) clampMSS(p *packet, client wire.Addr, c *conntrack.Conn, server *Server) {
	most := server.MSS
	if most == AutoMSS {
		mtu := wire.MaxIPLen
		if server.NextHop.State != NoRoute {
			mtu = server.Path.mtu(d.now, server.NextHop.MTU)
		}
		if c.Method() == conntrack.MethodTunnel {
			mtu -= server.Tunnel.Overhead()
		}
		if back := d.table.FIB.ReturnHop(client, c.ReturnHop()); back.State != NoRoute {
			mtu = min(mtu, back.MTU)
		}
		headers := wire.IPv4Len + wire.TCPLen
		if p.IPv6 {
			headers = wire.IPv6Len + wire.TCPLen
		}
		most = uint16(max(mtu-headers, wire.MinMSS))
	}
	fwd.ClampMSS(p.frame, &p.Packet, most)
}
