package conntrack

import "sync/atomic"

// Session is the number of a record about a conn that its user keeps elsewhere, in
// memory of his own. A conn gets one when it first asks for one, and has it until
// it ends. Zero is none.
type Session uint16

const (
	// MaxSessions is the largest Config.Sessions, the highest number there is.
	MaxSessions = sessionMask

	sessionBits = 16 // in Conn.serverSession, the server's ID in as many below it
	sessionMask = 1<<sessionBits - 1
)

func (c *Conn) session() Session { return Session(c.serverSession.Load() >> sessionBits) }

// sessions hands out sessions and sees to it that one worker at a time uses one. The
// word of each session says whose it is:
//
//	bit 63                32 31               2   1       0
//	+-----------------------+-----------------+-------+------+
//	| 0                     | ref, 0: nobody's | ended | busy |
//	+-----------------------+-----------------+-------+------+
//
// A ref is not that of another conn before every turn that knew this one is over,
// so a compare-and-swap on the word means this conn and no later one: it needs no
// grace period of its own. Who ends a conn whose session is busy leaves it to the
// worker that uses it.
type sessions struct {
	words    []atomic.Uint64
	nextFree []atomic.Uint32 // of a free session: the next on the stack
	// free is the stack of sessions that were used before: top in its lower half and,
	// so that a top that went and came back is not taken for the same, a count in
	// its upper. So no more memory is touched than was ever needed at once.
	free      atomic.Uint64
	highest   atomic.Uint32 // the highest session ever used
	inUse     atomic.Int64
	exhausted atomic.Uint64 // times that all were in use
}

const (
	sessionBusy  = 1 << 0
	sessionEnded = 1 << 1
	sessionShift = 2
)

func newSessions(n int) sessions {
	return sessions{words: make([]atomic.Uint64, n+1), nextFree: make([]atomic.Uint32, n+1)}
}

// allocate is a session that is nobody's; 0: all are in use.
func (s *sessions) allocate() Session {
	for {
		top := s.free.Load()
		n := uint32(top)
		if n == 0 {
			break
		}
		if s.free.CompareAndSwap(top, (top>>32+1)<<32|uint64(s.nextFree[n].Load())) {
			s.inUse.Add(1)
			return Session(n)
		}
	}
	for {
		n := s.highest.Load() + 1
		if int(n) >= len(s.words) {
			s.exhausted.Add(1)
			return 0
		}
		if s.highest.CompareAndSwap(n-1, n) {
			s.inUse.Add(1)
			return Session(n)
		}
	}
}

// release takes a session back from its last user.
func (s *sessions) release(n Session) {
	s.words[n].Store(0)
	s.inUse.Add(-1)
	for {
		top := s.free.Load()
		s.nextFree[n].Store(uint32(top))
		if s.free.CompareAndSwap(top, (top>>32+1)<<32|uint64(n)) {
			return
		}
	}
}

// end takes the session of a conn that ended back, now or when it is let go of.
func (s *sessions) end(n Session, ref Ref) {
	idle := uint64(ref) << sessionShift
	for {
		switch word := s.words[n].Load(); word {
		case idle:
			if s.words[n].CompareAndSwap(idle, idle|sessionBusy) {
				s.release(n)
				return
			}
		case idle | sessionBusy:
			if s.words[n].CompareAndSwap(word, word|sessionEnded) {
				return
			}
		default:
			return // seen to already
		}
	}
}

// sessionTries is how often Claim looks again at a session another worker uses: some
// 100 ns, about as long as a short segment takes.
const sessionTries = 32

// LockSession gets the conn's session for this worker alone, until Release. 0: it has none
// yet, or another worker uses it and did not let go for a while (busy).
func (w *Worker) LockSession(ref Ref) (n Session, busy bool) {
	if n = w.t.conns[ref].session(); n == 0 {
		return 0, false
	}
	idle := uint64(ref) << sessionShift
	for range sessionTries {
		if w.t.sessions.words[n].CompareAndSwap(idle, idle|sessionBusy) {
			return n, false
		}
	}
	return 0, true
}

// LockNewSession gives a conn that has none a session, and claims it: what belongs to it
// is to be made anew. 0: there is none to be had, or (busy) another worker was
// first, or the conn has ended.
func (w *Worker) LockNewSession(ref Ref) (n Session, busy bool) {
	s, c := &w.t.sessions, &w.t.conns[ref]
	if n = s.allocate(); n == 0 {
		return 0, false
	}
	s.words[n].Store(uint64(ref)<<sessionShift | sessionBusy)
	if id := c.serverSession.Load(); id>>sessionBits != 0 || !c.serverSession.CompareAndSwap(id, id|uint32(n)<<sessionBits) {
		s.release(n)
		return 0, true
	}
	// Either who ended the conn meanwhile saw the session, or we see the end.
	if !c.Live() {
		s.end(n, ref)
		w.UnlockSession(ref, n)
		return 0, true
	}
	return n, false
}

// SessionsMostlyFree says whether more than half of the sessions are free.
func (w *Worker) SessionsMostlyFree() bool {
	return w.t.sessions.inUse.Load() < int64(len(w.t.sessions.words)/2)
}

// UnlockSession lets go of a session.
func (w *Worker) UnlockSession(ref Ref, n Session) {
	idle := uint64(ref) << sessionShift
	if s := &w.t.sessions; !s.words[n].CompareAndSwap(idle|sessionBusy, idle) {
		s.release(n) // the conn ended meanwhile
	}
}
