package director

import "uvs/dataplane/wire"

// ESP and AH have no ports and are never scheduled. They follow the conn of the IKE
// flow between the same two hosts, UDP from port 500 to port 500 (RFC 7296 section 2),
// and keep it alive (net/netfilter/ipvs/ip_vs_proto_ah_esp.c). NAT changes only their
// addresses, which breaks AH's integrity check. IPsec in UDP (port 4500, RFC 3948) is a
// service like any other.

func isIPsec(proto uint8) bool { return proto == wire.ProtoESP || proto == wire.ProtoAH }

// hasConnKey reports whether p has the key of a conn: its ports, or as IPsec those of IKE.
func hasConnKey(p *wire.Packet) bool { return p.HasPorts() || isIPsec(p.Proto) }

// noIKE handles ESP or AH to a VIP without a conn of IKE. The host does not get it
// where IKE is a service, or if the VIP is ours.
func (t *Table) noIKE(p *packet) Verdict {
	key := Endpoint{Addr: p.Dst, Port: wire.PortIKE, Proto: wire.ProtoUDP}
	every := Endpoint{Addr: p.Dst, Proto: wire.ProtoUDP}
	if t.serviceAt(key) != nil || t.serviceAt(every) != nil || t.ours(p.Dst) {
		return DroppedIPsecNoConn
	}
	return NotOurs
}
