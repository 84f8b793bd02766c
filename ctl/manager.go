package ctl

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"uvs/conntrack"
	"uvs/ctl/guard"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// Plane is the data path as the manager needs it.
type Plane interface {
	// Publish makes t the table of all workers and returns when none uses an
	// older one.
	Publish(t *director.Table)
	Verdicts() [director.NumVerdict]uint64
	Now() conntrack.Tick // the data path's time
}

// Host is what the director's machine knows of the ways out (ctl/routes).
type Host interface {
	HostNet() *director.HostNet
	KeepResolved(addrs []netip.Addr)
	WaitResolved(ctx context.Context, addrs []netip.Addr) (unresolved []netip.Addr)
	Announce(vips []netip.Addr) // all of them; new ones are sent
}

// Guard keeps the host's stack off the director's packets (ctl/guard).
type Guard interface {
	// Apply makes the rules those in force, whole or not at all.
	Apply(guard.Rules) error
}

// Manager owns the desired state and is the only one to change it and to
// publish tables. Its methods may be called from anywhere.
type Manager struct {
	conns *conntrack.Table
	plane Plane
	host  Host
	guard Guard
	log   zerolog.Logger

	mu        sync.Mutex
	state     State
	live      *live
	localNode *LocalNode // nil: none
	hops      *director.HostNet
	ways      *director.FIB // by hops, and the door
	rules     guard.Rules   // in force
	table     *compiled     // published last
	stale     bool          // what is in force is not what it should be; tend tries again
	full      pressure

	events events
}

// NewManager makes the manager of a director without services.
func NewManager(conns *conntrack.Table, workers int, host Host, g Guard, log zerolog.Logger) *Manager {
	m := &Manager{
		conns: conns, host: host, guard: g, log: log,
		live: newLive(conns, workers),
	}
	m.learn(host.HostNet())
	conns.SetSettings(m.state.Tuning.settings())
	return m
}

// FirstTable is the table of a director without services, for the plane to
// start with.
func (m *Manager) FirstTable() *director.Table {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.table = compile(&m.state, m.live, nil, m.ways, nil)
	return m.table.Table
}

// Start tells the manager which plane runs its tables; before it nothing is
// published.
func (m *Manager) Start(p Plane) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.plane = p
}

// hopWait is how long adding servers waits for their hardware addresses, so that
// a packet right after the command finds the way. A link answers in well under a
// millisecond; a server that is off the air must not hold up a script.
const hopWait = 250 * time.Millisecond

// Apply makes one change. It returns when the change is in force, or an error
// and nothing has changed.
func (m *Manager) Apply(op Op) error { return m.ApplyAll([]Op{op})[0] }

// ApplyAll makes changes one after the other and puts them in force at once. It
// returns each one's error; one that is refused does not keep the others from
// being made.
func (m *Manager) ApplyAll(ops []Op) []error { return m.reach(m.applyAll(ops)) }

// Replace makes changes to an empty state and puts that in force instead of the
// present one, whole or not at all: if a change is refused, nothing has happened.
// It returns each one's error. What is the same before and after is not disturbed.
func (m *Manager) Replace(ops []Op) []error { return m.reach(m.replace(ops)) }

// reach waits for the ways to servers that were added.
func (m *Manager) reach(errs []error, added []netip.Addr) []error {
	if len(added) == 0 {
		return errs
	}
	ctx, cancel := context.WithTimeout(context.Background(), hopWait)
	defer cancel()
	m.host.WaitResolved(ctx, added)
	m.HopsChanged()
	m.warnUnreached(added)
	return errs
}

// warnUnreached logs which servers cannot be sent to now, and why the first
// cannot.
func (m *Manager) warnUnreached(servers []netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	lost, why := 0, m.log.Warn()
	among := make(map[netip.Addr]bool, len(servers))
	for _, a := range servers {
		among[a] = true
	}
	for _, v := range m.live.servers {
		if v == nil || v.removed || !among[v.last.Addr] {
			continue
		}
		if way := v.way(m.ways); way.State != director.Resolved {
			if lost++; lost == 1 {
				why = why.Stringer("server", v.last.Addr).Str("hop", wayText(m.ways, way, v.last.Addr))
			}
		}
	}
	if lost > 0 {
		why.Int("and_others", lost-1).Msg("server cannot be reached now; it gets packets as soon as it can")
	}
}

// applyAll changes the state under the lock. It returns the servers that were
// added.
func (m *Manager) applyAll(ops []Op) (errs []error, added []netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	errs = make([]error, len(ops))
	next, changed := m.state.clone(), false
	for i, op := range ops {
		if errs[i] = checkInterfaces(op, m.ways); errs[i] == nil {
			errs[i] = next.do(op)
		}
		changed = changed || errs[i] == nil && op.Verb != Zero
	}
	if changed {
		if err := m.commit(next); err != nil {
			for i := range errs {
				errs[i] = cmp.Or(errs[i], err)
			}
		}
	}
	return errs, m.applied(ops, errs)
}

// replace is Replace under the lock. It returns the servers of the new state.
func (m *Manager) replace(ops []Op) (errs []error, added []netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	errs = make([]error, len(ops))
	next := State{}.clone()
	next.all = true
	for i, op := range ops {
		if errs[i] = cmp.Or(checkInterfaces(op, m.ways), next.do(op)); errs[i] != nil {
			return errs, nil
		}
	}
	if err := m.commit(next); err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs, nil
	}
	return errs, m.applied(ops, errs)
}

// applied does what follows operations that were not refused, and tells of them.
// It returns the servers they added.
func (m *Manager) applied(ops []Op, errs []error) (added []netip.Addr) {
	for i, op := range ops {
		if errs[i] != nil {
			continue
		}
		switch op.Verb {
		case AddServer, SetSorry, EditServer, EditService:
			m.warnFTP(op.Service.ServiceKey)
			if op.Server != nil && op.Verb != EditServer {
				added = append(added, op.Server.Addr)
			}
		case Zero:
			m.live.clear(func(key ServiceKey) bool { return op.Service == nil || key == op.Service.ServiceKey })
		}
		m.log.Debug().Str("verb", string(op.Verb)).Msg("applied")
		m.events.emit(Event{Kind: "applied", Op: &op})
	}
	return unique(added)
}

// warnFTP logs what a service that looks like FTP's lacks.
func (m *Manager) warnFTP(key ServiceKey) {
	if i, err := m.state.find(key); err == nil {
		if text := m.state.Services[i].FTPWarning(); text != "" {
			m.log.Warn().Msg(text)
		}
	}
}

// commit makes next the state, or fails and changes nothing. What the guard
// hides grows before the table is published and shrinks after it, so that the
// host never sees a frame the workers handle.
func (m *Manager) commit(next State) error {
	if err := m.live.enough(&next); err != nil {
		return err
	}
	e := newEnds(&next)
	marked := e.marked(&next)
	h := hide(m.hidden(), &next, m.live, e, m.hops)
	wide := union(m.rules, h.rules(marked, next.Tuning, m.hops))
	if err := m.guard.Apply(wide); err != nil {
		return err
	}
	m.host.KeepResolved(serverAddrs(&next))
	grown := m.live.follow(&next, m.now())
	h = hide(h, &next, m.live, e, m.hops)
	m.publish(compile(&next, m.live, h, m.ways, m.table), grown)
	if !maps.Equal(m.state.Tuning, next.Tuning) {
		m.conns.SetSettings(next.Tuning.settings())
	}
	m.state, m.rules, m.stale = next, wide, false
	m.narrow(h.rules(marked, next.Tuning, m.hops))
	m.host.Announce(h.vips())
	return nil
}

// hidden is what the table published last hides.
func (m *Manager) hidden() hidden {
	if m.table == nil {
		return nil
	}
	return m.table.hidden
}

// narrow has the guard let go of what only an earlier state needed.
func (m *Manager) narrow(rules guard.Rules) {
	if sameRules(rules, m.rules) {
		return
	}
	if err := m.guard.Apply(rules); err != nil {
		m.log.Error().Err(err).Msg("the host is kept from more than it should be; trying again")
		m.stale = true
		return
	}
	m.rules = rules
}

// now is the data path's time; 0 before Start.
func (m *Manager) now() conntrack.Tick {
	if m.plane == nil {
		return 0
	}
	return m.plane.Now()
}

// publish makes t the table. A worker may meet a conn that another, which has the
// newer table already, has just made; so new servers are made known to all
// before any service names them.
func (m *Manager) publish(t *compiled, grown bool) {
	known := m.table
	m.table = t
	if m.plane == nil {
		return
	}
	if grown {
		table := *known.Table
		table.Servers = t.Servers
		m.plane.Publish(&table)
	}
	m.plane.Publish(t.Table)
}

// HopsChanged publishes a table with the host's present ways out.
func (m *Manager) HopsChanged() {
	m.mu.Lock()
	defer m.mu.Unlock()
	// Asked under the lock: of two calls, the later has the newer hops.
	if hops := m.host.HostNet(); hops != m.hops {
		m.learn(hops)
		m.recommit("follow the host's routes")
	}
}

// recommit puts the state in force once more: what concerns some services, or all
// of it.
func (m *Manager) recommit(why string, services ...ServiceKey) {
	next := m.state.clone()
	next.all = len(services) == 0
	for _, k := range services {
		next.touched[k] = true
	}
	if err := m.commit(next); err != nil {
		m.log.Error().Err(err).Msg(why + "; trying again")
		m.stale = true
	}
}

// Tend does the slow work: it samples the rates every two seconds, as IPVS's
// estimators do, and forgets removed servers. It returns when ctx ends.
func (m *Manager) Tend(ctx context.Context) {
	tick := time.NewTicker(estimatorPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			m.tend(now)
		}
	}
}

func (m *Manager) tend(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sample()
	if n := m.full.report(m.conns.Stats(), now, m.log); n > 0 {
		m.events.emit(Event{Kind: "conns_full", Count: n})
	}
	services := m.live.forget(m.live.reapable(now))
	switch {
	case m.stale:
		m.recommit("put in force what is not yet")
	case len(services) > 0:
		m.recommit("forget removed servers", services...)
	}
}

// unique drops what is in the list already, in place.
func unique[T comparable](list []T) []T {
	seen := make(map[T]bool, len(list))
	return slices.DeleteFunc(list, func(v T) bool {
		again := seen[v]
		seen[v] = true
		return again
	})
}

func serverAddrs(s *State) []netip.Addr {
	var all []netip.Addr
	for i := range s.Services {
		for _, server := range s.reals(&s.Services[i]) {
			all = append(all, server.Addr)
		}
	}
	return unique(all)
}

// wayText says how frames reach a server, for people.
func wayText(ways *director.FIB, way director.NextHop, server netip.Addr) string {
	switch {
	case ways.IsLocal(wire.AddrFrom(server)):
		return hostText(way)
	case way.State == director.NoRoute:
		return "no route by an interface of the director"
	case way.State == director.Unresolved:
		return ways.Ports[way.Link.Port].Name + " unresolved"
	}
	return ways.Ports[way.Link.Port].Name + " " + way.Link.Dst.String()
}
