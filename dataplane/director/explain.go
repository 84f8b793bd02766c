package director

import "uvs/dataplane/wire"

// ServiceOf is the service that a client's frame belongs to; nil: none.
func (t *Table) ServiceOf(f *wire.Frame) *Service {
	p := packet{frame: f}
	if wire.Parse(f, &p.Packet); p.Kind != wire.KindIP {
		return nil
	}
	return t.service(&p)
}
