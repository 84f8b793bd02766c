package ipvsadm

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// memory is a Director that only keeps the table. It refuses operations and orders lists as
// the kernel's IPVS does.
type memory struct {
	services []api.ServiceStatus
	timeouts config.Timeouts
	conns    []api.ConnStatus
	err      error // answer to everything, when set
	batches  int   // calls of ApplyAll
}

// The API's client is a Director too.
var (
	_ Director = (*memory)(nil)
	_ Director = (*api.Client)(nil)
)

func newMemory() *memory { return &memory{timeouts: config.Timeouts{TCP: 900, TCPFin: 120, UDP: 300}} }

func (m *memory) Info() (api.Info, error)            { return api.Info{ConnSize: 4096}, m.err }
func (m *memory) Timeouts() (config.Timeouts, error) { return m.timeouts, m.err }
func (m *memory) ServicesOf(api.ServiceFilter) ([]api.ServiceStatus, error) {
	return slices.Clone(m.services), m.err
}

func (m *memory) Service(key config.ServiceKey) (api.ServiceStatus, error) {
	for _, s := range m.services {
		if s.ServiceKey == key {
			return s, m.err
		}
	}
	return api.ServiceStatus{}, cmp.Or(m.err, errno(syscall.ESRCH))
}

func (m *memory) Conns(visit func(api.ConnStatus) error) error {
	for _, c := range m.conns {
		if err := visit(c); err != nil {
			return err
		}
	}
	return m.err
}

func errno(e syscall.Errno) error { return &config.Error{Errno: e, Message: "refused: " + e.Error()} }

func (m *memory) ApplyAll(ops []config.Op) []error {
	m.batches++
	errs := make([]error, len(ops))
	for i, op := range ops {
		errs[i] = m.Apply(op)
	}
	return errs
}

func (m *memory) Apply(op config.Op) error {
	switch op.Kind {
	case config.Flush:
		m.services = nil
		return m.err
	case config.SetTimeouts:
		for _, f := range []struct {
			to *uint32
			n  uint32
		}{
			{&m.timeouts.TCP, op.Timeouts.TCP},
			{&m.timeouts.TCPFin, op.Timeouts.TCPFin},
			{&m.timeouts.UDP, op.Timeouts.UDP},
		} {
			if f.n != 0 {
				*f.to = f.n
			}
		}
		return m.err
	case config.Zero:
		if op.Service == nil {
			for i := range m.services {
				m.services[i].Stats = api.Stats{}
			}
			return m.err
		}
	}
	if m.err != nil {
		return m.err
	}
	at := slices.IndexFunc(m.services, func(s api.ServiceStatus) bool { return s.ServiceKey == op.Service.ServiceKey })
	if op.Server != nil {
		if at < 0 {
			return errno(syscall.ESRCH)
		}
		return applyServer(&m.services[at], op)
	}
	return m.applyService(at, op)
}

func (m *memory) applyService(at int, op config.Op) error {
	known := []string{"rr", "wrr", "lc", "wlc", "dh", "sh", "mh", "nq", "none"}
	switch {
	case op.Kind == config.AddService && at >= 0:
		return errno(syscall.EEXIST)
	case op.Kind != config.AddService && at < 0:
		return errno(syscall.ESRCH)
	case op.Kind == config.DeleteService:
		m.services = slices.Delete(m.services, at, at+1)
		return nil
	case op.Kind == config.Zero:
		m.services[at].Stats = api.Stats{}
		return nil
	case !slices.Contains(known, op.Service.Scheduler), op.Service.PE != "" && op.Service.PE != "sip":
		return errno(syscall.ENOENT)
	case op.Kind == config.AddService:
		m.services = append(m.services, api.ServiceStatus{Service: *op.Service})
	default:
		m.services[at].Service = *op.Service
	}
	return nil
}

func applyServer(s *api.ServiceStatus, op config.Op) error {
	at := slices.IndexFunc(s.ServerStatuses, func(r api.ServerStatus) bool {
		return r.ServerKey == op.Server.ServerKey
	})
	a := op.Server.Addr
	switch {
	case op.Kind == config.AddServer && at >= 0:
		return errno(syscall.EEXIST)
	case op.Kind != config.AddServer && at < 0:
		return errno(syscall.ENOENT)
	case op.Kind == config.DeleteServer:
		s.ServerStatuses = slices.Delete(s.ServerStatuses, at, at+1)
	case a.IsUnspecified(), a.IsMulticast(), a == netip.MustParseAddr("255.255.255.255"):
		return errno(syscall.EINVAL)
	case op.Server.Lower > op.Server.Upper:
		return errno(syscall.ERANGE)
	case op.Kind == config.AddServer:
		s.ServerStatuses = slices.Insert(s.ServerStatuses, 0, api.ServerStatus{Server: *op.Server})
	default:
		s.ServerStatuses[at].Server = *op.Server
	}
	return nil
}

// nameTable is a table of names.
type nameTable struct {
	hosts    map[string]string
	services []serviceName
}

// testNames are the names in tests.
var testNames = nameTable{
	hosts: map[string]string{
		"www.example": "10.9.0.1", "six.example": "2001:db8::6", "localhost": "127.0.0.1",
		"a-very-long-name-of-a-server.example": "10.0.0.77",
	},
	services: parseServices(strings.NewReader("http 80/tcp www # web\ndomain 53/tcp\ndomain 53/udp\nsyslog " +
		"514/udp\nshell 514/tcp cmd syslog\n")),
}

func (b nameTable) addr(host string, v6 bool) (netip.Addr, bool) {
	a, err := netip.ParseAddr(b.hosts[host])
	return a, err == nil && a.Is6() == v6
}

func (b nameTable) host(a netip.Addr) string {
	for name, addr := range b.hosts {
		if addr == a.String() {
			return name
		}
	}
	return ""
}

func (b nameTable) port(name string, proto config.Proto) (uint16, bool) {
	return (&systemNames{read: true, services: b.services}).port(name, proto)
}

func (b nameTable) service(port uint16, proto config.Proto) string {
	return (&systemNames{read: true, services: b.services}).service(port, proto)
}

// outcome is the exit code and output of a command.
type outcome struct {
	exit     int
	out, err string
}

// do runs one command line, split on blanks, against m.
func (m *memory) do(line string) outcome { return m.words(strings.Fields(line), "") }

// restore runs ipvsadm -R with the given standard input.
func (m *memory) restore(input string) outcome { return m.words([]string{"-R"}, input) }

func (m *memory) words(words []string, input string) outcome {
	var out, errs bytes.Buffer
	t := newTool(Stdio{strings.NewReader(input), &out, &errs}, func() (Director, error) { return m, nil })
	t.names = testNames
	exit := t.main(words)
	return outcome{exit, out.String(), errs.String()}
}

// must runs command lines that must succeed without output.
func (m *memory) must(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if got := m.do(line); got != (outcome{}) {
			t.Fatalf("ipvsadm %s\ngot exit %d, %q, %q", line, got.exit, got.out, got.err)
		}
	}
}

// expect runs a command line and compares its outcome.
func (m *memory) expect(t *testing.T, line string, want outcome) {
	t.Helper()
	if got := m.do(line); got != want {
		t.Errorf("ipvsadm %s\n got exit %d\n%s%s\nwant exit %d\n%s%s", line, got.exit, got.out, got.err, want.exit,
			want.out, want.err)
	}
}
