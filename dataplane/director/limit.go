package director

import (
	"encoding/binary"

	"uvs/conntrack"
	"uvs/dataplane/wire"
)

// Limit bounds what a single client address may ask of a service. Zero bounds
// nothing.
type Limit struct {
	Rate     uint32 // new connections a second, as many at once; at most MaxRate
	Conns    uint32 // connections at a time, those that are closing included
	Policers *Policers
}

// counterProto marks the entries of the connection table that count a client's
// conns; it is reserved as an IP protocol (RFC 5237), so no packet asks for one.
const counterProto = 255

// counterTimeout is how long such an entry is kept without conns.
const counterTimeout = 10 * conntrack.Second

// admitClient is the entry that counts the conns of a client: its template if the
// service is persistent, else one made for this. ok is false if it has as many
// as it may. Two workers may each let the last one through, and conns that were
// there before the limit are not counted, so it errs towards letting through.
func (d *Director) admitClient(svc *Service, p *packet, template conntrack.Ref) (parent conntrack.Ref, ok bool) {
	if parent = template; parent == 0 {
		parent = d.clientCounter(svc, p)
	}
	return parent, parent == 0 || d.conns.Conn(parent).Children() < int(svc.Limit.Conns)
}

// clientCounter finds or makes the entry of a client without a template: a conn of no
// server, named by the service's ID where others have the VIP. 0: the table is full.
func (d *Director) clientCounter(svc *Service, p *packet) conntrack.Ref {
	var name wire.Addr
	binary.BigEndian.PutUint32(name[12:], svc.ID)
	d.single[0] = conntrack.Query{Proto: counterProto, Dir: conntrack.DirIn, Template: true, Client: p.Src, Peer: name}
	d.conns.Lookup(d.single[:])
	if ref := d.single[0].Ref; ref != 0 {
		return ref
	}
	d.entry = conntrack.Entry{
		Proto: counterProto, Template: true, Timeout: counterTimeout,
		Client: p.Src, VIP: name, ServiceID: svc.ID,
	}
	ref, _ := d.conns.Insert(&d.entry)
	return ref
}
