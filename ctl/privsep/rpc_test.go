package privsep

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"uvs/ctl/guard"
	"uvs/dataplane/ring"
)

// testPart is a Part that remembers what it was asked.
type testPart struct {
	t      *testing.T
	begin  Begin
	rules  guard.Rules
	refuse error
	states []string

	workers int
	asked   string
}

func (p *testPart) Begin() (*Begin, error)  { return &p.begin, nil }
func (p *testPart) Config() ([]byte, error) { return []byte("text"), p.refuse }
func (p *testPart) Certificates() ([3][]byte, error) {
	return [3][]byte{[]byte("certificate"), nil, []byte("ca")}, p.refuse
}

// Sockets opens files instead of sockets. Worker 1 has no wake socket.
func (p *testPart) Sockets(i int) (list []ring.Sockets, err error) {
	for w := range p.workers {
		s := ring.Sockets{Ring: p.file(fmt.Sprintf("ring %d %d", i, w)), Wake: -1}
		if w != 1 {
			s.Wake = p.file(fmt.Sprintf("wake %d %d", i, w))
		}
		list = append(list, s)
	}
	return list, p.refuse
}

// file returns a descriptor of a file with a text.
func (p *testPart) file(text string) int {
	fd, err := unix.MemfdCreate("test", 0)
	if err == nil {
		_, err = unix.Pwrite(fd, []byte(text), 0)
	}
	if err != nil {
		p.t.Error(err)
	}
	return fd
}

func (p *testPart) PacketSocket(index int, etherType uint16, filter []bpf.RawInstruction) (*os.File, error) {
	if p.refuse != nil {
		return nil, p.refuse
	}
	return os.NewFile(uintptr(p.file(fmt.Sprint(index, etherType, filter))), "packet"), nil
}

func (p *testPart) Solicit(index int, addr netip.Addr, flags int) error {
	p.asked = fmt.Sprint(index, addr, flags)
	return p.refuse
}

func (p *testPart) Apply(r guard.Rules) error {
	if p.refuse == nil {
		p.rules = r
	}
	return p.refuse
}
func (p *testPart) Dropped() (guard.Dropped, error) { return guard.Dropped{VIP: 7}, p.refuse }
func (p *testPart) Notify(state string) error {
	p.states = append(p.states, state)
	return p.refuse
}

// connect connects a client with a part in this process.
func connect(t *testing.T, part Part, signals chan os.Signal) *Client {
	t.Helper()
	requests, theirRequests, err := pair(unix.SOCK_STREAM | unix.SOCK_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	carrier, theirCarrier, err := pair(unix.SOCK_SEQPACKET)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		newServer(part, carrier, signals).ServeConn(requests)
		close(done)
	}()
	c := newClient(theirRequests, theirCarrier)
	t.Cleanup(func() {
		c.rpc.Close()
		<-done
		carrier.Close()
		theirCarrier.Close()
	})
	return c
}

func read(t *testing.T, fd int) string {
	t.Helper()
	f := os.NewFile(uintptr(fd), "received")
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<10))
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// All that one process asks arrives at the other, and so do the answers.
func TestParts(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	remote, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	state, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	part := &testPart{t: t, workers: 256, begin: Begin{
		Prepared: Prepared{Config: []byte("{}"), User: 5, PID: 6, HasRemote: true, HasState: true},
		Listener: listener, Remote: remote, State: state,
	}}
	c := connect(t, part, nil)
	b, err := c.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Listener.Close()
	defer b.Remote.Close()
	defer b.State.Close()
	if b.User != 5 || b.PID != 6 || b.Remote.Addr().String() != remote.Addr().String() ||
		b.Listener.Addr().String() != listener.Addr().String() {
		t.Errorf("begins with %+v", b)
	}
	if entries, err := os.ReadDir(fmt.Sprintf("/proc/self/fd/%d", b.State.Fd())); err != nil || len(entries) != 1 {
		t.Errorf("state directory: %v, %v", entries, err)
	}
	sockets, err := c.Sockets(4)
	if err != nil || len(sockets) != 256 || sockets[1].Wake != -1 {
		t.Fatalf("%d sockets: %v", len(sockets), err)
	}
	for w, s := range sockets {
		if text := read(t, s.Ring); text != fmt.Sprintf("ring 4 %d", w) {
			t.Errorf("worker %d has %q", w, text)
		}
		if s.Wake >= 0 {
			if text := read(t, s.Wake); text != fmt.Sprintf("wake 4 %d", w) {
				t.Errorf("worker %d has %q", w, text)
			}
		}
	}
	filter := []bpf.RawInstruction{{Op: 6, K: 9}}
	f, err := c.PacketSocket(3, 0x806, filter)
	if err != nil {
		t.Fatal(err)
	}
	if text := read(t, int(f.Fd())); text != fmt.Sprint(3, 0x806, filter) {
		t.Errorf("packet socket %q", text)
	}
	if err := c.Solicit(2, netip.MustParseAddr("fe80::1%eth0"), 1); err != nil || part.asked != "2 fe80::1%eth0 1" {
		t.Errorf("solicited %q, %v", part.asked, err)
	}
	if d, err := c.Dropped(); d.VIP != 7 || err != nil {
		t.Errorf("dropped %+v, %v", d, err)
	}
	if texts, err := c.Certificates(); string(texts[2]) != "ca" || len(texts[1]) != 0 || err != nil {
		t.Errorf("certificates %q, %v", texts, err)
	}
	if err := c.Notify("READY=1"); err != nil || len(part.states) != 1 {
		t.Errorf("notified %q, %v", part.states, err)
	}
}

// A refusal keeps its text and its errno. Requests after it are answered.
func TestRefusals(t *testing.T) {
	part := &testPart{t: t, workers: 3, refuse: fmt.Errorf("interface eth7: %w", unix.ENODEV)}
	c := connect(t, part, nil)
	for range 2 {
		for name, ask := range map[string]func() error{
			"sockets": func() error { _, err := c.Sockets(0); return err },
			"packet":  func() error { _, err := c.PacketSocket(1, 2, nil); return err },
			"config":  func() error { _, err := c.Config(); return err },
			"solicit": func() error { return c.Solicit(1, netip.Addr{}, 0) },
			"apply":   func() error { return c.Apply(guard.Rules{}) },
		} {
			err := ask()
			if !errors.Is(err, unix.ENODEV) || err.Error() != part.refuse.Error() {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	part.refuse = errors.New("no number")
	if _, err := c.Config(); err == nil || err.Error() != "no number" || errors.Is(err, unix.ENODEV) {
		t.Errorf("error %v", err)
	}
	part.refuse = nil
	if text, err := c.Config(); string(text) != "text" || err != nil {
		t.Errorf("config %q, %v", text, err)
	}
}

// After every change the guard has the rules that it should have, and after a refusal those of
// before. Only what differs is sent.
func TestGuardByDifference(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	part := &testPart{t: t}
	c := connect(t, part, nil)
	var services guard.ServiceSet
	var list []*guard.ServiceRules
	for i := range 300 {
		next := services.Clone()
		for range rng.IntN(3) + 1 {
			if len(list) > 0 && rng.IntN(3) == 0 {
				n := rng.IntN(len(list))
				next.Delete(list[n])
				continue
			}
			rules := &guard.ServiceRules{Destinations: []guard.Endpoint{
				{Proto: 6, Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Port: uint16(rng.IntN(65536))},
			}}
			list = append(list, rules)
			next.Set(rules, struct{}{})
		}
		part.refuse = nil
		if rng.IntN(4) == 0 {
			part.refuse = unix.ENOBUFS
		}
		err := c.Apply(guard.Rules{Interfaces: []string{"eth0"}, Services: next, Tagged: i%2 == 0})
		if part.refuse != nil {
			if !errors.Is(err, unix.ENOBUFS) {
				t.Fatalf("change %d: %v", i, err)
			}
		} else {
			services = next
		}
		if a, b := texts(&services), texts(&part.rules.Services); !maps.Equal(a, b) {
			t.Fatalf("change %d: the guard has %v, want %v", i, b, a)
		}
	}
	if len(c.guard.numbers) != services.Len() {
		t.Errorf("%d numbers for %d services", len(c.guard.numbers), services.Len())
	}
}

func texts(services *guard.ServiceSet) map[string]bool {
	all := map[string]bool{}
	for rules := range services.All() {
		all[fmt.Sprintf("%+v", *rules)] = true
	}
	return all
}

// Signals arrive in order. When the other process ends, their channel is closed.
func TestSignals(t *testing.T) {
	signals := make(chan os.Signal, 2)
	c := connect(t, &testPart{t: t}, signals)
	signals <- unix.SIGHUP
	signals <- unix.SIGTERM
	got := c.Signals()
	if a, b := <-got, <-got; a != unix.SIGHUP || b != unix.SIGTERM {
		t.Errorf("signals %v, %v", a, b)
	}
	close(signals)
	if s, ok := <-got; ok {
		t.Errorf("signal %v after the end", s)
	}
}

// A process without its sockets says how it should have been started.
func TestConnectRefuses(t *testing.T) {
	if os.Getenv(sandboxTest) != "" {
		t.Skip("is the other process")
	}
	out, status := runSandboxed(t, "connect", "")
	if status.ExitCode() != 1 || !strings.Contains(out, "uvs run starts this process itself") {
		t.Errorf("status %v, output %q", status, out)
	}
}
