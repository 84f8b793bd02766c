package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd"
	"uvs/fwd/answer"
	"uvs/fwd/tunnel"
)

// transmit rewrites a client's packet for the server, by the method that the conn began
// with, and gives it the server's next hop.
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
		return d.answerError(p, answer.TooBig, p.Dst, uint32(longestPacket(p.IPv6, mtu, tun)), AnsweredTooBig)
	case splitToMTU:
		server.Counters.shards[d.worker].split.Add(1)
	}
	switch c.Method() {
	case conntrack.MethodNAT:
		addr, port := c.Server()
		if v := dropForNAT(p, p.DstPort, port); v != NoVerdict {
			return v
		}
		fwd.ToServer(p.frame, &p.Packet, addr, port)
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

// route sends a packet on as a router does: TTL, next hop, MTU. If it cannot, the
// address self answers. ok reports whether the packet itself goes on, with verdict v.
func (d *Director) route(p *packet, hop *NextHop, self wire.Addr, verdict Verdict) (v Verdict, ok bool) {
	if fwd.TTLExpired(p.frame, &p.Packet) {
		return d.answerError(p, answer.TimeExceeded, self, 0, AnsweredTTLExceeded), false
	}
	switch hop.State {
	case NoRoute:
		return d.answerError(p, answer.HostUnreachable, self, 0, AnsweredNoRoute), false
	case Unresolved:
		return d.awaitNeighbour(p, p.Dst, self), false
	}
	fwd.DecTTL(p.frame, &p.Packet)
	if fitMTU(p, hop.MTU, nil) == exceedsMTU {
		return d.answerError(p, answer.TooBig, self, uint32(hop.MTU), AnsweredTooBig), false
	}
	hop.Link.Apply(p.frame)
	return verdict, true
}

// mtuFit is whether a packet fits an MTU.
type mtuFit uint8

const (
	fitsMTU    mtuFit = iota
	splitToMTU        // the link splits it
	exceedsMTU        // it must not be fragmented
)

// fitMTU compares a packet with the MTU of its next hop, and asks the link to split it
// if that is allowed. tun is the tunnel that it goes through; nil: none. In a tunnel
// even an IPv6 packet of up to leastMTU6 bytes may be split: the tunnel's packet is
// what is fragmented.
func fitMTU(p *packet, mtu int, tun *tunnel.Tunnel) mtuFit {
	outer, fit := 0, fitsMTU
	if tun != nil {
		outer = tun.Overhead()
	}
	if fwd.TooLong(p.frame, &p.Packet, mtu, outer) {
		switch {
		case p.IPv6 && (tun == nil || fwd.TooLong(p.frame, &p.Packet, leastMTU6, 0)),
			!p.IPv6 && (tun == nil || !tun.IgnoreDF) && fwd.DontFragment(p.frame, &p.Packet):
			return exceedsMTU
		}
		p.frame.MTU, fit = uint16(mtu), splitToMTU
	}
	if p.frame.IsGSO() && tun != nil {
		p.frame.MTU = uint16(mtu) // the link always splits a GSO frame in a tunnel
	}
	return fit
}

// leastMTU4 and leastMTU6 are the packet sizes that every link carries (RFC 791 section
// 3.2, RFC 8200 section 5). For IPv6 every tunnel does too (RFC 2473 section 7.1, RFC
// 4213 section 3.2).
const (
	leastMTU4 = 68
	leastMTU6 = 1280
)

// longestPacket returns the size up to which fitMTU never returns exceedsMTU.
func longestPacket(ipv6 bool, mtu int, tun *tunnel.Tunnel) int {
	switch {
	case tun == nil:
		return mtu
	case ipv6:
		return max(mtu-tun.Overhead(), leastMTU6)
	}
	return max(mtu-tun.Overhead(), leastMTU4)
}

// dropForNAT returns why NAT must drop a packet rather than change its port; NoVerdict:
// it may change it.
func dropForNAT(p *packet, old, new uint16) Verdict {
	switch {
	case fwd.UDP6NoChecksum(p.frame, &p.Packet):
		return DroppedUDP6NoChecksum
	case p.Fragment == wire.FragmentFirst && p.Proto == wire.ProtoSCTP && old != new:
		return DroppedFragmentSCTP // the CRC covers the other fragments too
	}
	return NoVerdict
}

// AutoMSS as a Server's MSS is what the paths to the server and to the client take.
const AutoMSS = 1

// clampMSS lowers the MSS option of a SYN, the client's or the server's, to the
// server's MSS. AutoMSS is the smaller MTU less the headers without options (RFC 6691).
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
