package ctl

import (
	"context"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"uvs/conntrack"
	"uvs/ctl/api"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/ctl/store"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// Plane is the data path as the manager needs it.
type Plane interface {
	// Publish makes t the table of all workers. It returns when no worker uses an older
	// one.
	Publish(t *director.Table)
	Verdicts() [director.NumVerdict]uint64
	Now() conntrack.Tick // the data path's time
}

// Host is the network of the director's machine (ctl/routes).
type Host interface {
	HostNet() *director.HostNet
	KeepResolved(addrs []netip.Addr)
	Announce(vips []netip.Addr) // takes all; sends those that are new
}

// Guard keeps the host's stack off the director's packets (ctl/guard).
type Guard interface {
	// Apply replaces the rules in force, whole or not at all.
	Apply(guard.Rules) error
}

// Manager owns the desired state: only it changes the state and publishes tables. It is
// safe for concurrent use.
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
	fib       *director.FIB  // of hostNet and localNode
	rules     guard.Rules    // in force
	table     *compile.Table // published last
	retry     bool           // the last commit failed in part; maintain tries again
	// added are the operations that added servers since the last maintain, and before it. They
	// have until the next but one to be reached without a warning.
	added, addedBefore []config.Op
	fullTable          fullTableLog

	events  events
	store   *store.Store  // nil: nothing is kept
	history store.History // versions that were applied
	newest  []byte        // document of the newest; nil: not read, or there is none
	file    string        // Change.File of the last change that had one
	pending *unconfirmed  // the change that waits for Confirm; nil: none
	options *config.Run   // of `uvs run`, for Document; nil: not known
}

// NewManager makes the manager of a director without services.
func NewManager(conns *conntrack.Table, workers int, host Host, g Guard, log zerolog.Logger) *Manager {
	m := &Manager{
		conns: conns, host: host, guard: g, log: log,
		runtime: compile.NewRuntime(conns, workers), history: new(store.Memory),
	}
	m.setHostNet(host.HostNet())
	conns.SetSettings(compile.ConnSettings(m.state.Director()))
	return m
}

// FirstTable returns the table that the plane starts with.
func (m *Manager) FirstTable() *director.Table {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.table == nil { // no change came before
		m.table = compile.NewDesired(&m.state, m.runtime).Table(new(compile.RulesByService), m.fib, nil)
	}
	return m.table.Table
}

// Start sets the plane that runs the manager's tables. Before Start nothing is published.
func (m *Manager) Start(p Plane) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.plane = p
}

// warnUnreachable logs how many of the servers that were added are without a next hop, and
// why for the first: of those on the host itself, which only the operator can help, or of the
// others.
func (m *Manager) warnUnreachable(added []config.Op, onHost bool) {
	services, addrs := map[config.ServiceKey]bool{}, map[netip.Addr]bool{}
	for i := range added {
		services[added[i].Service.ServiceKey], addrs[added[i].Server.Addr] = true, true
	}
	n, warning := 0, m.log.Warn()
	for key := range services {
		for _, v := range m.runtime.ServersOf(key) {
			if v.Removed || !addrs[v.Config.Addr] || m.fib.IsLocal(wire.AddrFrom(v.Config.Addr)) != onHost {
				continue
			}
			if hop := v.NextHop(m.fib); hop.State != director.Resolved {
				if n++; n == 1 {
					warning.Stringer("server", v.Config.Addr).Str("hop", nextHopStatus(m.fib, hop, v.Config.Addr))
				}
			}
		}
	}
	text := "server cannot be reached now; it gets packets as soon as it can"
	if onHost {
		text = "server cannot be reached"
	}
	if n > 0 {
		warning.Int("and_others", n-1).Msg(text)
	}
}

// logAdmin logs that a server which an operation adds or edits gets no new connections.
func (m *Manager) logAdmin(op config.Op) {
	if op.Server == nil {
		return
	}
	if admin := m.state.AdminOf(op.Service.ServiceKey, op.Server.ServerKey); admin != config.AdminUp {
		m.log.Info().Stringer("server", op.Server.ServerKey).Stringer("service", op.Service.ServiceKey).
			Stringer("admin", admin).Msg("server gets no new connections until uvs up, whatever its weight")
	}
}

// logRole logs the director's role, and a VIP that the host answers for although the
// director is on standby.
func (m *Manager) logRole() {
	m.log.Info().Str("role", m.role()).Msg("role changed")
	for vip := range m.table.VIPs.All() {
		if m.state.Standby && m.fib.IsLocal(vip) {
			m.log.Warn().Stringer("vip", vip).Msg("the host holds this address, and may answer ARP for it")
		}
	}
}

// warnFTP logs what a service of FTP lacks.
func (m *Manager) warnFTP(key config.ServiceKey) {
	if svc, err := m.state.Find(key); err == nil {
		if text := svc.FTPWarning(); text != "" {
			m.log.Warn().Msg(text)
		}
	}
}

// commit makes next the state. If it fails, what is in force stays. It widens the guard's
// rules before it publishes the table and narrows them afterwards, so that the host never
// sees a frame that the workers handle.
func (m *Manager) commit(next config.State) error {
	if m.retry {
		next.TouchAll()
	}
	desired := compile.NewDesired(&next, m.runtime)
	if err := desired.Check(); err != nil {
		return err
	}
	before, marked := m.guardRules(), m.rules.Marked
	rules := desired.CompileRules(before, m.hostNet)
	wide := compile.Union(m.rules, rules.Flatten(desired.Marked(marked, before), next.Director(), m.hostNet))
	if err := m.guard.Apply(wide); err != nil {
		return err
	}
	newIDs := desired.Reconcile(m.now())
	rules = desired.CompileRules(rules, m.hostNet)
	table := desired.Table(rules, m.fib, m.table)
	if table.Resolved.Changed {
		m.host.KeepResolved(table.Resolved.List())
	}
	m.publish(table, newIDs)
	if m.state.Director() != next.Director() {
		m.conns.SetSettings(compile.ConnSettings(next.Director()))
	}
	m.state, m.rules, m.retry = next, wide, false
	m.narrowGuard(rules.Flatten(desired.Marked(marked, before), next.Director(), m.hostNet))
	if table.AnnouncedChanged {
		m.host.Announce(table.Announced())
	}
	return nil
}

// guardRules are the guard's rules for the table published last.
func (m *Manager) guardRules() *compile.RulesByService {
	if m.table == nil {
		return new(compile.RulesByService)
	}
	return m.table.Guard
}

// narrowGuard drops the guard's rules that only an earlier state needed.
func (m *Manager) narrowGuard(rules guard.Rules) {
	if compile.SameRules(rules, m.rules) {
		return
	}
	if err := m.guard.Apply(rules); err != nil {
		m.log.Error().Err(err).Msg("the guard drops more frames than it should; trying again")
		m.retry = true
		return
	}
	m.rules = rules
}

// now returns the data path's time; 0 before Start.
func (m *Manager) now() conntrack.Tick {
	if m.plane == nil {
		return 0
	}
	return m.plane.Now()
}

// publish makes t the table. A worker may find a conn that another worker just made with
// the newer table. So all workers get new servers before a service uses them.
func (m *Manager) publish(t *compile.Table, newIDs bool) {
	old := m.table
	m.table = t
	if m.plane == nil {
		return
	}
	if newIDs {
		table := *old.Table
		table.Servers = t.Servers
		m.plane.Publish(&table)
	}
	m.plane.Publish(t.Table)
}

// RoutesChanged publishes a table with the host's present routes and neighbours.
func (m *Manager) RoutesChanged() {
	m.mu.Lock()
	defer m.mu.Unlock()
	// Asked under the lock, so that the later of two calls has the newer answer.
	old, host := m.hostNet, m.host.HostNet()
	if host == old {
		return
	}
	m.setHostNet(host)
	if m.table != nil && host.SameButNeighbours(old) {
		if t := m.table.WithNeighbours(m.runtime, m.fib); t != nil {
			m.publish(t, false)
			return
		}
	}
	next := m.sameState()
	next.TouchAll()
	m.recommit("follow the host's routes", next)
}

// sameState returns a clone of the state that is not a change of it.
func (m *Manager) sameState() config.State {
	next := m.state.Clone()
	next.Revision = m.state.Revision
	return next
}

// recommit commits the same state, of which some services or all have to be compiled again.
func (m *Manager) recommit(why string, next config.State) {
	if err := m.commit(next); err != nil {
		m.log.Error().Err(err).Msg(why + "; trying again")
		m.retry = true
	}
}

// Run samples the rates every two seconds, as IPVS's estimators do, and releases removed
// servers. It returns when ctx ends.
func (m *Manager) Run(ctx context.Context) {
	tick := time.NewTicker(estimatorPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			m.maintain(now)
		}
	}
}

func (m *Manager) maintain(now time.Time) {
	if ended := m.reconcileRemoved(now); len(ended) > 0 {
		m.conns.Flush(func(s *conntrack.Snapshot) bool { return ended[s.ServerID] })
	}
}

// reconcileRemoved is maintain under the lock. It returns the removed servers whose conns
// are to end.
func (m *Manager) reconcileRemoved(now time.Time) (ended map[uint32]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sample()
	m.warnUnreachable(m.addedBefore, false)
	m.addedBefore, m.added = m.added, nil
	if n := m.fullTable.report(m.conns.Stats(), now, m.log); n > 0 {
		m.emit(api.Event{Kind: "conns_full", Count: n})
	}
	services, ended := m.runtime.GraceOver(m.now())
	services = append(services, m.runtime.Release(m.runtime.Expired(now))...)
	if m.retry || len(services) > 0 {
		next := m.sameState()
		next.Touch(services...)
		m.recommit("put the desired state in force", next)
	}
	if m.state.Director().RemovedConns != config.RemovedEnd {
		return nil
	}
	return ended
}

// SetLocalNode sets how frames get to servers on the host itself. Call it before
// FirstTable.
func (m *Manager) SetLocalNode(n compile.LocalNode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.localNode, m.fib = &n, nil
	m.setHostNet(m.hostNet)
}

func (m *Manager) setHostNet(host *director.HostNet) {
	if m.fib != nil && host.SameButNeighbours(m.hostNet) {
		m.fib = m.fib.WithNeighbours(host.Neighbours)
	} else {
		m.fib = compile.NewFIB(host, m.localNode)
	}
	m.hostNet = host
}

// checkInterfaces refuses mark rules for interfaces that the director does not have.
func checkInterfaces(op config.Op, fib *director.FIB) error {
	marks := op.Marks
	if op.Document != nil {
		marks = op.Document.Marks
	}
	for i, r := range marks {
		if _, ok := compile.PortOf(fib, r.Interface); op.Kind != config.DeleteMarks && !ok {
			return config.At(config.Errorf(syscall.ENODEV,
				"mark rule %s: nothing can match it, %s is no interface of the director", r, r.Interface), "marks", i)
		}
	}
	return nil
}
