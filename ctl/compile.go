package ctl

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"

	"uvs/conntrack"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// compiled is a table and what the next is made of if little changes.
type compiled struct {
	*director.Table
	services map[ServiceKey]*director.Service
	hidden   hidden
}

// compile builds the table the workers read from the desired state, its running
// side, which follows it, what is hidden, and the ways out. It publishes nothing.
// What the state's operations did not concern is taken over from prev, which was
// compiled before them with the same ways; nil: nothing is.
func compile(s *State, l *live, h hidden, ways *director.FIB, prev *compiled) *compiled {
	if prev == nil || s.all {
		prev = nil
	}
	c := &compiled{hidden: h, services: make(map[ServiceKey]*director.Service, len(s.Services)), Table: &director.Table{
		VIPs:     make(map[wire.Addr]director.VIP, len(s.Services)),
		Services: make(map[director.Endpoint]*director.Service, len(s.Services)),
		FIB:      ways,
		Settings: s.Tuning.rules(),
		Sessions: l.sessions,
		Tunnels:  map[director.Endpoint]uint32{},
	}}
	e, marks := newEnds(s), map[director.MarkKey]*director.Service{}
	for i := range s.Services {
		svc := &s.Services[i]
		k := svc.ServiceKey
		compiled := prev.service(k)
		if compiled == nil || s.concerns(k) {
			compiled = compileService(s, svc, l)
		}
		c.services[k] = compiled
		if svc.OPS || svc.PE != "" {
			c.addOrigins(s, svc, l)
		}
		if k.FWMark != 0 {
			marks[director.MarkKey{Mark: k.FWMark, IPv6: k.IPv6}] = compiled
		} else {
			c.Services[director.Endpoint{Addr: wire.AddrFrom(k.Addr), Port: k.Port, Proto: k.Proto}] = compiled
		}
		for _, a := range e.vips(k) {
			vip := wire.AddrFrom(a)
			c.VIPs[vip] = director.VIP{Ours: !ways.IsLocal(vip)}
		}
	}
	for i := range ways.Ports {
		if p := &ways.Ports[i]; p.VLAN != 0 { // nobody but us answers for its addresses
			for _, a := range []netip.Addr{p.Addr4, p.Addr6} {
				if a.IsValid() {
					c.VIPs[wire.AddrFrom(a)] = director.VIP{Ours: true}
				}
			}
		}
	}
	c.Marks = compileMarks(s, marks, ways)
	c.compileServers(s, l, prev)
	c.compileSources(prev)
	return c
}

// service is one of an earlier table; nil: there was none.
func (c *compiled) service(k ServiceKey) *director.Service {
	if c == nil {
		return nil
	}
	return c.services[k]
}

// compileServers fills Servers and Tunnels. A server depends on its service, and
// by where its tunnel starts on what is a VIP.
func (c *compiled) compileServers(s *State, l *live, prev *compiled) {
	whole := prev == nil || !maps.Equal(c.VIPs, prev.VIPs)
	c.Servers = make([]director.Server, len(l.servers))
	if !whole {
		copy(c.Servers, prev.Servers)
	}
	for k, servers := range l.of {
		if !whole && !s.concerns(k) {
			continue
		}
		var own serverSettings
		if c.services[k] != nil {
			own = s.serverSettings(k)
		}
		for _, v := range servers {
			c.Servers[v.id] = compileServer(v, l, c.Table, own)
			l.conns.Counts(v.id).Timeouts.Store(own.timeouts)
		}
	}
	for id, v := range l.servers {
		switch {
		case v == nil:
			c.Servers[id] = director.Server{}
		case v.last.Method == MethodTunnel:
			c.Tunnels[director.TunnelKey(&c.Servers[id].Tunnel)] = v.id
		}
	}
}

// compileSources fills Sources, Speakers and Spans.
func (c *compiled) compileSources(prev *compiled) {
	if prev != nil && maps.Equal(c.hidden, prev.hidden) {
		c.ServerEndpoints, c.ServerAddrs, c.ServerRanges = prev.ServerEndpoints, prev.ServerAddrs, prev.ServerRanges
		return
	}
	n := 0
	for _, part := range c.hidden {
		n += len(part.Sources)
	}
	c.ServerEndpoints, c.ServerAddrs = make(map[director.Endpoint]bool, n), make(map[director.Endpoint]bool, n)
	for _, part := range c.hidden {
		for _, e := range part.Sources {
			c.ServerEndpoints[director.Endpoint{Addr: wire.AddrFrom(e.Addr), Port: e.Port, Proto: e.Proto}] = true
			c.ServerAddrs[director.Endpoint{Addr: wire.AddrFrom(e.Addr), Proto: e.Proto}] = true
		}
		for _, e := range part.SourceRanges {
			c.ServerRanges = append(c.ServerRanges, director.ServerRange{Net: e.Net, Proto: e.Proto, Ports: wire.PortRange{First: e.First, Last: e.Last}})
		}
	}
}

// addOrigins enters where the replies of a one-packet service come from, if it
// has them translated, and the calls of a service of calls.
func (t *compiled) addOrigins(s *State, svc *Service, l *live) {
	var calls *director.Service
	if t.services[svc.ServiceKey].SIPCalls != nil {
		calls = t.services[svc.ServiceKey]
	}
	replies := svc.OPS && s.tuning(svc.ServiceKey).value(tuneReplies) != 0
	if svc.FWMark != 0 || calls == nil && !replies {
		return
	}
	if t.ReplyServices == nil {
		t.ReplyServices = map[director.Endpoint]director.ReplyService{}
	}
	for _, server := range s.reals(svc) {
		if server.Method != MethodMasq {
			continue
		}
		end := director.Endpoint{Addr: wire.AddrFrom(server.Addr), Proto: svc.Proto}
		if svc.Port != 0 {
			end.Port = cmp.Or(server.Port, svc.Port)
		}
		_, taken := t.ReplyServices[end]
		v := l.index[serverIdentity{svc.ServiceKey, server.ServerKey}]
		t.ReplyServices[end] = director.ReplyService{
			VIP: wire.AddrFrom(svc.Addr), VPort: svc.Port, Ambiguous: taken,
			Counters: v.counters, Service: calls, Server: v.id,
		}
	}
}

// serverSettings is what a service's settings mean for its servers, removed ones
// too. The zero value is that of servers whose service is gone.
type serverSettings struct {
	timeouts *conntrack.Timeouts // nil: the director's
	ignoreDF bool
	helper   *director.Helper // nil: none
	mss      uint16
}

func (s *State) serverSettings(key ServiceKey) serverSettings {
	tuning := s.tuning(key)
	own := serverSettings{ignoreDF: tuning.value(tunePathMTU) == 0, mss: uint16(tuning.value(tuneMSS))}
	if i, err := s.find(key); err == nil {
		own.helper = s.helper(&s.Services[i])
	}
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
		Method:    v.method(t.FIB),
		Available: !v.removed,
		Weight:    v.last.Weight,
		Down:      v.last.Down,
		NextHop:   v.way(t.FIB),
		Path:      v.path,
		MSS:       own.mss,
		Counters:  v.counters,
		Timeouts:  own.timeouts,
		Helper:    own.helper,
	}
	if svc := l.services[v.service]; svc != nil {
		server.Service = svc.id
	}
	server.Tunnel = compileTunnel(v.last.Tunnel, tunnelSource(server.NextHop, addr, t), addr)
	server.Tunnel.IgnoreDF = own.ignoreDF
	if v.last.Upper > 0 {
		server.Threshold = &director.Threshold{
			Upper: int64(v.last.Upper), Lower: int64(v.last.Lower),
			Counts: l.conns.Counts(v.id), Overload: &v.overload,
		}
	}
	return server
}

// compileService makes a service of the table, and first a picker for it, if it
// needs another.
func compileService(s *State, svc *Service, l *live) *director.Service {
	running, tuning := l.services[svc.ServiceKey], s.tuning(svc.ServiceKey)
	running.rebuild(svc, l, tuning)
	var limited []uint32
	for i := range svc.Servers { // newest first, as running.ids
		if svc.Servers[i].Upper > 0 {
			limited = append(limited, running.ids[i])
		}
	}
	sorry := uint32(0)
	if last, ok := s.Sorry[svc.ServiceKey]; ok {
		sorry = l.index[serverIdentity{svc.ServiceKey, last.ServerKey}].id
	}
	var calls *director.SIPCalls
	if svc.PE == engineSIP && svc.Persist > 0 {
		if l.calls == nil {
			l.calls = new(director.SIPCalls)
		}
		calls = l.calls
	}
	return &director.Service{
		SIPCalls: calls, Limited: limited, Sorry: sorry, Limit: tuning.limit(l.policers),
		ID: running.id, Port: svc.Port, Mark: svc.FWMark != 0, Group: markGroup(svc.ServiceKey),
		Picker: running.picker, Cursor: running.cursor, Servers: running.ids,
		Persist: conntrack.Tick(svc.Persist) * 1000, Mask: clientMask(svc),
		ExpireQuiescent: tuning.value(tuneQuiescent) != 0,
		Reset:           tuning.value(tuneNoServer) == noServerReset,
		OnePacket:       svc.OPS,
		Helper:          s.helper(svc),
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
	same := untouched(r.built.servers, how.servers)
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
			Down:      v.last.Down,
			RampStart: int64(v.raised), RampEnd: int64(v.raised + ramp),
		}
	}
	picker, err := sched.New(how.scheduler, how.flags, list, how.options)
	if err != nil {
		panic(fmt.Sprintf("ctl: service %s, which was checked: %v", svc.ServiceKey, err))
	}
	switch {
	case r.picker == nil:
		r.cursor = sched.NewCursor(how.scheduler, nil, destinations(svc))
		r.cursor.Rebase(nil, list)
	case r.built.scheduler != how.scheduler:
		r.cursor = sched.NewCursor(how.scheduler, list, destinations(svc))
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

// untouched says whether no operation has made b of a. One that leaves a server
// as it was counts too: IPVS tells the scheduler of every edit, and wrr begins
// its list anew.
func untouched(a, b []Server) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// destinations is how many addresses a service is called by, 0 if any number.
func destinations(svc *Service) int {
	if svc.FWMark != 0 {
		return 0
	}
	return 1
}

// like says whether all but the servers is the same.
func (a *scheduling) like(b *scheduling) bool {
	return a.scheduler == b.scheduler && a.flags == b.flags && a.options == b.options && a.ramp == b.ramp
}
