package guard

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"

	"uvs/dataplane/cow"
)

// Endpoint is an address with protocol and port.
type Endpoint struct {
	Proto uint8 // as in the IP header: 6 TCP, 17 UDP
	Addr  netip.Addr
	Port  uint16 // 0: any port
}

// Rules are the frames that the guard keeps from the host.
type Rules struct {
	// Interfaces are where frames arrive. An interface that does not exist gets
	// its rules from the first Apply that finds it.
	Interfaces []string

	// Services has the rules of each service. The guard drops what any of them
	// matches.
	Services ServiceSet

	// Marked are tried in order on frames that no rule above drops; the first
	// match decides. OldMarked is a second such list, the one in force before a
	// change. A frame that either list drops is dropped.
	Marked, OldMarked []Match

	// Tagged applies the rules to frames of VLANs, too. Otherwise such frames
	// pass to the host.
	Tagged bool

	// HostAddrs are the host's own addresses. Frames from Sources to these
	// pass, so that the host's own connections to a server keep working.
	HostAddrs []netip.Addr
}

// ServiceRules are the rules of one service. They are immutable once applied:
// Apply compares pointers, and sends only the rules whose pointer is new or
// gone. So a change costs what it changes, not what there is.
type ServiceRules struct {
	// Destinations: the guard drops frames to these.
	Destinations []Endpoint

	// VIPs are addresses that uvs answers for and the host does not own. The
	// guard drops every frame to them. ARP passes, and neighbour solicitations
	// go to a multicast address; the host ignores both, because the address is
	// not its own.
	VIPs []netip.Addr

	// ReplySources are where servers reply from; uvs translates or routes the
	// replies. The guard drops unicast frames from these unless they go to one
	// of HostAddrs. It also drops ICMP errors about packets to these.
	ReplySources []Endpoint

	// ReplySourceRanges are ports of nets that are treated as Sources.
	ReplySourceRanges []PortRange

	// HelperMatches are the connections on which clients and servers agree on
	// further connections: FTP's control connections, TFTP's requests. Their
	// ports are not known beforehand. The guard drops what such a client opens
	// soon after to another port of these addresses. It then drops both
	// directions of that connection, whichever of HelperServers replies, from
	// any port.
	HelperMatches []Match
	HelperServers []Endpoint

	// LocalServers are servers on the host itself. RedirectReplies, if it was
	// called, redirects what the host sends from these.
	LocalServers []Endpoint
}

// ServiceSet is a set of rules of services.
type ServiceSet = cow.Map[*ServiceRules, struct{}]

// Shard makes a *ServiceRules a cow.Key.
func (p *ServiceRules) Shard() uint8 {
	return uint8(maphash.Comparable(shardSeed, p))
}

var shardSeed = maphash.MakeSeed()

// Dropped counts the frames that the guard dropped since New, by cause.
type Dropped struct {
	VIP      uint64 // to one of ServiceRules.VIPs
	Service  uint64 // to one of ServiceRules.Destinations, or by Rules.Marked
	Source   uint64 // from one of ServiceRules.ReplySources or ServiceRules.ReplySourceRanges
	Error    uint64 // ICMP errors about packets to ServiceRules.ReplySources or ReplySourceRanges
	Fragment uint64 // later fragments of datagrams counted as Service or Source
}

// Guard keeps the host's stack off the frames of Rules. It is safe for
// concurrent use. The zero value is not usable; call New.
type Guard struct {
	log zerolog.Logger

	mu        sync.Mutex
	conn      *nftables.Conn
	links     *netlink.Handle
	socket    *mdnetlink.Conn // the socket of conn
	redirects bool            // RedirectReplies was called
	nameLock  io.Closer       // tells other processes that the table is in use
	table     *nftables.Table
	sets      map[string]*nftables.Set
	refs      refCounts // the elements in the kernel's sets; nil after a change that failed
	rules     Rules     // the rules that refs and the chains were made from
}

// New creates the table, without rules for any interface. The table belongs to
// the network namespace of the calling thread. If the kernel cannot guard, the
// error says what it lacks.
func New(log zerolog.Logger) (*Guard, error) {
	g := &Guard{log: log, refs: refCounts{}}
	if err := g.open(); err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	err := g.addStaticRules()
	// Only an ingress chain proves that the kernel has the hook, and lo is the
	// one interface that always exists.
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

// Apply replaces the rules in force by r, whole or not at all, in one
// transaction. It sends only the differences. Frames of a service that stays
// never pass in between.
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
	added, removed := without(&r.Services, &old.Services), without(&old.Services, &r.Services)
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
	g.updateChains(r, slices.Concat(added, removed))
	refs := g.refs
	g.refs = nil
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("guard: apply rules: %w", err)
	}
	g.refs, g.rules = refs.merge(changes), r
	return nil
}

// exists reports whether there is an interface of that name now.
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

// Close deletes the table and all that is in it. Apply and Dropped return
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
