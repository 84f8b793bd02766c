package ctl

import (
	"net/netip"
	"time"

	"uvs/conntrack"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// estimatorPeriod is how often rates are sampled (ip_vs_est.c: 2 s).
const estimatorPeriod = 2 * time.Second

// estimator smooths counters to rates as ip_vs_est.c does: every two seconds
// each estimate moves a quarter of the way to the last rate, in fixed point.
type estimator struct {
	last                              director.Totals
	cps, inPPS, outPPS, inBPS, outBPS uint64
}

// Shifts of ip_vs_est.c: a count in 2 s is kept as rate<<10, bytes as rate<<5.
const (
	countShift = 9
	byteShift  = 4
)

func (e *estimator) sample(now director.Totals) {
	move(&e.cps, (now.Conns-e.last.Conns)<<countShift)
	move(&e.inPPS, (now.InPkts-e.last.InPkts)<<countShift)
	move(&e.outPPS, (now.OutPkts-e.last.OutPkts)<<countShift)
	move(&e.inBPS, (now.InBytes-e.last.InBytes)<<byteShift)
	move(&e.outBPS, (now.OutBytes-e.last.OutBytes)<<byteShift)
	e.last = now
}

func move(estimate *uint64, rate uint64) {
	*estimate = uint64(int64(*estimate) + (int64(rate)-int64(*estimate))>>2)
}

// stats are totals and rates as listings show them, less what was zeroed.
func (e *estimator) stats(now, zero director.Totals) Stats {
	return Stats{
		Conns:  now.Conns - zero.Conns,
		InPkts: now.InPkts - zero.InPkts, OutPkts: now.OutPkts - zero.OutPkts,
		InBytes: now.InBytes - zero.InBytes, OutBytes: now.OutBytes - zero.OutBytes,
		CPS:   (e.cps + 0x1ff) >> 10,
		InPPS: (e.inPPS + 0x1ff) >> 10, OutPPS: (e.outPPS + 0x1ff) >> 10,
		InBPS: (e.inBPS + 0xf) >> 5, OutBPS: (e.outBPS + 0xf) >> 5,
	}
}

// sample moves every estimator one step.
func (m *Manager) sample() {
	totals := m.live.totals()
	for key, svc := range m.live.services {
		svc.rate.sample(totals[key])
	}
	for _, v := range m.live.servers {
		if v != nil {
			v.rate.sample(v.counters.Totals())
		}
	}
}

// Services lists every service and server as it is now.
func (m *Manager) Services() []ServiceStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	totals := m.live.totals()
	list := make([]ServiceStatus, 0, len(m.state.Services))
	for i := range m.state.Services {
		svc := m.state.Services[i]
		running := m.live.services[svc.ServiceKey]
		status := ServiceStatus{
			Service: svc, Reals: []ServerStatus{}, // in JSON a list, not null
			Stats: running.rate.stats(totals[svc.ServiceKey], running.zero),
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

func (m *Manager) serverStatus(svc *Service, server *Server) ServerStatus {
	v := m.live.index[serverIdentity{svc.ServiceKey, server.ServerKey}]
	counts := m.conns.Counts(v.id)
	state := "up"
	switch {
	case server.Down:
		state = "down"
	case server.Weight == 0:
		state = "quiesced"
	case v.overload.Load():
		state = "overloaded"
	}
	return ServerStatus{
		Server: *server, State: state,
		Active:   uint32(counts.Active.Load()),
		Inactive: uint32(counts.Inactive.Load()),
		Persist:  uint32(counts.Templates.Load()),
		Stats:    v.rate.stats(v.counters.Totals(), v.zero),
		Hop:      wayText(m.ways, v.way(m.ways), server.Addr),
		Path:     m.pathStatus(v),
	}
}

// pathStatus is what is known of the way to a server.
func (m *Manager) pathStatus(v *liveServer) PathStatus {
	now, counted := m.now(), v.counters.Totals()
	s := PathStatus{TooBig: counted.TooBig - v.zero.TooBig, Split: counted.Split - v.zero.Split}
	if way := v.way(m.ways); way.State != director.NoRoute {
		s.Interface, s.MTU = m.ways.Ports[way.Link.Port].Name, way.MTU
	}
	if mtu, by, until, ok := v.path.Learned(now); ok {
		s.Learned, s.By, s.Seconds = mtu, by.Netip(), int((until-now)/conntrack.Second)
	}
	return s
}

// Marks are the mark rules in their order.
func (m *Manager) Marks() []MarkRule {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]MarkRule{}, m.state.Marks...)
}

// Timeouts are the operator's three idle times.
func (m *Manager) Timeouts() Timeouts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Tuning.shown()
}

// Tunables are all settings; with a service, those it can have of its own.
func (m *Manager) Tunables(of *ServiceKey) ([]Tunable, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.state.Tuning.tunables()
	if of == nil {
		return list, nil
	}
	if _, err := m.state.find(*of); err != nil {
		return nil, err
	}
	own := list[:0]
	for _, k := range list {
		if k.PerService {
			k.Default = k.Value
			if v, ok := m.state.ServiceTuning[*of][k.Name]; ok {
				k.Value = v
			}
			own = append(own, k)
		}
	}
	return own, nil
}

func addrPort(a wire.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.Netip(), port) }

// Counter is one counter of the director under its name.
type Counter struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// Verdicts are the counters of what became of frames, in the order of the
// director's list.
func (m *Manager) Verdicts() []Counter {
	m.mu.Lock()
	plane := m.plane
	m.mu.Unlock()
	if plane == nil {
		return nil
	}
	sums := plane.Verdicts()
	list := make([]Counter, len(sums))
	for v, n := range sums {
		list[v] = Counter{Name: director.Verdict(v).String(), Value: n}
	}
	return list
}
