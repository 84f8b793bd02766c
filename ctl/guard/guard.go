package guard

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
)

// Endpoint is one end of guarded traffic.
type Endpoint struct {
	Proto uint8 // as in the IP header: 6 TCP, 17 UDP
	Addr  netip.Addr
	Port  uint16 // 0: every port
}

// Rules says which frames the host is not to see.
type Rules struct {
	// Interfaces are where frames come in. One that does not exist gets no
	// rules until an Apply that finds it.
	Interfaces []string

	// Services are what is hidden for each service; what one of them hides is
	// hidden.
	Services []*ServiceRules

	// Marked are tried in order on frames that are not dropped by the above; the
	// first that matches decides. Leaving is another such list; what either
	// drops is dropped.
	Marked, OldMarked []Match

	// Tagged treats frames of VLANs like all others. Otherwise they pass: they
	// are the host's.
	Tagged bool

	// HostAddrs are the host's own addresses. What comes from Sources to these
	// passes, so that the host's own connections to a server go on working.
	HostAddrs []netip.Addr
}

// ServiceRules is a part of Rules. It may not change after it was applied: Apply takes
// the same pointer to mean the same, and looks only at those that are new or
// gone, so that a change costs what it changes.
type ServiceRules struct {
	// Destinations: frames to these are dropped.
	Destinations []Endpoint

	// VIPs are addresses that uvs answers for and the host does not own:
	// everything to them is dropped. ARP is not touched; neighbour
	// solicitations go to a multicast address and reach the host, which
	// ignores them because the address is not its own.
	VIPs []netip.Addr

	// Sources: unicast frames from these are dropped unless they are for one
	// of Local, and so are ICMP errors about packets to these. They are where
	// answers of servers come from, which uvs translates or routes.
	Sources []Endpoint

	// SourceRanges are further Sources.
	SourceRanges []PortRange

	// HelperMatches are where clients ask servers for further connections, whose ports
	// nobody knows beforehand: FTP's control connections, TFTP's requests. What a
	// client opens soon after to another port of these addresses is dropped, and
	// so is everything of such a connection in both directions, whatever server of
	// Helping answers. (Endpoints of every port, as the host's own connections have
	// any.)
	HelperMatches []Match
	HelperServers []Endpoint

	// LocalServers: what the host itself sends from these is handed to the door, if
	// there is one (RedirectReplies).
	LocalServers []Endpoint
}

// Dropped counts the frames kept from the host since New, by cause.
type Dropped struct {
	VIP      uint64 // to one of ServiceRules.VIPs
	Service  uint64 // to one of ServiceRules.Destinations, or by Rules.Marked
	Source   uint64 // from one of ServiceRules.Sources or ServiceRules.SourceRanges
	Error    uint64 // ICMP errors about packets to one of those
	Fragment uint64 // later fragments of what is counted in Service and Source
}

// Guard holds the host stack off. It is safe for concurrent use. The zero
// value is of no use; see New.
type Guard struct {
	log zerolog.Logger

	mu        sync.Mutex
	conn      *nftables.Conn
	links     *netlink.Handle
	socket    *mdnetlink.Conn // that of conn
	redirects bool            // see RedirectReplies
	nameLock  io.Closer       // says to other processes that the table is in use
	table     *nftables.Table
	sets      map[string]*nftables.Set
	refs      refCounts // what the kernel's sets hold; nil: not known, a change went wrong
	rules     Rules     // what held and the chains were made from
}

// New makes the table, still empty of rules for any interface. The error says
// what is missing when the kernel offers no way to guard. The table belongs to
// the network namespace of the calling thread.
func New(log zerolog.Logger) (*Guard, error) {
	g := &Guard{log: log, refs: refCounts{}}
	if err := g.open(); err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	err := g.addProgram()
	// Nothing but an ingress chain shows that the kernel has the hook; lo is
	// the one interface that is always there.
	g.addInterface(loopback)
	g.deleteInterface(loopback)
	err = errors.Join(err, g.conn.Flush())
	if err != nil {
		err = fmt.Errorf("guard: set up nft table: %w", explainErrno(err))
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

const loopback = "lo"

// Apply makes r the rules in force, whole or not at all, in one transaction.
// Only differences to the rules before are sent. Frames of a service that
// stays never pass in between.
func (g *Guard) Apply(r Rules) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conn == nil {
		return fmt.Errorf("guard: apply rules: %w", net.ErrClosed)
	}
	old := g.rules
	if g.refs == nil {
		old = Rules{}
	}
	added, removed := without(r.Services, old.Services), without(old.Services, r.Services)
	changes, err := difference(added, removed)
	if err == nil {
		err = changes.addHostAddrs(old.HostAddrs, r.HostAddrs)
	}
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	chains, err := g.interfaces()
	if err != nil {
		return fmt.Errorf("guard: list chains: %w", err)
	}
	for _, name := range chains {
		if !slices.Contains(r.Interfaces, name) {
			g.deleteInterface(name)
		}
	}
	for _, name := range r.Interfaces {
		if !slices.Contains(chains, name) && g.exists(name) {
			g.addInterface(name)
			chains = append(chains, name)
		}
	}
	for name, set := range g.sets {
		if g.refs == nil {
			g.conn.FlushSet(set)
		}
		if err := g.update(set, g.refs[name], changes[name]); err != nil {
			return fmt.Errorf("guard: set %s: %w", name, err)
		}
	}
	g.updateChains(r, anyRange(added) || anyRange(removed), anyHelper(added) || anyHelper(removed))
	refs := g.refs
	g.refs = nil
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("guard: apply rules: %w", err)
	}
	g.refs, g.rules = refs.merge(changes), r
	return nil
}

// exists says whether there is an interface of that name now.
func (g *Guard) exists(name string) bool {
	_, err := g.links.LinkByName(name)
	return err == nil
}

// Dropped reads the kernel's counters.
func (g *Guard) Dropped() (Dropped, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conn == nil {
		return Dropped{}, fmt.Errorf("guard: read counters: %w", net.ErrClosed)
	}
	objects, err := g.conn.GetObjects(g.table)
	if err != nil {
		return Dropped{}, fmt.Errorf("guard: read counters: %w", err)
	}
	var d Dropped
	into := map[string]*uint64{
		counterVIP: &d.VIP, counterService: &d.Service, counterSource: &d.Source,
		counterError: &d.Error, counterFragment: &d.Fragment,
	}
	for _, o := range objects {
		if c, ok := o.(*nftables.CounterObj); ok && into[c.Name] != nil {
			*into[c.Name] = c.Packets
		}
	}
	return d, nil
}

// Close removes the table with everything in it. Apply and Dropped answer
// net.ErrClosed from then on.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conn == nil {
		return nil
	}
	g.conn.DelTable(g.table)
	err := g.conn.Flush()
	err = errors.Join(err, g.conn.CloseLasting(), g.nameLock.Close())
	g.links.Close()
	g.conn = nil
	if err != nil {
		return fmt.Errorf("guard: remove nft table %s: %w", g.table.Name, err)
	}
	return nil
}
