// Package answer makes packets of our own, nearly all of them out of the frame that
// they answer, which goes back to where it came from:
//
//	icmp.go       ICMP errors and echo replies
//	relay.go      ICMP errors about tunnel packets, passed on to the client
//	tcp.go        TCP resets, acknowledgements in place of a receiver, and keep-alives
//	sctp.go       SCTP aborts
//	arp.go        ARP replies
//	neighbour.go  neighbour advertisements
//
// It follows the rules of package fwd. When and how often to answer is the
// director's decision.
package answer

import (
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// ownTTL is the TTL and hop limit of what we originate (IANA's default).
const ownTTL = 64

// leaveBy makes a packet of our own leave with the link header. What the link said
// about the frame that it was made from no longer holds.
func leaveBy(h *fwd.LinkHeader, f *wire.Frame) {
	f.Offload, f.MTU, f.TunnelLen = wire.Offload{}, 0, 0
	h.Apply(f)
}

// leaveBack makes the frame leave to the machine and port it came from.
func leaveBack(f *wire.Frame) {
	e := wire.Ethernet(f.Bytes())
	leaveBy(&fwd.LinkHeader{Port: f.In, Dst: e.Src(), Src: e.Dst()}, f)
}

// answerable reports whether one host sent the packet to one host, so that it may
// be answered: RFC 1812 section 4.3.2.7, RFC 1122 section 3.2.2, RFC 4443 section
// 2.4 (e). A directed broadcast shows in its MAC address.
func answerable(f *wire.Frame, p *wire.Packet) bool {
	e := wire.Ethernet(f.Bytes())
	return p.Kind == wire.KindIP && !e.Dst().IsGroup() && !e.Src().IsGroup() &&
		isHost(p.Src) && fwd.ScopeOf(p.Src) != fwd.ScopeLoopback && isHost(p.Dst)
}

// isHost reports whether one host can have the address.
func isHost(a wire.Addr) bool { return fwd.ScopeOf(a) <= fwd.ScopeLoopback }
