package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd/reply"
)

// refuse answers a frame with an ICMP error from self, if one may be sent.
func (d *Director) refuse(p *packet, what reply.ErrorKind, self wire.Addr, mtu uint32, v Verdict) Verdict {
	p.frame.MTU = 0
	switch {
	case p.Fragment == wire.FragmentLater:
		return DroppedUnanswered
	case d.answerLimit.empty():
		return DroppedAnswerLimit
	case self.IsZero() || !reply.ICMPError(p.frame, &p.Packet, what, self, mtu, d.table.FIB.onLink(p.frame.In, !p.IPv6).MTU):
		return DroppedUnanswered
	}
	d.answerLimit.spend()
	return v
}

// reset answers a TCP segment with RST; other protocols get silence.
func (d *Director) reset(p *packet, v Verdict) Verdict {
	switch {
	case p.Proto != wire.ProtoTCP:
		return DroppedUnanswered
	case d.answerLimit.empty():
		return DroppedAnswerLimit
	case !reply.Reset(p.frame, &p.Packet):
		return DroppedUnanswered
	}
	d.answerLimit.spend()
	return v
}

// resetTimedOut answers a segment of a forgotten connection, from whichever end.
func (d *Director) resetTimedOut(p *packet) Verdict {
	return d.reset(p, RefusedForgotten)
}

// limiter is a token bucket for what the director originates: 1000 a second
// with bursts of 100 for each worker, the order of the kernel's
// icmp_msgs_per_sec (1000 until 6.x) and icmp_msgs_burst (50).
type limiter struct {
	tokens int64
	last   conntrack.Tick
}

const (
	limitPerMS = 1
	limitBurst = 100
)

func (l *limiter) refill(now conntrack.Tick) {
	if d := int64(now - l.last); d > 0 {
		l.tokens = min(l.tokens+d*limitPerMS, limitBurst)
		l.last = now
	}
}

// empty says that nothing may be sent now.
func (l *limiter) empty() bool { return l.tokens <= 0 }

// spend pays for what is sent.
func (l *limiter) spend() { l.tokens-- }
