package realserver

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
)

// startLoopback starts a server on free ports of the loopback device and
// returns its HTTP and lvs-info addresses.
func startLoopback(t *testing.T, name string) (httpAddr, infoAddr string) {
	t.Helper()
	for range 20 { // another process may take a free port before Start does
		ports := freePorts(t, 2)
		s, err := Start(Config{
			Name:      name,
			Listen:    []netip.Addr{netip.MustParseAddr("127.0.0.1")},
			HTTPPorts: ports[:1],
			InfoPort:  ports[1],
		})
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	}
	t.Fatal("no free ports on 127.0.0.1")
	return "", ""
}

func freePorts(t *testing.T, n int) []uint16 {
	t.Helper()
	var ports []uint16
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, uint16(l.Addr().(*net.TCPAddr).Port))
	}
	return ports
}

func TestPageTellsServerAndClient(t *testing.T) {
	addr, _ := startLoopback(t, "rs7")
	resp, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	lines := strings.Split(string(body), "\n")
	if lines[0] != "rs7" || !strings.HasPrefix(lines[1], "client 127.0.0.1:") || lines[2] != "server "+addr {
		t.Errorf("page is %q; want the name, client 127.0.0.1:…, server %s", body, addr)
	}
	if got := resp.Header.Get("X-Server"); got != "rs7" {
		t.Errorf("X-Server is %q, want rs7", got)
	}
}

func TestTCPInfoGreetsThenEchoes(t *testing.T) {
	_, addr := startLoopback(t, "rs7")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); line != "rs7\n" {
		t.Fatalf("greeting is %q (%v), want the name on a line", line, err)
	}
	io.WriteString(c, "hello")
	c.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(r); string(rest) != "hello" {
		t.Errorf("echo is %q (%v), want hello", rest, err)
	}
}

func TestUDPInfoAnswersWithNameInFront(t *testing.T) {
	_, addr := startLoopback(t, "rs7")
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	long := strings.Repeat("x", 65507)
	for sent, want := range map[string]string{
		"hello": "rs7 hello",
		"":      "rs7 ",
		long:    "rs7 " + long[:65507-4], // cut to what a datagram holds
	} {
		io.WriteString(c, sent)
		buf := make([]byte, 1<<16)
		n, err := c.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("sent %d bytes, got %d bytes %.20q (%v), want %d bytes %.20q", len(sent), n, buf[:n], err,
				len(want), want)
		}
	}
}

func TestCloseEndsOpenConnections(t *testing.T) {
	ports := freePorts(t, 2)
	s, err := Start(Config{
		Name: "rs7", Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, HTTPPorts: ports[:1],
		InfoPort: ports[1],
	})
	if err != nil {
		t.Skip(err) // another process took the ports
	}
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[1]))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	bufio.NewReader(c).ReadString('\n')
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := io.ReadAll(c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("open connection after Close: %v, want its end", err)
	}
}

func TestStartFailsWhole(t *testing.T) {
	ports := freePorts(t, 2)
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports[1]))
	if err != nil {
		t.Skip(err)
	}
	defer taken.Close()
	s, err := Start(Config{
		Name: "rs7", Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, HTTPPorts: ports[:1],
		InfoPort: ports[1],
	})
	if s != nil || !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("Start with a port in use: %v, %v; want no server and address in use", s, err)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0]))
	if err != nil {
		t.Fatalf("the HTTP port is still open after a failed Start: %v", err)
	}
	l.Close()
}

func TestPages(t *testing.T) {
	h := pages("rs7")
	do := func(method, url string, body io.Reader) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, url, body))
		return w.Code, w.Body.String()
	}
	upload := "some bytes"
	for _, row := range []struct {
		what, method, url, body string
		code                    int
		want                    string
	}{
		{"an upload is answered with its length and hash", "PUT", "/file", upload, 200, fmt.Sprintf("rs7 10 %x\n",
			sha256.Sum256([]byte(upload)))},
		{"POST does the same", "POST", "/", upload, 200, fmt.Sprintf("rs7 10 %x\n", sha256.Sum256([]byte(upload)))},
		{"an upload to /discard is only counted", "PUT", "/discard", upload, 200, "rs7 10\n"},
		{"a download of nothing is empty", "GET", "/bytes?n=0", "", 200, ""},
		{"a download without a length is refused", "GET", "/bytes", "", 400, "n is \"\"; want a number of bytes\n"},
		{"a negative length is refused", "GET", "/bytes?n=-1", "", 400, "n is \"-1\"; want a number of bytes\n"},
	} {
		code, got := do(row.method, row.url, strings.NewReader(row.body))
		if code != row.code || got != row.want {
			t.Errorf("%s: %s %s gave %d %q, want %d %q", row.what, row.method, row.url, code, got, row.code, row.want)
		}
	}
	if _, got := do("GET", "/bytes?n=1000000", nil); len(got) != 1000000 {
		t.Errorf("GET /bytes?n=1000000 gave %d bytes", len(got))
	} else if _, err := io.WriteString(&Checker{}, got); err != nil {
		t.Errorf("GET /bytes: %v", err)
	}
}

func TestPatternIsTheSameHoweverRead(t *testing.T) {
	const n = 3*patternLen + 5
	want := make([]byte, n)
	(&Pattern{}).Read(want)
	var byRead bytes.Buffer
	r := &Pattern{}
	for size := 1; byRead.Len() < n; size = size*3 + 1 {
		io.CopyN(&byRead, r, int64(size))
	}
	var sent bytes.Buffer
	(&Pattern{}).send(&sent, n)
	for how, got := range map[string][]byte{"in growing pieces": byRead.Bytes()[:n], "by send": sent.Bytes()} {
		if !bytes.Equal(got, want) {
			t.Errorf("pattern read %s differs from pattern read at once", how)
		}
	}
}

func TestCheckerFindsTheFirstWrongByte(t *testing.T) {
	b := make([]byte, 2*patternLen)
	(&Pattern{}).Read(b)
	b[patternLen+77] ^= 1
	c := &Checker{}
	if _, err := c.Write(b[:1000]); err != nil {
		t.Fatal(err)
	}
	n, err := c.Write(b[1000:])
	if n != patternLen+77-1000 || err == nil ||
		!strings.Contains(err.Error(), fmt.Sprintf("byte %d is", patternLen+77)) {
		t.Errorf("Checker found %d good bytes more, error %v; want the flipped byte %d named", n, err, patternLen+77)
	}
}
