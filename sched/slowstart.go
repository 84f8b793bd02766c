package sched

// fullShare is the share of a server that is not in slow start, in units of 1/1024.
const fullShare = 1 << 10

// slowStarts are the slow starts of a server list.
type slowStarts struct {
	byIndex []slowStart // by list index
	lastEnd int64       // ms: when the last slow start ends
}

// slowStart is the slow start of one server. Both times are in ms.
type slowStart struct{ start, end int64 }

func newSlowStarts(servers []Server) slowStarts {
	r := slowStarts{byIndex: make([]slowStart, len(servers))}
	for i := range servers {
		s := &servers[i]
		r.byIndex[i] = slowStart{s.SlowStartBegin, s.SlowStartEnd}
		if s.SlowStartEnd > s.SlowStartBegin {
			r.lastEnd = max(r.lastEnd, s.SlowStartEnd)
		}
	}
	return r
}

// share returns the part of its weight that server i has at time now: from 1 at the
// start of its slow start to fullShare at the end.
func (r *slowStarts) share(i int, now int64) int64 {
	p := r.byIndex[i]
	if now >= p.end || p.end <= p.start {
		return fullShare
	}
	return max((now-p.start)*fullShare/(p.end-p.start), 1)
}

// chance returns true with a probability of share/fullShare.
func (c *Cursor) chance(share int64) bool {
	return share >= fullShare || int64(c.draw()%fullShare) < share
}
