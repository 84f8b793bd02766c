package ctl

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// DefaultSocket is where the director listens unless told otherwise, and
// SocketEnv the environment variable that tells its commands otherwise.
const (
	DefaultSocket = "/run/uvs/uvs.sock"
	SocketEnv     = "UVS_SOCKET"
)

// maxRequest bounds the body of a request; an operation is a few hundred bytes.
const maxRequest = 64 << 10

// Socket answers on the unix socket: HTTP with JSON, so that curl can ask too.
//
//	POST /v1/apply     one Op; 204, or 4xx with an Error
//	GET  /v1/info      Info
//	GET  /v1/services  []ServiceStatus
//	GET  /v1/timeouts  Timeouts
//	GET  /v1/tuning    []Tunable; with ?service=PROTO:ADDR:PORT that service's
//	GET  /v1/conns     one ConnStatus a line, streamed; with a ConnFilter's query those
//	POST /v1/flush     ends the conns of a ConnFilter's query (or of ?all); their number
//	GET  /v1/events    one Event a line, as they happen
//	GET  /v1/counters  []Counter
type Socket struct {
	Manager  *Manager
	Info     Info
	Counters func() []Counter // of links and tables, beside the manager's verdicts
}

// Listen takes the socket. A leftover of a dead director is replaced; a live
// one is an error.
func Listen(path string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, fmt.Errorf("socket %s is in use by a live director; stop it or choose another with --socket", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("protect socket %s: %w", path, err)
	}
	return l, nil
}

// removeStale removes a socket nobody listens on, and nothing but a socket.
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
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove stale socket: %w", err)
	}
	return nil
}

// Serve answers on l until ctx ends.
func (s *Socket) Serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/apply", s.apply)
	mux.HandleFunc("GET /v1/info", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Info) })
	mux.HandleFunc("GET /v1/services", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Manager.Services()) })
	mux.HandleFunc("GET /v1/timeouts", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Manager.Timeouts()) })
	mux.HandleFunc("GET /v1/counters", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, append(s.Manager.Verdicts(), s.Counters()...))
	})
	mux.HandleFunc("GET /v1/tuning", s.tuning)
	mux.HandleFunc("GET /v1/conns", s.conns)
	mux.HandleFunc("POST /v1/flush", s.flush)
	mux.HandleFunc("GET /v1/events", s.events)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve socket: %w", err)
	}
	return nil
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // fails only if the client went away
}

func (s *Socket) apply(w http.ResponseWriter, r *http.Request) {
	var op Op
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&op); err != nil {
		fail(w, refuse(syscall.EINVAL, "request is not an operation: %v", err))
		return
	}
	if err := s.Manager.Apply(op); err != nil {
		fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// fail answers with an Error: 422 for what the operator can mend, 500 for what
// went wrong on our side.
func fail(w http.ResponseWriter, err error) {
	status := http.StatusUnprocessableEntity
	e, ok := errors.AsType[*Error](err)
	if !ok {
		status, e = http.StatusInternalServerError, &Error{Errno: syscall.EIO, Message: err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(e)
}

func (s *Socket) tuning(w http.ResponseWriter, r *http.Request) {
	var of *ServiceKey
	if text := r.URL.Query().Get("service"); text != "" {
		key, err := ParseServiceKey(text)
		if err != nil {
			fail(w, err)
			return
		}
		of = &key
	}
	list, err := s.Manager.Tunables(of)
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, list)
}

func (s *Socket) conns(w http.ResponseWriter, r *http.Request) {
	filter, err := ParseConnFilter(r.URL.Query())
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	buf := bufio.NewWriter(w)
	enc := json.NewEncoder(buf)
	if s.Manager.Conns(filter, func(c ConnStatus) error { return enc.Encode(c) }) == nil {
		buf.Flush()
	}
}

// flush refuses an empty filter: all conns are meant only by ?all.
func (s *Socket) flush(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	all := q.Has("all")
	q.Del("all")
	filter, err := ParseConnFilter(q)
	if err == nil && all == (len(q) > 0) {
		err = refuse(syscall.EINVAL, "say which connections to end: by service, server, client or state, or all of them")
	}
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, s.Manager.FlushConns(filter))
}
