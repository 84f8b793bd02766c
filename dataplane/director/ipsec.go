package director

import "uvs/dataplane/wire"

// ESP and AH have no ports and are never scheduled. They follow the flow of IKE,
// UDP from port 500 to port 500 (RFC 7296 section 2), that their two ends
// negotiated over, to its server and by its method, and keep it alive (reference
// 3.3). NAT changes their addresses only, which AH's own check does not survive.
// IPsec in UDP (port 4500, RFC 3948) is a service like any other.

func isIPsec(proto uint8) bool { return proto == wire.ProtoESP || proto == wire.ProtoAH }

// ofConn reports whether p belongs to a conn, rather than being about one.
func ofConn(p *wire.Packet) bool { return p.HasPorts() || isIPsec(p.Proto) }

// noIKE treats ESP or AH to a VIP that follows no flow: it is kept from the host
// where IKE is a service, and the host's elsewhere, if the host holds the VIP.
func (t *Table) noIKE(p *packet) Verdict {
	key := Endpoint{Addr: p.Dst, Port: wire.PortIKE, Proto: wire.ProtoUDP}
	every := Endpoint{Addr: p.Dst, Proto: wire.ProtoUDP}
	if t.Services[key] != nil || t.Services[every] != nil || t.VIPs[p.Dst].Ours {
		return DroppedIPsecNoConn
	}
	return NotOurs
}
