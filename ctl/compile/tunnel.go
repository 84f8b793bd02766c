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

// compileTunnel is the tunnel from src to a server. A server of any method has
// one, for conns keep the method they began with.
//
// Remote checksum offload (tunnel.RemCsum) is a full checksum: IPVS adds the
// option for it only to packets of local senders whose checksum the hardware was
// to make, and those leave here with both checksums made.
func compileTunnel(t config.Tunnel, src, server wire.Addr) tunnel.Tunnel {
	return tunnel.Tunnel{
		Src: src, Dst: server,
		Type: t.Type, Port: t.Port, Checksum: t.Flags != tunnel.NoCsum,
	}
}

// noAddress is the source of packets of a node without an IPv4 address (the
// dummy address of RFC 7600 section 4.8). Nobody can answer it, but packets from
// it are taken.
var noAddress = wire.Addr{10: 0xff, 11: 0xff, 12: 192, 15: 8}

// tunnelSource is where the tunnel to a server starts: at the address that
// belongs to the way there or else, as in the kernel, at any the host has. It
// must be no VIP: the server holds that, and its kernel drops packets that come
// from an address of its own.
func tunnelSource(way director.NextHop, server wire.Addr, t *director.Table) wire.Addr {
	fits := func(a wire.Addr) bool {
		_, isVIP := t.VIPs[a]
		return !isVIP && !a.IsZero() && a.Is4() == server.Is4()
	}
	if fits(way.Source) {
		return way.Source
	}
	for _, a := range slices.SortedFunc(maps.Keys(t.FIB.HostAddrs), func(a, b wire.Addr) int { return bytes.Compare(a[:], b[:]) }) {
		if fits(a) && a.Netip().IsGlobalUnicast() {
			return a
		}
	}
	if server.Is4() {
		return noAddress
	}
	return way.Source
}
