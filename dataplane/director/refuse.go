package director

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd/answer"
)

// answerError answers a packet with an ICMP error of a kind from the address self. It
// returns v if it answered, else why not. mtu is what a too-big error reports.
func (d *Director) answerError(p *packet, kind answer.ErrorKind, self wire.Addr, mtu uint32, v Verdict) Verdict {
	p.frame.MTU = 0
	in := d.table.FIB.onLink(p.frame.In, !p.IPv6)
	switch {
	case p.Fragment == wire.FragmentLater:
		return DroppedUnanswered
	case d.answerLimit.empty():
		return DroppedAnswerLimit
	case self.IsZero() || !answer.ICMPError(p.frame, &p.Packet, kind, self, mtu, in.MTU):
		return DroppedUnanswered
	}
	d.answerLimit.spend()
	return v
}

// reset answers a TCP segment with an RST, and an SCTP packet with an ABORT. It returns v
// if it answered, else why not.
func (d *Director) reset(p *packet, v Verdict) Verdict {
	switch {
	case d.answerLimit.empty():
		return DroppedAnswerLimit
	case !answer.Reset(p.frame, &p.Packet) && !answer.Abort(p.frame, &p.Packet):
		return DroppedUnanswered
	}
	d.answerLimit.spend()
	return v
}

// refuseConn refuses a packet as a host does that has no socket for it.
func (d *Director) refuseConn(p *packet, v Verdict) Verdict {
	if p.Proto == wire.ProtoUDP {
		return d.answerError(p, answer.PortUnreachable, p.Dst, 0, v)
	}
	return d.reset(p, v)
}

// limiter is a token bucket for what a worker's director answers: 1000 a second, in
// bursts of 100. The kernel's icmp_msgs_per_sec (1000 until 6.x) and icmp_msgs_burst
// (50) are of this order.
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

// empty reports whether nothing may be sent now.
func (l *limiter) empty() bool { return l.tokens <= 0 }

// spend takes a token for what is sent.
func (l *limiter) spend() { l.tokens-- }
