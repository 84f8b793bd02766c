package director

import "uvs/dataplane/wire"

// Frames of a VLAN that is a port lose their tag when they come in and get one
// when they leave, so that all in between knows ports only. A tag of VLAN 0 has
// but a priority; its frame is the untagged network's. Of other VLANs nobody here
// knows the hosts and addresses: their frames are the host's, unless tags are to
// be kept. Then a frame stays in its VLAN, whatever port it leaves by.

// untag gives a tagged frame to the port that its VLAN is.
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

// tag puts the frames that leave by a VLAN on its trunk, with its tag.
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
