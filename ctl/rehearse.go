package ctl

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// rehearse plays the packet through the director's code with a table, counters,
// a cursor, overload flags and a connection table of its own.
func (m *Manager) rehearse(q Question) (*rehearsal, error) {
	r, err := m.prepare(q)
	if err != nil {
		return nil, err
	}
	r.find(m.conns)
	conns, err := conntrack.NewTable(conntrack.Config{Max: rehearsalConns, MaxServers: MaxServers})
	if err != nil {
		return nil, fmt.Errorf("make a connection table to rehearse with: %w", err)
	}
	defer conns.Close()
	local := conns.Worker(0)
	local.Begin(r.now)
	for _, s := range []*conntrack.Snapshot{r.template, r.conn} {
		if s != nil {
			local.Insert(&conntrack.Entry{
				Client: s.Client, VIP: s.VIP, Server: s.Server,
				ClientPort: s.ClientPort, VPort: s.VPort, SPort: s.SPort,
				Proto: s.Proto, Method: s.Method, ServerID: s.ServerID, ServiceID: s.ServiceID,
				State: s.State, Template: s.Template, Timeout: s.Timeout, ReturnHop: s.ReturnHop, NoClientPort: s.NoClientPort,
			})
		}
	}
	local.End()

	frames := []wire.Frame{q.frame(r.in, r.from, r.table.FIB.Ports[r.in].MAC, r.conn != nil && !r.conn.NoClientPort)}
	var verdicts [1]director.Verdict
	director.New(local, frag.New(1, 0), 0).Process(r.now, r.table, frames, verdicts[:])
	r.verdict, r.frame = verdicts[0], frames[0]
	return r, nil
}

// rehearsalConns is room for a conn, its template, and what the packet adds.
const rehearsalConns = 1024

// prepare copies, under the lock, what the packet could touch.
func (m *Manager) prepare(q Question) (*rehearsal, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &rehearsal{question: q, servers: map[uint32]Server{}, tuning: maps.Clone(m.state.Tuning), ends: newEnds(&m.state), now: m.now()}
	table := compile(&m.state, m.live, m.hidden(), m.ways, nil).Table
	r.table = table
	var err error
	if r.in, r.from, err = inPort(m.ways, q); err != nil {
		return nil, err
	}
	for i := range table.Servers {
		if s := &table.Servers[i]; s.Counters != nil {
			s.Counters = director.NewCounters(1)
			s.Threshold = rehearsedThreshold(s.Threshold)
			r.servers[s.ID] = m.live.servers[s.ID].last
		}
	}
	f := q.frame(r.in, r.from, m.ways.Ports[r.in].MAC, false)
	if r.running = table.ServiceOf(&f); r.running == nil {
		return r, nil
	}
	return r, r.copyService(m)
}

// copyService gives the rehearsal the service, its cursor and a picker of its own.
func (r *rehearsal) copyService(m *Manager) error {
	for key, running := range m.live.services {
		if running.id != r.running.ID {
			continue
		}
		i, _ := m.state.find(key)
		svc := m.state.Services[i]
		svc.Servers = slices.Clone(svc.Servers)
		r.service, r.own = &svc, maps.Clone(m.state.ServiceTuning[key])
		r.list = slices.Clone(running.list)
		break
	}
	for i := range r.list {
		s := &r.list[i]
		overload := new(atomic.Bool)
		overload.Store(s.Overload.Load())
		if t := r.table.Servers[s.ID].Threshold; t != nil {
			overload = t.Overload
		}
		s.Overload = overload
	}
	picker, err := sched.New(r.service.Scheduler, sched.Flags(r.service.SchedFlags), r.list, m.state.tuning(r.service.ServiceKey).options())
	if err != nil {
		return err
	}
	// The compiled table is ours alone, and so is the service in it.
	r.running.Picker, r.running.Cursor = picker, r.running.Cursor.Clone()
	r.running.Limit = nil // what the client may still ask is not for a question to use up
	return nil
}

// rehearsedThreshold is a threshold with a flag of its own.
func rehearsedThreshold(t *director.Threshold) *director.Threshold {
	if t == nil {
		return nil
	}
	own := *t
	own.Overload = new(atomic.Bool)
	own.Overload.Store(t.Overload.Load())
	return &own
}

// find looks for the conn of the packet and the template of its client.
func (r *rehearsal) find(conns *conntrack.Table) {
	client, virtual := wire.AddrFrom(r.question.Client.Addr()), wire.AddrFrom(r.question.Virtual.Addr())
	masked := client
	if r.running != nil {
		for i := range masked {
			masked[i] &= r.running.Mask[i]
		}
	}
	match := func(s *conntrack.Snapshot) bool {
		if s.Template {
			return r.running != nil && r.running.Persist > 0 && s.ServerID != 0 && s.ServiceID == r.running.ID && s.Client == masked
		}
		return s.Proto == r.question.Proto && s.Client == client && !s.NoServerPort &&
			(s.ClientPort == r.question.Client.Port() || s.NoClientPort) && s.VIP == virtual && s.VPort == r.question.Virtual.Port()
	}
	conns.Walk(match, func(s *conntrack.Snapshot) bool {
		found := *s
		switch {
		case s.Template:
			r.template = &found
		case r.conn == nil || !s.NoClientPort: // a conn comes before an expectation
			r.conn = &found
		}
		return true
	})
}

// chosen is the server that the packet was counted for; nil: none.
func (r *rehearsal) chosen() *director.Server {
	for i := range r.table.Servers {
		if s := &r.table.Servers[i]; s.Counters != nil && s.Counters.Totals().InPkts > 0 {
			return s
		}
	}
	return nil
}
