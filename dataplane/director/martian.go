package director

import (
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// NoVerdict is what a check returns that does not decide about the frame. It has the
// value of NotOurs, which no check returns.
const NoVerdict = NotOurs

// martian returns why no client can have sent this frame to a VIP; NoVerdict: one can.
func (t *Table) martian(p *packet) Verdict {
	if _, vip := t.vip(&p.Src); vip {
		return DroppedSourceVIP
	}
	if v := sourceVerdicts[fwd.ScopeOf(p.Src)]; v != NoVerdict {
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

// martianMAC returns why nothing may be sent to where the frame came from: that is a
// group, which cannot send, or the director's own address. NoVerdict: it may.
func (t *Table) martianMAC(p *packet) Verdict {
	src := wire.Ethernet(p.frame.Bytes()).Src()
	switch {
	case src.IsGroup():
		return DroppedSourceMACGroup
	case int(p.frame.In) < len(t.FIB.Ports) && src == t.FIB.Ports[p.frame.In].MAC:
		return DroppedSourceMACOwn
	}
	return NoVerdict
}

// notForDirector handles an IP packet in a frame to another hardware address than the
// port's.
func (t *Table) notForDirector(p *packet) Verdict {
	switch {
	case t.martianMAC(p) == DroppedSourceMACOwn:
		return DroppedSourceMACOwn
	case wire.Ethernet(p.frame.Bytes()).Dst().IsGroup():
		return NotOursLinkGroup
	}
	return NotOursOtherHost
}
