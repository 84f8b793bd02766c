package ctl

import (
	"time"

	"github.com/rs/zerolog"

	"uvs/conntrack"
)

// fullTablePeriod is the least time between two messages about a full connection table.
const fullTablePeriod = 10 * time.Second

// fullTableLog logs when the connection table is so full that conns are evicted or refused.
type fullTableLog struct {
	logged        time.Time
	evicted, full uint64
}

// report returns the number of conns that it logged.
func (p *fullTableLog) report(s conntrack.Stats, now time.Time, log zerolog.Logger) uint64 {
	evicted := s.Ended[conntrack.EvictedHalfOpen] + s.Ended[conntrack.EvictedClosing] +
		s.Ended[conntrack.EvictedIdle]
	if evicted == p.evicted && s.Full == p.full || now.Sub(p.logged) < fullTablePeriod {
		return 0
	}
	n := evicted - p.evicted + s.Full - p.full
	log.Warn().Uint64("evicted", evicted-p.evicted).Uint64("refused", s.Full-p.full).
		Int64("in_use", s.InUse).Int("capacity", s.Capacity).
		Msg("the connection table is full; raise --conn-max or --memory, or shorten timeouts (uvs get)")
	*p = fullTableLog{logged: now, evicted: evicted, full: s.Full}
	return n
}
