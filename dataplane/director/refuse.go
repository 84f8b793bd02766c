package director

import (
	"uvs/conntrack"
	"uvs/dataplane/keyhash"
	"uvs/dataplane/wire"
	"uvs/fwd/answer"
)

// answerError answers a packet with an ICMP error of a kind from the address self. It
// returns v if it answered, else why not. mtu is what a too-big error reports.
func (d *Director) answerError(p *packet, kind answer.ErrorKind, self wire.Addr, mtu uint32, v Verdict) Verdict {
	p.frame.MTU = 0
	in := d.table.FIB.onLink(p.frame.In, !p.IPv6)
	to, tooBig := p.Src, kind == answer.TooBig
	limit := d.answerLimits.check(&to, tooBig, d.now)
	switch {
	case p.Fragment == wire.FragmentLater:
		return DroppedUnanswered
	case limit != NoVerdict:
		return limit
	case self.IsZero() || !answer.ICMPError(p.frame, &p.Packet, kind, self, mtu, in.MTU):
		return DroppedUnanswered
	}
	d.answerLimits.spend(&to, tooBig, d.now)
	return v
}

// reset answers a TCP segment with an RST, and an SCTP packet with an ABORT. It returns v
// if it answered, else why not.
func (d *Director) reset(p *packet, v Verdict) Verdict {
	to := p.Src
	limit := d.answerLimits.check(&to, false, d.now)
	switch {
	case limit != NoVerdict:
		return limit
	case !answer.Reset(p.frame, &p.Packet) && !answer.Abort(p.frame, &p.Packet):
		return DroppedUnanswered
	}
	d.answerLimits.spend(&to, false, d.now)
	return v
}

// refuseConn refuses a packet as a host does that has no socket for it.
func (d *Director) refuseConn(p *packet, v Verdict) Verdict {
	if p.Proto == wire.ProtoUDP {
		return d.answerError(p, answer.PortUnreachable, p.Dst, 0, v)
	}
	return d.reset(p, v)
}

// answerLimits bound what a worker's director answers. Answers that a packet is too big
// have buckets of their destinations only, as the kernel bounds no others of the kind
// (net/ipv4/icmp.c, icmpv4_mask_allow): no flood of other packets ends path MTU discovery.
// All others have a bucket together too.
//
// Those of destinations count for the others once half of what all share is gone, so that
// one host's flood leaves the rest to others, and a quiet director answers a burst.
//
// A bucket of destinations is the theoretical arrival time of GCRA (ITU-T I.371), in
// milliseconds. Addresses may share one. The hash is keyed, so clients cannot choose whom
// to share it with.
type answerLimits struct {
	all     limiter
	key     keyhash.Key
	other   [limitBuckets]conntrack.Tick
	tooBigs [limitBuckets]conntrack.Tick
}

const (
	limitBuckets     = 1024                  // a power of two: 16 KiB a worker
	limitDestination = 10                    // ms between the answers to a destination
	limitAhead       = 20 * limitDestination // a burst of 20
)

// bucket returns the bucket of a destination.
func (l *answerLimits) bucket(to *wire.Addr, tooBig bool) *conntrack.Tick {
	i := l.key.Hash(to, 0) % limitBuckets
	if tooBig {
		return &l.tooBigs[i]
	}
	return &l.other[i]
}

// check returns why no answer may be sent to a destination now; NoVerdict: it may.
func (l *answerLimits) check(to *wire.Addr, tooBig bool, now conntrack.Tick) Verdict {
	switch {
	case !tooBig && l.all.empty():
		return DroppedAnswerLimit
	case (tooBig || l.short()) && *l.bucket(to, tooBig) > now+limitAhead-limitDestination:
		return DroppedAnswerLimitClient
	}
	return NoVerdict
}

// short reports whether half of what all destinations share is gone.
func (l *answerLimits) short() bool { return l.all.tokens <= limitBurst/2 }

// spend counts an answer.
func (l *answerLimits) spend(to *wire.Addr, tooBig bool, now conntrack.Tick) {
	bucket := l.bucket(to, tooBig)
	*bucket = min(max(*bucket, now), now+limitAhead-limitDestination) + limitDestination
	if !tooBig {
		l.all.spend()
	}
}

// limiter is a token bucket for what a worker's director answers to all: 1000 a second, in
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
