package director

import "uvs/dataplane/wire"

// Standby is which VIPs another director serves. This one has their services and conns,
// but sends nothing because of them.
type Standby uint8

const (
	StandbyNone Standby = iota
	StandbyVIPs         // those with VIP.Standby
	StandbyAll          // all, and the nets of mark rules
)

// onStandby reports whether another director serves an address that clients call.
func (t *Table) onStandby(vip wire.Addr) bool {
	v, _ := t.vip(&vip)
	return t.Standby == StandbyAll || v.Standby
}

// standby decides about an IP packet if some VIPs are on standby. ok is false for a
// packet that is decided about as usual. What would be forwarded or answered is dropped;
// the guard hides it from the host as if this director served it.
func (d *Director) standby(p *packet) (v Verdict, ok bool) {
	if !d.isForDirector(p) {
		return NoVerdict, false
	}
	t := d.table
	vip, _ := t.vip(&p.Dst)
	switch {
	case vip.DirectorOnly && vip.Standby:
		return DroppedStandby, true
	case t.Standby == StandbyAll && t.Settings.BackupOnly && t.FIB.IsLocal(p.Dst):
		return NotOurs, true
	}
	if p.query.Ref != 0 {
		if addr, _ := d.conns.Conn(p.query.Ref).VIP(); t.onStandby(addr) {
			return DroppedStandby, true
		}
	}
	switch {
	case t.Standby != StandbyAll:
		return NoVerdict, false
	case t.serves(p):
		return DroppedStandby, true
	case vip.DirectorOnly: // an address of the director itself, on a VLAN
		return NoVerdict, false
	}
	return NotOurs, true
}

// serves reports whether a packet without a conn belongs to a service, or comes from a
// server's endpoint.
func (t *Table) serves(p *packet) bool {
	switch {
	case p.Fragment == wire.FragmentLater:
		return t.fromServerAddr(p) && !t.FIB.IsLocal(p.Dst)
	case !p.HasPorts():
		return false
	case t.service(p) != nil, t.Removed != nil && t.Removed.service(p) != nil:
		return !t.Settings.BackupOnly
	}
	return t.hidesFromHost(p.Src, p.SrcPort, p.Proto) && !t.FIB.IsLocal(p.Dst)
}
