package lab

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"uvs/bench/realserver"
)

// Dial connects from a node, from a local port if that is not 0. The address
// must be numeric, because names would be resolved outside the node.
func (l *Lab) Dial(ctx context.Context, node, network string, localPort int, address string) (c net.Conn, err error) {
	var d net.Dialer
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{Port: localPort}
	} else {
		d.LocalAddr = &net.TCPAddr{Port: localPort}
	}
	err = l.Do(node, func() (err error) {
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// HTTPClient returns a client that makes requests from a node, each over a new
// connection.
func (l *Lab) HTTPClient(node string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return l.Dial(ctx, node, network, 0, address)
		},
	}}
}

// Reply is the result of one small request.
type Reply struct {
	Client   netip.AddrPort // source of the request
	Server   string         // name of the server that replied
	Duration time.Duration
}

// requestTimeout bounds one small request. It is longer than the second after
// which a lost SYN is retransmitted.
const requestTimeout = 5 * time.Second

// RequestHTTP fetches the page of names over a new connection.
func (l *Lab) RequestHTTP(ctx context.Context, node string, localPort int, address string) (a Reply, err error) {
	start := time.Now()
	c, err := l.Dial(ctx, node, "tcp", localPort, address)
	if err != nil {
		return a, err
	}
	defer c.Close()
	c.SetDeadline(start.Add(requestTimeout))
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", address); err != nil {
		return a, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return a, err
	}
	body, err := io.ReadAll(resp.Body)
	name, _, _ := strings.Cut(string(body), "\n")
	return Reply{localAddrPort(c), name, time.Since(start)}, err
}

// RequestUDP sends one datagram from a new socket to the lvs-info service.
func (l *Lab) RequestUDP(ctx context.Context, node string, localPort int, address string) (a Reply, err error) {
	c, err := l.Dial(ctx, node, "udp", localPort, address)
	if err != nil {
		return a, err
	}
	defer c.Close()
	start := time.Now()
	c.SetDeadline(start.Add(requestTimeout))
	if _, err := io.WriteString(c, "who?"); err != nil {
		return a, err
	}
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	if err != nil {
		return a, err
	}
	name, echo, _ := strings.Cut(string(buf[:n]), " ")
	if echo != "who?" {
		return a, fmt.Errorf("sent who?, got %q", buf[:n])
	}
	return Reply{localAddrPort(c), name, time.Since(start)}, nil
}

func localAddrPort(c net.Conn) netip.AddrPort {
	a := netip.MustParseAddrPort(c.LocalAddr().String())
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Download fetches n bytes over one connection and compares every byte.
func (l *Lab) Download(ctx context.Context, node, address string, n int64) (took time.Duration, err error) {
	start := time.Now()
	body, err := l.do(ctx, node, http.MethodGet, fmt.Sprintf("http://%s/bytes?n=%d", address, n), nil)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	check := &realserver.Checker{}
	if _, err := io.CopyBuffer(check, body, make([]byte, 256<<10)); err != nil {
		return 0, fmt.Errorf("download: %w", err)
	}
	if check.Len() != n {
		return 0, fmt.Errorf("download: %d bytes of %d came", check.Len(), n)
	}
	return time.Since(start), nil
}

// Upload sends n bytes over one connection, and compares what the server
// reports: their number and, if hashed is set, their SHA-256, which costs the
// server time.
func (l *Lab) Upload(ctx context.Context, node, address string, n int64, hashed bool) (took time.Duration, err error) {
	path, want := "/discard", fmt.Sprint(n)
	if hashed {
		sum := sha256.New()
		io.CopyN(sum, &realserver.Pattern{}, n)
		path, want = "/upload", fmt.Sprintf("%d %x", n, sum.Sum(nil))
	}
	start := time.Now()
	body, err := l.do(ctx, node, http.MethodPut, "http://"+address+path, io.LimitReader(&realserver.Pattern{}, n))
	if err != nil {
		return 0, err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	took = time.Since(start)
	if _, got, _ := strings.Cut(strings.TrimSpace(string(text)), " "); err == nil && got != want {
		err = fmt.Errorf("upload: server got %q, want %q", got, want)
	}
	return took, err
}

// do makes one HTTP request from a node.
func (l *Lab) do(ctx context.Context, node, method, url string, send io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, send)
	if err != nil {
		return nil, err
	}
	resp, err := l.HTTPClient(node).Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s %s: %s", method, url, resp.Status)
	}
	return resp.Body, nil
}

// percentile returns the p-quantile (0 to 1) of the replies' durations.
func percentile(replies []Reply, p float64) time.Duration {
	if len(replies) == 0 {
		return 0
	}
	times := make([]time.Duration, len(replies))
	for i, a := range replies {
		times[i] = a.Duration
	}
	slices.Sort(times)
	return times[int(p*float64(len(times)-1)+0.5)]
}
