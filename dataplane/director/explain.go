package director

import "uvs/dataplane/wire"

// ServiceOf is the service that a client's frame belongs to; nil: none.
func (t *Table) ServiceOf(f *wire.Frame) *Service {
	var p wire.Packet
	if wire.Parse(f, &p); p.Kind != wire.KindIP {
		return nil
	}
	return t.service(f, &p)
}
