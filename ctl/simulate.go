package ctl

import (
	"fmt"
	"slices"
	"sync/atomic"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/ctl/api"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// simulate plays the packet through the director's code with a table, counters,
// a cursor, overload flags and a connection table of its own.
func (m *Manager) simulate(q api.Probe) (*simulation, error) {
	r, err := m.prepare(q)
	if err != nil {
		return nil, err
	}
	r.find(m.conns)
	conns, err := conntrack.NewTable(conntrack.Config{Max: simulationConns, MaxServers: compile.MaxServers})
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

	frames := []wire.Frame{probeFrame(q, r.in, r.from, r.table.FIB.Ports[r.in].MAC, r.conn != nil && !r.conn.NoClientPort)}
	var verdicts [1]director.Verdict
	director.New(local, frag.New(1, 0), 0).Process(r.now, r.table, frames, verdicts[:])
	r.verdict, r.frame = verdicts[0], frames[0]
	return r, nil
}

// simulationConns is room for a conn, its template, and what the packet adds.
const simulationConns = 1024

// prepare copies, under the lock, what the packet could touch.
func (m *Manager) prepare(q api.Probe) (*simulation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &simulation{probe: q, servers: map[uint32]config.Server{}, desired: compile.NewDesired(&m.state), now: m.now()}
	table := r.desired.Table(m.runtime, m.guardRules(), m.fib, nil).Table
	r.table = table
	var err error
	if r.in, r.from, err = inPort(m.fib, q); err != nil {
		return nil, err
	}
	for i := range table.Servers {
		if s := &table.Servers[i]; s.Counters != nil {
			s.Counters = director.NewCounters(1)
			s.Threshold = copyThreshold(s.Threshold)
			r.servers[s.ID] = m.runtime.Servers[s.ID].Config
		}
	}
	f := probeFrame(q, r.in, r.from, m.fib.Ports[r.in].MAC, false)
	if r.running = table.ServiceOf(&f); r.running == nil {
		return r, nil
	}
	return r, r.copyService(m)
}

// copyService gives the rehearsal the service, its cursor and a picker of its own.
func (r *simulation) copyService(m *Manager) error {
	for key, running := range m.runtime.Services {
		if running.ID != r.running.ID {
			continue
		}
		i, _ := m.state.Find(key)
		svc := m.state.Services[i]
		svc.Servers = slices.Clone(svc.Servers)
		r.service, r.settings = &svc, m.state.SettingsOf(key)
		r.list = slices.Clone(running.SchedServers)
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
	picker, err := sched.New(r.service.Scheduler, sched.Flags(r.service.SchedFlags), r.list, r.settings.SchedOptions())
	if err != nil {
		return err
	}
	// The compiled table is ours alone, and so is the service in it.
	r.running.Picker, r.running.Cursor = picker, r.running.Cursor.Clone()
	r.running.Limit = nil // what the client may still ask is not for a question to use up
	return nil
}

// copyThreshold is a threshold with a flag of its own.
func copyThreshold(t *director.Threshold) *director.Threshold {
	if t == nil {
		return nil
	}
	own := *t
	own.Overload = new(atomic.Bool)
	own.Overload.Store(t.Overload.Load())
	return &own
}

// find looks for the conn of the packet and the template of its client.
func (r *simulation) find(conns *conntrack.Table) {
	client, virtual := wire.AddrFrom(r.probe.Client.Addr()), wire.AddrFrom(r.probe.Virtual.Addr())
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
		return s.Proto == r.probe.Proto && s.Client == client && !s.NoServerPort &&
			(s.ClientPort == r.probe.Client.Port() || s.NoClientPort) && s.VIP == virtual && s.VPort == r.probe.Virtual.Port()
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
func (r *simulation) chosen() *director.Server {
	for i := range r.table.Servers {
		if s := &r.table.Servers[i]; s.Counters != nil && s.Counters.Totals().InPkts > 0 {
			return s
		}
	}
	return nil
}

// frame is the packet asked about, as it arrives on a port of the hardware
// address to: one that begins a connection or, if there is a conn, the next of
// it.
func probeFrame(q api.Probe, port uint16, from, to wire.MAC, known bool) wire.Frame {
	segment := probeSegment(q, known)
	header := wire.IPv4Len
	if q.Client.Addr().Is6() {
		header = wire.IPv6Len
	}
	length := wire.EthernetLen + header + len(segment)
	f := wire.Frame{Buf: make([]byte, wire.Headroom+length), Off: wire.Headroom, End: wire.Headroom + int32(length), In: port}
	b := f.Bytes()
	link := wire.Ethernet(b)
	link.SetDst(to)
	link.SetSrc(from)
	ip := b[wire.EthernetLen:]
	copy(ip[header:], segment)
	src, dst := wire.AddrFrom(q.Client.Addr()), wire.AddrFrom(q.Virtual.Addr())
	if header == wire.IPv4Len {
		link.SetType(wire.EtherTypeIPv4)
		h := wire.IPv4(ip)
		h.SetVersionIHL(header)
		h.SetTotalLen(uint16(len(ip)))
		h.SetTTL(probeTTL)
		h.SetProtocol(q.Proto)
		h.SetSrc(src)
		h.SetDst(dst)
		h.FillChecksum()
	} else {
		link.SetType(wire.EtherTypeIPv6)
		h := wire.IPv6(ip)
		h.SetVersionClassFlow(0, 0)
		h.SetPayloadLen(uint16(len(segment)))
		h.SetNextHeader(q.Proto)
		h.SetHopLimit(probeTTL)
		h.SetSrc(src)
		h.SetDst(dst)
	}
	var p wire.Packet
	wire.Parse(&f, &p)
	wire.FillChecksum(&f, &p)
	return f
}

// segment is its transport header, and for SCTP the first chunk (RFC 9260
// section 3.3.2: INIT, type 1; 3.3.1: DATA, type 0).
func probeSegment(q api.Probe, known bool) []byte {
	switch q.Proto {
	case wire.ProtoTCP:
		h := wire.TCP(make([]byte, wire.TCPLen))
		h.SetSrcPort(q.Client.Port())
		h.SetDstPort(q.Virtual.Port())
		h.SetHeaderLen(wire.TCPLen)
		h.SetFlags(wire.TCPSyn)
		if known {
			h.SetFlags(wire.TCPAck)
		}
		return h
	case wire.ProtoUDP:
		h := wire.UDP(make([]byte, wire.UDPLen))
		h.SetSrcPort(q.Client.Port())
		h.SetDstPort(q.Virtual.Port())
		h.SetLen(wire.UDPLen)
		return h
	}
	const chunkLen = 16
	b := make([]byte, wire.SCTPLen+chunkLen)
	wire.UDP(b).SetSrcPort(q.Client.Port())
	wire.UDP(b).SetDstPort(q.Virtual.Port())
	chunk := b[wire.SCTPLen:]
	chunk[3] = chunkLen
	if !known {
		chunk[0] = 1
	}
	return b
}

// probeTTL is the TTL of packets asked about: most hosts' first.
const probeTTL = 64
