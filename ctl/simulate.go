package ctl

import (
	"fmt"
	"maps"
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

// simulate plays the packet through the director's code with its own table, counters,
// cursor, overload flags and connection table.
func (m *Manager) simulate(p api.Probe) (*simulation, error) {
	r, err := m.copyState(p)
	if err != nil {
		return nil, err
	}
	r.findConns(m.conns)
	m.mu.Lock()
	for _, s := range []*conntrack.Snapshot{r.template, r.conn} {
		if s != nil {
			r.copyServers(m.runtime, s.ServerID)
		}
	}
	m.mu.Unlock()
	conns, err := conntrack.NewTable(conntrack.Config{Max: simulationConns, ServerIDs: compile.MaxServerIDs})
	if err != nil {
		return nil, fmt.Errorf("make a connection table for the simulation: %w", err)
	}
	defer conns.Close()
	worker := conns.Worker(0)
	worker.Begin(r.now)
	for _, s := range []*conntrack.Snapshot{r.template, r.conn} {
		if s != nil {
			worker.Insert(&conntrack.Entry{
				Client: s.Client, VIP: s.VIP, Server: s.Server,
				ClientPort: s.ClientPort, VPort: s.VPort, SPort: s.SPort,
				Proto: s.Proto, Method: s.Method, ServerID: s.ServerID,
				State: s.State, Template: s.Template, Timeout: s.Timeout,
				ReturnHop: s.ReturnHop, NoClientPort: s.NoClientPort,
			})
		}
	}
	worker.End()

	known := r.conn != nil && !r.conn.NoClientPort
	frames := []wire.Frame{probeFrame(p, r.inPort, r.srcMAC, r.table.FIB.Ports[r.inPort].MAC, known)}
	var verdicts [1]director.Verdict
	director.New(worker, frag.New(1, 0), 0).Process(r.now, r.table, frames, verdicts[:])
	r.verdict, r.frame = verdicts[0], frames[0]
	return r, nil
}

// simulationConns is enough for a conn, its template, and what the packet adds.
const simulationConns = 1024

// copyState copies, under the lock, what the packet can touch. The copy of the table shares
// the rest with the workers.
func (m *Manager) copyState(p api.Probe) (*simulation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	table := *m.table.Table
	r := &simulation{
		probe: p, table: &table, shared: &m.table.Servers, servers: map[uint32]config.Server{}, now: m.now(),
	}
	var err error
	if r.inPort, r.srcMAC, err = findInPort(m.fib, p); err != nil {
		return nil, err
	}
	r.copyReplyServices(m.runtime)
	f := probeFrame(p, r.inPort, r.srcMAC, m.fib.Ports[r.inPort].MAC, false)
	if r.compiled = table.ServiceOf(&f); r.compiled == nil {
		return r, nil
	}
	return r, r.copyService(m)
}

// copyServers gives servers their own counters and overload flags.
func (r *simulation) copyServers(rt *compile.Runtime, ids ...uint32) {
	for _, id := range ids {
		server := *r.table.Servers.Get(id)
		if _, copied := r.servers[id]; copied || server.Counters == nil || rt.Servers[id] == nil {
			continue
		}
		server.Counters, server.Threshold = director.NewCounters(1), copyThreshold(server.Threshold)
		r.table.Servers.Set(id, &server, r.shared)
		r.servers[id] = rt.Servers[id].Config
	}
}

// copyReplyServices gives the services that the client may answer for, if it is one of their
// servers, their own counters.
func (r *simulation) copyReplyServices(rt *compile.Runtime) {
	client := director.Endpoint{
		Addr: wire.AddrFrom(r.probe.Client.Addr()), Port: r.probe.Client.Port(), Proto: uint8(r.probe.Proto),
	}
	every := client
	every.Port = 0
	for _, e := range []director.Endpoint{client, every} {
		if reply, ok := r.table.ReplyServices[e]; ok {
			r.copyServers(rt, reply.Server)
			reply.Counters = r.table.Servers.Get(reply.Server).Counters
			r.table.ReplyServices = maps.Clone(r.table.ReplyServices)
			r.table.ReplyServices[e] = reply
		}
	}
}

// copyService copies the service, its servers and its cursor, and makes a picker.
func (r *simulation) copyService(m *Manager) error {
	var key config.ServiceKey
	for k, running := range m.runtime.Services {
		if running.ID == r.compiled.ID {
			key, r.schedServers = k, slices.Clone(running.SchedServers)
			break
		}
	}
	svc, err := m.state.Find(key)
	if err != nil {
		return err
	}
	r.service, r.settings = svc, m.state.SettingsOf(svc)
	r.copyServers(m.runtime, append(slices.Clip(r.compiled.Servers), r.compiled.Sorry)...)
	for i := range r.schedServers {
		s := &r.schedServers[i]
		overload := new(atomic.Bool)
		overload.Store(s.Overload.Load())
		if t := r.table.Servers.Get(s.ID).Threshold; t != nil {
			overload = t.Overload
		}
		s.Overload = overload
	}
	flags, options := sched.Flags(r.service.SchedFlags), r.settings.SchedOptions(r.service.Scheduler)
	picker, err := sched.New(r.service.Scheduler, flags, r.schedServers, options)
	if err != nil {
		return err
	}
	compiled := *r.compiled
	compiled.Picker, compiled.Cursor = picker, r.compiled.Cursor.Clone()
	compiled.Limit = nil // a probe must not use up the client's limit
	r.compiled = &compiled
	compile.ReplaceService(r.table, key, &compiled)
	r.hidden = r.hiddenFrames(compile.NewDesired(&m.state, m.runtime))
	return nil
}

// copyThreshold copies a threshold and its flag.
func copyThreshold(t *director.Threshold) *director.Threshold {
	if t == nil {
		return nil
	}
	own := *t
	own.Overload = new(atomic.Bool)
	own.Overload.Store(t.Overload.Load())
	return &own
}

// findConns finds the conn of the packet and the template of its client.
func (r *simulation) findConns(conns *conntrack.Table) {
	client, virtual := wire.AddrFrom(r.probe.Client.Addr()), wire.AddrFrom(r.probe.Virtual.Addr())
	masked := client
	if r.compiled != nil {
		for i := range masked {
			masked[i] &= r.compiled.Mask[i]
		}
	}
	match := func(s *conntrack.Snapshot) bool {
		if s.Template {
			return r.compiled != nil && r.compiled.Persist > 0 &&
				r.table.Servers.Get(s.ServerID).Service == r.compiled.ID && s.Client == masked
		}
		return s.Proto == uint8(r.probe.Proto) && s.Client == client && !s.NoServerPort &&
			(s.ClientPort == r.probe.Client.Port() || s.NoClientPort) &&
			s.VIP == virtual && s.VPort == r.probe.Virtual.Port()
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

// chosen returns the server that the packet was counted for; nil: none.
func (r *simulation) chosen() *director.Server {
	for id := range r.servers {
		if s := r.table.Servers.Get(id); s.Counters.Totals().InPkts > 0 {
			return s
		}
	}
	return nil
}

// probeFrame returns the probe's packet as it arrives on a port, between two hardware addresses.
// It begins a connection or, if the connection is known, is the next packet of it.
func probeFrame(p api.Probe, port uint16, src, dst wire.MAC, known bool) wire.Frame {
	segment := probeSegment(p, known)
	header := wire.IPv4Len
	if p.Client.Addr().Is6() {
		header = wire.IPv6Len
	}
	length := wire.EthernetLen + header + len(segment)
	f := wire.Frame{
		Buf: make([]byte, wire.Headroom+length), Off: wire.Headroom, End: wire.Headroom + int32(length), In: port,
	}
	b := f.Bytes()
	link := wire.Ethernet(b)
	link.SetDst(dst)
	link.SetSrc(src)
	ip := b[wire.EthernetLen:]
	copy(ip[header:], segment)
	client, vip := wire.AddrFrom(p.Client.Addr()), wire.AddrFrom(p.Virtual.Addr())
	if header == wire.IPv4Len {
		link.SetType(wire.EtherTypeIPv4)
		h := wire.IPv4(ip)
		h.SetVersionIHL(header)
		h.SetTotalLen(uint16(len(ip)))
		h.SetTTL(probeTTL)
		h.SetProtocol(uint8(p.Proto))
		h.SetSrc(client)
		h.SetDst(vip)
		h.FillChecksum()
	} else {
		link.SetType(wire.EtherTypeIPv6)
		h := wire.IPv6(ip)
		h.SetVersionClassFlow(0, 0)
		h.SetPayloadLen(uint16(len(segment)))
		h.SetNextHeader(uint8(p.Proto))
		h.SetHopLimit(probeTTL)
		h.SetSrc(client)
		h.SetDst(vip)
	}
	var parsed wire.Packet
	wire.Parse(&f, &parsed)
	wire.FillChecksum(&f, &parsed)
	return f
}

// probeSegment returns the probe's transport header and, for SCTP, the first chunk (RFC 9260
// section 3.3.2: INIT, type 1; section 3.3.1: DATA, type 0).
func probeSegment(p api.Probe, known bool) []byte {
	switch p.Proto {
	case wire.ProtoTCP:
		h := wire.TCP(make([]byte, wire.TCPLen))
		h.SetSrcPort(p.Client.Port())
		h.SetDstPort(p.Virtual.Port())
		h.SetHeaderLen(wire.TCPLen)
		h.SetFlags(wire.TCPSyn)
		if known {
			h.SetFlags(wire.TCPAck)
		}
		return h
	case wire.ProtoUDP:
		h := wire.UDP(make([]byte, wire.UDPLen))
		h.SetSrcPort(p.Client.Port())
		h.SetDstPort(p.Virtual.Port())
		h.SetLen(wire.UDPLen)
		return h
	}
	const chunkLen = 16
	b := make([]byte, wire.SCTPLen+chunkLen)
	wire.UDP(b).SetSrcPort(p.Client.Port())
	wire.UDP(b).SetDstPort(p.Virtual.Port())
	chunk := b[wire.SCTPLen:]
	chunk[3] = chunkLen
	if !known {
		chunk[0] = 1
	}
	return b
}

// probeTTL is the TTL of probes: the initial TTL of most hosts.
const probeTTL = 64
