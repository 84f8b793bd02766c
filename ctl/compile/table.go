package compile

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"

	"uvs/conntrack"
	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/helper"
	"uvs/dataplane/helper/sip"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// Table is a table and what the next is made of if little changes.
type Table struct {
	*director.Table
	services map[config.ServiceKey]*director.Service
	Guard    GuardParts
}

// NewTable builds the table the workers read from the desired state, its running
// side, which follows it, what is hidden, and the ways out. It publishes nothing.
// What the state's operations did not concern is taken over from prev, which was
// compiled before them with the same ways; nil: nothing is.
func NewTable(s *config.State, l *Runtime, h GuardParts, ways *director.FIB, prev *Table) *Table {
	if prev == nil || s.AllChanged() {
		prev = nil
	}
	c := &Table{Guard: h, services: make(map[config.ServiceKey]*director.Service, len(s.Services)), Table: &director.Table{
		VIPs:     make(map[wire.Addr]director.VIP, len(s.Services)),
		Services: make(map[director.Endpoint]*director.Service, len(s.Services)),
		FIB:      ways,
		Settings: directorSettings(s.Director()),
		Sessions: l.Sessions,
		Tunnels:  map[director.Endpoint]uint32{},
	}}
	e, marks := NewEndpoints(s), map[director.MarkKey]*director.Service{}
	for i := range s.Services {
		svc := &s.Services[i]
		k := svc.ServiceKey
		compiled := prev.service(k)
		if compiled == nil || s.Changed(k) {
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
func (c *Table) service(k config.ServiceKey) *director.Service {
	if c == nil {
		return nil
	}
	return c.services[k]
}

// compileServers fills Servers and Tunnels. A server depends on its service, and
// by where its tunnel starts on what is a VIP.
func (c *Table) compileServers(s *config.State, l *Runtime, prev *Table) {
	whole := prev == nil || !maps.Equal(c.VIPs, prev.VIPs)
	c.Servers = make([]director.Server, len(l.Servers))
	if !whole {
		copy(c.Servers, prev.Servers)
	}
	for k, servers := range l.byService {
		if !whole && !s.Changed(k) {
			continue
		}
		var own serverSettings
		if c.services[k] != nil {
			own = compileServerSettings(s, k)
		}
		for _, v := range servers {
			c.Servers[v.ID] = compileServer(v, l, c.Table, own)
			l.conns.Counts(v.ID).Timeouts.Store(own.timeouts)
		}
	}
	for id, v := range l.Servers {
		switch {
		case v == nil:
			c.Servers[id] = director.Server{}
		case v.Config.Method == config.MethodTunnel:
			c.Tunnels[director.TunnelKey(&c.Servers[id].Tunnel)] = v.ID
		}
	}
}

// compileSources fills Sources, Speakers and Spans.
func (c *Table) compileSources(prev *Table) {
	if prev != nil && maps.Equal(c.Guard, prev.Guard) {
		c.ServerEndpoints, c.ServerAddrs, c.ServerRanges = prev.ServerEndpoints, prev.ServerAddrs, prev.ServerRanges
		return
	}
	n := 0
	for _, part := range c.Guard {
		n += len(part.Sources)
	}
	c.ServerEndpoints, c.ServerAddrs = make(map[director.Endpoint]bool, n), make(map[director.Endpoint]bool, n)
	for _, part := range c.Guard {
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
func (t *Table) addOrigins(s *config.State, svc *config.Service, l *Runtime) {
	var calls *director.Service
	if t.services[svc.ServiceKey].SIPCalls != nil {
		calls = t.services[svc.ServiceKey]
	}
	replies := svc.OPS && s.SettingsOf(svc.ServiceKey).OPSReplies
	if svc.FWMark != 0 || calls == nil && !replies {
		return
	}
	if t.ReplyServices == nil {
		t.ReplyServices = map[director.Endpoint]director.ReplyService{}
	}
	for _, server := range s.AllServers(svc) {
		if server.Method != config.MethodMasq {
			continue
		}
		end := director.Endpoint{Addr: wire.AddrFrom(server.Addr), Proto: svc.Proto}
		if svc.Port != 0 {
			end.Port = cmp.Or(server.Port, svc.Port)
		}
		_, taken := t.ReplyServices[end]
		v := l.Server(svc.ServiceKey, server.ServerKey)
		t.ReplyServices[end] = director.ReplyService{
			VIP: wire.AddrFrom(svc.Addr), VPort: svc.Port, Ambiguous: taken,
			Counters: v.Counters, Service: calls, Server: v.ID,
		}
	}
}

// serverSettings is what a service's settings mean for its servers, removed ones
// too. The zero value is that of servers whose service is gone.
type serverSettings struct {
	timeouts *conntrack.Timeouts // nil: the director's
	ignoreDF bool
	helper   *helper.Config // nil: none
	mss      uint16
}

func compileServerSettings(s *config.State, key config.ServiceKey) serverSettings {
	settings := s.SettingsOf(key)
	own := serverSettings{ignoreDF: !settings.PMTUDisc, mss: uint16(settings.MSSClamp)}
	if i, err := s.Find(key); err == nil {
		own.helper = compileHelper(s, &s.Services[i])
	}
	if _, ok := s.ServiceSettings[key]; ok {
		own.timeouts = &settings.Timeouts
	}
	return own
}

func compileServer(v *RunningServer, l *Runtime, t *director.Table, own serverSettings) director.Server {
	addr := wire.AddrFrom(v.Config.Addr)
	server := director.Server{
		ID:        v.ID,
		Addr:      addr,
		Port:      v.Config.Port,
		Method:    v.method(t.FIB),
		Available: !v.Removed,
		Weight:    v.Config.Weight,
		Down:      v.Config.Down,
		NextHop:   v.NextHop(t.FIB),
		Path:      v.Path,
		MSS:       own.mss,
		Counters:  v.Counters,
		Timeouts:  own.timeouts,
		Helper:    own.helper,
	}
	if svc := l.Services[v.Service]; svc != nil {
		server.Service = svc.ID
	}
	server.Tunnel = compileTunnel(v.Config.Tunnel, tunnelSource(server.NextHop, addr, t), addr)
	server.Tunnel.IgnoreDF = own.ignoreDF
	if v.Config.Upper > 0 {
		server.Threshold = &director.Threshold{
			Upper: int64(v.Config.Upper), Lower: int64(v.Config.Lower),
			Counts: l.conns.Counts(v.ID), Overload: &v.Overload,
		}
	}
	return server
}

// compileService makes a service of the table, and first a picker for it, if it
// needs another.
func compileService(s *config.State, svc *config.Service, l *Runtime) *director.Service {
	running, settings := l.Services[svc.ServiceKey], s.SettingsOf(svc.ServiceKey)
	running.rebuild(svc, l, settings)
	var limited []uint32
	for i := range svc.Servers { // newest first, as running.ids
		if svc.Servers[i].Upper > 0 {
			limited = append(limited, running.ids[i])
		}
	}
	sorry := uint32(0)
	if last, ok := s.Sorry[svc.ServiceKey]; ok {
		sorry = l.Server(svc.ServiceKey, last.ServerKey).ID
	}
	var calls *sip.Calls
	if svc.PE == config.EngineSIP && svc.Persist > 0 {
		if l.SIPCalls == nil {
			l.SIPCalls = new(sip.Calls)
		}
		calls = l.SIPCalls
	}
	return &director.Service{
		SIPCalls: calls, WithThreshold: limited, Sorry: sorry, Limit: clientLimit(settings, l.policers),
		ID: running.ID, Port: svc.Port, Mark: svc.FWMark != 0, MarkAddr: markGroup(svc.ServiceKey),
		Picker: running.picker, Cursor: running.cursor, Servers: running.ids,
		Persist: conntrack.Tick(svc.Persist) * 1000, Mask: clientMask(svc),
		ExpireQuiescent: settings.ExpireQuiescent,
		Reset:           settings.NoServer == config.NoServerReset,
		OnePacket:       svc.OPS,
		Helper:          compileHelper(s, svc),
	}
}

// clientMask is the part of a client's address that a template keeps. For IPv4
// any mask will do, also one with gaps (ipvsadm -M 24 means 0.0.0.24).
func clientMask(svc *config.Service) (mask wire.Addr) {
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
func (r *RunningService) rebuild(svc *config.Service, l *Runtime, settings *config.Settings) {
	ramp := seconds(settings.SlowStart)
	how := scheduling{svc.Scheduler, sched.Flags(svc.SchedFlags), settings.SchedOptions(), ramp, svc.Servers}
	same := untouched(r.built.servers, how.servers)
	if r.picker != nil && same && r.built.like(&how) {
		return
	}
	list := make([]sched.Server, len(svc.Servers))
	ids := make([]uint32, len(svc.Servers))
	for i := range svc.Servers {
		v := l.Server(svc.ServiceKey, svc.Servers[i].ServerKey)
		counts := l.conns.Counts(v.ID)
		ids[i] = v.ID
		list[i] = sched.Server{
			ID: v.ID, Addr: wire.AddrFrom(v.Config.Addr), Port: v.Config.Port,
			Weight: v.Config.Weight, LastWeight: v.weight,
			Active: &counts.Active, Inactive: &counts.Inactive,
			Overload:  &v.Overload,
			Down:      v.Config.Down,
			RampStart: int64(v.RampStart), RampEnd: int64(v.RampStart + ramp),
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
		r.cursor.Rebase(r.SchedServers, list)
	}
	r.picker, r.built, r.SchedServers, r.ids = picker, how, list, ids
}

// scheduling is what a picker is built from.
type scheduling struct {
	scheduler string
	flags     sched.Flags
	options   sched.Options
	ramp      conntrack.Tick
	servers   []config.Server // a list that nobody writes to: operations replace it
}

// untouched says whether no operation has made b of a. One that leaves a server
// as it was counts too: IPVS tells the scheduler of every edit, and wrr begins
// its list anew.
func untouched(a, b []config.Server) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// destinations is how many addresses a service is called by, 0 if any number.
func destinations(svc *config.Service) int {
	if svc.FWMark != 0 {
		return 0
	}
	return 1
}

// like says whether all but the servers is the same.
func (a *scheduling) like(b *scheduling) bool {
	return a.scheduler == b.scheduler && a.flags == b.flags && a.options == b.options && a.ramp == b.ramp
}
