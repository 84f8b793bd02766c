package compile

import (
	"cmp"
	"maps"
	"net/netip"

	"uvs/conntrack"
	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/helper"
	"uvs/dataplane/helper/sip"
	"uvs/dataplane/wire"
)

// Table is a director's table with what the next one can take over from it.
type Table struct {
	*director.Table
	Guard    RulesByService
	services map[config.ServiceKey]*director.Service
}

// Table compiles the table that the workers read, from the host's routes and the running
// services and servers. Those were reconciled with d before. prev is the table compiled
// before with the same routes; nil: there is none. What no operation changed is taken over
// from it. Table also brings pickers, cursors and conntrack's Counts.Timeouts in line.
func (d *Desired) Table(rt *Runtime, rules RulesByService, fib *director.FIB, prev *Table) *Table {
	if d.AllChanged() {
		prev = nil
	}
	services := make(map[config.ServiceKey]*director.Service, len(d.Services))
	t := &Table{Guard: rules, services: services, Table: &director.Table{
		VIPs:     make(map[wire.Addr]director.VIP, len(d.Services)),
		Services: make(map[director.Endpoint]*director.Service, len(d.Services)),
		FIB:      fib,
		Settings: directorSettings(d.Director()),
		Sessions: rt.Sessions,
		Tunnels:  map[director.Endpoint]uint32{},
	}}
	if d.Standby {
		t.Standby = director.StandbyAll
	}
	marks := map[director.MarkKey]*director.Service{}
	for i := range d.Services {
		svc := &d.Services[i]
		k := svc.ServiceKey
		compiled := prev.service(k)
		if compiled == nil || d.Changed(k) {
			compiled = d.service(svc, rt)
		}
		t.services[k] = compiled
		if svc.OPS || svc.PE != "" {
			t.addReplyServices(d, svc, rt)
		}
		addService(k, compiled, t.Services, marks)
		t.addVIPs(d.vips(k), d.Announce(d.ServiceSettings[k]))
	}
	t.addKeptVIPs(d)
	for _, svc := range d.kept {
		if svc.config.FWMark != 0 {
			marks[markKey(svc.config.ServiceKey)] = nil
		}
	}
	for i := range fib.Ports {
		if p := &fib.Ports[i]; p.VLAN != 0 { // only the director answers for the addresses of its VLANs
			for _, a := range []netip.Addr{p.Addr4, p.Addr6} {
				if a.IsValid() {
					t.VIPs[wire.AddrFrom(a)] = director.VIP{DirectorOnly: true}
				}
			}
		}
	}
	t.Marks = compileMarks(d.Marks, marks, fib)
	t.Removed = d.removedServices(fib)
	t.compileServers(d, rt, prev)
	t.compileReplySources(prev)
	return t
}

// addVIPs enters the VIPs of a service, whose setting announce is given. Where services
// of one address differ, the quieter setting counts.
func (t *Table) addVIPs(vips []netip.Addr, announce uint32) {
	for _, a := range vips {
		addr := wire.AddrFrom(a)
		vip := t.VIPs[addr]
		vip.DirectorOnly = !t.FIB.IsLocal(addr)
		if vip.DirectorOnly && announce == config.AnnounceHeld {
			t.Standby = max(t.Standby, director.StandbyVIPs)
			vip.Standby = true
		}
		vip.Standby = vip.Standby || t.Standby == director.StandbyAll
		vip.Silent = vip.Silent || vip.Standby || announce == config.AnnounceNever
		t.VIPs[addr] = vip
	}
}

// addKeptVIPs enters the VIPs that only removed services have.
func (t *Table) addKeptVIPs(d *Desired) {
	if len(d.kept) == 0 {
		return
	}
	present := maps.Clone(t.VIPs)
	for _, svc := range d.kept {
		for _, a := range d.vips(svc.config.ServiceKey) {
			if _, ok := present[wire.AddrFrom(a)]; !ok {
				t.addVIPs([]netip.Addr{a}, d.Announce(svc.settings))
			}
		}
	}
}

// Announced returns the VIPs of d's services that the director answers for, each once.
func (t *Table) Announced(d *Desired) (list []netip.Addr) {
	for i := range d.Services {
		for _, a := range t.Guard[d.Services[i].ServiceKey].VIPs {
			if !t.VIPs[wire.AddrFrom(a)].Silent {
				list = append(list, a)
			}
		}
	}
	return unique(list)
}

// addService enters a service where packets find it: by its mark or by its address.
func addService(
	k config.ServiceKey, svc *director.Service,
	services map[director.Endpoint]*director.Service, marks map[director.MarkKey]*director.Service,
) {
	if k.FWMark != 0 {
		marks[markKey(k)] = svc
		return
	}
	services[director.Endpoint{Addr: wire.AddrFrom(k.Addr), Port: k.Port, Proto: uint8(k.Proto)}] = svc
}

// removedServices returns the removed services that are hidden from the host; nil: none.
func (d *Desired) removedServices(fib *director.FIB) *director.Table {
	if len(d.hidden) == 0 {
		return nil
	}
	t := &director.Table{Services: map[director.Endpoint]*director.Service{}}
	marks := map[director.MarkKey]*director.Service{}
	for _, svc := range d.hidden {
		addService(svc.ServiceKey, &director.Service{Persist: seconds(uint32(svc.Persist))}, t.Services, marks)
	}
	t.Marks = compileMarks(d.Marks, marks, fib)
	return t
}

// service returns a service of t; nil: there is none.
func (t *Table) service(k config.ServiceKey) *director.Service {
	if t == nil {
		return nil
	}
	return t.services[k]
}

// compileServers fills Servers and Tunnels. A server depends on its service, and on the
// VIPs, because its tunnel must not start at one.
func (t *Table) compileServers(d *Desired, rt *Runtime, prev *Table) {
	all := prev == nil || !maps.Equal(t.VIPs, prev.VIPs)
	t.Servers = make([]director.Server, len(rt.Servers))
	if !all {
		copy(t.Servers, prev.Servers)
	}
	for k, servers := range rt.byService {
		if !all && !d.Changed(k) {
			continue
		}
		var own serverSettings
		if d.services[k] != nil {
			own = d.serverSettings(k)
		}
		for _, v := range servers {
			t.Servers[v.ID] = compileServer(v, rt, t.Table, own)
			if v.Removed {
				t.Servers[v.ID].GraceEnd = v.graceEnd
				t.Servers[v.ID].KeepsConns = d.Director().RemovedConns == config.RemovedServe
			}
			rt.conns.Counts(v.ID).Timeouts.Store(own.timeouts)
		}
	}
	for id, v := range rt.Servers {
		switch {
		case v == nil:
			t.Servers[id] = director.Server{}
		case v.Config.Method == config.MethodTunnel:
			t.Tunnels[director.TunnelKey(&t.Servers[id].Tunnel)] = v.ID
		}
	}
}

// compileReplySources fills ReplySources, ReplySourceAddrs and ReplySourceRanges.
func (t *Table) compileReplySources(prev *Table) {
	if prev != nil && maps.Equal(t.Guard, prev.Guard) {
		t.ReplySources, t.ReplySourceAddrs = prev.ReplySources, prev.ReplySourceAddrs
		t.ReplySourceRanges = prev.ReplySourceRanges
		return
	}
	n := 0
	for _, rules := range t.Guard {
		n += len(rules.ReplySources)
	}
	t.ReplySources, t.ReplySourceAddrs = make(map[director.Endpoint]bool, n), make(map[director.Endpoint]bool, n)
	for _, rules := range t.Guard {
		for _, e := range rules.ReplySources {
			t.ReplySources[director.Endpoint{Addr: wire.AddrFrom(e.Addr), Port: e.Port, Proto: e.Proto}] = true
			t.ReplySourceAddrs[director.Endpoint{Addr: wire.AddrFrom(e.Addr), Proto: e.Proto}] = true
		}
		for _, e := range rules.ReplySourceRanges {
			r := director.SourceRange{Net: e.Net, Proto: e.Proto, Ports: wire.PortRange{First: e.First, Last: e.Last}}
			t.ReplySourceRanges = append(t.ReplySourceRanges, r)
		}
	}
}

// addReplyServices enters the endpoints from which servers of a service send without a conn:
// of a one-packet service whose replies are translated, and of a service of SIP calls.
func (t *Table) addReplyServices(d *Desired, svc *config.Service, rt *Runtime) {
	var calls *director.Service
	if t.services[svc.ServiceKey].SIPCalls != nil {
		calls = t.services[svc.ServiceKey]
	}
	translate := svc.OPS && d.SettingsOf(svc.ServiceKey).OPSReplies
	if svc.FWMark != 0 || calls == nil && !translate {
		return
	}
	if t.ReplyServices == nil {
		t.ReplyServices = map[director.Endpoint]director.ReplyService{}
	}
	for _, server := range d.AllServers(svc) {
		if server.Method != config.MethodNAT {
			continue
		}
		endpoint := director.Endpoint{Addr: wire.AddrFrom(server.Addr), Proto: uint8(svc.Proto)}
		if svc.Port != 0 {
			endpoint.Port = cmp.Or(server.Port, svc.Port)
		}
		old, taken := t.ReplyServices[endpoint]
		if server.Sorry && old.VIP == wire.AddrFrom(svc.Addr) && old.VPort == svc.Port {
			continue // it is also one of the servers
		}
		v := rt.Server(svc.ServiceKey, server.ServerKey)
		t.ReplyServices[endpoint] = director.ReplyService{
			VIP: wire.AddrFrom(svc.Addr), VPort: svc.Port, Ambiguous: taken,
			Counters: v.Counters, Service: calls, Server: v.ID,
		}
	}
}

// serverSettings are the settings of a service that its servers have, removed ones too.
// Servers whose service is gone have the zero value.
type serverSettings struct {
	timeouts *conntrack.Timeouts // nil: the director's
	ignoreDF bool
	helper   *helper.Config // nil: none
	mss      uint16
}

func (d *Desired) serverSettings(k config.ServiceKey) serverSettings {
	settings := d.SettingsOf(k)
	own := serverSettings{helper: d.helpers[k], ignoreDF: !settings.PMTUDisc, mss: uint16(settings.MSSClamp)}
	if _, ok := d.ServiceSettings[k]; ok {
		own.timeouts = &settings.Timeouts
	}
	return own
}

func compileServer(v *RunningServer, rt *Runtime, t *director.Table, own serverSettings) director.Server {
	addr := wire.AddrFrom(v.Config.Addr)
	server := director.Server{
		ID:        v.ID,
		Addr:      addr,
		Port:      v.Config.Port,
		Method:    conntrack.Method(v.method(t.FIB)),
		InService: !v.Removed,
		Weight:    v.Config.EffectiveWeight(),
		Down:      v.Config.Admin == config.AdminDown,
		NextHop:   v.NextHop(t.FIB),
		Path:      v.Path,
		MSS:       own.mss,
		Counters:  v.Counters,
		Timeouts:  own.timeouts,
		Helper:    own.helper,
	}
	if svc := rt.Services[v.Service]; svc != nil {
		server.Service = svc.ID
	}
	server.Tunnel = compileTunnel(v.Config.Tunnel, tunnelSource(server.NextHop, addr, t), addr)
	server.Tunnel.IgnoreDF = own.ignoreDF
	if v.Config.Upper > 0 {
		server.Threshold = &director.Threshold{
			Upper: int64(v.Config.Upper), Lower: int64(v.Config.Lower),
			Counts: rt.conns.Counts(v.ID), Overload: &v.Overload,
		}
	}
	return server
}

// service compiles a service, and makes a picker for it if it needs a new one.
func (d *Desired) service(svc *config.Service, rt *Runtime) *director.Service {
	running, settings := rt.Services[svc.ServiceKey], d.SettingsOf(svc.ServiceKey)
	running.updatePicker(svc, rt, settings)
	var withThreshold []uint32
	for i := range svc.Servers { // in the order of running.ids
		if svc.Servers[i].Upper > 0 {
			withThreshold = append(withThreshold, running.ids[i])
		}
	}
	sorry := uint32(0)
	if server, ok := d.Sorry[svc.ServiceKey]; ok && server.Admin == config.AdminUp {
		sorry = rt.Server(svc.ServiceKey, server.ServerKey).ID
	}
	var calls *sip.Calls
	if svc.PE == config.EngineSIP && svc.Persist > 0 {
		if rt.SIPCalls == nil {
			rt.SIPCalls = new(sip.Calls)
		}
		calls = rt.SIPCalls
	}
	return &director.Service{
		SIPCalls: calls, WithThreshold: withThreshold, Sorry: sorry, Limit: clientLimit(settings, rt.policers),
		ID: running.ID, Port: svc.Port, Mark: svc.FWMark != 0, MarkAddr: markAddr(svc.ServiceKey),
		Picker: running.picker, Cursor: running.cursor, Servers: running.ids,
		Persist: seconds(uint32(svc.Persist)), Mask: svc.Netmask.Bits(),
		ExpireQuiescent: settings.ExpireQuiescent,
		Reset:           settings.NoServer == config.NoServerReset,
		OnePacket:       svc.OPS,
		Helper:          d.helpers[svc.ServiceKey],
	}
}
