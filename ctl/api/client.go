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

// SocketPath is the socket commands use: SocketEnv, else DefaultSocket.
func SocketPath() string {
	if path := os.Getenv(SocketEnv); path != "" {
		return path
	}
	return DefaultSocket
}

// answerTimeout is how long a director may take to begin its answer: much longer
// than any takes that is alive.
const answerTimeout = 30 * time.Second

// Dial finds the director behind a socket; it fails if none answers.
func Dial(path string) (*Client, error) {
	c := &Client{path: path}
	c.http.Transport = &http.Transport{
		ResponseHeaderTimeout: answerTimeout,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}
	conn, err := net.Dial("unix", path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("no director is running on socket %s", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("permission denied on socket %s (you must be root)", path)
	case err != nil:
		return nil, fmt.Errorf("reach the director: %w", err)
	}
	conn.Close()
	return c, nil
}

// Info describes the director.
func (c *Client) Info() (info Info, err error) { return info, c.get("/v1/info", &info) }

// Services lists services in order of adding, servers newest first.
func (c *Client) Services() (list []ServiceStatus, err error) {
	return list, c.get("/v1/services", &list)
}

// Marks are the mark rules in their order.
func (c *Client) Marks() (list []config.MarkRule, err error) { return list, c.get("/v1/marks", &list) }

// Timeouts are the three idle times of --set.
func (c *Client) Timeouts() (t config.Timeouts, err error) { return t, c.get("/v1/timeouts", &t) }

// Counters are all counters of the director.
func (c *Client) Counters() (list []Counter, err error) { return list, c.get("/v1/counters", &list) }

// Settings are all settings or, with a service, those it can have of its own.
func (c *Client) Settings(of *config.ServiceKey) (list []config.Setting, err error) {
	path := "/v1/settings"
	if of != nil {
		path += "?service=" + url.QueryEscape(of.Text())
	}
	return list, c.get(path, &list)
}

// Explain says what the director would do with a packet.
func (c *Client) Explain(q Probe) (e Explanation, err error) {
	return e, c.get("/v1/explain?"+q.Query().Encode(), &e)
}

// Flush ends the conns of a filter, all if it is empty, and says how many.
func (c *Client) Flush(f ConnFilter) (n int, err error) {
	q := f.Query()
	if len(q) == 0 {
		q.Set("all", "")
	}
	resp, err := c.http.Post("http://uvs/v1/flush?"+q.Encode(), "", nil)
	if err != nil {
		return 0, fmt.Errorf("ask the director: %w", err)
	}
	defer resp.Body.Close()
	if err := answerError(resp); err != nil {
		return 0, err
	}
	return n, json.NewDecoder(resp.Body).Decode(&n)
}

// Apply makes one change; a refusal is an *Error.
func (c *Client) Apply(op config.Op) error { return c.post("/v1/apply", op, nil) }

// ApplyAll makes up to MaxOps changes one after the other, in force at once, and
// returns each one's error. One that is refused does not keep the others from
// being made.
func (c *Client) ApplyAll(ops []config.Op) []error { return c.batch("/v1/batch", ops) }

// Replace makes up to MaxOps changes to a director without services, rules and
// settings of its own, in force at once instead of what it has, and returns each
// one's error. If one is refused, nothing has changed.
func (c *Client) Replace(ops []config.Op) []error { return c.batch("/v1/replace", ops) }

func (c *Client) batch(path string, ops []config.Op) []error {
	errs := make([]error, len(ops))
	var answers []*config.Error
	err := c.post(path, ops, &answers)
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

// post sends a question and reads the answer, if there is to be one.
func (c *Client) post(path string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	resp, err := c.http.Post("http://uvs"+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the director: %w", err)
	}
	defer resp.Body.Close()
	if err := answerError(resp); err != nil || answer == nil {
		return err
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("read the director's answer: %w", err)
	}
	return nil
}

// Conns shows every conn to visit until it returns an error.
func (c *Client) Conns(visit func(ConnStatus) error) error {
	return c.ConnsOf(ConnFilter{}, visit)
}

// ConnsOf shows the conns of a filter to visit until it returns an error.
func (c *Client) ConnsOf(f ConnFilter, visit func(ConnStatus) error) error {
	return c.read("/v1/conns?"+f.Query().Encode(), func(dec *json.Decoder) error {
		for {
			var conn ConnStatus
			switch err := dec.Decode(&conn); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			}
			if err := visit(conn); err != nil {
				return err
			}
		}
	})
}

// Events shows what happens from now on to visit until it returns an error.
func (c *Client) Events(visit func(Event) error) error {
	return c.read("/v1/events", func(dec *json.Decoder) error {
		for {
			var ev Event
			if err := dec.Decode(&ev); err != nil {
				return err
			}
			if err := visit(ev); err != nil {
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
	if err != nil {
		return fmt.Errorf("ask the director: %w", err)
	}
	defer resp.Body.Close()
	if err := answerError(resp); err != nil {
		return err
	}
	if err := decode(json.NewDecoder(resp.Body)); err != nil {
		return fmt.Errorf("read the director's answer: %w", err)
	}
	return nil
}

// answerError is the director's refusal, if the answer is one.
func answerError(resp *http.Response) error {
	if resp.StatusCode < 300 {
		return nil
	}
	e := new(config.Error)
	if err := json.NewDecoder(resp.Body).Decode(e); err != nil {
		return fmt.Errorf("the director answered %s", resp.Status)
	}
	return e
}

// DefaultSocket is where the director listens unless told otherwise, and
// SocketEnv the environment variable that tells its commands otherwise.
const (
	DefaultSocket = "/run/uvs/uvs.sock"
	SocketEnv     = "UVS_SOCKET"
)

// MaxOps is how many operations one request may carry.
const MaxOps = 1 << 14
