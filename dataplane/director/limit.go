package director

import (
	"encoding/binary"

	"uvs/conntrack"
	"uvs/dataplane/wire"
)

// Limit bounds what one client address may ask of a service. Zero bounds nothing.
type Limit struct {
	Rate     uint32 // new connections a second, as many at once; at most MaxRate
	Conns    uint32 // connections at a time, those that are closing included
	Policers *Policers
}

// counterProto marks the entries of the connection table that count a client's conns.
// As an IP protocol it is reserved (RFC 5237), so no packet's query has it.
const counterProto = 255

// counterTimeout is how long such an entry stays without conns.
const counterTimeout = 10 * conntrack.Second

// admitClient returns the entry that counts a client's conns and becomes the new conn's
// control: the client's template, else one made for this. ok is false if the client has
// as many conns as it may. The limit is not exact: two workers may each admit the last
// conn, and conns from before the limit do not count.
func (d *Director) admitClient(svc *Service, p *packet, template conntrack.Ref) (control conntrack.Ref, ok bool) {
	if control = template; control == 0 {
		control = d.clientCounter(svc, p)
	}
	return control, control == 0 || d.conns.Conn(control).Children() < int(svc.Limit.Conns)
}

// clientCounter finds or makes the counter of a client without a template; 0: the table
// is full. It is a template without a server, and with the service's ID in place of a
// VIP.
func (d *Director) clientCounter(svc *Service, p *packet) conntrack.Ref {
	var service wire.Addr
	binary.BigEndian.PutUint32(service[12:], svc.ID)
	q := conntrack.Query{Proto: counterProto, Dir: conntrack.DirIn, Template: true, Client: p.Src, Peer: service}
	if ref := d.find(q); ref != 0 {
		return ref
	}
	d.entry = conntrack.Entry{
		Proto: counterProto, Template: true, Timeout: counterTimeout,
		Client: p.Src, VIP: service,
	}
	ref, _ := d.conns.Insert(&d.entry)
	return ref
}
