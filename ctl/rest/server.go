package rest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"uvs/ctl"
	"uvs/ctl/api"
	"uvs/ctl/config"
)

// readTimeout is how long a client may take to send a request.
var readTimeout = 10 * time.Second

const (
	// writeTimeout is how long a client may take for a part of a response.
	writeTimeout = 30 * time.Second
	// stopTimeout is how long the director waits for requests when it ends.
	stopTimeout = time.Second
	// maxConnections is how many connections to the API there may be; root's are not limited.
	maxConnections = 1024
	// maxOfUser is how many of these a user may have, so that one does not lock out others.
	maxOfUser = 128
	// maxBody is the most bytes of a request: 1,024 services with 40 servers have 6 MB.
	maxBody = 64 << 20
)

// Server serves the API on any number of listeners.
type Server struct {
	Manager  *ctl.Manager
	Info     api.Info             // without what changes
	Started  time.Time            // when the director was ready
	Counters func() []api.Counter // of links and tables, in addition to the manager's
	Access   Access               // to the unix socket
	Admins   []string             // common names of the certificates whose owners may change
	// Reload applies the configuration file again. It returns the options that only the next
	// start will take.
	Reload func(api.Author) (nextStart []string, err error)
	// OwnFile reports whether a digest is that of the configuration file as it is now; nil: there
	// is no file.
	OwnFile func(digest string) bool
	// NextStart describes what the director would start with now.
	NextStart func() string
	// Log returns what is logged and how, and SetLog changes it; nil: it cannot.
	Log    func() api.Log
	SetLog func(api.Log) error
	// Healthy returns why the director does not work; nil: it always does.
	Healthy func() error
	Logger  zerolog.Logger

	connections, refused atomic.Int64
	ofUser               sync.Map // of uint32, a user, to *atomic.Int64
	// previews is held while one who may only read sends a configuration and sees what it would
	// change. That takes some 30 times its bytes, so others of them wait.
	previews sync.Mutex
}

// Serve responds on l until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	allowed, err := s.Access.resolve()
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: readTimeout, IdleTimeout: time.Hour,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if local, ok := conn.(*connection); ok && local.peer != nil {
				return context.WithValue(ctx, peerKey{}, local.peer)
			}
			return ctx
		},
		ErrorLog: log.New(debugLog{s.Logger}, "", 0),
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
	if err := server.Serve(s.limit(l, allowed)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the API: %w", err)
	}
	<-stopped
	return nil
}

// debugLog logs what net/http reports at level debug, because clients can cause it.
type debugLog struct{ zerolog.Logger }

func (l debugLog) Write(text []byte) (int, error) {
	l.Debug().Str("error", strings.TrimSpace(string(text))).Msg("API connection")
	return len(text), nil
}

// limit returns a listener whose connections count, and know their peer.
func (s *Server) limit(l net.Listener, allowed permissions) net.Listener {
	if secure, ok := l.(*secureListener); ok {
		return secure.over(&limitedListener{secure.Listener, s, allowed})
	}
	return &limitedListener{l, s, allowed}
}

type limitedListener struct {
	net.Listener
	server  *Server
	allowed permissions
}

// Accept returns the next connection that is not over the limit.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: conn, server: l.server}
		if conn.RemoteAddr().Network() == "unix" {
			if c.peer, err = localPeer(conn, l.allowed); err != nil {
				conn.Close()
				continue
			}
		}
		if n, ofUser := l.server.connections.Add(1), c.ofUser(1); c.peer != nil && c.peer.trusted {
			return c, nil
		} else if n > maxConnections || ofUser > maxOfUser {
			l.server.refused.Add(1)
			c.Close()
			continue
		}
		return c, nil
	}
}

// connection is a connection that counts until it is closed.
type connection struct {
	net.Conn
	server *Server
	peer   *peer // nil: of TCP
	closed atomic.Bool
}

func (c *connection) Close() error {
	if !c.closed.Swap(true) {
		c.server.connections.Add(-1)
		c.ofUser(-1)
	}
	return c.Conn.Close()
}

// ofUser adds to the connections of the peer's user and returns their number; 0 over TCP.
func (c *connection) ofUser(n int64) int64 {
	if c.peer == nil {
		return 0
	}
	count, _ := c.server.ofUser.LoadOrStore(c.peer.uid, new(atomic.Int64))
	return count.(*atomic.Int64).Add(n)
}

// counters are those of the API.
func (s *Server) counters() []api.Counter {
	return []api.Counter{
		{Name: "api_connections", Value: uint64(s.connections.Load())},
		{Name: "api_connections_refused", Value: uint64(s.refused.Load())},
	}
}

// handler returns what all requests go through.
func (s *Server) handler() http.Handler {
	mux := s.routes()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		out := &response{ResponseWriter: w, control: http.NewResponseController(w)}
		r = withPeer(r, s.Admins)
		if r.Body != http.NoBody {
			out.control.SetReadDeadline(begin.Add(readTimeout))
			r.Body = &requestBody{r.Body, out}
		}
		err := peerOf(r.Context()).mayRead()
		if err == nil {
			err = cmp.Or(checkOrigin(r), checkRoute(mux, r))
		}
		if err != nil {
			writeProblem(out, problemOf(err))
		} else {
			s.serve(mux, out, r)
		}
		s.Logger.Debug().Str("method", r.Method).Str("path", r.URL.RequestURI()).
			Func(func(e *zerolog.Event) { e.Stringer("user", peerOf(r.Context())) }).
			Int("status", out.status).Dur("took", time.Since(begin)).Msg("request")
	})
}

// serve answers a request. A fault of the director costs only this answer.
func (s *Server) serve(mux *http.ServeMux, w *response, r *http.Request) {
	defer func() {
		if fault := recover(); fault != nil {
			err := fmt.Errorf("fault of the director: %v", fault)
			s.Logger.Error().Err(err).Bytes("stack", debug.Stack()).Str("path", r.URL.Path).Msg("request")
			if w.status == 0 {
				writeProblem(w, problemOf(err))
			}
		}
	}()
	mux.ServeHTTP(w, r)
}

// checkOrigin refuses a change that the page of another host makes with a browser's certificate.
func checkOrigin(r *http.Request) error {
	if err := new(http.CrossOriginProtection).Check(r); err != nil {
		return config.Errorf(syscall.EPERM, "%v", err)
	}
	return nil
}

// checkRoute refuses a request for what is not there, and names the methods that are.
func checkRoute(mux *http.ServeMux, r *http.Request) error {
	if _, pattern := mux.Handler(r); pattern != "" {
		return nil
	}
	var allowed []string
	for _, method := range []string{"GET", "PUT", "PATCH", "POST", "DELETE"} {
		other := *r
		other.Method = method
		if _, pattern := mux.Handler(&other); pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		return config.Errorf(errNoRoute, "there is no %s; /v1/openapi.json describes what there is", r.URL.Path)
	}
	return config.Errorf(errNoMethod, "%s %s: this can only be %s", r.Method, r.URL.Path, strings.Join(allowed, ", "))
}

// requestBody ends the time for the request when all of it was read. While a request is
// answered, the end of that time would look like the end of the client. What does not come
// whole is the last request of its connection.
type requestBody struct {
	io.ReadCloser
	response *response
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.response.control.SetReadDeadline(time.Time{})
	case err != nil:
		b.response.Header().Set("Connection", "close")
	}
	return n, err
}

// response is a response whose parts must be taken in time.
type response struct {
	http.ResponseWriter
	control *http.ResponseController
	status  int
}

func (w *response) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// writePart is how much of a response a client has writeTimeout for.
const writePart = 64 << 10

func (w *response) Write(b []byte) (n int, err error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	for err == nil && len(b) > 0 {
		if w.control.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
			return n, os.ErrDeadlineExceeded
		}
		var m int
		m, err = w.ResponseWriter.Write(b[:min(len(b), writePart)])
		n, b = n+m, b[m:]
	}
	return n, err
}
