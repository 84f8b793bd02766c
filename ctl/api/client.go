package api

import (
	"bytes"
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
	"syscall"
	"time"

	"uvs/ctl/config"
)

// Client talks to a running director over its socket.
type Client struct {
	http http.Client
	path string
}

// SocketPath returns the socket for commands: the value of SocketEnv, or DefaultSocket.
func SocketPath() string {
	if path := os.Getenv(SocketEnv); path != "" {
		return path
	}
	return DefaultSocket
}

// responseTimeout is how long a director may take to begin its response: much longer than
// a live one takes.
const responseTimeout = 30 * time.Second

// NoDirectorError is that no director runs on a socket.
type NoDirectorError struct{ Path string }

func (e *NoDirectorError) Error() string { return "no director is running on socket " + e.Path }

// Dial connects to the director at a socket. If the socket is not there, or a dead director
// left it, Dial waits as long as WaitEnv says, because a director may be starting. The error
// is then a *NoDirectorError.
func Dial(path string) (*Client, error) {
	wait, err := socketWait()
	if err != nil {
		return nil, err
	}
	return DialWait(path, wait)
}

// DialWait is Dial that waits as long as it is told.
func DialWait(path string, wait time.Duration) (*Client, error) {
	c := &Client{path: path}
	c.http.Transport = &http.Transport{
		ResponseHeaderTimeout: responseTimeout,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}
	conn, err := net.Dial("unix", path)
	for deadline := time.Now().Add(wait); noDirector(err) && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
		conn, err = net.Dial("unix", path)
	}
	switch {
	case noDirector(err):
		return nil, &NoDirectorError{path}
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w on socket %s (you must be root)", fs.ErrPermission, path)
	case err != nil:
		return nil, fmt.Errorf("reach the director: %w", err)
	}
	conn.Close()
	return c, nil
}

// noDirector reports whether a connection failed because nothing listens on the socket.
func noDirector(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// socketWait returns the value of WaitEnv, a duration or a number of seconds, or two seconds.
func socketWait() (time.Duration, error) {
	value := os.Getenv(WaitEnv)
	if value == "" {
		return 2 * time.Second, nil
	}
	wait, err := time.ParseDuration(value)
	if err != nil {
		wait, err = time.ParseDuration(value + "s")
	}
	if err != nil || wait < 0 {
		return 0, fmt.Errorf("%s is %q, want seconds or a duration such as 500ms", WaitEnv, value)
	}
	return wait, nil
}

// Info returns what the director is.
func (c *Client) Info() (info Info, err error) { return info, c.get("/v1/info", &info) }

// Services lists the services in order of adding, with the newest server first.
func (c *Client) Services() (list []ServiceStatus, err error) {
	return list, c.get("/v1/services", &list)
}

// Service returns one service; without it the error is ESRCH.
func (c *Client) Service(key config.ServiceKey) (ServiceStatus, error) {
	var list []ServiceStatus
	err := c.get("/v1/services?service="+url.QueryEscape(key.Text()), &list)
	switch {
	case err != nil:
		return ServiceStatus{}, err
	case len(list) != 1:
		return ServiceStatus{}, fmt.Errorf("the director responded with %d services instead of %s", len(list), key)
	}
	return list[0], nil
}

// Marks returns the mark rules in their order.
func (c *Client) Marks() (list []config.MarkRule, err error) { return list, c.get("/v1/marks", &list) }

// AdminRules returns the admin states that are not up.
func (c *Client) AdminRules() (list []config.AdminRule, err error) {
	return list, c.get("/v1/admin", &list)
}

// Timeouts returns the three timeouts of `ipvsadm --set`.
func (c *Client) Timeouts() (t config.Timeouts, err error) { return t, c.get("/v1/timeouts", &t) }

// Counters returns all counters of the director.
func (c *Client) Counters() (list []Counter, err error) { return list, c.get("/v1/counters", &list) }

// Settings lists all settings or, for a service, those that it can have.
func (c *Client) Settings(of *config.ServiceKey) (list []config.Setting, err error) {
	path := "/v1/settings"
	if of != nil {
		path += "?service=" + url.QueryEscape(of.Text())
	}
	return list, c.get(path, &list)
}

// Explain returns what the director would do with a packet.
func (c *Client) Explain(p Probe) (e Explanation, err error) {
	return e, c.get("/v1/explain?"+p.Query().Encode(), &e)
}

// Flush ends the conns that match a filter, and returns their number.
func (c *Client) Flush(f ConnFilter) (n int, err error) {
	q := f.Query()
	if len(q) == 0 {
		q.Set("all", "")
	}
	return n, c.post("/v1/flush?"+q.Encode(), nil, &n)
}

// Apply makes one change. If it is refused, the error is a *config.Error.
func (c *Client) Apply(op config.Op) error { return c.post("/v1/apply", op, nil) }

// ApplyAll makes up to MaxOps changes one after the other and puts them in force at once.
// It returns the error of each. A change that is refused does not stop the others.
func (c *Client) ApplyAll(ops []config.Op) []error {
	errs := make([]error, len(ops))
	var answers []*config.Error
	err := c.post("/v1/batch", ops, &answers)
	for i := range errs {
		switch {
		case err != nil:
			errs[i] = err
		case i < len(answers) && answers[i] != nil:
			errs[i] = answers[i]
		}
	}
	return errs
}

// Replace makes changes to an empty configuration and puts it in force in place of the present
// one. It returns the error of each. If one is refused, nothing changes.
func (c *Client) Replace(ops []config.Op) []error {
	errs, next := make([]error, len(ops)), new(config.State).Clone()
	for i, op := range ops {
		if errs[i] = next.Apply(op); errs[i] != nil {
			return errs
		}
	}
	err := c.Apply(config.Op{Kind: config.Replace, Document: next.Document()})
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// post sends a request and decodes the response, unless response is nil.
func (c *Client) post(path string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	resp, err := c.http.Post("http://uvs"+path, "application/json", bytes.NewReader(body))
	return decodeResponse(resp, err, func(dec *json.Decoder) error {
		if answer == nil {
			return nil
		}
		return dec.Decode(answer)
	})
}

// Conns calls visit for every conn until visit returns an error.
func (c *Client) Conns(visit func(ConnStatus) error) error {
	return c.ConnsOf(ConnFilter{}, visit)
}

// ConnsOf calls visit for the conns that match a filter until visit returns an error.
func (c *Client) ConnsOf(f ConnFilter, visit func(ConnStatus) error) error {
	err := stream(c, "/v1/conns?"+f.Query().Encode(), visit)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// CountConns counts the conns that match a filter.
func (c *Client) CountConns(f ConnFilter) (n ConnCount, err error) {
	return n, c.get("/v1/conns/count?"+f.Query().Encode(), &n)
}

// Events calls visit for each event from now on until visit returns an error.
func (c *Client) Events(visit func(Event) error) error {
	return stream(c, "/v1/events", visit)
}

// stream calls visit for each value of a response until visit returns an error or
// the response ends, which is io.EOF.
func stream[T any](c *Client, path string, visit func(T) error) error {
	return c.read(path, func(dec *json.Decoder) error {
		for {
			var v T
			if err := dec.Decode(&v); err != nil {
				return err
			}
			if err := visit(v); err != nil {
				return err
			}
		}
	})
}

func (c *Client) get(path string, v any) error {
	return c.read(path, func(dec *json.Decoder) error { return dec.Decode(v) })
}

func (c *Client) read(path string, decode func(*json.Decoder) error) error {
	resp, err := c.http.Get("http://uvs" + path)
	return decodeResponse(resp, err, decode)
}

// decodeResponse decodes the response to a request that may have failed.
func decodeResponse(resp *http.Response, err error, decode func(*json.Decoder) error) error {
	if err != nil {
		return fmt.Errorf("ask the director: %w", err)
	}
	defer resp.Body.Close()
	if err := responseError(resp); err != nil {
		return err
	}
	if err := decode(json.NewDecoder(resp.Body)); err != nil {
		return fmt.Errorf("read the director's answer: %w", err)
	}
	return nil
}

// responseError returns the error in the director's response, or nil.
func responseError(resp *http.Response) error {
	if resp.StatusCode < 300 {
		return nil
	}
	e := new(config.Error)
	if err := json.NewDecoder(resp.Body).Decode(e); err != nil {
		return fmt.Errorf("the director answered %s", resp.Status)
	}
	return e
}

// DefaultSocket is the director's socket unless an option or, for commands, the environment
// variable SocketEnv names another. The variable WaitEnv is how long commands wait for it.
const (
	DefaultSocket = "/run/uvs/uvs.sock"
	SocketEnv     = "UVS_SOCKET"
	WaitEnv       = "UVS_WAIT"
)

// MaxOps is the most operations of a request.
const MaxOps = 1 << 14
