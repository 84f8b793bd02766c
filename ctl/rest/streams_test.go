package rest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// open begins a stream.
func (f *fixture) open(t *testing.T, path string, header ...string) *bufio.Scanner {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://uvs"+path, nil)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := unixHTTP(f.socket).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	return bufio.NewScanner(resp.Body)
}

// Events come as lines or as Server-Sent Events, from now on or from a revision on. A client
// that resumes misses none.
func TestEvents(t *testing.T) {
	f := newFixture(t)
	c := f.listen(t)
	live, sent := f.open(t, "/v1/events"), f.open(t, "/v1/events", "Accept: text/event-stream")
	for i := range 5 {
		f.must(t, add80(fmt.Sprintf("10.9.0.%d:80", i+1)))
	}
	for i := range 5 {
		var ev api.Event
		live.Scan()
		if json.Unmarshal(live.Bytes(), &ev) != nil || ev.Revision != uint64(i+1) || ev.Op.Kind != config.AddService {
			t.Errorf("event %s", live.Text())
		}
		var lines []string
		for sent.Scan() && sent.Text() != "" {
			lines = append(lines, sent.Text())
		}
		if len(lines) != 3 || lines[0] != fmt.Sprintf("id: %d", i+1) || lines[1] != "event: applied" ||
			!strings.HasPrefix(lines[2], `data: {"time":`) {
			t.Errorf("sent %q", lines)
		}
	}
	for query, header := range map[string]string{"?since=3": "A: b", "": "Last-Event-ID: 3"} {
		resumed := f.open(t, "/v1/events"+query, header)
		if resumed.Scan(); !strings.Contains(resumed.Text(), `"revision":4`) {
			t.Errorf("resumed with %s", resumed.Text())
		}
	}
	f.ask(t, "GET", "/v1/events?since=9", "").want(t, 410, `"errno":75`)
	f.ask(t, "GET", "/v1/events?since=x", "").want(t, 422)
	revision := uint64(9)
	err := c.EventsSince(&revision, func(api.Event) error { return nil })
	if !errors.Is(err, syscall.EOVERFLOW) {
		t.Errorf("error %v", err)
	}
}

// A client that lags more than the kept events behind is told so by the last event.
func TestEventsLag(t *testing.T) {
	f := newFixture(t)
	c := f.listen(t)
	started, behind, result := make(chan bool), make(chan bool), make(chan error)
	go func() {
		n := 0
		result <- c.Events(func(api.Event) error {
			if n++; n == 1 {
				started <- true
				<-behind
			}
			return nil
		})
	}()
	zero := []config.Op{{Kind: config.Zero}}
	for waiting := true; waiting; {
		f.Manager.ApplyAll(zero)
		select {
		case <-started:
			waiting = false
		case <-time.After(time.Millisecond):
		}
	}
	many := make([]config.Op, api.MaxOps)
	for i := range many {
		many[i] = zero[0]
	}
	for range 3 { // also what the socket's buffers take
		f.Manager.ApplyAll(many)
	}
	close(behind)
	if err := <-result; !errors.Is(err, syscall.EOVERFLOW) {
		t.Errorf("error %v", err)
	}
}

// A change waits for next hops only if it is asked to, and not for ever.
func TestWait(t *testing.T) {
	f := newFixture(t)
	f.must(t, add80(vip))
	f.listen(t)
	path := web + "/servers/10.2.9.9:80" // no neighbour
	f.ask(t, "PUT", path, "{}").want(t, 201, `"unreachable"`)
	f.ask(t, "PUT", path+"?wait=1s", `{"weight":2}`).want(t, 504, "in force", "10.2.9.9:80", `"errno":110`)
	f.ask(t, "GET", path, "").want(t, 200, `"weight":2`)
	answered := make(chan answer)
	go func() { answered <- f.ask(t, "PATCH", path+"?wait=5m", `{"weight":3}`) }()
	for {
		if svc, _ := f.Manager.Service(key("tcp:" + vip)); svc.ServerStatuses[0].Weight == 3 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case <-answered:
		t.Error("it did not wait")
	default:
	}
	f.host.learn(neighbour(9, 9))
	f.Manager.RoutesChanged()
	got := <-answered
	got.want(t, 200, `"weight":3`, `"state":"up"`)
	f.ask(t, "PUT", path+"?wait=1", "{}").want(t, 422, "query.wait", "with its unit")
	f.ask(t, "PATCH", web+"?wait=5m", `{"scheduler":"rr"}`).want(t, 200)
}

// A client that sends its request slowly loses only its own connection, and a refused client
// need not send the rest.
func TestSlowSender(t *testing.T) {
	old := readTimeout
	readTimeout = 300 * time.Millisecond
	defer func() { readTimeout = old }()
	f := newFixture(t)
	c := f.listen(t)
	for sentence, begin := range map[string]string{
		"no header":      "PUT /v1/role HT",
		"half a body":    "PUT /v1/role HTTP/1.1\r\nHost: uvs\r\nContent-Length: 100\r\n\r\n{",
		"no route":       "PUT /v1/none HTTP/1.1\r\nHost: uvs\r\nContent-Length: 100\r\n\r\n{",
		"a wrong method": "PATCH /v1/role HTTP/1.1\r\nHost: uvs\r\nContent-Length: 100\r\n\r\n{",
	} {
		slow, err := net.Dial("unix", f.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close()
		fmt.Fprint(slow, begin)
		if _, err := c.Services(); err != nil {
			t.Fatal(err)
		}
		slow.SetReadDeadline(time.Now().Add(20 * time.Second))
		for buf := make([]byte, 4096); ; {
			n, err := slow.Read(buf)
			if errors.Is(err, syscall.EAGAIN) || err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("%s: the connection stays", sentence)
			}
			if err != nil {
				break
			}
			if text := string(buf[:n]); sentence == "half a body" && !strings.Contains(text, "408") {
				t.Errorf("%s: %s", sentence, text)
			}
		}
	}
}

// The end of the time for a request does not end a stream.
func TestStreamOutlivesReadTimeout(t *testing.T) {
	old := readTimeout
	readTimeout = 100 * time.Millisecond
	defer func() { readTimeout = old }()
	f := newFixture(t)
	f.listen(t)
	events := f.open(t, "/v1/events")
	<-time.After(3 * readTimeout)
	f.must(t, add80(vip))
	if !events.Scan() {
		t.Error("the stream ended")
	}
	f.ask(t, "PUT", web+"/servers/10.2.9.9:80?wait=1s", "{}").want(t, 504)
}

// A hundred clients that edit services at the same time, each by what it read, lose no edit:
// each is made once, or refused because another was faster.
func TestManyClients(t *testing.T) {
	f := newFixture(t)
	c := f.listen(t)
	const clients, services, edits = 100, 20, 5
	for i := range services {
		f.must(t, add80(fmt.Sprintf("10.9.0.%d:80", i+1)))
		f.must(t, config.Op{Kind: config.EditService, Service: &config.Service{
			ServiceKey: key(fmt.Sprintf("tcp:10.9.0.%d:80", i+1)), Scheduler: "rr", Persist: 1,
		}})
	}
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			mine := key(fmt.Sprintf("tcp:10.9.0.%d:80", n%services+1))
			for made := 0; made < edits; {
				s, err := c.Service(mine)
				if err != nil {
					t.Error(err)
					return
				}
				edit := config.Service{ServiceKey: mine, Scheduler: "rr", Persist: s.Persist + 1}
				after, err := c.PutService(edit, &s.Revision)
				switch {
				case err == nil && after.Revision > s.Revision:
					made++
				case !errors.Is(err, syscall.ESTALE):
					t.Errorf("%v: revision %d, then %d", err, s.Revision, after.Revision)
					return
				}
			}
		})
	}
	all.Wait()
	for _, s := range f.Manager.Services() {
		if s.Persist != 1+edits*clients/services {
			t.Errorf("service %s: %d edits", s.ServiceKey, s.Persist-1)
		}
	}
}

// Patches of the same service at the same time are all made.
func TestManyPatches(t *testing.T) {
	f := newFixture(t)
	f.must(t, add80(vip))
	f.listen(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			path := fmt.Sprintf("%s/servers/10.2.0.%d:80", web, i+1)
			f.ask(t, "PUT", path, "{}").want(t, 201)
			f.ask(t, "PATCH", path, fmt.Sprintf(`{"weight":%d}`, i+10)).want(t, 200)
			f.ask(t, "PATCH", web+"/settings", fmt.Sprintf(`{"slow_start":"%ds"}`, i)).want(t, 200)
			f.ask(t, "PATCH", web, `{"scheduler":"wlc"}`).want(t, 200)
		})
	}
	all.Wait()
	s, err := f.Manager.Service(key("tcp:" + vip))
	if err != nil || len(s.ServerStatuses) != 20 || s.Scheduler != "wlc" {
		t.Fatalf("service %+v, %v", s, err)
	}
	for _, v := range s.ServerStatuses {
		if v.Weight != int32(v.Addr.As4()[3])+9 {
			t.Errorf("server %s has weight %d", v.ServerKey, v.Weight)
		}
	}
}

// FuzzPut puts bodies: each is taken, or refused with a problem; what was taken can be read and
// put again.
func FuzzPut(f *testing.F) {
	for _, seed := range []string{
		`{"scheduler":"rr","servers":[{"address":"10.2.0.1","weight":3}]}`, `{}`, `[]`, `{"servers":null}`, `{"sorry":{}}`,
		`{"settings":{"slow_start":"30s"},"persistent":"5m","netmask":"255.255.255.0"}`, `{"a":{"b":[1,"x"]}}`,
		`{"services":[{"address":"10.9.0.2","port":80,"protocol":"tcp"}],"marks":[{"mark":1}]}`, "null", `{"x":1,"x":2}`,
	} {
		f.Add(seed)
	}
	x := newFixture(f)
	x.listen(f)
	put := func(t *testing.T, path, text string) bool {
		got := x.ask(t, "PUT", path, text)
		var p api.Problem
		switch {
		case got.StatusCode < 300:
			return true
		case got.StatusCode >= 500, json.Unmarshal([]byte(got.text), &p) != nil,
			p.Status != got.StatusCode, p.Detail == "":
			t.Errorf("PUT %s %q: %s %s", path, text, got.Status, got.text)
		}
		return false
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, path := range []string{web, "/v1/config", "/v1/settings", "/v1/marks", "/v1/admin", "/v1/role"} {
			read := strings.Replace(path, "/v1/role", "", 1)
			if put(t, path, text) && read != "" && path != "/v1/settings" {
				if got := x.ask(t, "GET", path, ""); !put(t, path, got.text) {
					t.Errorf("%s: %q was taken, but not what is read then: %s", path, text, got.text)
				}
			}
		}
	})
}
