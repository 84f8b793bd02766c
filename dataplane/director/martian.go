package director

import (
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// This file names what is odd about frames that are sound. docs/packets.md has
// the rules.

// martian says why no client can have sent this frame to a VIP; NotOurs: one can.
func (t *Table) martian(p *packet) Verdict {
	if _, vip := t.VIPs[p.Src]; vip {
		return DroppedSourceVIP
	}
	if v := sourceVerdicts[fwd.ScopeOf(p.Src)]; v != NotOurs {
		return v
	}
	return t.martianMAC(p)
}

var sourceVerdicts = [fwd.NumScope]Verdict{
	fwd.ScopeLink:        DroppedSourceLinkLocal,
	fwd.ScopeLoopback:    DroppedSourceLoopback,
	fwd.ScopeUnspecified: DroppedSourceUnspecified,
	fwd.ScopeGroup:       DroppedSourceGroup,
	fwd.ScopeReserved:    DroppedSourceReserved,
}

// martianMAC says why nothing may be sent back to where the frame came from: a group
// of machines, which cannot send, or ourselves. NotOurs: it may.
func (t *Table) martianMAC(p *packet) Verdict {
	src := wire.Ethernet(p.frame.Bytes()).Src()
	switch {
	case src.IsGroup():
		return DroppedSourceMACGroup
	case int(p.frame.In) < len(t.FIB.Ports) && src == t.FIB.Ports[p.frame.In].MAC:
		return DroppedSourceMACOwn
	}
	return NotOurs
}

// notToUs treats an IP packet that is not to our hardware address alone.
func (t *Table) notToUs(p *packet) Verdict {
	switch {
	case t.martianMAC(p) == DroppedSourceMACOwn:
		return DroppedSourceMACOwn
	case wire.Ethernet(p.frame.Bytes()).Dst().IsGroup():
		return NotOursLinkGroup
	}
	return NotOursOtherHost
}
