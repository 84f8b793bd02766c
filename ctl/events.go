package ctl

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"uvs/ctl/api"
)

// eventBuffer is how many events a watcher may lag behind before it misses some.
const eventBuffer = 256

// events sends every event to all watchers. The zero value has none.
type events struct {
	mu       sync.Mutex
	watchers map[chan api.Event]bool
}

// emit sends an event without waiting: a watcher whose buffer is full misses it.
func (e *events) emit(ev api.Event) {
	ev.Time = time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for w := range e.watchers {
		select {
		case w <- ev:
		default:
		}
	}
}

// watch adds a watcher; stop removes it.
func (e *events) watch() (ch <-chan api.Event, stop func()) {
	w := make(chan api.Event, eventBuffer)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.watchers == nil {
		e.watchers = map[chan api.Event]bool{}
	}
	e.watchers[w] = true
	return w, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.watchers, w)
	}
}

// events streams events from now on, one a line.
func (s *Socket) events(w http.ResponseWriter, r *http.Request) {
	ch, stop := s.Manager.events.watch()
	defer stop()
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc, enc := http.NewResponseController(w), json.NewEncoder(w)
	for rc.Flush() == nil {
		select {
		case ev := <-ch:
			if enc.Encode(ev) != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}
