package compile

import (
	"bytes"
	"maps"
	"slices"

	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// compileTunnel returns the tunnel from src to a server. A server of any method has one,
// because conns keep the method they began with.
//
// Remote checksum offload (tunnel.RemCsum) becomes a full checksum. IPVS adds the option
// only to packets with a partial checksum, and those leave here with both checksums filled in.
func compileTunnel(t config.Tunnel, src, server wire.Addr) tunnel.Tunnel {
	return tunnel.Tunnel{
		Src: src, Dst: server,
		Type: t.Type, Port: t.Port, Checksum: t.Checksum != tunnel.NoCsum,
	}
}

// tunnelKey is the key in Table.Tunnels of the tunnel to a server.
func (v *RunningServer) tunnelKey() director.Endpoint {
	t := compileTunnel(v.Config.Tunnel, wire.Addr{}, wire.AddrFrom(v.Config.Addr))
	return director.TunnelKey(&t)
}

// dummyAddr is the source of packets of a node without an IPv4 address (RFC 7600 section
// 4.8). Nothing can reply to it, but receivers accept packets from it.
var dummyAddr = wire.Addr{10: 0xff, 11: 0xff, 12: 192, 15: 8}

// tunnelSource returns the address at which the tunnel to a server starts: the source
// address of the route or, as in the kernel, any address of the host. It must not be a VIP:
// the server has that address itself, and its kernel drops packets from its own addresses.
func tunnelSource(hop director.NextHop, server wire.Addr, t *director.Table) wire.Addr {
	fits := func(a wire.Addr) bool {
		return !t.VIPs.Has(a) && !a.IsZero() && a.Is4() == server.Is4()
	}
	if fits(hop.Source) {
		return hop.Source
	}
	byAddr := func(a, b wire.Addr) int { return bytes.Compare(a[:], b[:]) }
	for _, a := range slices.SortedFunc(maps.Keys(t.FIB.HostAddrs), byAddr) {
		if fits(a) && a.Netip().IsGlobalUnicast() {
			return a
		}
	}
	if server.Is4() {
		return dummyAddr
	}
	return hop.Source
}
