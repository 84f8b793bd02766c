package ctl

import (
	"context"
	"net/netip"
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
}

// Host is what the director's machine knows of the ways out (ctl/hop).
type Host interface {
	Hops() *director.Hops
	Need(addrs []netip.Addr)
	Wait(ctx context.Context, addrs []netip.Addr) (unresolved []netip.Addr)
	Announce(vips []netip.Addr) // all of them; new ones are sent
}

// Guard keeps the host's stack off the director's packets (ctl/guard).
type Guard interface {
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

	mu    sync.Mutex
	state State
	live  *live
	ways  *director.Ways
	rules guard.Rules
	full  pressure

	events events
}

// NewManager makes the manager of a director without services.
func NewManager(conns *conntrack.Table, workers int, host Host, g Guard, log zerolog.Logger) *Manager {
	m := &Manager{
		conns: conns, host: host, guard: g, log: log,
		live: newLive(conns, workers),
		ways: director.NewWays(host.Hops()),
	}
	conns.SetSettings(m.state.Tuning.settings())
	return m
}

// FirstTable is the table of a director without services, for the plane to
// start with.
func (m *Manager) FirstTable() *director.Table {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, _ := compile(&m.state, m.live, m.ways) // nothing in it can be refused
	return t
}

// Start tells the manager which plane runs its tables; before it nothing is
// published.
func (m *Manager) Start(p Plane) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.plane = p
}

// hopWait is how long adding a server waits for its hardware address, so that a
// packet right after the command finds the way. A link answers in well under a
// millisecond; a server that is off the air must not hold up a script.
const hopWait = 250 * time.Millisecond

// Apply makes one change. It returns when the change is in force, or an *Error
// and nothing has changed.
func (m *Manager) Apply(op Op) error {
	server, err := m.apply(op)
	if err != nil {
		return err
	}
	if server.IsValid() {
		ctx, cancel := context.WithTimeout(context.Background(), hopWait)
		defer cancel()
		for _, a := range m.host.Wait(ctx, []netip.Addr{server}) {
			m.log.Warn().Stringer("server", a).Msg("no way to the server yet; it gets packets as soon as its hardware address is known")
		}
		m.HopsChanged(m.host.Hops())
	}
	return nil
}

// apply changes the state under the lock. It returns the server that was added.
func (m *Manager) apply(op Op) (server netip.Addr, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if op.Verb == Zero {
		return server, m.zeroStats(op.Service)
	}
	next, err := Change(m.state, op)
	if err != nil {
		return server, err
	}
	if err := m.commit(next); err != nil {
		return server, err
	}
	if op.Verb == SetTimeouts || op.Verb == Tune {
		m.conns.SetSettings(next.Tuning.settings())
	}
	m.log.Debug().Str("verb", string(op.Verb)).Msg("applied")
	m.events.emit(Event{Kind: "applied", Op: &op})
	if op.Verb == AddServer {
		server = op.Server.Addr
	}
	return server, nil
}

// commit makes next the state: running side, guard, table. What the guard hides
// grows before the table is published and shrinks after it, so that the host
// never sees a frame the workers handle.
func (m *Manager) commit(next State) error {
	if err := m.live.follow(&next, time.Now()); err != nil {
		return err
	}
	t, err := compile(&next, m.live, m.ways)
	if err != nil {
		m.live.follow(&m.state, time.Now())
		return err
	}
	rules := guardRules(&next, m.live, m.ways.Hops)
	if err := m.guard.Apply(union(m.rules, rules)); err != nil {
		m.live.follow(&m.state, time.Now())
		return err
	}
	m.host.Need(serverAddrs(&next))
	m.publish(t)
	m.host.Announce(rules.VIPs)
	m.state, m.rules = next, rules
	return m.guard.Apply(rules)
}

func (m *Manager) publish(t *director.Table) {
	if m.plane != nil {
		m.plane.Publish(t)
	}
}

// HopsChanged publishes a table with new ways out.
func (m *Manager) HopsChanged(h *director.Hops) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h == m.ways.Hops {
		return
	}
	m.ways = director.NewWays(h)
	if err := m.commit(m.state); err != nil {
		m.log.Error().Err(err).Msg("follow the host's routes")
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
	ids := m.live.reapable(now)
	if len(ids) == 0 {
		return
	}
	m.live.forget(ids)
	if err := m.commit(m.state); err != nil {
		m.log.Error().Err(err).Msg("forget removed servers")
	}
}

// union is rules that hide what either hides.
func union(a, b guard.Rules) guard.Rules {
	b.Services = merge(a.Services, b.Services)
	b.Sources = merge(a.Sources, b.Sources)
	b.VIPs = merge(a.VIPs, b.VIPs)
	return b
}

func merge[T comparable](a, b []T) []T {
	seen := make(map[T]bool, len(a)+len(b))
	var all []T
	for _, list := range [][]T{a, b} {
		for _, v := range list {
			if !seen[v] {
				seen[v] = true
				all = append(all, v)
			}
		}
	}
	return all
}

func serverAddrs(s *State) []netip.Addr {
	seen := map[netip.Addr]bool{}
	var all []netip.Addr
	for i := range s.Services {
		for j := range s.Services[i].Servers {
			if a := s.Services[i].Servers[j].Addr; !seen[a] {
				seen[a] = true
				all = append(all, a)
			}
		}
	}
	return all
}

// wayText says how frames reach a server, for people.
func wayText(ways *director.Ways, addr netip.Addr) string {
	way := ways.To(wire.AddrFrom(addr))
	switch way.Reach {
	case director.ReachNone:
		return "no route by an interface of the director"
	case director.ReachLink:
		return ways.Ports[way.Hop.Port].Name + " unresolved"
	}
	return ways.Ports[way.Hop.Port].Name + " " + way.Hop.Dst.String()
}
