package ctl

import (
	"time"

	"github.com/rs/zerolog"

	"uvs/conntrack"
)

// pressurePeriod is how long the log keeps quiet after it told of a full
// connection table; the counters tell all the time.
const pressurePeriod = 10 * time.Second

// fullTableLog tells the log when the connection table is so full that conns are
// evicted or refused, with how many since it last did.
type fullTableLog struct {
	told          time.Time
	evicted, full uint64
}

// report returns how many conns that was, 0 if it said nothing.
func (p *fullTableLog) report(s conntrack.Stats, now time.Time, log zerolog.Logger) uint64 {
	evicted := s.Ended[conntrack.EndedForEmbryonic] + s.Ended[conntrack.EndedForClosing] + s.Ended[conntrack.EndedForIdle]
	if evicted == p.evicted && s.Full == p.full || now.Sub(p.told) < pressurePeriod {
		return 0
	}
	n := evicted - p.evicted + s.Full - p.full
	log.Warn().Uint64("evicted", evicted-p.evicted).Uint64("refused", s.Full-p.full).
		Int64("in_use", s.InUse).Int("capacity", s.Capacity).
		Msg("the connection table is full; raise --conn-max or --memory, or shorten timeouts (uvs get)")
	*p = fullTableLog{told: now, evicted: evicted, full: s.Full}
	return n
}
