package ctl

import (
	"net/netip"
	"time"

	"uvs/conntrack"
	"uvs/ctl/api"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// estimatorPeriod is how often rates are sampled (ip_vs_est.c: 2 s).
const estimatorPeriod = 2 * time.Second

// stats are totals less what was zeroed, and rates.
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
	totals := m.runtime.Totals()
	for key, svc := range m.runtime.Services {
		svc.Rate.Sample(totals[key])
	}
	for _, v := range m.runtime.Servers {
		if v != nil {
			v.Rate.Sample(v.Counters.Totals())
		}
	}
}

// Services lists every service and server as it is now.
func (m *Manager) Services() []api.ServiceStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	totals := m.runtime.Totals()
	list := make([]api.ServiceStatus, 0, len(m.state.Services))
	for i := range m.state.Services {
		svc := m.state.Services[i]
		running := m.runtime.Services[svc.ServiceKey]
		status := api.ServiceStatus{
			Service: svc, Reals: []api.ServerStatus{}, // in JSON a list, not null
			Stats: stats(totals[svc.ServiceKey], running.Zero, running.Rate.Rates()),
		}
		for j := range svc.Servers {
			status.Reals = append(status.Reals, m.serverStatus(&svc, &svc.Servers[j]))
		}
		if sorry, ok := m.state.Sorry[svc.ServiceKey]; ok {
			v := m.serverStatus(&svc, &sorry)
			v.State = "sorry"
			status.Sorry = &v
		}
		status.Service.Servers = nil
		list = append(list, status)
	}
	return list
}

func (m *Manager) serverStatus(svc *config.Service, server *config.Server) api.ServerStatus {
	v := m.runtime.Server(svc.ServiceKey, server.ServerKey)
	counts := m.conns.Counts(v.ID)
	state := "up"
	switch {
	case server.Down:
		state = "down"
	case server.Weight == 0:
		state = "quiesced"
	case v.Overload.Load():
		state = "overloaded"
	}
	return api.ServerStatus{
		Server: *server, State: state,
		Active:   uint32(counts.Active.Load()),
		Inactive: uint32(counts.Inactive.Load()),
		Persist:  uint32(counts.Templates.Load()),
		Stats:    stats(v.Counters.Totals(), v.Zero, v.Rate.Rates()),
		Hop:      nextHopText(m.fib, v.NextHop(m.fib), server.Addr),
		Path:     m.pathStatus(v),
	}
}

// pathStatus is what is known of the way to a server.
func (m *Manager) pathStatus(v *compile.RunningServer) api.PathStatus {
	now, counted := m.now(), v.Counters.Totals()
	s := api.PathStatus{TooBig: counted.TooBig - v.Zero.TooBig, Split: counted.Split - v.Zero.Split}
	if way := v.NextHop(m.fib); way.State != director.NoRoute {
		s.Interface, s.MTU = m.fib.Ports[way.Link.Port].Name, way.MTU
	}
	if mtu, by, until, ok := v.Path.Learned(now); ok {
		s.Learned, s.By, s.Seconds = mtu, by.Netip(), int((until-now)/conntrack.Second)
	}
	return s
}

// Marks are the mark rules in their order.
func (m *Manager) Marks() []config.MarkRule {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]config.MarkRule{}, m.state.Marks...)
}

// Timeouts are the operator's three idle times.
func (m *Manager) Timeouts() config.Timeouts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Director().IPVSTimeouts()
}

// Settings are all settings; with a service, those it can have of its own.
func (m *Manager) Settings(of *config.ServiceKey) ([]config.Setting, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.ListSettings(of)
}

func addrPort(a wire.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.Netip(), port) }

// Verdicts are the counters of what became of frames, in the order of the
// director's list.
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

// HelperCounters are what helpers came across, and the connections that went
// without for want of room.
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
	return append(list, api.Counter{Name: "ftp_sessions", Value: uint64(stats.Sessions)}, api.Counter{Name: "ftp_no_session", Value: stats.NoSession})
}

// hostText says how frames reach the host's own stack, or why they do not.
func hostText(way director.NextHop) string {
	if way.State == director.NoRoute {
		return "the director's own host: it gets packets with uvs run --localnode, but for no mark, unless by NAT only if the host holds the service's address, and by NAT only for one port"
	}
	return "the host's own stack"
}

// nextHopText says how frames reach a server, for people.
func nextHopText(ways *director.FIB, way director.NextHop, server netip.Addr) string {
	switch {
	case ways.IsLocal(wire.AddrFrom(server)):
		return hostText(way)
	case way.State == director.NoRoute:
		return "no route by an interface of the director"
	case way.State == director.Unresolved:
		return ways.Ports[way.Link.Port].Name + " unresolved"
	}
	return ways.Ports[way.Link.Port].Name + " " + way.Link.Dst.String()
}
