package director

import (
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// This file names what is odd about frames that are sound. docs/packets.md has
// the rules.

// badSource says why no client can have sent this frame to a VIP; NotOurs: one can.
func (t *Table) badSource(f *wire.Frame, p *wire.Packet) Verdict {
	if _, vip := t.VIPs[p.Src]; vip {
		return DroppedSourceVIP
	}
	if v := sourceVerdict[fwd.ScopeOf(p.Src)]; v != NotOurs {
		return v
	}
	return t.badMAC(f)
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
func (t *Table) badMAC(f *wire.Frame) Verdict {
	src := wire.Ethernet(f.Bytes()).Src()
	switch {
	case src.IsGroup():
		return DroppedSourceMACGroup
	case int(f.In) < len(t.FIB.Ports) && src == t.FIB.Ports[f.In].MAC:
		return DroppedSourceMACOwn
	}
	return NotOurs
}

// elsewhere treats an IP packet that is not to our hardware address alone.
func (t *Table) elsewhere(f *wire.Frame) Verdict {
	switch {
	case t.badMAC(f) == DroppedSourceMACOwn:
		return DroppedSourceMACOwn
	case wire.Ethernet(f.Bytes()).Dst().IsGroup():
		return NotOursLinkGroup
	}
	return NotOursOtherHost
}
