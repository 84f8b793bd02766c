package ctl

import (
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
	lastID   uint32 // of services
}

// liveService is the running side of a service.
type liveService struct {
	id      uint32
	cursor  *sched.Cursor
	picker  sched.Picker
	built   Service         // what picker was built from
	list    []sched.Server  // the same, as the picker got it
	ids     []uint32        // server IDs in the picker's order
	retired director.Totals // counted by servers since forgotten
	zero    director.Totals // what Zero took away
	rate    estimator
}

// liveServer is the running side of a server, in its service or removed from it.
type liveServer struct {
	id       uint32
	service  ServiceKey
	key      ServerKey
	last     Server // as last configured
	weight   int32  // last non-zero weight
	masq     bool   // is, or once was, masqueraded: conns keep their method
	counters *director.Counters
	overload atomic.Bool
	removed  time.Time       // zero: in its service
	unused   bool            // had no conns at the last look after it was removed
	zero     director.Totals // what Zero took away
	rate     estimator
}

// MaxServers bounds the IDs of servers, removed ones with conns included.
const MaxServers = 1 << 16

// trashTime is how long a removed server without conns is remembered, so that
// one added again keeps its counters (IP_VS_DEST_TRASH_PERIOD, ip_vs.h: 120 s).
const trashTime = 120 * time.Second

func newLive(conns *conntrack.Table, workers int) *live {
	return &live{
		conns: conns, workers: workers,
		services: map[ServiceKey]*liveService{},
		index:    map[serverIdentity]*liveServer{},
		servers:  make([]*liveServer, 1),
	}
}

// follow brings the running side in line with the desired state: what is new
// gets an ID and counters, what is gone is marked removed. It returns an error,
// and has changed nothing, if there are no server IDs left.
func (l *live) follow(s *State, now time.Time) error {
	if err := l.enough(s); err != nil {
		return err
	}
	wanted := make(map[ServiceKey]bool, len(s.Services))
	for i := range s.Services {
		svc := &s.Services[i]
		wanted[svc.ServiceKey] = true
		if l.services[svc.ServiceKey] == nil {
			l.lastID++
			l.services[svc.ServiceKey] = &liveService{id: l.lastID}
		}
		for j := range svc.Servers {
			l.adopt(svc.ServiceKey, svc.Servers[j])
		}
	}
	for key := range l.services {
		if !wanted[key] {
			delete(l.services, key)
		}
	}
	l.retire(s, now)
	return nil
}

// enough says whether the servers of s fit the connection table's IDs.
func (l *live) enough(s *State) error {
	used := len(l.index)
	for i := range s.Services {
		for j := range s.Services[i].Servers {
			if l.index[serverIdentity{s.Services[i].ServiceKey, s.Services[i].Servers[j].ServerKey}] == nil {
				used++
			}
		}
	}
	if limit := MaxServers - 1; used > limit {
		return refuse(syscall.ENOSPC, "%d servers, counting removed ones that still have conns, are more than %d", used, limit)
	}
	return nil
}

// serverIdentity is what makes a removed server the same when added again.
type serverIdentity struct {
	service ServiceKey
	server  ServerKey
}

func (v *liveServer) identity() serverIdentity { return serverIdentity{v.service, v.key} }

// adopt makes sure a configured server has a running side.
func (l *live) adopt(service ServiceKey, server Server) {
	id := serverIdentity{service, server.ServerKey}
	v := l.index[id]
	if v == nil {
		v = &liveServer{service: service, key: server.ServerKey, counters: director.NewCounters(l.workers)}
		v.id = l.freeID()
		l.servers[v.id] = v
		l.index[id] = v
	}
	v.removed, v.unused = time.Time{}, false
	v.last = server
	v.masq = v.masq || server.Method == MethodMasq
	if server.Upper == 0 {
		v.overload.Store(false)
	}
	if server.Weight != 0 {
		v.weight = server.Weight
	}
}

func (l *live) freeID() uint32 {
	for id := 1; id < len(l.servers); id++ {
		if l.servers[id] == nil {
			return uint32(id)
		}
	}
	l.servers = append(l.servers, nil)
	return uint32(len(l.servers) - 1)
}

// retire marks servers that s no longer has.
func (l *live) retire(s *State, now time.Time) {
	configured := map[serverIdentity]bool{}
	for i := range s.Services {
		for j := range s.Services[i].Servers {
			configured[serverIdentity{s.Services[i].ServiceKey, s.Services[i].Servers[j].ServerKey}] = true
		}
	}
	for _, v := range l.servers {
		if v == nil || configured[v.identity()] {
			continue
		}
		if v.removed.IsZero() {
			v.removed = now
		}
	}
}

// reapable lists removed servers that no conn names any more: at this look and
// the last, for a conn that becomes inactive is for a moment neither that nor
// active. They may be forgotten after a table without them has been published.
func (l *live) reapable(now time.Time) []uint32 {
	var ids []uint32
	for _, v := range l.servers {
		if v == nil || v.removed.IsZero() || now.Sub(v.removed) < trashTime {
			continue
		}
		c := l.conns.Counts(v.id)
		unused := c.Active.Load() == 0 && c.Inactive.Load() == 0 && c.Templates.Load() == 0
		if unused && v.unused {
			ids = append(ids, v.id)
		}
		v.unused = unused
	}
	return ids
}

func (l *live) forget(ids []uint32) {
	for _, id := range ids {
		v := l.servers[id]
		if svc := l.services[v.service]; svc != nil {
			svc.retired = sum(svc.retired, v.counters.Totals())
		}
		delete(l.index, v.identity())
		l.servers[id] = nil
	}
}

// totals adds up, for every service, what its servers counted, removed ones too.
func (l *live) totals() map[ServiceKey]director.Totals {
	all := make(map[ServiceKey]director.Totals, len(l.services))
	for key, svc := range l.services {
		all[key] = svc.retired
	}
	for _, v := range l.servers {
		if v == nil {
			continue
		}
		if t, ok := all[v.service]; ok {
			all[v.service] = sum(t, v.counters.Totals())
		}
	}
	return all
}

func sum(a, b director.Totals) director.Totals {
	return director.Totals{
		Conns:  a.Conns + b.Conns,
		InPkts: a.InPkts + b.InPkts, OutPkts: a.OutPkts + b.OutPkts,
		InBytes: a.InBytes + b.InBytes, OutBytes: a.OutBytes + b.OutBytes,
	}
}
