package director

import (
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// This file names what is odd about frames that are sound. docs/packets.md has
// the rules.

// badSource says why no client can have sent this frame to a VIP; NotOurs: one can.
func (t *Table) badSource(p *packet) Verdict {
	if _, vip := t.VIPs[p.Src]; vip {
		return DroppedSourceVIP
	}
	if v := sourceVerdict[fwd.ScopeOf(p.Src)]; v != NotOurs {
		return v
	}
	return t.badMAC(p)
}

var sourceVerdict = [fwd.NumScope]Verdict{
	fwd.ScopeLink:        DroppedSourceLinkLocal,
	fwd.ScopeLoopback:    DroppedSourceLoopback,
	fwd.ScopeUnspecified: DroppedSourceUnspecified,
	fwd.ScopeGroup:       DroppedSourceGroup,
	fwd.ScopeReserved:    DroppedSourceReserved,
}

// badMAC says why nothing may be sent back to where the frame came from: a group
// of machines, which cannot send, or ourselves. NotOurs: it may.
func (t *Table) badMAC(p *packet) Verdict {
	src := wire.Ethernet(p.frame.Bytes()).Src()
	switch {
	case src.IsGroup():
		return DroppedSourceMACGroup
	case int(p.frame.In) < len(t.FIB.Ports) && src == t.FIB.Ports[p.frame.In].MAC:
		return DroppedSourceMACOwn
	}
	return NotOurs
}

// elsewhere treats an IP packet that is not to our hardware address alone.
func (t *Table) elsewhere(p *packet) Verdict {
	switch {
	case t.badMAC(p) == DroppedSourceMACOwn:
		return DroppedSourceMACOwn
	case wire.Ethernet(p.frame.Bytes()).Dst().IsGroup():
		return NotOursLinkGroup
	}
	return NotOursOtherHost
}
