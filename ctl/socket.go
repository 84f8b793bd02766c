package ctl

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// maxRequest is the most bytes of a request. An operation has a few hundred.
const maxRequest = api.MaxOps * 1 << 10

const (
	// readTimeout is how long a client may take to send a request.
	readTimeout = 10 * time.Second
	// stopTimeout is how long the director waits for requests when it ends.
	stopTimeout = time.Second
)

// Socket serves the API on a unix socket, as HTTP with JSON.
//
//	POST /v1/apply     one Op; 204, or 4xx with an Error
//	POST /v1/batch     []Op, put in force at once; a list of an Error or null for each
//	GET  /v1/info      Info
//	GET  /v1/services  []ServiceStatus; with ?service=PROTO:ADDR:PORT only that one
//	GET  /v1/timeouts  Timeouts
//	GET  /v1/marks     []MarkRule in their order
//	GET  /v1/admin     []AdminRule
//	GET  /v1/settings  []Setting; with ?service=PROTO:ADDR:PORT that service's
//	GET  /v1/conns     one ConnStatus a line, streamed; filtered by a ConnFilter's query
//	GET  /v1/conns/count  ConnCount; filtered by a ConnFilter's query
//	GET  /v1/explain   Explanation; with a Probe's query
//	POST /v1/flush     number of conns ended; with a ConnFilter's query, or ?all
//	GET  /v1/events    one Event a line, as they happen
//	GET  /v1/counters  []Counter
type Socket struct {
	Manager  *Manager
	Info     api.Info             // without the role and the uptime
	Started  time.Time            // when the director was ready
	Counters func() []api.Counter // of links and tables, in addition to the manager's
}

// maxPath is the longest path of a unix socket: sun_path in struct sockaddr_un
// has 108 bytes, of which the last is zero.
const maxPath = 107

// Listen binds the socket. It makes the socket's directory, but none above. It replaces
// the socket of a dead director; that of a live one is an error. Of directors that start
// at the same moment, one gets the socket.
func Listen(path string) (net.Listener, error) {
	if len(path) == 0 || len(path) > maxPath {
		return nil, fmt.Errorf("socket path %q has %d bytes; must be 1 to %d", path, len(path), maxPath)
	}
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the directory of socket %s: %w", path, err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, fmt.Errorf("lock the socket's directory %s: %w", dir, err)
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The file gets the mode that the socket has before bind, so others can never connect.
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		failed := raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) })
		return cmp.Or(failed, err)
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	return l, nil
}

// lock locks a directory against other processes. The kernel releases the lock when the
// process ends.
func lock(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		d.Close()
		return nil, err
	}
	return func() { d.Close() }, nil
}

// removeStale removes a socket that no process listens on.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket %s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket; remove it or choose another with --socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		conn.Close()
		fallthrough
	case !errors.Is(err, syscall.ECONNREFUSED): // such as a full queue of a live director
		return fmt.Errorf("socket %s is in use by a live director; stop it or choose another with --socket", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove stale socket: %w", err)
	}
	return nil
}

// Serve responds on l until ctx ends.
func (s *Socket) Serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/apply", s.apply)
	mux.HandleFunc("POST /v1/batch", s.batch)
	mux.HandleFunc("GET /v1/info", func(w http.ResponseWriter, _ *http.Request) {
		info := s.Info
		info.Role = s.Manager.Role()
		info.Uptime = config.Seconds(time.Since(s.Started) / time.Second)
		reply(w, info)
	})
	mux.HandleFunc("GET /v1/services", query(s.services))
	mux.HandleFunc("GET /v1/marks", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Manager.Marks()) })
	mux.HandleFunc("GET /v1/admin", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Manager.AdminRules()) })
	mux.HandleFunc("GET /v1/timeouts", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Manager.Timeouts()) })
	mux.HandleFunc("GET /v1/counters", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, slices.Concat(s.Manager.Verdicts(), s.Manager.HelperCounters(), s.Counters()))
	})
	mux.HandleFunc("GET /v1/settings", query(s.settings))
	mux.HandleFunc("GET /v1/conns", s.conns)
	mux.HandleFunc("GET /v1/conns/count", query(s.countConns))
	mux.HandleFunc("GET /v1/explain", query(s.explain))
	mux.HandleFunc("POST /v1/flush", query(s.flush))
	mux.HandleFunc("GET /v1/events", s.events)
	server := &http.Server{
		Handler: mux, ReadTimeout: readTimeout, IdleTimeout: time.Hour,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve socket: %w", err)
	}
	<-stopped
	return nil
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // fails only if the client went away
}

// query responds with f's result for the request's query.
func query[T any](f func(url.Values) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r.URL.Query())
		if err != nil {
			fail(w, err)
			return
		}
		reply(w, v)
	}
}

func (s *Socket) apply(w http.ResponseWriter, r *http.Request) {
	var op config.Op
	err := decode(w, r, &op)
	if err == nil {
		err = s.Manager.Apply(op)
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// batch responds to a list of operations with the error of each.
func (s *Socket) batch(w http.ResponseWriter, r *http.Request) {
	var ops []config.Op
	err := decode(w, r, &ops)
	if err == nil && len(ops) > api.MaxOps {
		err = config.Errorf(syscall.EINVAL, "%d operations in one request: at most %d", len(ops), api.MaxOps)
	}
	if err != nil {
		fail(w, err)
		return
	}
	answers := make([]*config.Error, len(ops))
	for i, err := range s.Manager.ApplyAll(ops) {
		if err != nil {
			answers[i] = asError(err)
		}
	}
	reply(w, answers)
}

// events streams events from now on, one a line.
func (s *Socket) events(w http.ResponseWriter, r *http.Request) {
	watcher, err := s.Manager.Watch(nil)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc, enc := http.NewResponseController(w), json.NewEncoder(w)
	for rc.Flush() == nil {
		ev, err := watcher.Next(r.Context())
		if err != nil || enc.Encode(ev) != nil {
			return
		}
	}
}

func decode(w http.ResponseWriter, r *http.Request, v any) error {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err == nil {
		err = config.Decode(text, v)
	}
	if err != nil {
		return config.Errorf(syscall.EINVAL, "request is not understood: %v", err)
	}
	return nil
}

// fail responds with an Error: status 422 for a wrong request, 500 for a fault of the
// director.
func fail(w http.ResponseWriter, err error) {
	e, status := asError(err), http.StatusUnprocessableEntity
	if e.Errno == syscall.EIO {
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(e)
}

// asError makes a fault of the director an Error with EIO.
func asError(err error) *config.Error {
	if e, ok := errors.AsType[*config.Error](err); ok {
		return e
	}
	return &config.Error{Errno: syscall.EIO, Message: err.Error()}
}

// serviceOf returns the service that a query names; nil: none.
func serviceOf(q url.Values) (*config.ServiceKey, error) {
	text := q.Get("service")
	if text == "" {
		return nil, nil
	}
	key, err := config.ParseServiceKey(text)
	return &key, err
}

func (s *Socket) services(q url.Values) ([]api.ServiceStatus, error) {
	of, err := serviceOf(q)
	switch {
	case err != nil:
		return nil, err
	case of == nil:
		return s.Manager.Services(), nil
	}
	status, err := s.Manager.Service(*of)
	return []api.ServiceStatus{status}, err
}

func (s *Socket) settings(q url.Values) ([]config.Setting, error) {
	of, err := serviceOf(q)
	if err != nil {
		return nil, err
	}
	return s.Manager.Settings(of)
}

func (s *Socket) conns(w http.ResponseWriter, r *http.Request) {
	filter, err := api.ParseConnFilter(r.URL.Query())
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	buf := bufio.NewWriter(w)
	enc := json.NewEncoder(buf)
	if s.Manager.Conns(filter, func(c api.ConnStatus) error { return enc.Encode(c) }) == nil {
		buf.Flush()
	}
}

func (s *Socket) countConns(q url.Values) (n api.ConnCount, err error) {
	filter, err := api.ParseConnFilter(q)
	if err != nil {
		return n, err
	}
	return s.Manager.CountConns(filter), nil
}

func (s *Socket) explain(q url.Values) (*api.Explanation, error) {
	p, err := api.ParseProbe(q)
	if err != nil {
		return nil, err
	}
	return s.Manager.Explain(p)
}

// flush refuses an empty filter; only ?all means all conns.
func (s *Socket) flush(q url.Values) (int, error) {
	all := q.Has("all")
	q.Del("all")
	filter, err := api.ParseConnFilter(q)
	if err == nil && all == (len(q) > 0) {
		err = config.Errorf(syscall.EINVAL,
			"say which connections to end: by service, server, client or state, or all of them")
	}
	if err != nil {
		return 0, err
	}
	return s.Manager.FlushConns(filter), nil
}
