package compile

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"uvs/conntrack"
	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/cow"
	"uvs/dataplane/director"
	"uvs/dataplane/helper"
	"uvs/dataplane/helper/sip"
	"uvs/dataplane/wire"
)

// Table is a director's table with what the next one takes over from it, which is all that
// depends on services that do not change.
type Table struct {
	*director.Table
	Guard    *RulesByService
	services cow.Map[config.ServiceKey, *compiledService]
	vips     cow.Map[wire.Addr, vipUsers]
	standby  int   // VIPs on standby, if not all are
	Resolved Addrs // that frames are sent to
	// AnnouncedChanged: perhaps not the same VIPs are to be announced as before.
	AnnouncedChanged bool
}

// compiledService is what a service puts into a table. One that was removed does so while
// conns may have its servers.
type compiledService struct {
	service  *director.Service // nil: removed
	servers  []uint32          // IDs, with those of removed servers
	vips     []wire.Addr
	announce uint32 // setting of vips
	resolved []netip.Addr
	replies  bool // perhaps in ReplyServices
}

// Table compiles the table that the workers read, from the host's routes and the running
// services and servers. Those were reconciled before. prev is the table compiled before with
// the same routes; nil: there is none. What no operation changed is taken over from it.
// Table also brings pickers, cursors and conntrack's Counts.Timeouts in line.
func (d *Desired) Table(rules *RulesByService, fib *director.FIB, prev *Table) *Table {
	keys, whole := d.changed(), prev == nil || d.AllChanged()
	if whole {
		prev, keys = newTable(fib), d.keys()
	}
	t := prev.clone()
	t.Resolved.Changed, t.AnnouncedChanged = whole, whole
	t.Guard, t.FIB, t.Sessions, t.Settings = rules, fib, d.rt.Sessions, directorSettings(d.Director())
	if t.Standby = director.StandbyNone; d.Standby {
		t.Standby = director.StandbyAll
	}
	var marks, replies, sources bool
	for _, k := range keys {
		before, c := prev.compiled(k), d.compile(k)
		sources = t.addVIPs(c, 1) || sources
		sources = t.addVIPs(before, -1) || sources
		t.Resolved.replace(before.resolved, c.resolved)
		marks, replies = marks || k.FWMark != 0, replies || before.replies || c.replies
		t.setService(d, k, c, prev)
	}
	if t.standby > 0 {
		t.Standby = max(t.Standby, director.StandbyVIPs)
	}
	if marks || whole {
		t.compileMarks(d, prev)
	}
	if t.Removed != nil && t.Removed.Services.Len() == 0 && t.Removed.Marks == nil {
		t.Removed = nil
	}
	t.compileReplySources(keys, prev)
	if sources { // tunnels may start at other addresses
		keys = slices.Concat(keys, d.keys())
	}
	for _, k := range keys {
		t.compileServers(d, k, prev)
	}
	if replies {
		t.compileReplyServices(d)
	}
	return t
}

// newTable returns a table without services.
func newTable(fib *director.FIB) *Table {
	t := &Table{Table: &director.Table{FIB: fib}, Guard: new(RulesByService)}
	for a := range vlanAddrs(fib) {
		t.VIPs.Set(a, director.VIP{DirectorOnly: true})
	}
	return t
}

// clone returns a copy of a table that shares what is in it.
func (t *Table) clone() *Table {
	next := *t.Table
	next.VIPs, next.Services, next.Tunnels = t.VIPs.Clone(), t.Services.Clone(), t.Tunnels.Clone()
	next.ReplySources, next.ReplySourceAddrs = t.ReplySources.Clone(), t.ReplySourceAddrs.Clone()
	return &Table{
		Table: &next, services: t.services.Clone(), vips: t.vips.Clone(), standby: t.standby,
		Resolved: t.Resolved.clone(),
	}
}

// compiled returns what a service put into the table.
func (t *Table) compiled(k config.ServiceKey) *compiledService {
	if c, ok := t.services.Get(k); ok {
		return c
	}
	return new(compiledService)
}

// compile compiles a service.
func (d *Desired) compile(k config.ServiceKey) *compiledService {
	c := new(compiledService)
	svc, err := d.Find(k)
	removed := d.rt.removed[k]
	switch {
	case err == nil:
		c.service, c.announce = d.compileService(svc), d.Announce(svc.Settings)
		c.replies = svc.OPS || svc.PE != ""
	case removed != nil:
		c.announce = d.Announce(removed.config.Settings)
	}
	if err == nil || removed != nil {
		for _, a := range d.vips(k) {
			c.vips = append(c.vips, wire.AddrFrom(a))
		}
	}
	for _, v := range d.rt.byService[k] {
		c.servers = append(c.servers, v.ID)
	}
	c.resolved = d.serverAddrs(k)
	return c
}

// WithNeighbours returns the table with the FIB of a host that has other neighbours. nil:
// more depends on them, and all has to be compiled again.
func (t *Table) WithNeighbours(rt *Runtime, fib *director.FIB) *Table {
	next := t.clone()
	next.Guard, next.FIB = t.Guard, fib
	for id, v := range rt.Servers {
		if v == nil {
			continue
		}
		server := *t.Servers.Get(uint32(id))
		hop := v.NextHop(fib)
		if hop.Source != server.NextHop.Source { // a tunnel may start there
			return nil
		}
		if hop != server.NextHop {
			server.NextHop = hop
			next.Servers.Set(uint32(id), &server, &t.Servers)
		}
	}
	return next
}

// setService enters a service of an address where packets find it.
func (t *Table) setService(d *Desired, k config.ServiceKey, c *compiledService, prev *Table) {
	if t.services.Set(k, c); c.service == nil && c.servers == nil {
		t.services.Delete(k)
	}
	if k.FWMark != 0 {
		return
	}
	e := endpointOf(k)
	if c.service != nil {
		t.Services.Set(e, c.service)
	} else {
		t.Services.Delete(e)
	}
	hidden := d.hidden(k)
	if hidden == nil && (t.Removed == nil || !t.Removed.Services.Has(e)) {
		return
	}
	if t.ownRemoved(prev); hidden != nil {
		t.Removed.Services.Set(e, &director.Service{Persist: seconds(uint32(hidden.Persist))})
	} else {
		t.Removed.Services.Delete(e)
	}
}

// ReplaceService replaces a configured service in a copy of a table.
func ReplaceService(t *director.Table, k config.ServiceKey, svc *director.Service) {
	if k.FWMark == 0 {
		services := t.Services
		t.Services = services.Clone()
		t.Services.Set(endpointOf(k), svc)
		return
	}
	marks := *t.Marks
	marks.Services = maps.Clone(marks.Services)
	marks.Services[markKey(k)] = svc
	t.Marks = &marks
}

// endpointOf returns the endpoint of a service of an address.
func endpointOf(k config.ServiceKey) director.Endpoint {
	return director.Endpoint{Addr: wire.AddrFrom(k.Addr), Port: k.Port, Proto: uint8(k.Proto)}
}

// ownRemoved makes Removed a table that prev does not have.
func (t *Table) ownRemoved(prev *Table) {
	switch {
	case t.Removed == nil:
		t.Removed = new(director.Table)
	case t.Removed == prev.Removed:
		t.Removed = &director.Table{Services: prev.Removed.Services.Clone(), Marks: prev.Removed.Marks}
	}
}

// compileMarks fills in Marks, with the services of marks and those that were removed.
func (t *Table) compileMarks(d *Desired, prev *Table) {
	running, removed := map[director.MarkKey]*director.Service{}, map[director.MarkKey]*director.Service{}
	for _, svc := range d.Services {
		if svc.FWMark != 0 {
			running[markKey(svc.ServiceKey)] = t.compiled(svc.ServiceKey).service
		}
	}
	for k := range d.rt.removed {
		if k.FWMark != 0 {
			running[markKey(k)] = nil
		}
		if svc := d.hidden(k); svc != nil && k.FWMark != 0 {
			removed[markKey(k)] = &director.Service{Persist: seconds(uint32(svc.Persist))}
		}
	}
	t.Marks = compileMarks(d.Marks, running, t.FIB)
	t.ownRemoved(prev)
	t.Removed.Marks = compileMarks(d.Marks, removed, t.FIB)
}

// compileServers enters the servers of a service, and drops those that were released.
func (t *Table) compileServers(d *Desired, k config.ServiceKey, prev *Table) {
	for _, id := range prev.compiled(k).servers {
		if d.rt.Servers[id] == nil {
			t.setServer(d.rt, new(director.Server), id, false, prev)
		}
	}
	var own serverSettings
	if d.service(k) != nil {
		own = d.serverSettings(k)
	}
	for _, v := range d.rt.byService[k] {
		server := compileServer(v, d.rt, t.Table, own)
		if v.Removed {
			server.GraceEnd, server.KeepsConns = v.graceEnd, d.Director().RemovedConns == config.RemovedServe
		}
		t.setServer(d.rt, &server, v.ID, v.Config.Method == config.MethodTunnel, prev)
		d.rt.conns.Counts(v.ID).Timeouts.Store(own.timeouts)
	}
}

// setServer enters a server in Servers and Tunnels. Of servers with the same tunnel, that
// with the greatest ID is in Tunnels.
func (t *Table) setServer(rt *Runtime, server *director.Server, id uint32, tunnelled bool, prev *Table) {
	before, key := director.TunnelKey(&t.Servers.Get(id).Tunnel), director.TunnelKey(&server.Tunnel)
	t.Servers.Set(id, server, &prev.Servers)
	if owner, _ := t.Tunnels.Get(before); owner == id && id != 0 && (!tunnelled || key != before) {
		t.Tunnels.Delete(before)
		for _, v := range rt.Servers {
			if v != nil && v.ID != id && v.Config.Method == config.MethodTunnel && v.tunnelKey() == before {
				t.Tunnels.Set(before, v.ID)
			}
		}
	}
	if owner, _ := t.Tunnels.Get(key); tunnelled && owner < id {
		t.Tunnels.Set(key, id)
	}
}

// compileReplySources fills in ReplySources, ReplySourceAddrs and ReplySourceRanges.
func (t *Table) compileReplySources(keys []config.ServiceKey, prev *Table) {
	ranges := false
	for _, k := range keys {
		before, _ := prev.Guard.byService.Get(k)
		rules, _ := t.Guard.byService.Get(k)
		if rules != before {
			ranges = t.addReplySources(rules, 1) || ranges
			ranges = t.addReplySources(before, -1) || ranges
		}
	}
	if !ranges {
		return
	}
	t.ReplySourceRanges = nil
	for _, rules := range t.Guard.byService.All() {
		for _, e := range rules.ReplySourceRanges {
			r := director.SourceRange{Net: e.Net, Proto: e.Proto, Ports: wire.PortRange{First: e.First, Last: e.Last}}
			t.ReplySourceRanges = append(t.ReplySourceRanges, r)
		}
	}
}

// addReplySources adds n to the counts of the endpoints in the rules for a service, and
// reports whether there are ranges, too.
func (t *Table) addReplySources(rules *guard.ServiceRules, n int) (ranges bool) {
	if rules == nil {
		return false
	}
	for _, e := range rules.ReplySources {
		endpoint := director.Endpoint{Addr: wire.AddrFrom(e.Addr), Port: e.Port, Proto: e.Proto}
		cow.Add(&t.ReplySources, endpoint, n)
		endpoint.Port = 0
		cow.Add(&t.ReplySourceAddrs, endpoint, n)
	}
	return len(rules.ReplySourceRanges) > 0
}

// compileReplyServices fills in ReplyServices.
func (t *Table) compileReplyServices(d *Desired) {
	t.ReplyServices = nil
	for _, svc := range d.Services {
		if svc.OPS || svc.PE != "" {
			t.addReplyServices(d, svc, t.compiled(svc.ServiceKey).service)
		}
	}
}

// addReplyServices enters the endpoints from which servers of a service send replies that
// have no conn: of a one-packet service if its replies are to be translated, and of a service
// of SIP calls.
func (t *Table) addReplyServices(d *Desired, svc *config.Service, compiled *director.Service) {
	var calls *director.Service
	if compiled.SIPCalls != nil {
		calls = compiled
	}
	translate := svc.OPS && d.SettingsOf(svc).OPSReplies
	if svc.FWMark != 0 || calls == nil && !translate {
		return
	}
	if t.ReplyServices == nil {
		t.ReplyServices = map[director.Endpoint]director.ReplyService{}
	}
	for _, server := range svc.AllServers() {
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
		v := d.rt.Server(svc.ServiceKey, server.ServerKey)
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
	svc, err := d.Find(k)
	if err != nil {
		svc = new(config.Service)
	}
	settings := d.SettingsOf(svc)
	own := serverSettings{helper: d.helper(k), ignoreDF: !settings.PMTUDisc, mss: uint16(settings.MSSClamp)}
	if len(svc.Settings) > 0 {
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

// compileService compiles a service, and makes a picker for it if it needs a new one.
func (d *Desired) compileService(svc *config.Service) *director.Service {
	rt := d.rt
	running, settings := rt.Services[svc.ServiceKey], d.SettingsOf(svc)
	running.updatePicker(svc, rt, settings)
	var withThreshold []uint32
	for i := range svc.Servers { // in the order of running.ids
		if svc.Servers[i].Upper > 0 {
			withThreshold = append(withThreshold, running.ids[i])
		}
	}
	sorry := uint32(0)
	if server := svc.Sorry; server != nil && server.Admin == config.AdminUp {
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
		Helper:          d.helper(svc.ServiceKey),
	}
}
