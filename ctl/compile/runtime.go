package compile

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"uvs/conntrack"
	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/helper"
	"uvs/dataplane/helper/sip"
	"uvs/sched"
)

// Runtime is what outlives every table: IDs, counters, cursors. It is not safe for
// concurrent use.
type Runtime struct {
	conns     *conntrack.Table
	workers   int
	Services  map[config.ServiceKey]*RunningService
	removed   map[config.ServiceKey]*RunningService // that have servers in byService
	Servers   []*RunningServer                      // by ID; nil: free. ID 0 is never used
	firstFree int                                   // no ID below is free
	index     map[serverIdentity]*RunningServer
	byService map[config.ServiceKey][]*RunningServer // removed ones too
	lastID    uint32                                 // of services
	round     uint64                                 // number of Reconcile
	policers  *director.Policers
	Sessions  *helper.Sessions              // nil until a service has a helper
	SIPCalls  *sip.Calls                    // nil until a service has persistence engine sip
	Paths     map[netip.Addr]*director.Path // by address of servers
	pathUsers map[netip.Addr]int            // servers with the path
}

// RunningService is the running side of a service.
type RunningService struct {
	ID           uint32
	config       config.Service // as last configured
	graceEnd     conntrack.Tick // of removed: until when its conns wait for it
	waiting      bool           // of removed: graceEnd had not come at the last Reconcile
	cursor       *sched.Cursor
	picker       sched.Picker
	inputs       pickerInputs    // of picker
	SchedServers []sched.Server  // of picker
	ids          []uint32        // of SchedServers
	released     director.Totals // counted by servers that were released
	Zero         director.Totals // when the counters were reset
	Rate         Estimator
}

// RunningServer is the running side of a server, which may have been removed from its service.
type RunningServer struct {
	ID             uint32
	Service        config.ServiceKey
	key            config.ServerKey
	Config         config.Server  // as last configured
	weight         int32          // the last that was not 0 since it was added
	SlowStartBegin conntrack.Tick // of slow start: when it was added, left weight 0 or came up
	wasNAT         bool           // is or was NAT; conns keep their method
	Counters       *director.Counters
	Path           *director.Path
	Overload       atomic.Bool
	Removed        bool            // no longer in its service
	graceEnd       conntrack.Tick  // if Removed: until when its conns wait for it
	graceReported  bool            // if Removed: GraceOver has returned it
	idle           time.Time       // since when it is removed and without conns; zero: it is not
	Zero           director.Totals // when the counters were reset
	Rate           Estimator
	seen           uint64 // last round that found it configured
}

// MaxServerIDs bounds servers, counting removed ones that still have an ID.
const MaxServerIDs = director.MaxServers

// TrashTime is how long the runtime keeps a removed server without conns, so that it keeps
// its counters if it is added again (IP_VS_DEST_TRASH_PERIOD in include/net/ip_vs.h: 120 s).
const TrashTime = 120 * time.Second

// NewRuntime makes the runtime of a director without services.
func NewRuntime(conns *conntrack.Table, workers int) *Runtime {
	return &Runtime{
		conns: conns, workers: workers,
		Services:  map[config.ServiceKey]*RunningService{},
		removed:   map[config.ServiceKey]*RunningService{},
		index:     map[serverIdentity]*RunningServer{},
		byService: map[config.ServiceKey][]*RunningServer{},
		Servers:   make([]*RunningServer, 1),
		firstFree: 1,
		policers:  director.NewPolicers(),
		Paths:     map[netip.Addr]*director.Path{},
		pathUsers: map[netip.Addr]int{},
	}
}

// Reconcile brings the running side in line with the desired state, which passed Check.
// New servers get an ID and counters; servers that are gone are marked removed, and keep
// what is theirs for when they are added again. now is the data path's time. Services whose
// grace is over count as changed, too. Reconcile reports whether a server got an ID.
func (d *Desired) Reconcile(now conntrack.Tick) (newIDs bool) {
	rt, graceEnd := d.rt, now+seconds(d.Director().RemovedGrace)
	for _, key := range d.Deleted() {
		rt.removeService(key, now, graceEnd)
	}
	rt.round++
	for _, key := range d.changed() {
		svc, err := d.Find(key)
		if err != nil {
			rt.removeService(key, now, graceEnd)
		} else {
			newIDs = d.reconcileService(svc, now) || newIDs
		}
		for _, v := range rt.byService[key] {
			if !v.Removed && v.seen != rt.round {
				v.Removed, v.graceEnd, v.graceReported = true, graceEnd, false
			}
		}
	}
	for key, svc := range rt.removed {
		if svc.waiting && now >= svc.graceEnd {
			svc.waiting = false
			d.Touch(key)
		}
		if rt.byService[key] == nil {
			delete(rt.removed, key)
		}
	}
	return newIDs
}

// reconcileService is Reconcile for a configured service.
func (d *Desired) reconcileService(svc *config.Service, now conntrack.Tick) (newIDs bool) {
	key := svc.ServiceKey
	running := d.rt.Services[key]
	added := running == nil
	if added {
		running = &RunningService{ID: d.rt.serviceID(key)}
		d.rt.Services[key] = running
	}
	if d.rt.Sessions == nil && d.helper(key) != nil {
		d.rt.Sessions = helper.NewSessions(d.rt.workers)
	}
	running.config = *svc
	for _, server := range svc.AllServers() {
		newIDs = d.rt.addServer(key, server, now) || newIDs
	}
	// A new service starts at zero, even if its servers are still there from a service
	// with the same key (net/netfilter/ipvs/ip_vs_ctl.c, __ip_vs_update_dest).
	if added {
		d.rt.resetCounters(key)
	}
	return newIDs
}

// removeService keeps what a service that was deleted has when it is added again.
func (rt *Runtime) removeService(key config.ServiceKey, now, graceEnd conntrack.Tick) {
	if svc := rt.Services[key]; svc != nil {
		svc.graceEnd, svc.waiting = graceEnd, now < graceEnd
		rt.removed[key] = svc
		delete(rt.Services, key)
	}
}

// serviceID returns the ID of a service that was added. One that was removed takes back its
// own, so that the limits of its clients go on.
func (rt *Runtime) serviceID(key config.ServiceKey) uint32 {
	if old := rt.removed[key]; old != nil {
		delete(rt.removed, key)
		return old.ID
	}
	rt.lastID++
	return rt.lastID
}

// GraceOver returns the services whose grace has ended, and the servers whose conns no
// longer wait. It returns each server once.
func (rt *Runtime) GraceOver(now conntrack.Tick) (services []config.ServiceKey, servers map[uint32]bool) {
	for key, svc := range rt.removed {
		if svc.waiting && now >= svc.graceEnd {
			services = append(services, key)
		}
	}
	servers = map[uint32]bool{}
	for _, v := range rt.Servers {
		if v != nil && v.Removed && !v.graceReported && now >= v.graceEnd {
			v.graceReported, servers[v.ID] = true, true
		}
	}
	return services, servers
}

// ResetCounters sets the counters and rates of a service and its servers to 0, or those of
// all.
func (rt *Runtime) ResetCounters(of *config.Service) {
	if of != nil {
		rt.resetCounters(of.ServiceKey)
		return
	}
	for key := range rt.Services {
		rt.resetCounters(key)
	}
	for key := range rt.removed {
		rt.resetCounters(key)
	}
}

func (rt *Runtime) resetCounters(key config.ServiceKey) {
	if svc := rt.Services[key]; svc != nil {
		svc.Zero = rt.Total(key)
		svc.Rate = Estimator{last: svc.Zero}
	}
	for _, v := range rt.byService[key] {
		v.Zero = v.Counters.Totals()
		v.Rate = Estimator{last: v.Zero}
	}
}

// Check checks that the servers, with the removed ones, do not exceed MaxServerIDs.
func (d *Desired) Check() error {
	rt := d.rt
	used := len(rt.index)
	for _, key := range d.changed() {
		svc, err := d.Find(key)
		if err != nil {
			continue
		}
		for _, server := range svc.AllServers() {
			if rt.Server(svc.ServiceKey, server.ServerKey) == nil {
				used++
			}
		}
	}
	if limit := MaxServerIDs - 1; used > limit {
		return config.Errorf(syscall.ENOSPC,
			"%d servers, counting removed ones that still have conns, are more than %d", used, limit)
	}
	return nil
}

// serverIdentity identifies a server, also when it is added again after it was removed.
type serverIdentity struct {
	service config.ServiceKey
	server  config.ServerKey
}

// Server returns the running side of a server, which may have been removed; nil: there is none.
func (rt *Runtime) Server(service config.ServiceKey, server config.ServerKey) *RunningServer {
	return rt.index[serverIdentity{service, server}]
}

func (v *RunningServer) identity() serverIdentity { return serverIdentity{v.Service, v.key} }

// ServersOf are the servers of a service, including removed ones.
func (rt *Runtime) ServersOf(service config.ServiceKey) []*RunningServer {
	return rt.byService[service]
}

// addServer gives a configured server a running side, if it has none, and updates it. It
// reports whether the server is new.
func (rt *Runtime) addServer(service config.ServiceKey, server config.Server, now conntrack.Tick) (isNew bool) {
	id := serverIdentity{service, server.ServerKey}
	v := rt.index[id]
	if v == nil {
		v = &RunningServer{
			Service: service, key: server.ServerKey, ID: rt.freeID(),
			Counters: director.NewCounters(rt.workers), Path: rt.path(server.Addr),
		}
		rt.Servers[v.ID] = v
		rt.index[id] = v
		rt.byService[service] = append(rt.byService[service], v)
		isNew = true
	}
	if server.Upper != v.Config.Upper || server.Lower != v.Config.Lower {
		v.setOverload(server.Upper, rt.conns.Counts(v.ID).Total())
	}
	if acceptsNew(&server) && (!acceptsNew(&v.Config) || v.Removed) {
		v.SlowStartBegin = now
	}
	added := isNew || v.Removed
	v.Removed, v.idle, v.seen = false, time.Time{}, rt.round
	v.Config = server
	v.wasNAT = v.wasNAT || server.Method == config.MethodNAT
	if server.Weight != 0 || added {
		v.weight = server.Weight
	}
	return isNew
}

// path is the path to an address for a new server. All servers there share it.
func (rt *Runtime) path(addr netip.Addr) *director.Path {
	rt.pathUsers[addr]++
	if rt.Paths[addr] == nil {
		rt.Paths[addr] = new(director.Path)
	}
	return rt.Paths[addr]
}

// acceptsNew reports whether a server may get new connections.
func acceptsNew(s *config.Server) bool {
	return s.EffectiveWeight() != 0 && s.Admin != config.AdminDown
}

// setOverload sets the overload flag after a change of thresholds. Between them it stays
// as it is; below the lower one the director clears it
// (docs/ipvs.md, "Overload").
func (v *RunningServer) setOverload(upper uint32, conns int32) {
	switch {
	case upper == 0:
		v.Overload.Store(false)
	case int64(conns) >= int64(upper):
		v.Overload.Store(true)
	}
}

func (rt *Runtime) freeID() uint32 {
	for rt.firstFree < len(rt.Servers) && rt.Servers[rt.firstFree] != nil {
		rt.firstFree++
	}
	if rt.firstFree == len(rt.Servers) {
		rt.Servers = append(rt.Servers, nil)
	}
	return uint32(rt.firstFree)
}

// Expired lists servers that were removed and had no conns at each call during TrashTime.
// (A single call may miss a conn that changes from active to inactive meanwhile.)
func (rt *Runtime) Expired(now time.Time) []uint32 {
	var ids []uint32
	for _, v := range rt.Servers {
		if v == nil || !v.Removed {
			continue
		}
		switch c := rt.conns.Counts(v.ID); {
		case c.Total() != 0 || c.Templates.Load() != 0:
			v.idle = time.Time{}
		case v.idle.IsZero():
			v.idle = now
		case now.Sub(v.idle) >= TrashTime:
			ids = append(ids, v.ID)
		}
	}
	return ids
}

// Release frees the IDs of servers and returns the services that they belonged to. The IDs
// may be used again after a table without them has been published.
func (rt *Runtime) Release(ids []uint32) (services []config.ServiceKey) {
	if len(ids) == 0 {
		return nil
	}
	for _, id := range ids {
		v := rt.Servers[id]
		if svc := rt.Services[v.Service]; svc != nil {
			svc.released = sum(svc.released, v.Counters.Totals())
		}
		delete(rt.index, v.identity())
		siblings := slices.DeleteFunc(rt.byService[v.Service], func(o *RunningServer) bool { return o == v })
		if rt.byService[v.Service] = siblings; len(siblings) == 0 {
			delete(rt.byService, v.Service)
		}
		if rt.pathUsers[v.key.Addr]--; rt.pathUsers[v.key.Addr] == 0 {
			delete(rt.Paths, v.key.Addr)
			delete(rt.pathUsers, v.key.Addr)
		}
		rt.Servers[id] = nil
		rt.firstFree = min(rt.firstFree, int(id))
		services = append(services, v.Service)
	}
	return services
}

// Total adds up what the servers of a configured service counted, including removed ones.
func (rt *Runtime) Total(key config.ServiceKey) director.Totals {
	t := rt.Services[key].released
	for _, v := range rt.byService[key] {
		t = sum(t, v.Counters.Totals())
	}
	return t
}

func sum(a, b director.Totals) director.Totals {
	return director.Totals{
		Conns:  a.Conns + b.Conns,
		InPkts: a.InPkts + b.InPkts, OutPkts: a.OutPkts + b.OutPkts,
		InBytes: a.InBytes + b.InBytes, OutBytes: a.OutBytes + b.OutBytes,
		TooBig: a.TooBig + b.TooBig, Split: a.Split + b.Split,
	}
}
