package director

import "uvs/dataplane/wire"

// untag takes the tag off a frame whose VLAN is a port and gives the frame to that
// port.
func (t *Table) untag(p *packet) {
	for {
		vlan, customer, ok := wire.VLAN(p.frame)
		port, ours := p.frame.In, vlan == 0
		if customer && !ours && t.FIB.vlans != nil {
			port, ours = t.FIB.vlans[tagged{p.frame.In, vlan}]
		}
		switch {
		case !ok || !ours && t.Settings.KeepTags:
			wire.Parse(p.frame, &p.Packet)
			return
		case !ours:
			p.Packet = wire.Packet{Kind: wire.KindOtherVLAN}
			return
		}
		wire.PopVLAN(p.frame)
		p.frame.In = port
	}
}

// tag puts frames that leave by a VLAN on its trunk, with its tag. verdicts, unless
// nil, are those of the frames.
func (t *Table) tag(frames []wire.Frame, verdicts []Verdict) {
	for i := range frames {
		f := &frames[i]
		if int(f.Out) >= len(t.FIB.Ports) || t.FIB.Ports[f.Out].VLAN == 0 {
			continue
		}
		port := &t.FIB.Ports[f.Out]
		f.Out = port.Trunk
		if !wire.PushVLAN(f, wire.EtherTypeVLAN, port.VLAN) {
			f.Out = wire.NoPort
			if verdicts != nil {
				verdicts[i] = DroppedNoRoom
			}
		}
	}
}
