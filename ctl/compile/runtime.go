package compile

import (
	"maps"
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

// Runtime is what outlives every table: IDs, counters, cursors. It belongs to the
// manager and is changed under its lock only.
type Runtime struct {
	conns     *conntrack.Table
	workers   int
	Services  map[config.ServiceKey]*RunningService
	Servers   []*RunningServer // by ID; nil: free. ID 0 is never used
	index     map[serverIdentity]*RunningServer
	byService map[config.ServiceKey][]*RunningServer // servers of a service, removed ones too
	lastID    uint32                                 // of services
	round     uint64                                 // of follow
	policers  *director.Policers
	Sessions  *helper.Sessions              // of helped connections; nil until a service has a helper
	SIPCalls  *sip.Calls                    // nil until a service has an engine
	Paths     map[netip.Addr]*director.Path // to the addresses of servers
}

// RunningService is the running side of a service.
type RunningService struct {
	ID           uint32
	cursor       *sched.Cursor
	picker       sched.Picker
	built        scheduling      // what picker was built from
	SchedServers []sched.Server  // and the servers it got
	ids          []uint32        // server IDs in the picker's order
	retired      director.Totals // counted by servers since forgotten
	Zero         director.Totals // what Zero took away
	Rate         Estimator
	seen         uint64 // round of follow that found it configured
}

// RunningServer is the running side of a server, in its service or removed from it.
type RunningServer struct {
	ID        uint32
	Service   config.ServiceKey
	key       config.ServerKey
	Config    config.Server  // as last configured
	weight    int32          // last non-zero weight since it was added
	RampStart conntrack.Tick // when it was added, left weight 0 or came up; slow start begins there
	masq      bool           // is, or once was, masqueraded: conns keep their method
	Counters  *director.Counters
	Path      *director.Path
	Overload  atomic.Bool
	Removed   bool            // no longer in its service
	idle      time.Time       // removed, and found without conns since; zero: not found so
	Zero      director.Totals // what Zero took away
	Rate      Estimator
	seen      uint64 // round of follow that found it configured
}

// MaxServers bounds the IDs of servers, removed ones with conns included.
const MaxServers = 1 << 16

// TrashTime is how long a removed server is remembered after it was first found
// without conns, so that one added again keeps its counters
// (IP_VS_DEST_TRASH_PERIOD, ip_vs.h: 120 s).
const TrashTime = 120 * time.Second

func NewRuntime(conns *conntrack.Table, workers int) *Runtime {
	return &Runtime{
		conns: conns, workers: workers,
		Services:  map[config.ServiceKey]*RunningService{},
		index:     map[serverIdentity]*RunningServer{},
		byService: map[config.ServiceKey][]*RunningServer{},
		Servers:   make([]*RunningServer, 1),
		policers:  director.NewPolicers(),
		Paths:     map[netip.Addr]*director.Path{},
	}
}

// Reconcile brings the running side in line with the desired state, which is
// enough for: what is new gets an ID and counters, what is gone is marked
// removed. now is on the data path's clock. grown says that a server got an ID.
func (l *Runtime) Reconcile(s *config.State, now conntrack.Tick) (grown bool) {
	for _, key := range s.Deleted() {
		delete(l.Services, key)
	}
	l.round++
	fresh := map[config.ServiceKey]bool{}
	for i := range s.Services {
		svc := &s.Services[i]
		if !s.Changed(svc.ServiceKey) {
			continue
		}
		running := l.Services[svc.ServiceKey]
		if running == nil {
			l.lastID++
			running = &RunningService{ID: l.lastID}
			l.Services[svc.ServiceKey] = running
			fresh[svc.ServiceKey] = true
		}
		running.seen = l.round
		for _, server := range s.AllServers(svc) {
			grown = l.addServer(svc.ServiceKey, server, now) || grown
		}
	}
	for key, svc := range l.Services {
		if s.Changed(key) && svc.seen != l.round {
			delete(l.Services, key)
		}
	}
	for key, servers := range l.byService {
		for _, v := range servers {
			v.Removed = v.Removed || s.Changed(key) && v.seen != l.round
		}
	}
	// A new service starts at zero, also one that was there before and whose
	// servers are remembered (ip_vs_ctl.c, __ip_vs_update_dest).
	if len(fresh) > 0 {
		l.ResetCounters(func(key config.ServiceKey) bool { return fresh[key] })
	}
	return grown
}

// ResetCounters makes the counters and rates of some services and their servers start
// anew.
func (l *Runtime) ResetCounters(of func(config.ServiceKey) bool) {
	for key, svc := range l.Services {
		if of(key) {
			svc.Zero = l.total(key, svc)
			svc.Rate = Estimator{last: svc.Zero}
		}
	}
	for key, servers := range l.byService {
		if !of(key) {
			continue
		}
		for _, v := range servers {
			v.Zero = v.Counters.Totals()
			v.Rate = Estimator{last: v.Zero}
		}
	}
}

// CheckCapacity says whether the servers of s, and those that were removed, fit the
// connection table's IDs, and gets what memory s needs.
func (l *Runtime) CheckCapacity(s *config.State) error {
	used := len(l.index)
	for i := range s.Services {
		svc := &s.Services[i]
		if !s.Changed(svc.ServiceKey) {
			continue
		}
		for _, server := range s.AllServers(svc) {
			if l.Server(svc.ServiceKey, server.ServerKey) == nil {
				used++
			}
		}
	}
	if limit := MaxServers - 1; used > limit {
		return config.Errorf(syscall.ENOSPC, "%d servers, counting removed ones that still have conns, are more than %d", used, limit)
	}
	return l.allocSessions(s)
}

// allocSessions gets the memory of helped connections when the first service wants it.
func (l *Runtime) allocSessions(s *config.State) (err error) {
	for i := range s.Services {
		if svc := &s.Services[i]; l.Sessions == nil && s.Changed(svc.ServiceKey) && compileHelper(s, svc) != nil {
			if l.Sessions, err = helper.NewSessions(l.workers); err != nil {
				return config.Errorf(syscall.ENOMEM, "service %s: no memory for FTP sessions: %v", svc.ServiceKey, err)
			}
		}
	}
	return nil
}

// serverIdentity is what makes a removed server the same when added again.
type serverIdentity struct {
	service config.ServiceKey
	server  config.ServerKey
}

// Server is the running side of a server, removed or not; nil: there is none.
func (l *Runtime) Server(service config.ServiceKey, server config.ServerKey) *RunningServer {
	return l.index[serverIdentity{service, server}]
}

func (v *RunningServer) identity() serverIdentity { return serverIdentity{v.Service, v.key} }

// addServer makes sure a configured server has a running side, and says whether it
// got a new one.
func (l *Runtime) addServer(service config.ServiceKey, server config.Server, now conntrack.Tick) (grown bool) {
	id := serverIdentity{service, server.ServerKey}
	v := l.index[id]
	if v == nil {
		v = &RunningServer{Service: service, key: server.ServerKey, Counters: director.NewCounters(l.workers), Path: l.path(server.Addr)}
		v.ID = l.freeID()
		l.Servers[v.ID] = v
		l.index[id] = v
		l.byService[service] = append(l.byService[service], v)
		grown = true
	}
	if server.Upper != v.Config.Upper || server.Lower != v.Config.Lower {
		v.setOverload(server.Upper, l.conns.Counts(v.ID).Total())
	}
	if acceptsNew(&server) && (!acceptsNew(&v.Config) || v.Removed) { // took nothing until now
		v.RampStart = now
	}
	added := grown || v.Removed
	v.Removed, v.idle, v.seen = false, time.Time{}, l.round
	v.Config = server
	v.masq = v.masq || server.Method == config.MethodMasq
	if server.Weight != 0 || added {
		v.weight = server.Weight
	}
	return grown
}

// path is what all servers with an address share.
func (l *Runtime) path(addr netip.Addr) *director.Path {
	if l.Paths[addr] == nil {
		l.Paths[addr] = new(director.Path)
	}
	return l.Paths[addr]
}

// acceptsNew says whether the server may get new connections.
func acceptsNew(s *config.Server) bool { return s.Weight != 0 && !s.Down }

// setOverload sets the overload flag by thresholds that were changed (reference 2);
// between them it stays as it is, and below the lower one the director clears it.
func (v *RunningServer) setOverload(upper uint32, conns int32) {
	switch {
	case upper == 0:
		v.Overload.Store(false)
	case int64(conns) >= int64(upper):
		v.Overload.Store(true)
	}
}

func (l *Runtime) freeID() uint32 {
	if len(l.index) < len(l.Servers)-1 { // the index has no ID 0
		for id := 1; id < len(l.Servers); id++ {
			if l.Servers[id] == nil {
				return uint32(id)
			}
		}
	}
	l.Servers = append(l.Servers, nil)
	return uint32(len(l.Servers) - 1)
}

// Expired lists servers that were removed and had no conns whenever this was
// asked in the last TrashTime. (A single look may miss a conn that changes from
// active to inactive meanwhile.)
func (l *Runtime) Expired(now time.Time) []uint32 {
	var ids []uint32
	for _, v := range l.Servers {
		if v == nil || !v.Removed {
			continue
		}
		switch c := l.conns.Counts(v.ID); {
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

// Release gives IDs back and returns whose servers had them. They may be used
// again once a table without them has been published.
func (l *Runtime) Release(ids []uint32) (services []config.ServiceKey) {
	if len(ids) == 0 {
		return nil
	}
	for _, id := range ids {
		v := l.Servers[id]
		if svc := l.Services[v.Service]; svc != nil {
			svc.retired = sum(svc.retired, v.Counters.Totals())
		}
		delete(l.index, v.identity())
		if l.byService[v.Service] = slices.DeleteFunc(l.byService[v.Service], func(o *RunningServer) bool { return o == v }); len(l.byService[v.Service]) == 0 {
			delete(l.byService, v.Service)
		}
		l.Servers[id] = nil
		services = append(services, v.Service)
	}
	used := make(map[netip.Addr]bool, len(l.index))
	for id := range l.index {
		used[id.server.Addr] = true
	}
	maps.DeleteFunc(l.Paths, func(addr netip.Addr, _ *director.Path) bool { return !used[addr] })
	return services
}

// Totals is the total of every service.
func (l *Runtime) Totals() map[config.ServiceKey]director.Totals {
	all := make(map[config.ServiceKey]director.Totals, len(l.Services))
	for key, svc := range l.Services {
		all[key] = l.total(key, svc)
	}
	return all
}

// total adds up what the servers of a service counted, removed ones too.
func (l *Runtime) total(key config.ServiceKey, svc *RunningService) director.Totals {
	t := svc.retired
	for _, v := range l.byService[key] {
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
