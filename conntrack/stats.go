package conntrack

// Stats are the table's own numbers.
type Stats struct {
	Inserted  uint64
	Full      uint64               // conns refused because none could be evicted
	Ended     [numEndReason]uint64 // by EndReason
	InUse     int64                // conns live now; templates included
	Sessions  int64                // conns that have a session now
	NoSession uint64               // how often a conn got none because all were in use
	Capacity  int
	Memory    int64 // bytes of the conns that were ever needed at once, and of the index
	Budget    int64 // bytes of all conns and the index
}

// Stats adds up what workers counted so far.
func (t *Table) Stats() (s Stats) {
	t.externalMu.Lock()
	defer t.externalMu.Unlock()
	s.add(&t.external)
	for i := range t.workers {
		s.add(&t.workers[i].reader)
	}
	s.InUse = int64(s.Inserted)
	for _, n := range s.Ended {
		s.InUse -= int64(n)
	}
	s.InUse = max(s.InUse, 0)
	s.Capacity = t.max
	s.Sessions, s.NoSession = t.sessions.inUse.Load(), t.sessions.exhausted.Load()
	s.Memory = int64(t.firstUnused.Load())*int64(connBytes) + int64(len(t.buckets))*int64(bucketBytes)
	s.Budget = int64(len(t.conns))*int64(connBytes) + int64(len(t.buckets))*int64(bucketBytes)
	return s
}

func (s *Stats) add(r *reader) {
	s.Inserted += r.inserted.Load()
	s.Full += r.full.Load()
	for i := range s.Ended {
		s.Ended[i] += r.ended[i].Load()
	}
}
