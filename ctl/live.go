package ctl

import (
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"uvs/conntrack"
	"uvs/dataplane/director"
	"uvs/sched"
)

// live is what outlives every table: IDs, counters, cursors. It belongs to the
// manager and is changed under its lock only.
type live struct {
	conns    *conntrack.Table
	workers  int
	services map[ServiceKey]*liveService
	servers  []*liveServer // by ID; nil: free. ID 0 is never used
	index    map[serverIdentity]*liveServer
	of       map[ServiceKey][]*liveServer // servers of a service, removed ones too
	lastID   uint32                       // of services
	round    uint64                       // of follow
	policers *director.Policers
	sessions *director.Sessions            // of helped connections; nil until a service has a helper
	calls    *director.SIPCalls            // nil until a service has an engine
	paths    map[netip.Addr]*director.Path // to the addresses of servers
}

// liveService is the running side of a service.
type liveService struct {
	id      uint32
	cursor  *sched.Cursor
	picker  sched.Picker
	built   scheduling      // what picker was built from
	list    []sched.Server  // and the servers it got
	ids     []uint32        // server IDs in the picker's order
	retired director.Totals // counted by servers since forgotten
	zero    director.Totals // what Zero took away
	rate    estimator
	seen    uint64 // round of follow that found it configured
}

// liveServer is the running side of a server, in its service or removed from it.
type liveServer struct {
	id       uint32
	service  ServiceKey
	key      ServerKey
	last     Server         // as last configured
	weight   int32          // last non-zero weight since it was added
	raised   conntrack.Tick // when it was added, left weight 0 or came up; slow start begins there
	masq     bool           // is, or once was, masqueraded: conns keep their method
	counters *director.Counters
	path     *director.Path
	overload atomic.Bool
	removed  bool            // no longer in its service
	idle     time.Time       // removed, and found without conns since; zero: not found so
	zero     director.Totals // what Zero took away
	rate     estimator
	seen     uint64 // round of follow that found it configured
}

// MaxServers bounds the IDs of servers, removed ones with conns included.
const MaxServers = 1 << 16

// trashTime is how long a removed server is remembered after it was first found
// without conns, so that one added again keeps its counters
// (IP_VS_DEST_TRASH_PERIOD, ip_vs.h: 120 s).
const trashTime = 120 * time.Second

func newLive(conns *conntrack.Table, workers int) *live {
	return &live{
		conns: conns, workers: workers,
		services: map[ServiceKey]*liveService{},
		index:    map[serverIdentity]*liveServer{},
		of:       map[ServiceKey][]*liveServer{},
		servers:  make([]*liveServer, 1),
		policers: director.NewPolicers(),
		paths:    map[netip.Addr]*director.Path{},
	}
}

// follow brings the running side in line with the desired state, which is
// enough for: what is new gets an ID and counters, what is gone is marked
// removed. now is on the data path's clock. grown says that a server got an ID.
func (l *live) follow(s *State, now conntrack.Tick) (grown bool) {
	for _, key := range s.ended {
		delete(l.services, key)
	}
	l.round++
	fresh := map[ServiceKey]bool{}
	for i := range s.Services {
		svc := &s.Services[i]
		if !s.concerns(svc.ServiceKey) {
			continue
		}
		running := l.services[svc.ServiceKey]
		if running == nil {
			l.lastID++
			running = &liveService{id: l.lastID}
			l.services[svc.ServiceKey] = running
			fresh[svc.ServiceKey] = true
		}
		running.seen = l.round
		for _, server := range s.reals(svc) {
			grown = l.adopt(svc.ServiceKey, server, now) || grown
		}
	}
	for key, svc := range l.services {
		if s.concerns(key) && svc.seen != l.round {
			delete(l.services, key)
		}
	}
	for key, servers := range l.of {
		for _, v := range servers {
			v.removed = v.removed || s.concerns(key) && v.seen != l.round
		}
	}
	// A new service starts at zero, also one that was there before and whose
	// servers are remembered (ip_vs_ctl.c, __ip_vs_update_dest).
	if len(fresh) > 0 {
		l.clear(func(key ServiceKey) bool { return fresh[key] })
	}
	return grown
}

// clear makes the counters and rates of some services and their servers start
// anew.
func (l *live) clear(of func(ServiceKey) bool) {
	for key, svc := range l.services {
		if of(key) {
			svc.zero = l.total(key, svc)
			svc.rate = estimator{last: svc.zero}
		}
	}
	for key, servers := range l.of {
		if !of(key) {
			continue
		}
		for _, v := range servers {
			v.zero = v.counters.Totals()
			v.rate = estimator{last: v.zero}
		}
	}
}

// enough says whether the servers of s, and those that were removed, fit the
// connection table's IDs, and gets what memory s needs.
func (l *live) enough(s *State) error {
	used := len(l.index)
	for i := range s.Services {
		svc := &s.Services[i]
		if !s.concerns(svc.ServiceKey) {
			continue
		}
		for _, server := range s.reals(svc) {
			if l.index[serverIdentity{svc.ServiceKey, server.ServerKey}] == nil {
				used++
			}
		}
	}
	if limit := MaxServers - 1; used > limit {
		return refuse(syscall.ENOSPC, "%d servers, counting removed ones that still have conns, are more than %d", used, limit)
	}
	return l.makeRoom(s)
}

// makeRoom gets the memory of helped connections when the first service wants it.
func (l *live) makeRoom(s *State) (err error) {
	for i := range s.Services {
		if svc := &s.Services[i]; l.sessions == nil && s.concerns(svc.ServiceKey) && s.helper(svc) != nil {
			if l.sessions, err = director.NewSessions(l.workers); err != nil {
				return refuse(syscall.ENOMEM, "service %s: no memory for FTP sessions: %v", svc.ServiceKey, err)
			}
		}
	}
	return nil
}

// serverIdentity is what makes a removed server the same when added again.
type serverIdentity struct {
	service ServiceKey
	server  ServerKey
}

func (v *liveServer) identity() serverIdentity { return serverIdentity{v.service, v.key} }

// adopt makes sure a configured server has a running side, and says whether it
// got a new one.
func (l *live) adopt(service ServiceKey, server Server, now conntrack.Tick) (grown bool) {
	id := serverIdentity{service, server.ServerKey}
	v := l.index[id]
	if v == nil {
		v = &liveServer{service: service, key: server.ServerKey, counters: director.NewCounters(l.workers), path: l.path(server.Addr)}
		v.id = l.freeID()
		l.servers[v.id] = v
		l.index[id] = v
		l.of[service] = append(l.of[service], v)
		grown = true
	}
	if server.Upper != v.last.Upper || server.Lower != v.last.Lower {
		v.limit(server.Upper, l.conns.Counts(v.id).Total())
	}
	if server.takes() && (!v.last.takes() || v.removed) { // took nothing until now
		v.raised = now
	}
	added := grown || v.removed
	v.removed, v.idle, v.seen = false, time.Time{}, l.round
	v.last = server
	v.masq = v.masq || server.Method == MethodMasq
	if server.Weight != 0 || added {
		v.weight = server.Weight
	}
	return grown
}

// path is what all servers with an address share.
func (l *live) path(addr netip.Addr) *director.Path {
	if l.paths[addr] == nil {
		l.paths[addr] = new(director.Path)
	}
	return l.paths[addr]
}

// takes says whether the server may get new connections.
func (s *Server) takes() bool { return s.Weight != 0 && !s.Down }

// limit sets the overload flag by thresholds that were changed (reference 2);
// between them it stays as it is, and below the lower one the director clears it.
func (v *liveServer) limit(upper uint32, conns int32) {
	switch {
	case upper == 0:
		v.overload.Store(false)
	case int64(conns) >= int64(upper):
		v.overload.Store(true)
	}
}

func (l *live) freeID() uint32 {
	if len(l.index) < len(l.servers)-1 { // the index has no ID 0
		for id := 1; id < len(l.servers); id++ {
			if l.servers[id] == nil {
				return uint32(id)
			}
		}
	}
	l.servers = append(l.servers, nil)
	return uint32(len(l.servers) - 1)
}

// reapable lists servers that were removed and had no conns whenever this was
// asked in the last trashTime. (A single look may miss a conn that changes from
// active to inactive meanwhile.)
func (l *live) reapable(now time.Time) []uint32 {
	var ids []uint32
	for _, v := range l.servers {
		if v == nil || !v.removed {
			continue
		}
		switch c := l.conns.Counts(v.id); {
		case c.Total() != 0 || c.Templates.Load() != 0:
			v.idle = time.Time{}
		case v.idle.IsZero():
			v.idle = now
		case now.Sub(v.idle) >= trashTime:
			ids = append(ids, v.id)
		}
	}
	return ids
}

// forget gives IDs back and returns whose servers had them. They may be used
// again once a table without them has been published.
func (l *live) forget(ids []uint32) (services []ServiceKey) {
	if len(ids) == 0 {
		return nil
	}
	for _, id := range ids {
		v := l.servers[id]
		if svc := l.services[v.service]; svc != nil {
			svc.retired = sum(svc.retired, v.counters.Totals())
		}
		delete(l.index, v.identity())
		if l.of[v.service] = slices.DeleteFunc(l.of[v.service], func(o *liveServer) bool { return o == v }); len(l.of[v.service]) == 0 {
			delete(l.of, v.service)
		}
		l.servers[id] = nil
		services = append(services, v.service)
	}
	used := make(map[netip.Addr]bool, len(l.index))
	for id := range l.index {
		used[id.server.Addr] = true
	}
	maps.DeleteFunc(l.paths, func(addr netip.Addr, _ *director.Path) bool { return !used[addr] })
	return services
}

// totals is the total of every service.
func (l *live) totals() map[ServiceKey]director.Totals {
	all := make(map[ServiceKey]director.Totals, len(l.services))
	for key, svc := range l.services {
		all[key] = l.total(key, svc)
	}
	return all
}

// total adds up what the servers of a service counted, removed ones too.
func (l *live) total(key ServiceKey, svc *liveService) director.Totals {
	t := svc.retired
	for _, v := range l.of[key] {
		t = sum(t, v.counters.Totals())
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
