package director

import (
	"uvs/conntrack"
)

// serverInitiated handles a datagram without a conn from a server of a SIP service
// (net/netfilter/ipvs/ip_vs_core.c, ip_vs_new_conn_out). It leaves as from the
// service. A new call belongs to this server from now on, and the client's replies find
// the server. A datagram without a Call-ID has no connection.
func (d *Director) serverInitiated(p *packet, o *ReplyService) Verdict {
	svc, server := o.Service, d.table.server(o.Server)
	call, ok := svc.SIPCalls.Record(p.frame, &p.Packet, p.Dst)
	if !ok || !server.InService {
		return d.refuseOrRoute(p)
	}
	dst := Endpoint{Addr: o.VIP, Port: svc.Port, Proto: p.Proto}
	control := d.findTemplate(call, dst)
	if control != 0 {
		d.conns.Renew(control, 0)
	} else {
		control = d.makeTemplate(svc, server, call, dst)
	}
	if svc.OnePacket {
		d.onePacketServer = server.ID
		return d.onePacketReply(p, o)
	}
	d.entry = conntrack.Entry{
		Proto:  p.Proto,
		Client: p.Dst, ClientPort: p.DstPort,
		VIP: o.VIP, VPort: o.vport(p),
		Server: p.Src, SPort: p.SrcPort,
		Method: conntrack.MethodNAT, ServerID: server.ID,
		Control: control,
	}
	ref, created := d.conns.Insert(&d.entry)
	if ref == 0 {
		return DroppedTableFull
	}
	p.query.Ref = ref
	if created {
		d.countConn(server)
	}
	return d.fromServer(p)
}
