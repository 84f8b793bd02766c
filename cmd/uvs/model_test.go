package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gaissmai/bart"
	"github.com/go-json-experiment/json"
	"github.com/rs/zerolog"

	"uvs/conntrack"
	"uvs/ctl"
	"uvs/ctl/api"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/ctl/rest"
	"uvs/ctl/store"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

var (
	modelSteps = flag.Int("model-steps", 0, "steps of TestModel; 0: as many as a quick test has")
	modelSeed  = flag.Uint64("model-seed", 0, "seed of TestModel; 0: a random one")
)

// step is operations that are to come into force together, all or none of them if it is whole.
type step struct {
	whole bool
	ops   []config.Op
}

// verdict is what must become of an operation: refused with one of two errnos, or made if both
// are 0. The first is that of the director, the second that of plainState.
type verdict [2]syscall.Errno

// matches reports whether err is what must become of an operation. Errors of commands may have
// no errno.
func (v verdict) matches(err error) bool {
	if refused := v != (verdict{}); err == nil || !refused {
		return err == nil && !refused
	}
	errno := errnoOf(err)
	return errno == 0 || errno == v[0] || errno == v[1]
}

func errnoOf(err error) syscall.Errno {
	refused, _ := errors.AsType[*config.Error](err)
	if refused == nil {
		return 0
	}
	return refused.Errno
}

// The same random operations are made by transactions, by the routes of resources, by commands
// of uvs and ipvsadm, and by files. The configuration is always the same, and so are refusals.
// What is saved and restored is the same too.
func TestModel(t *testing.T) {
	steps := *modelSteps
	switch {
	case steps != 0:
	case testing.Short():
		steps = 50
	default:
		steps = 500
	}
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: go test ./cmd/uvs -run TestModel -model-steps %d -model-seed %[1]d", seed, steps)
	m := newModel(t, seed)
	began := time.Now()
	for i := range steps {
		if m.step(); t.Failed() {
			t.Fatalf("in step %d", i+1)
		}
		if (i+1)%50 == 0 || i+1 == steps {
			m.checkSaved()
		}
	}
	t.Logf("%d operations in %d steps, %d of them refused; %v", m.ops, steps, m.refused, time.Since(began))
}

// model is directors that are all given the same operations.
type model struct {
	t       *testing.T
	maker   opMaker
	plain   *plainState
	dir     string
	kept    *store.Store // of transactions
	ops     int
	refused int

	transactions, resources, commands, files, spare *testDirector
	before                                          *config.Document // at the last checkSaved
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		t: t, maker: opMaker{rand.New(rand.NewPCG(seed, 1))}, plain: new(plainState), dir: t.TempDir(),
		before: new(config.State).Document(),
	}
	nowhere, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	out, oldErr, in, oldDial := os.Stdout, os.Stderr, os.Stdin, dial
	t.Cleanup(func() { os.Stdout, os.Stderr, os.Stdin, dial = out, oldErr, in, oldDial; nowhere.Close() })
	os.Stdout, os.Stderr = nowhere, nowhere
	m.transactions, m.resources, m.commands = newTestDirector(t), newTestDirector(t), newTestDirector(t)
	m.files, m.spare = newTestDirector(t), newTestDirector(t)
	m.reopen()
	dial = func() (*api.Client, error) { return m.commands.client, nil }
	return m
}

// step makes a step in all ways.
func (m *model) step() {
	s := m.maker.step(m.plain)
	m.ops += len(s.ops)
	errs, unread := transact(m.transactions.client, s)
	if unread && len(s.ops) > 1 { // none was tried
		m.compare(s)
		return
	}
	before := m.plain
	verdicts, states, last := m.judge(s, errs)
	if m.t.Failed() {
		return
	}
	undone := last >= 0
	var all sync.WaitGroup
	for _, maker := range []struct {
		d    *testDirector
		make func(op config.Op, now *plainState) error
	}{
		{m.resources, m.resources.byRoute}, {m.commands, m.byCommand},
	} {
		all.Go(func() {
			for i, v := range verdicts {
				if err := maker.make(s.ops[i], states[i]); !v.matches(err) {
					m.t.Errorf("%s: operation %d: %v, want %v", maker.d.name(m), i, err, v)
				}
			}
			if undone && len(verdicts) > 1 {
				m.undo(maker.d, before)
			}
		})
	}
	all.Go(func() { m.byFile(s, verdicts, states) })
	all.Wait()
	m.compare(s)
}

// judge tells from what became of the operations as a transaction what must become of them
// otherwise, and returns the states before each of them and after the last. last is the
// operation because of which all are refused; -1: they are not.
func (m *model) judge(s step, errs []error) (verdicts []verdict, states []*plainState, last int) {
	now := m.plain
	states = append(states, now)
	for i, op := range s.ops {
		next := now.clone()
		v := verdict{errnoOf(errs[i]), next.apply(op)}
		switch {
		case errs[i] == nil && v[1] != 0:
			m.t.Errorf("transaction: operation %d was made, want %v\n%s", i, v[1], describe(s))
			return nil, nil, 0
		case errs[i] != nil && v[0] == 0:
			m.t.Errorf("transaction: operation %d: %v\n%s", i, errs[i], describe(s))
			return nil, nil, 0
		}
		verdicts = append(verdicts, v)
		if v != (verdict{}) {
			m.refused++
			if s.whole {
				return verdicts, states, i
			}
			next = now
		}
		now = next
		states = append(states, now)
	}
	m.plain = now
	return verdicts, states, -1
}

// undo takes back the operations before one that was refused.
func (m *model) undo(d *testDirector, to *plainState) {
	if _, err := d.client.ApplyDocument(to.document(), api.ApplyOptions{}); err != nil {
		m.t.Errorf("%s: undo: %v", d.name(m), err)
	}
	if err := d.client.Apply(config.Op{Kind: roleOf(to.standby)}); err != nil {
		m.t.Errorf("%s: undo: %v", d.name(m), err)
	}
}

func roleOf(standby bool) config.OpKind {
	if standby {
		return config.Standby
	}
	return config.Active
}

// compare compares the configurations of all directors.
func (m *model) compare(s step) {
	want := textOf(m.t, m.plain.document())
	for _, d := range []*testDirector{m.transactions, m.resources, m.commands, m.files} {
		if got, _ := d.manager.Document(); textOf(m.t, got) != want {
			m.t.Errorf("%s: %s\nafter %s", d.name(m), difference(textOf(m.t, got), want), describe(s))
		}
		if role := string(roleOf(m.plain.standby)); d.manager.Role() != role {
			m.t.Errorf("%s: role %s, want %s", d.name(m), d.manager.Role(), role)
		}
	}
}

// difference shows where two texts differ.
func difference(got, want string) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	part := func(s string) string { return s[max(0, i-150):min(len(s), i+150)] }
	return fmt.Sprintf("at byte %d\n...%s...\nwant\n...%s...", i, part(got), part(want))
}

func describe(s step) string {
	text, _ := json.Marshal(s.ops, json.Deterministic(true))
	return string(text)
}

func textOf(t *testing.T, d *config.Document) string {
	text, err := json.Marshal(d, json.Deterministic(true))
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// transact makes a step by one request. It returns the error of each operation, or of the one
// because of which all are refused. unread: that one could not be decoded.
func transact(c *api.Client, s step) (errs []error, unread bool) {
	errs = make([]error, len(s.ops))
	result, err := c.Transact(api.Transaction{Operations: s.ops, Whole: s.whole})
	if refused, ok := errors.AsType[*config.Error](err); ok {
		words := strings.Split(string(refused.Pointer), "/") // "", "operations", index
		if len(words) > 2 {
			i, _ := strconv.Atoi(words[2])
			errs[i] = err
			return errs, len(words) > 3
		}
	}
	for i := range errs {
		if errs[i] = err; err == nil && result.Results[i] != nil {
			errs[i] = result.Results[i]
		}
	}
	return errs, false
}

// testDirector is a director without a data path, with its API on a socket.
type testDirector struct {
	manager *ctl.Manager
	client  *api.Client
	http    *http.Client
	close   func()
}

func (d *testDirector) name(m *model) string {
	return map[*testDirector]string{
		m.transactions: "transactions", m.resources: "resources", m.commands: "commands", m.files: "files",
	}[d]
}

func newTestDirector(t *testing.T) *testDirector {
	t.Helper()
	size := conntrack.Config{Max: 1 << 10, Workers: 1, ServerIDs: compile.MaxServerIDs, Seed: 1}
	conns, err := conntrack.NewTable(size)
	if err != nil {
		t.Fatal(err)
	}
	manager := ctl.NewManager(conns, 1, testHost{}, testGuard{}, zerolog.Nop())
	server := &rest.Server{
		Manager: manager, Counters: func() []api.Counter { return nil }, Started: time.Now(), Logger: zerolog.Nop(),
	}
	socket := filepath.Join(t.TempDir(), "uvs.sock")
	l, err := rest.Listen(socket, rest.Access{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() {
		if err := server.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	d := &testDirector{manager: manager, http: &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) },
	}}}
	d.close = sync.OnceFunc(func() { stop(); served.Wait(); conns.Close() })
	t.Cleanup(d.close)
	if d.client, err = api.DialWait(socket, 0); err != nil {
		t.Fatal(err)
	}
	return d
}

// testHost is a host with one interface and no neighbours.
type testHost struct{}

var testHostNet = func() *director.HostNet {
	port := director.Port{
		Name: "eth0", Index: 2, MAC: wire.MAC{2, 5: 0xd}, MTU: 1500, Addr4: netip.MustParseAddr("10.2.255.1"),
	}
	h := &director.HostNet{
		Ports: []director.Port{port}, Routes: new(bart.Table[director.Route]),
		HostAddrs: map[wire.Addr]int{wire.AddrFrom(port.Addr4): port.Index},
	}
	h.Routes.Insert(netip.MustParsePrefix("10.2.0.0/16"), director.Route{Port: 0})
	return h
}()

func (testHost) HostNet() *director.HostNet { return testHostNet }
func (testHost) KeepResolved([]netip.Addr)  {}
func (testHost) Announce([]netip.Addr)      {}

// testGuard takes all rules.
type testGuard struct{}

func (testGuard) Apply(guard.Rules) error { return nil }

// ask sends a request with a body, unless that is nil. header are lines such as "If-Match: *".
// A refusal is a *config.Error.
func (d *testDirector) ask(method, path string, body any, header ...string) error {
	var text io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		text = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://uvs/v1/"+path, text)
	if err != nil {
		return err
	}
	if req.Header.Set("Content-Type", "application/json"); method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode < 300 {
		return err
	}
	var p api.Problem
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	return p.Refusal()
}
