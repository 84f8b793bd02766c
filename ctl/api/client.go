package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Client talks to a running director. Methods that change something return a *config.Error if
// the director refuses. It is safe for concurrent use.
type Client struct {
	http http.Client
	url  string
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
	c := &Client{url: "http://uvs"}
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

// DialTLS returns a client of a director at ADDRESS:PORT. The configuration has the client's
// certificate and the CA of the director's.
func DialTLS(address string, files *tls.Config) *Client {
	c := &Client{url: "https://" + address}
	c.http.Transport = &http.Transport{ResponseHeaderTimeout: responseTimeout, TLSClientConfig: files}
	return c
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

// do sends a request and decodes the response into answer, unless that is nil. It returns the
// response's headers.
func (c *Client) do(method, path string, q url.Values, body, answer any) (http.Header, error) {
	return c.send(method, path, q, nil, body, decoder(answer))
}

// decoder returns what decodes a response into answer, unless that is nil.
func decoder(answer any) func(io.Reader) error {
	return func(r io.Reader) error {
		if answer == nil {
			return nil
		}
		return json.UnmarshalDecode(jsontext.NewDecoder(r), answer)
	}
}

func (c *Client) get(path string, q url.Values, answer any) error {
	_, err := c.do(http.MethodGet, path, q, nil, answer)
	return err
}

// send sends a request, and has the response decoded.
func (c *Client) send(
	method, path string, q url.Values, header http.Header, body any, decode func(io.Reader) error,
) (http.Header, error) {
	var text io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		text = bytes.NewReader(b)
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	req, err := http.NewRequest(method, c.url+"/v1/"+path, text)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	maps.Copy(req.Header, header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the director: %w", err)
	}
	defer resp.Body.Close()
	if err := responseError(resp); err != nil {
		return resp.Header, err
	}
	if err := decode(resp.Body); err != nil {
		return resp.Header, fmt.Errorf("read the director's answer: %w", err)
	}
	return resp.Header, nil
}

// responseError returns the error in the director's response, or nil.
func responseError(resp *http.Response) error {
	if resp.StatusCode < 300 {
		return nil
	}
	p := new(Problem)
	if err := json.UnmarshalRead(resp.Body, p); err != nil || p.Errno == 0 {
		return fmt.Errorf("the director answered %s", resp.Status)
	}
	return p.Refusal()
}

// DefaultSocket is the director's socket unless an option or, for commands, the environment
// variable SocketEnv names another. The variable WaitEnv is how long commands wait for it.
const (
	DefaultSocket = "/run/uvs/uvs.sock"
	SocketEnv     = "UVS_SOCKET"
	WaitEnv       = "UVS_WAIT"
)

// Gob is the content type of values that package encoding/gob writes, one after the other.
// GET /v1/services can have it, beside JSON.
const Gob = "application/x-gob"

// MaxOps is the most operations of a request.
const MaxOps = 1 << 14
