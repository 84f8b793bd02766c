package ctl

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"uvs/conntrack"
	"uvs/ctl/api"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/director"
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
	state     config.State
	runtime   *compile.Runtime
	localNode *compile.LocalNode // nil: none
	hostNet   *director.HostNet
	fib       *director.FIB  // by hops, and the door
	rules     guard.Rules    // in force
	table     *compile.Table // published last
	stale     bool           // what is in force is not what it should be; tend tries again
	full      fullTableLog

	events events
}

// NewManager makes the manager of a director without services.
func NewManager(conns *conntrack.Table, workers int, host Host, g Guard, log zerolog.Logger) *Manager {
	m := &Manager{
		conns: conns, host: host, guard: g, log: log,
		runtime: compile.NewRuntime(conns, workers),
	}
	m.setHostNet(host.HostNet())
	conns.SetSettings(compile.ConnSettings(m.state.Director()))
	return m
}

// FirstTable is the table of a director without services, for the plane to
// start with.
func (m *Manager) FirstTable() *director.Table {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.table = compile.NewDesired(&m.state).Table(m.runtime, nil, m.fib, nil)
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
func (m *Manager) Apply(op config.Op) error { return m.ApplyAll([]config.Op{op})[0] }

// ApplyAll makes changes one after the other and puts them in force at once. It
// returns each one's error; one that is refused does not keep the others from
// being made.
func (m *Manager) ApplyAll(ops []config.Op) []error { return m.reach(m.applyAll(ops)) }

// Replace makes changes to an empty state and puts that in force instead of the
// present one, whole or not at all: if a change is refused, nothing has happened.
// It returns each one's error. What is the same before and after is not disturbed.
func (m *Manager) Replace(ops []config.Op) []error { return m.reach(m.replace(ops)) }

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
	for _, v := range m.runtime.Servers {
		if v == nil || v.Removed || !among[v.Config.Addr] {
			continue
		}
		if way := v.NextHop(m.fib); way.State != director.Resolved {
			if lost++; lost == 1 {
				why = why.Stringer("server", v.Config.Addr).Str("hop", nextHopText(m.fib, way, v.Config.Addr))
			}
		}
	}
	if lost > 0 {
		why.Int("and_others", lost-1).Msg("server cannot be reached now; it gets packets as soon as it can")
	}
}

// applyAll changes the state under the lock. It returns the servers that were
// added.
func (m *Manager) applyAll(ops []config.Op) (errs []error, added []netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	errs = make([]error, len(ops))
	next, changed := m.state.Clone(), false
	for i, op := range ops {
		if errs[i] = checkInterfaces(op, m.fib); errs[i] == nil {
			errs[i] = next.Apply(op)
		}
		changed = changed || errs[i] == nil && op.Verb != config.Zero
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
func (m *Manager) replace(ops []config.Op) (errs []error, added []netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	errs = make([]error, len(ops))
	next := config.State{}.Clone()
	next.Touch()
	for i, op := range ops {
		if errs[i] = cmp.Or(checkInterfaces(op, m.fib), next.Apply(op)); errs[i] != nil {
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
func (m *Manager) applied(ops []config.Op, errs []error) (added []netip.Addr) {
	for i, op := range ops {
		if errs[i] != nil {
			continue
		}
		switch op.Verb {
		case config.AddServer, config.SetSorry, config.EditServer, config.EditService:
			m.warnFTP(op.Service.ServiceKey)
			if op.Server != nil && op.Verb != config.EditServer {
				added = append(added, op.Server.Addr)
			}
		case config.Zero:
			m.runtime.ResetCounters(func(key config.ServiceKey) bool { return op.Service == nil || key == op.Service.ServiceKey })
		}
		m.log.Debug().Str("verb", string(op.Verb)).Msg("applied")
		m.events.emit(api.Event{Kind: "applied", Op: &op})
	}
	return sorted(added)
}

// warnFTP logs what a service that looks like FTP's lacks.
func (m *Manager) warnFTP(key config.ServiceKey) {
	if i, err := m.state.Find(key); err == nil {
		if text := m.state.Services[i].FTPWarning(); text != "" {
			m.log.Warn().Msg(text)
		}
	}
}

// commit makes next the state, or fails and changes nothing. What the guard
// hides grows before the table is published and shrinks after it, so that the
// host never sees a frame the workers handle.
func (m *Manager) commit(next config.State) error {
	desired := compile.NewDesired(&next)
	if err := m.runtime.Prepare(desired); err != nil {
		return err
	}
	marked := desired.Marked()
	rules := desired.GuardRules(m.guardRules(), m.runtime, m.hostNet)
	wide := compile.Union(m.rules, rules.Rules(marked, next.Director(), m.hostNet))
	if err := m.guard.Apply(wide); err != nil {
		return err
	}
	m.host.KeepResolved(desired.ServerAddrs())
	newIDs := m.runtime.Reconcile(&next, m.now())
	rules = desired.GuardRules(rules, m.runtime, m.hostNet)
	m.publish(desired.Table(m.runtime, rules, m.fib, m.table), newIDs)
	if m.state.Director() != next.Director() {
		m.conns.SetSettings(compile.ConnSettings(next.Director()))
	}
	m.state, m.rules, m.stale = next, wide, false
	m.narrow(rules.Rules(marked, next.Director(), m.hostNet))
	m.host.Announce(rules.VIPs())
	return nil
}

// guardRules are the guard's rules for the table published last.
func (m *Manager) guardRules() compile.GuardRules {
	if m.table == nil {
		return nil
	}
	return m.table.Guard
}

// narrow has the guard let go of what only an earlier state needed.
func (m *Manager) narrow(rules guard.Rules) {
	if compile.SameRules(rules, m.rules) {
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
func (m *Manager) publish(t *compile.Table, grown bool) {
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
	if hops := m.host.HostNet(); hops != m.hostNet {
		m.setHostNet(hops)
		m.recommit("follow the host's routes")
	}
}

// recommit puts the state in force once more: what concerns some services, or all
// of it.
func (m *Manager) recommit(why string, services ...config.ServiceKey) {
	next := m.state.Clone()
	next.Touch(services...)
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
		m.events.emit(api.Event{Kind: "conns_full", Count: n})
	}
	services := m.runtime.Release(m.runtime.Expired(now))
	switch {
	case m.stale:
		m.recommit("put in force what is not yet")
	case len(services) > 0:
		m.recommit("forget removed servers", services...)
	}
}

// sorted sorts addresses and drops what is there twice.
func sorted(list []netip.Addr) []netip.Addr {
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// SetLocalNode gives the host's own servers a way. It is for before FirstTable.
func (m *Manager) SetLocalNode(d compile.LocalNode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.localNode = &d
	m.setHostNet(m.hostNet)
}

// setHostNet makes the ways of the host's hops. The door is the last port.
func (m *Manager) setHostNet(hops *director.HostNet) {
	m.hostNet = hops
	m.fib = compile.NewFIB(hops, m.localNode)
}

// checkInterfaces refuses to add rules for interfaces the director does not have.
func checkInterfaces(op config.Op, ways *director.FIB) error {
	for _, r := range op.Marks {
		if _, ok := compile.PortOf(ways, r.Interface); op.Verb == config.AddMarks && !ok {
			return config.Errorf(syscall.ENODEV, "mark rule %s: nothing can match it, %s is no interface of the director", r, r.Interface)
		}
	}
	return nil
}
