package ctl

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"uvs/conntrack"
	"uvs/ctl/guard"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// compile builds the table the workers read from the desired state, its running
// side, which follows it, and the ways out. It publishes nothing.
func compile(s *State, l *live, ways *director.Ways) *director.Table {
	t := &director.Table{
		VIPs:     make(map[wire.Addr]director.VIP, len(s.Services)),
		Services: make(map[director.ServiceKey]*director.Service, len(s.Services)),
		Servers:  make([]director.Server, len(l.servers)),
		Sources:  map[director.ServiceKey]bool{},
		Ways:     ways,
		Rules:    s.Tuning.rules(),
		Tunnels:  map[director.ServiceKey]uint32{},
	}
	settings := make(map[ServiceKey]serverSettings, len(s.Services))
	marks := map[director.MarkKey]*director.Service{}
	for i := range s.Services {
		svc := &s.Services[i]
		running := l.services[svc.ServiceKey]
		tuning := s.tuning(svc.ServiceKey)
		running.rebuild(svc, l, tuning)
		settings[svc.ServiceKey] = s.serverSettings(svc.ServiceKey, tuning)
		compiled := compileService(svc, running, tuning)
		compiled.Limit = tuning.limit(l.policers)
		if svc.OPS && svc.FWMark == 0 && tuning.value(tuneReplies) != 0 {
			addOrigins(t, s, svc, l)
		}
		if sorry, ok := s.Sorry[svc.ServiceKey]; ok {
			compiled.Sorry = l.index[serverIdentity{svc.ServiceKey, sorry.ServerKey}].id
		}
		if svc.FWMark != 0 {
			marks[director.MarkKey{Mark: svc.FWMark, IPv6: svc.IPv6}] = compiled
		} else {
			t.Services[director.ServiceKey{Addr: wire.AddrFrom(svc.Addr), Port: svc.Port, Proto: svc.Proto}] = compiled
		}
	}
	for _, a := range vips(s) {
		vip := wire.AddrFrom(a)
		t.VIPs[vip] = director.VIP{Ours: !ways.Holds(vip)}
	}
	for _, v := range l.servers {
		if v != nil {
			own := settings[v.service]
			t.Servers[v.id] = compileServer(v, l, t, own)
			l.conns.Counts(v.id).Timeouts.Store(own.timeouts)
			if v.last.Method == MethodTunnel {
				t.Tunnels[director.TunnelKey(&t.Servers[v.id].Tunnel)] = v.id
			}
		}
	}
	t.Marks = compileMarks(s, marks, ways)
	points, spans := sources(s, l)
	for _, e := range points {
		t.Sources[director.ServiceKey{Addr: wire.AddrFrom(e.Addr), Port: e.Port, Proto: e.Proto}] = true
	}
	for _, e := range spans {
		t.Spans = append(t.Spans, director.Span{Net: e.Net, Proto: e.Proto, Ports: director.PortRange{First: e.First, Last: e.Last}})
	}
	return t
}

// addOrigins enters where the replies of a one-packet service come from.
func addOrigins(t *director.Table, s *State, svc *Service, l *live) {
	if t.Origins == nil {
		t.Origins = map[director.ServiceKey]director.Origin{}
	}
	for _, server := range s.reals(svc) {
		if server.Method != MethodMasq {
			continue
		}
		end := director.ServiceKey{Addr: wire.AddrFrom(server.Addr), Proto: svc.Proto}
		if svc.Port != 0 {
			end.Port = cmp.Or(server.Port, svc.Port)
		}
		_, taken := t.Origins[end]
		t.Origins[end] = director.Origin{
			VIP: wire.AddrFrom(svc.Addr), VPort: svc.Port, Ambiguous: taken,
			Counters: l.index[serverIdentity{svc.ServiceKey, server.ServerKey}].counters,
		}
	}
}

// serverSettings is what a service's settings mean for its servers, removed ones
// too. The zero value is that of servers whose service is gone.
type serverSettings struct {
	timeouts *conntrack.Timeouts // nil: the director's
	ignoreDF bool
}

func (s *State) serverSettings(key ServiceKey, tuning Tuning) serverSettings {
	own := serverSettings{ignoreDF: tuning.value(tunePathMTU) == 0}
	if _, ok := s.ServiceTuning[key]; ok {
		timeouts := tuning.timeouts()
		own.timeouts = &timeouts
	}
	return own
}

func compileServer(v *liveServer, l *live, t *director.Table, own serverSettings) director.Server {
	addr := wire.AddrFrom(v.last.Addr)
	server := director.Server{
		ID:        v.id,
		Addr:      addr,
		Port:      v.last.Port,
		Method:    v.method(t.Ways),
		Available: !v.removed,
		Weight:    v.last.Weight,
		Way:       v.way(t.Ways),
		Path:      v.path,
		Counters:  v.counters,
		Timeouts:  own.timeouts,
	}
	if svc := l.services[v.service]; svc != nil {
		server.Service = svc.id
	}
	server.Tunnel = compileTunnel(v.last.Tunnel, tunnelSource(server.Way, addr, t), addr)
	server.Tunnel.IgnoreDF = own.ignoreDF
	if v.last.Upper > 0 {
		server.Threshold = &director.Threshold{
			Upper: int64(v.last.Upper), Lower: int64(v.last.Lower),
			Counts: l.conns.Counts(v.id), Overload: &v.overload,
		}
	}
	return server
}

func compileService(svc *Service, running *liveService, tuning Tuning) *director.Service {
	var limited []uint32
	for i := range svc.Servers { // newest first, as running.ids
		if svc.Servers[i].Upper > 0 {
			limited = append(limited, running.ids[i])
		}
	}
	return &director.Service{
		Limited: limited,
		ID:      running.id, Port: svc.Port, Mark: svc.FWMark != 0, Group: markGroup(svc.ServiceKey),
		Picker: running.picker, Cursor: running.cursor, Servers: running.ids,
		Persist: conntrack.Tick(svc.Persist) * 1000, Mask: clientMask(svc),
		ExpireQuiescent: tuning.value(tuneQuiescent) != 0,
		Reset:           tuning.value(tuneNoServer) == noServerReset,
		OnePacket:       svc.OPS,
	}
}

// clientMask is the part of a client's address that a template keeps. For IPv4
// any mask will do, also one with gaps (ipvsadm -M 24 means 0.0.0.24).
func clientMask(svc *Service) (mask wire.Addr) {
	bits := svc.Netmask
	if !svc.IPv6 {
		binary.BigEndian.PutUint32(mask[12:], svc.Netmask)
		bits = 96 // the IPv4-mapped prefix
	}
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}

// rebuild makes a new picker if what it is built from changed: the scheduler, its
// options, the servers. A change of routes alone leaves it as it is.
func (r *liveService) rebuild(svc *Service, l *live, tuning Tuning) {
	ramp := conntrack.Tick(tuning.value(tuneSlowStart)) * conntrack.Second
	how := scheduling{svc.Scheduler, sched.Flags(svc.SchedFlags), tuning.options(), ramp, svc.Servers}
	same := slices.Equal(r.built.servers, how.servers)
	if r.picker != nil && same && r.built.like(&how) {
		return
	}
	list := make([]sched.Server, len(svc.Servers))
	ids := make([]uint32, len(svc.Servers))
	for i := range svc.Servers {
		v := l.index[serverIdentity{svc.ServiceKey, svc.Servers[i].ServerKey}]
		counts := l.conns.Counts(v.id)
		ids[i] = v.id
		list[i] = sched.Server{
			ID: v.id, Addr: wire.AddrFrom(v.last.Addr), Port: v.last.Port,
			Weight: v.last.Weight, LastWeight: v.weight,
			Active: &counts.Active, Inactive: &counts.Inactive,
			Overload:  &v.overload,
			RampStart: int64(v.raised), RampEnd: int64(v.raised + ramp),
		}
	}
	picker, err := sched.New(how.scheduler, how.flags, list, how.options)
	if err != nil {
		panic(fmt.Sprintf("ctl: service %s, which was checked: %v", svc.ServiceKey, err))
	}
	switch {
	case r.picker == nil:
		r.cursor = sched.NewCursor(how.scheduler, nil, 1)
		r.cursor.Rebase(nil, list)
	case r.built.scheduler != how.scheduler:
		r.cursor = sched.NewCursor(how.scheduler, list, 1)
	case !same:
		r.cursor.Rebase(r.list, list)
	}
	r.picker, r.built, r.list, r.ids = picker, how, list, ids
}

// scheduling is what a picker is built from.
type scheduling struct {
	scheduler string
	flags     sched.Flags
	options   sched.Options
	ramp      conntrack.Tick
	servers   []Server // a list that nobody writes to: operations replace it
}

// like says whether all but the servers is the same.
func (a *scheduling) like(b *scheduling) bool {
	return a.scheduler == b.scheduler && a.flags == b.flags && a.options == b.options && a.ramp == b.ramp
}

// guardRules says what the host's stack must not see.
func guardRules(s *State, l *live, hops *director.Hops) guard.Rules {
	r := guard.Rules{Marked: marked(s)}
	r.Sources, r.Spans = sources(s, l)
	r.Returns = returns(s, l, hops)
	for i := range hops.Ports {
		r.Interfaces = append(r.Interfaces, hops.Ports[i].Name)
	}
	for a := range hops.Local {
		r.Local = append(r.Local, a.Netip())
	}
	for i := range s.Services {
		if k := s.Services[i].ServiceKey; k.FWMark == 0 {
			r.Services = append(r.Services, guard.Endpoint{Proto: k.Proto, Addr: k.Addr, Port: k.Port})
		}
	}
	for _, a := range vips(s) {
		if !hops.Holds(wire.AddrFrom(a)) {
			r.VIPs = append(r.VIPs, a)
		}
	}
	return r
}
