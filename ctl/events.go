package ctl

import (
	"context"
	"sync"
	"syscall"
	"time"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// keptEvents is how many events a watcher may lag behind, or begin before now: those of the
// largest request.
const keptEvents = api.MaxOps

// keptParts is how many servers, mark rules and admin states the events that are kept may have,
// some 20 MB: those of a few of the largest configurations.
const keptParts = 1 << 17

// events keeps the newest events for any number of watchers, which need no memory of their
// own. The zero value has none.
type events struct {
	mu    sync.Mutex
	ring  [keptEvents]api.Event // event n is at n % keptEvents
	count uint64                // of all events
	first uint64                // the oldest that is kept
	parts int                   // of those that are kept; see keptParts
	lost  uint64                // revision of the newest event that is no longer kept
	more  chan struct{}         // closed by the next event; nil: no watcher waits
}

// emit sends an event that has just happened to all watchers. The caller holds m.mu.
func (m *Manager) emit(ev api.Event) {
	e := &m.events
	ev.Time, ev.Revision = time.Now(), m.state.Revision
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.parts += parts(&ev); e.first < e.count && (e.count-e.first == keptEvents || e.parts > keptParts); e.first++ {
		oldest := &e.ring[e.first%keptEvents]
		e.lost, e.parts = oldest.Revision, e.parts-parts(oldest)
		*oldest = api.Event{}
	}
	e.ring[e.count%keptEvents] = ev
	e.count++
	if e.more != nil {
		close(e.more)
		e.more = nil
	}
}

// parts returns what keptParts counts.
func parts(ev *api.Event) int {
	switch {
	case ev.Op == nil:
		return 0
	case ev.Op.Service != nil:
		return len(ev.Op.Service.Servers)
	}
	return len(ev.Op.Marks) + len(ev.Op.AdminRules)
}

// Watcher reads events one after the other.
type Watcher struct {
	events *events
	next   uint64
}

// errLagged is why a watcher cannot continue.
func errLagged(since uint64) error {
	return config.Errorf(syscall.EOVERFLOW,
		"events since revision %d are no longer kept; list what there is and watch from now", since)
}

// Watch returns a watcher of the events from now on or, if since is given, of those after that
// revision. The error is EOVERFLOW if these are no longer kept.
func (m *Manager) Watch(since *uint64) (*Watcher, error) {
	m.mu.Lock() // no event happens meanwhile
	defer m.mu.Unlock()
	e := &m.events
	e.mu.Lock()
	defer e.mu.Unlock()
	w := &Watcher{events: e, next: e.count}
	switch {
	case since == nil:
	case *since < e.lost || *since > m.state.Revision:
		return nil, errLagged(*since)
	default:
		for w.next > e.first && e.ring[(w.next-1)%keptEvents].Revision > *since {
			w.next--
		}
	}
	return w, nil
}

// Next waits for the next event. The error is EOVERFLOW if the watcher lags too far behind,
// or that of ctx.
func (w *Watcher) Next(ctx context.Context) (api.Event, error) {
	e := w.events
	for {
		e.mu.Lock()
		if w.next < e.first {
			e.mu.Unlock()
			return api.Event{}, config.Errorf(syscall.EOVERFLOW,
				"this stream lags more than %d events behind; list what there is and watch again", keptEvents)
		}
		if w.next < e.count {
			ev := e.ring[w.next%keptEvents]
			w.next++
			e.mu.Unlock()
			return ev, nil
		}
		if e.more == nil {
			e.more = make(chan struct{})
		}
		more := e.more
		e.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return api.Event{}, ctx.Err()
		}
	}
}
