package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/dataplane/memlink"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// The socket of a live director stays, that of a dead one is replaced, and a file stays.
func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "uvs.sock")
	l, err := Listen(path, Access{})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v; want 0600", info.Mode(), err)
	}
	if _, err := Listen(path, Access{}); err == nil || !strings.Contains(err.Error(), "in use by a live director") {
		t.Errorf("second director: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if l, err = Listen(path, Access{}); err != nil {
		t.Fatalf("leftover socket: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, Access{}); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("over a file: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("the file is gone")
	}
}

// A path that cannot be a socket is refused with what would be right, and nothing is made.
func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		"":                                    "must be 1 to 107",
		"/" + strings.Repeat("x", 120):        "must be 1 to 107",
		filepath.Join(dir, "no", "such", "s"): "no such file or directory",
	} {
		if _, err := Listen(path, Access{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q in it", path, err, want)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("made %v", left)
	}
}

// Without a director, commands wait as long as UVS_WAIT says. The error names the socket,
// or the variable if that is wrong.
func TestDialWithoutDirector(t *testing.T) {
	path := filepath.Join(t.TempDir(), "uvs.sock")
	for _, row := range []struct {
		wait string
		took time.Duration
		want string
	}{
		{"0", 0, path},
		{"0s", 0, path},
		{"0.2", 200 * time.Millisecond, path},
		{"150ms", 150 * time.Millisecond, path},
		{"", 2 * time.Second, path},
		{"-1", 0, "UVS_WAIT"},
		{"soon", 0, "UVS_WAIT"},
	} {
		t.Setenv("UVS_WAIT", row.wait)
		begin := time.Now()
		_, err := api.Dial(path)
		if took := time.Since(begin); took < row.took || row.took == 0 && took > 2*time.Second {
			t.Errorf("UVS_WAIT=%s: failed after %v, want %v", row.wait, took, row.took)
		}
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("UVS_WAIT=%s: error %v, want %q in it", row.wait, err, row.want)
		}
	}
}

// A command that comes before the director, or after the death of one, reaches it when it
// listens.
func TestDialBeforeListen(t *testing.T) {
	t.Setenv("UVS_WAIT", "20")
	for _, dead := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "uvs.sock")
		if dead {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			l.Close()
		}
		answer := make(chan error)
		go func() { _, err := api.Dial(path); answer <- err }()
		select {
		case err := <-answer:
			t.Errorf("dead socket %v: did not wait: %v", dead, err)
			continue
		case <-time.After(100 * time.Millisecond):
		}
		l, err := Listen(path, Access{})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-answer; err != nil {
			t.Errorf("dead socket %v: %v", dead, err)
		}
		l.Close()
	}
}

// Of directors that start at the same moment with the socket of a dead one, exactly one gets
// it and answers there.
func TestListenAtOnce(t *testing.T) {
	for range 50 {
		path := filepath.Join(t.TempDir(), "uvs.sock")
		dead, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		dead.(*net.UnixListener).SetUnlinkOnClose(false)
		dead.Close()

		var got atomic.Int32
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				l, err := Listen(path, Access{})
				if err != nil {
					return
				}
				got.Add(1)
				t.Cleanup(func() { l.Close() })
			})
		}
		all.Wait()
		if got.Load() != 1 {
			t.Fatalf("%d directors have the socket", got.Load())
		}
		if _, err := api.Dial(path); err != nil {
			t.Fatal(err)
		}
	}
}

// The client gets the manager's answers, and errors with their errno.
func TestClient(t *testing.T) {
	f := newFixture(t)
	c := f.listen(t)
	server := withServer(vip, "10.2.0.1:8080")
	ops := []config.Op{add80(vip), server, server, {Kind: "improve"}}
	errs := c.ApplyAll(ops)
	if errs[0] != nil || errs[1] != nil || !errors.Is(errs[2], syscall.EEXIST) || !errors.Is(errs[3], syscall.EINVAL) {
		t.Errorf("errors %v", errs)
	}
	if err := c.Apply(withServer("10.9.0.9:80", "10.2.0.2:80")); !errors.Is(err, syscall.ESRCH) ||
		err.Error() != "no service TCP 10.9.0.9:80" {
		t.Errorf("error %v", err)
	}
	f.connect(1)
	list, err := c.Services()
	if want := f.Manager.Services(); err != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("services %+v, %v; want %+v", list, err, want)
	}
	for _, key := range []config.ServiceKey{key("tcp:" + vip), {FWMark: 7, IPv6: true}} {
		f.Manager.Apply(config.Op{Kind: config.AddService, Service: &config.Service{ServiceKey: key, Scheduler: "rr"}})
		got, err := c.Service(key)
		if want, _ := f.Manager.Service(key); err != nil || !reflect.DeepEqual(got, want) || got.ServiceKey != key {
			t.Errorf("service %+v, %v; want %+v", got, err, want)
		}
	}
	if _, err := c.Service(key("tcp:10.9.0.9:80")); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("error %v", err)
	}
	var conns []api.ConnStatus
	err = c.Conns(func(s api.ConnStatus) error { conns = append(conns, s); return nil })
	if err != nil || len(conns) != 1 || conns[0].Server != netip.MustParseAddrPort("10.2.0.1:8080") ||
		conns[0].State != "SYN_RECV" {
		t.Errorf("conns %+v, %v", conns, err)
	}
	f.guard.refuse = errors.New("nft is out of order")
	if err := c.Apply(config.Op{Kind: config.Flush}); !errors.Is(err, syscall.EIO) ||
		err.Error() != "nft is out of order" {
		t.Errorf("error %v", err)
	}
}

// connect begins connections with the VIP.
func (f *fixture) connect(n int) {
	var frames []memlink.Record
	for i := range n {
		p := wiretest.Packet{
			Src: fmt.Sprintf("10.1.0.2:%d", 10000+i), Dst: vip, TCPFlags: wire.TCPSyn,
			DstMAC: f.host.HostNet().Ports[0].MAC,
		}
		frame := p.Frame()
		frames = append(frames, memlink.Record{Data: frame.Bytes()})
	}
	f.link.Feed(frames...)
	for f.Manager.CountConns(api.ConnFilter{}).Live < n {
		time.Sleep(time.Millisecond)
	}
}

// The names and shapes of the JSON are stable.
func TestJSON(t *testing.T) {
	f := newFixture(t)
	f.must(t, add80(vip), withServer(vip, "10.2.0.1:8080"), config.Op{
		Kind: config.AddService, Service: &config.Service{ServiceKey: key("tcp:[fd00:9::1]:80"), Scheduler: "wlc"},
	})
	second := netip.MustParseAddr("10.2.0.2")
	for _, rule := range []config.AdminRule{
		{AdminScope: config.AdminScope{Addr: second}, Admin: config.AdminDrain},
		{AdminScope: config.AdminScope{Service: key("tcp:" + vip), Addr: second, Port: 8080}, Admin: config.AdminDown},
	} {
		f.must(t, config.Op{Kind: config.SetAdmin, Admin: &rule})
	}
	f.listen(t)
	for path, want := range map[string]string{
		"/v1/timeouts": `{"tcp":900,"tcp_fin":120,"udp":300}`,
		"/v1/admin": `[{"service":{"address":"10.9.0.1","port":80,"protocol":"tcp"},` +
			`"address":"10.2.0.2","port":8080,"admin":"down"},` +
			`{"address":"10.2.0.2","admin":"drain"}]`,
		"/v1/conns/count": `{"live":0,"closing":0,"templates":0,"clients":0,"oldest":0}`,
		"/v1/services": `[{"address":"10.9.0.1","port":80,"protocol":"tcp","scheduler":"rr",` +
			`"revision":2,"stats":{"conns":0,"in_pkts":0,"out_pkts":0,"in_bytes":0,"out_bytes":0,` +
			`"cps":0,"in_pps":0,"out_pps":0,"in_bps":0,"out_bps":0},` +
			`"servers":[{"address":"10.2.0.1","port":8080,"method":"nat","weight":1,"admin":"up",` +
			`"active":0,"inactive":0,"persist_conns":0,` +
			`"stats":{"conns":0,"in_pkts":0,"out_pkts":0,"in_bytes":0,"out_bytes":0,` +
			`"cps":0,"in_pps":0,"out_pps":0,"in_bps":0,"out_bps":0},"state":"up","hop":"eth1 02:00:00:01:00:00",` +
			`"path":{"interface":"eth1","mtu":1500,"too_big":0,"split":0}}]},` +
			`{"address":"fd00:9::1","port":80,"protocol":"tcp","scheduler":"wlc",` +
			`"revision":3,"stats":{"conns":0,"in_pkts":0,"out_pkts":0,"in_bytes":0,"out_bytes":0,` +
			`"cps":0,"in_pps":0,"out_pps":0,"in_bps":0,"out_bps":0},"servers":[]}]`,
	} {
		if got := f.ask(t, "GET", path, ""); got.text != want {
			t.Errorf("%s\n%s\nwant\n%s", path, got.text, want)
		}
	}
}

// A request that is not understood is refused in one line, whatever its size.
func TestBadRequests(t *testing.T) {
	f := newFixture(t)
	f.listen(t)
	for sentence, r := range map[string]struct {
		body   string
		status int
	}{
		"nothing":                   {"", 400},
		"no JSON":                   {"add-service", 400},
		"half of it":                {`{"operations":[`, 400},
		"an unknown field":          {`{"operations":[{"verb":"flush","when":"now"}]}`, 422},
		"an address that is none":   {`{"operations":[{"verb":"add-service","service":{"address":"10.9"}}]}`, 422},
		"an endless body":           {`{"verb":"` + strings.Repeat("x", maxBody+1), 413},
		"one operation for many":    {`{"operations":{"verb":"flush"}}`, 422},
		"no operation":              {`{"operations":[]}`, 422},
		"more operations than many": {`{"operations":[` + strings.Repeat("{},", api.MaxOps) + "{}]}", 422},
	} {
		got := f.ask(t, "POST", "/v1/transactions", r.body)
		var p api.Problem
		if err := json.Unmarshal([]byte(got.text), &p); err != nil || got.StatusCode != r.status ||
			p.Status != r.status || p.Errno == 0 || p.Detail == "" || strings.Contains(p.Detail, "\n") ||
			got.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %s, %.300s, %v", sentence, got.Status, got.text, err)
		}
	}
}

// A client that requests conns or events and does not read them blocks neither commands, nor
// other listings, nor the end of the director, for which the cleanup of listen waits.
func TestClientThatStopsReading(t *testing.T) {
	f := newFixture(t)
	f.must(t, add80(vip), withServer(vip, "10.2.0.1:8080"))
	f.connect(3000) // their listing is more than the socket's buffers take
	c := f.listen(t)
	for _, what := range []string{"conns", "events"} {
		lazy, err := net.Dial("unix", f.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer lazy.Close()
		fmt.Fprintf(lazy, "GET /v1/%s HTTP/1.1\r\nHost: uvs\r\n\r\n", what)
		if _, err := lazy.Read(make([]byte, 1)); err != nil { // it is being answered
			t.Fatal(err)
		}
	}
	zeros := slices.Repeat([]config.Op{{Kind: config.Zero}}, api.MaxOps)
	for range 2 {
		if err := errors.Join(c.ApplyAll(zeros)...); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	if err := c.Conns(func(api.ConnStatus) error { n++; return nil }); err != nil || n != 3000 {
		t.Errorf("%d conns, %v", n, err)
	}
}
