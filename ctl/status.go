package ctl

import (
	"net/netip"
	"slices"
	"syscall"
	"time"

	"uvs/conntrack"
	"uvs/ctl/api"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// estimatorPeriod is how often rates are sampled (net/netfilter/ipvs/ip_vs_est.c: 2 s).
const estimatorPeriod = 2 * time.Second

// stats are totals since the counters were reset, and rates.
func stats(now, zero, rates director.Totals) api.Stats {
	return api.Stats{
		Conns:  now.Conns - zero.Conns,
		InPkts: now.InPkts - zero.InPkts, OutPkts: now.OutPkts - zero.OutPkts,
		InBytes: now.InBytes - zero.InBytes, OutBytes: now.OutBytes - zero.OutBytes,
		CPS:   rates.Conns,
		InPPS: rates.InPkts, OutPPS: rates.OutPkts,
		InBPS: rates.InBytes, OutBPS: rates.OutBytes,
	}
}

// sample moves every estimator one step.
func (m *Manager) sample() {
	for key, svc := range m.runtime.Services {
		svc.Rate.Sample(m.runtime.Total(key))
	}
	for _, v := range m.runtime.Servers {
		if v != nil {
			v.Rate.Sample(v.Counters.Totals())
		}
	}
}

// Services lists every service and server as it is now.
func (m *Manager) Services() []api.ServiceStatus {
	list := []api.ServiceStatus{}
	keys, _, _ := m.Find(api.ServiceFilter{})
	for _, key := range keys {
		if s, err := m.Service(key); err == nil {
			list = append(list, s)
		}
	}
	return list
}

// Find returns the services that match a filter. If its limit leaves some out, after is the
// last of them. The error is EOVERFLOW if the service is gone after which the list begins.
func (m *Manager) Find(f api.ServiceFilter) (list []config.ServiceKey, after *config.ServiceKey, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	services := m.state.Services
	if f.After != nil {
		svc, err := m.state.Find(*f.After)
		if err != nil {
			return nil, nil, config.Errorf(syscall.EOVERFLOW,
				"%s, after which the list was to go on, is gone; list from the beginning", *f.After)
		}
		services = services[slices.Index(services, svc)+1:]
	}
	for _, svc := range services {
		if !f.Matches(svc.ServiceKey) {
			continue
		}
		if f.Limit > 0 && len(list) == f.Limit {
			return list, &list[len(list)-1], nil
		}
		list = append(list, svc.ServiceKey)
	}
	return list, nil, nil
}

// Configured returns a service as it is configured, with its revision; without one the error is
// ESRCH.
func (m *Manager) Configured(key config.ServiceKey) (config.Service, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	svc, err := m.state.Find(key)
	if err != nil {
		return config.Service{}, err
	}
	return *svc, nil
}

// Values returns the settings that are set, of the director or of a service, and its revision.
func (m *Manager) Values(of *config.ServiceKey) (values config.Values, revision uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if of == nil {
		return m.state.Settings, m.state.Revision, nil
	}
	svc, err := m.state.Find(*of)
	if err != nil {
		return nil, 0, err
	}
	return svc.Settings, svc.Revision, nil
}

// State returns the role, the revision, and until when the last apply waits for confirmation.
func (m *Manager) State() (role string, revision uint64, confirm *time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending != nil {
		confirm = new(m.pending.until)
	}
	return m.role(), m.state.Revision, confirm
}

// Unreachable lists the servers without a next hop of the services that changed with a revision
// or later.
func (m *Manager) Unreachable(since uint64) (list []config.ServerKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, svc := range m.state.Services {
		if svc.Revision < since {
			continue
		}
		for _, server := range svc.AllServers() {
			v := m.runtime.Server(svc.ServiceKey, server.ServerKey)
			if v.NextHop(m.fib).State != director.Resolved {
				list = append(list, server.ServerKey)
			}
		}
	}
	return list
}

// Service is a service and its servers as they are now; without one the error is ESRCH.
func (m *Manager) Service(key config.ServiceKey) (api.ServiceStatus, error) {
	return m.Status(key, false)
}

// Status is Service; brief: its servers without counters, next hop and path.
func (m *Manager) Status(key config.ServiceKey, brief bool) (api.ServiceStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	svc, err := m.state.Find(key)
	if err != nil {
		return api.ServiceStatus{}, err
	}
	return m.serviceStatus(svc, brief), nil
}

func (m *Manager) serviceStatus(svc *config.Service, brief bool) api.ServiceStatus {
	running := m.runtime.Services[svc.ServiceKey]
	status := api.ServiceStatus{
		Service: *svc, Revision: svc.Revision, ServerStatuses: make([]api.ServerStatus, len(svc.Servers)),
		Stats: stats(m.runtime.Total(svc.ServiceKey), running.Zero, running.Rate.Rates()),
	}
	status.Service.Revision, status.Service.Servers, status.Service.Sorry = 0, nil, nil
	for i := range svc.Servers {
		status.ServerStatuses[i] = m.serverStatus(svc, &svc.Servers[i], brief)
	}
	if svc.Sorry != nil {
		v := m.serverStatus(svc, svc.Sorry, brief)
		v.Sorry = false
		status.Sorry = &v
	}
	return status
}

func (m *Manager) serverStatus(svc *config.Service, server *config.Server, brief bool) api.ServerStatus {
	v := m.runtime.Server(svc.ServiceKey, server.ServerKey)
	counts, hop := m.conns.Counts(v.ID), v.NextHop(m.fib)
	state := "up"
	switch {
	case server.Admin != config.AdminUp:
		state = server.Admin.String()
	case server.Sorry:
		state = "sorry"
	case server.Weight == 0:
		state = "quiesced"
	case v.Overload.Load():
		state = "overloaded"
	case hop.State != director.Resolved:
		state = "unreachable"
	}
	status := api.ServerStatus{
		Server: *server, State: state,
		Active:   uint32(counts.Active.Load()),
		Inactive: uint32(counts.Inactive.Load()),
		Persist:  uint32(counts.Templates.Load()),
	}
	if !brief {
		status.Stats = stats(v.Counters.Totals(), v.Zero, v.Rate.Rates())
		status.NextHop, status.Path = nextHopStatus(m.fib, hop, server.Addr), m.pathStatus(v, hop)
	}
	return status
}

// pathStatus returns what is known of the path to a server.
func (m *Manager) pathStatus(v *compile.RunningServer, hop director.NextHop) api.PathStatus {
	now, counted := m.now(), v.Counters.Totals()
	s := api.PathStatus{TooBig: counted.TooBig - v.Zero.TooBig, Split: counted.Split - v.Zero.Split}
	if hop.State != director.NoRoute {
		s.Interface, s.MTU = m.fib.Ports[hop.Link.Port].Name, hop.MTU
	}
	if mtu, by, until, ok := v.Path.Learned(now); ok {
		s.Learned, s.By, s.Seconds = mtu, by.Netip(), int((until-now)/conntrack.Second)
	}
	return s
}

// AdminRules returns the admin states that are not up.
func (m *Manager) AdminRules() []config.AdminRule {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.AdminRules()
}

// Role is "active", or "standby" while another director serves the VIPs.
func (m *Manager) Role() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.role()
}

func (m *Manager) role() string {
	if m.state.Standby {
		return "standby"
	}
	return "active"
}

// Marks returns the mark rules in their order.
func (m *Manager) Marks() []config.MarkRule {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]config.MarkRule{}, m.state.Marks...)
}

// Timeouts returns the three timeouts of `ipvsadm --set`.
func (m *Manager) Timeouts() config.Timeouts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Director().IPVSTimeouts()
}

// Settings lists all settings or, for a service, those that it can have.
func (m *Manager) Settings(of *config.ServiceKey) ([]config.Setting, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.ListSettings(of)
}

func addrPort(a wire.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.Netip(), port) }

// Verdicts returns the counters of frames by verdict, in the director's order.
func (m *Manager) Verdicts() []api.Counter {
	m.mu.Lock()
	plane := m.plane
	m.mu.Unlock()
	if plane == nil {
		return nil
	}
	sums := plane.Verdicts()
	list := make([]api.Counter, len(sums))
	for v, n := range sums {
		list[v] = api.Counter{Name: director.Verdict(v).String(), Value: n}
	}
	return list
}

// HelperCounters returns the counters of helpers' events and sessions.
func (m *Manager) HelperCounters() []api.Counter {
	m.mu.Lock()
	sessions := m.runtime.Sessions
	m.mu.Unlock()
	if sessions == nil {
		return nil
	}
	var list []api.Counter
	sessions.EachEvent(func(name string, n uint64) { list = append(list, api.Counter{Name: name, Value: n}) })
	stats := m.conns.Stats()
	return append(list, api.Counter{Name: "ftp_sessions", Value: uint64(stats.Sessions)},
		api.Counter{Name: "ftp_no_session", Value: stats.NoSession})
}

// localNodeText describes the next hop of a server that is the host itself.
func localNodeText(hop director.NextHop) string {
	if hop.State == director.NoRoute {
		return "the host itself, but it gets no packets: needs uvs run --localnode, a service with address and port; " +
			"DR/tunnel: the VIP on the host; NAT: not 127.0.0.1"
	}
	return "the host's own stack"
}

// nextHopStatus describes the next hop of a server in a few words.
func nextHopStatus(fib *director.FIB, hop director.NextHop, server netip.Addr) string {
	switch {
	case fib.IsLocal(wire.AddrFrom(server)):
		return localNodeText(hop)
	case hop.State == director.NoRoute:
		return "no route by an interface of the director"
	case hop.State == director.Unresolved:
		return fib.Ports[hop.Link.Port].Name + " unresolved"
	}
	return fib.Ports[hop.Link.Port].Name + " " + hop.Link.Dst.String()
}
