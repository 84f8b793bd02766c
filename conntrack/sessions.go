package conntrack

import "sync/atomic"

// Session is an index into per-connection state that the caller keeps elsewhere. A conn
// gets one from LockNewSession and keeps it until it ends. Zero is none.
type Session uint16

const (
	// MaxSessions is the largest Config.Sessions.
	MaxSessions = sessionMask

	sessionBits = 16 // in Conn.serverSession, above as many bits of the server's ID
	sessionMask = 1<<sessionBits - 1
)

func (c *Conn) session() Session { return Session(c.serverSession.Load() >> sessionBits) }

// sessions allocates sessions and locks them, so that one worker at a time uses each.
// The word of a session has the conn that owns it:
//
//	bit 63                32 31               2   1       0
//	+-----------------------+-----------------+-------+------+
//	| 0                     | ref, 0: free    | ended | busy |
//	+-----------------------+-----------------+-------+------+
//
// A ref names no other conn before every batch that knew this one is over. So a
// compare-and-swap on the word concerns this conn and no later one, and a session
// needs no grace period. If a conn ends while its session is busy, the worker that uses
// the session frees it.
type sessions struct {
	words    []atomic.Uint64
	nextFree []atomic.Uint32 // of a free session: the one below it on the stack
	// free is the stack of sessions that were used before, so that no more memory is
	// touched than was ever needed at once. Its lower half is the top. Its upper half
	// counts changes, so that a top that left and came back is noticed (ABA).
	free      atomic.Uint64
	highest   atomic.Uint32 // the highest session ever used
	inUse     atomic.Int64
	exhausted atomic.Uint64 // how often all were in use
}

const (
	sessionBusy  = 1 << 0
	sessionEnded = 1 << 1
	sessionShift = 2
)

func newSessions(n int) sessions {
	return sessions{words: make([]atomic.Uint64, n+1), nextFree: make([]atomic.Uint32, n+1)}
}

// allocate returns a free session; 0: all are in use.
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

// release frees a session.
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

// end frees the session of a conn that ended: now, or when it is unlocked.
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
			return // already ended
		}
	}
}

// sessionTries is how often LockSession tries again while another worker uses the
// session: some 100 ns, about as long as a short segment takes.
const sessionTries = 32

// LockSession returns the conn's session for this worker alone, until UnlockSession.
// 0: the conn has none yet, or (busy) another worker did not unlock it for a while.
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

// LockNewSession gives a session to a conn that has none, and locks it. The caller must
// set up its state. 0: all are in use, or (busy) another worker was first, or the conn
// has ended.
func (w *Worker) LockNewSession(ref Ref) (n Session, busy bool) {
	s, c := &w.t.sessions, &w.t.conns[ref]
	if n = s.allocate(); n == 0 {
		return 0, false
	}
	s.words[n].Store(uint64(ref)<<sessionShift | sessionBusy)
	id := c.serverSession.Load()
	if id>>sessionBits != 0 || !c.serverSession.CompareAndSwap(id, id|uint32(n)<<sessionBits) {
		s.release(n)
		return 0, true
	}
	// If the conn ended meanwhile, either the worker that ended it saw the session,
	// or we see that it ended.
	if !c.Live() {
		s.end(n, ref)
		w.UnlockSession(ref, n)
		return 0, true
	}
	return n, false
}

// SessionsMostlyFree reports whether more than half of the sessions are free.
func (w *Worker) SessionsMostlyFree() bool {
	return w.t.sessions.inUse.Load() < int64(len(w.t.sessions.words)/2)
}

// UnlockSession unlocks a session, and frees it if the conn has ended meanwhile.
func (w *Worker) UnlockSession(ref Ref, n Session) {
	idle := uint64(ref) << sessionShift
	if s := &w.t.sessions; !s.words[n].CompareAndSwap(idle|sessionBusy, idle) {
		s.release(n) // the conn ended meanwhile
	}
}
