package routes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gaissmai/bart"
	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"uvs/dataplane/director"
)

const (
	// coalesceDelay is how long the Watcher waits for the rest of a burst of
	// events. It is far more than the microseconds between events of one cause,
	// and too short to notice.
	coalesceDelay = 20 * time.Millisecond

	// requestTime is how long a neighbour that Resolve names is solicited. A packet
	// waits as long (dataplane/director/neighbour.go, unresolvedTime).
	requestTime = 3 * retransTime

	// maxRequested is far more than directors request at a time.
	maxRequested = 1024

	// workPause limits the time spent on a large routing table, and on
	// neighbours: the pause before the next reading or publication is this many
	// times as long as the last took. Packets may wait for neighbours, so their
	// pause is at most coalesceDelay. Addresses do not wait, because a VIP that
	// another host held until now must be served at once.
	workPause = 9

	// retransTime is the interval of everything that is repeated: RETRANS_TIMER
	// of RFC 4861 section 10, and the kernel's retrans_time for ARP.
	retransTime = time.Second

	// receiveBuffer is the size of the receive buffer for events, in bytes. An
	// event takes about one kilobyte there. If more come at once, the Watcher
	// reads everything again.
	receiveBuffer = 1 << 20
)

// Watcher watches the host. The goroutine in Run owns the fields that are not
// guarded by mu. Call New and Run in the network namespace to watch.
type Watcher struct {
	log        zerolog.Logger
	privileged Privileged
	nl         *netlink.Handle
	conf       *netconf
	sub        *nl.NetlinkSocket
	names      []string // configured, in port order
	vlans      []VLAN   // the ports after those
	wakeup     chan struct{}
	requests   chan director.NeighbourKey

	mu      sync.Mutex
	hostNet *director.HostNet
	changed chan struct{} // closed when hostNet is replaced
	keep    []netip.Addr
	vips    map[netip.Addr]bool // to announce; never written again
	newVIPs []netip.Addr        // those that were not in vips before

	host             host
	up               []bool // of each port
	rereadHost       bool   // links, addresses or routes have to be read again
	rereadAddrs      bool   // addresses have to be read again
	rereadAll        bool   // neighbours, too: events were dropped
	neighbourChanged bool   // a neighbour has another hardware address, or none any more
	reading          pace

	addrs       []netip.Addr                   // keep, as of the last request
	gateways    map[director.NeighbourKey]bool // of the routes in hostNet
	targets     map[director.NeighbourKey]bool // neighbours to keep resolved
	retargetDue bool                           // targets have to be found again
	requested   map[neighbourID]request        // by Resolve, and not answered
	solicited   map[neighbourID]time.Time
	prober      prober
	pending     map[announcement]repetition
	announced   map[netip.Addr]bool // VIPs that were announced, or are pending
}

// request is what is known of a request of Resolve: the port, and when it came.
type request struct {
	port uint16
	at   time.Time
}

// New reads the host's state once. Interfaces are in port order; each must exist and be
// Ethernet. The ports of VLANs come after them; each VLAN is of one of the interfaces.
func New(interfaces []string, vlans []VLAN, privileged Privileged, log zerolog.Logger) (*Watcher, error) {
	w := &Watcher{
		log: log, privileged: privileged, names: slices.Clone(interfaces), vlans: slices.Clone(vlans),
		wakeup:  make(chan struct{}, 1),
		changed: make(chan struct{}), requests: make(chan director.NeighbourKey, maxRequested),
		requested:   map[neighbourID]request{},
		retargetDue: true, solicited: map[neighbourID]time.Time{}, prober: newProber(privileged),
		pending: map[announcement]repetition{}, reading: pace{longest: math.MaxInt64},
	}
	if err := w.open(); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *Watcher) open() (err error) {
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	if w.conf, err = openNetconf(); err != nil {
		return err
	}
	// Subscribe first, read second: a change in between is read twice rather
	// than missed.
	w.sub, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF)
	if err != nil {
		return fmt.Errorf("subscribe to rtnetlink: %w", err)
	}
	if err := w.sub.SetReceiveBufferSize(receiveBuffer, true); err != nil {
		w.sub.SetReceiveBufferSize(receiveBuffer, false) // as large as permitted
	}
	for {
		if err = w.host.read(w.nl, w.conf); err == nil {
			w.host.neighbours, err = readNeighbours(w.nl)
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return err
	}
	ports, err := w.host.findPorts(w.names)
	if err != nil {
		return err
	}
	w.warnOfMasters(ports)
	if err := w.host.checkVLANs(w.names, w.vlans); err != nil {
		return err
	}
	ports = withVLANs(ports, w.names, w.vlans)
	w.up = w.host.linksUp(ports)
	w.hostNet = w.host.hostNet(ports, w.host.routeTable(ports, w.vlans, nil))
	w.gateways = w.hostNet.Gateways()
	return nil
}

func (w *Watcher) close() {
	if w.nl != nil {
		w.nl.Close()
	}
	if w.conf != nil {
		w.conf.close()
	}
	if w.sub != nil {
		w.sub.Close()
	}
	w.prober.close()
}

// HostNet returns the current state.
func (w *Watcher) HostNet() *director.HostNet {
	hostNet, _ := w.current()
	return hostNet
}

// current returns the current state, and a channel that is closed when there is
// a newer one.
func (w *Watcher) current() (*director.HostNet, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hostNet, w.changed
}

// KeepResolved sets the addresses that frames are sent to: servers and tunnel
// endpoints. The Watcher keeps the next hop of each resolved from now on,
// besides the gateways of routes.
func (w *Watcher) KeepResolved(addrs []netip.Addr) {
	w.mu.Lock()
	w.keep = slices.Clone(addrs)
	w.mu.Unlock()
	w.wake()
}

// Resolve makes the Watcher solicit a neighbour for requestTime, unless it is known. It never
// blocks; what is too much is forgotten.
func (w *Watcher) Resolve(hop director.NeighbourKey) {
	select {
	case w.requests <- hop:
	default:
	}
}

// wake makes Run take the requests.
func (w *Watcher) wake() {
	select {
	case w.wakeup <- struct{}{}:
	default:
	}
}

// Run watches the host until ctx is done. It calls publish with every new
// state, in its own goroutine. Call it once.
func (w *Watcher) Run(ctx context.Context, publish func(*director.HostNet)) error {
	events := make(chan []event)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer w.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reader.Go(func() { w.receive(ctx, events) })

	tick := time.NewTicker(retransTime)
	defer tick.Stop()
	neighbours, addrs := pace{longest: coalesceDelay}, pace{}
	for {
		w.solicitDue(time.Now())
		w.announce(time.Now())
		if w.rereadHost || w.rereadAll {
			w.reading.start(coalesceDelay)
		}
		if w.neighbourChanged {
			neighbours.start(0)
		}
		if w.rereadAddrs {
			addrs.start(coalesceDelay)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-w.wakeup:
			w.takeSettings()
		case hop := <-w.requests:
			w.takeRequest(hop, time.Now())
		case batch, ok := <-events:
			if !ok && ctx.Err() == nil {
				return errors.New("routes: rtnetlink events have ended")
			}
			for _, e := range batch {
				w.apply(e)
			}
		case a := <-w.prober.replies:
			if _, solicited := w.solicited[a.id]; solicited && w.prober.learn(a, time.Now()) {
				w.neighbourChanged = true
			}
		case <-w.reading.due:
			w.reading.run(func() { w.reread(publish) })
		case <-neighbours.due:
			neighbours.run(func() { w.update(w.hostNet.Ports, w.hostNet.Routes, publish) })
		case <-addrs.due:
			addrs.run(func() { w.refreshAddrs(publish) })
		}
	}
}

// pace spaces out work of a kind.
type pace struct {
	longest time.Duration    // pause
	due     <-chan time.Time // nil: there is nothing to do
	last    time.Time        // when it was last done
	took    time.Duration
}

func (p *pace) start(delay time.Duration) {
	if p.due == nil {
		p.due = time.After(max(delay, time.Until(p.last.Add(min(workPause*p.took, p.longest)))))
	}
}

func (p *pace) run(work func()) {
	start := time.Now()
	work()
	p.due, p.last = nil, time.Now()
	p.took = p.last.Sub(start)
}

// takeSettings takes over the requests of KeepResolved and Announce.
func (w *Watcher) takeSettings() {
	w.mu.Lock()
	w.addrs = w.keep
	vips, added := w.vips, w.newVIPs
	w.newVIPs = nil
	w.mu.Unlock()
	w.retargetDue = true
	w.setAnnounced(vips, added)
}

// reread reads what changed, and publishes the state if it differs.
func (w *Watcher) reread(publish func(*director.HostNet)) {
	if err := w.readChanges(); err != nil {
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			w.log.Warn().Err(err).Msg("routes: cannot read the host's state, trying again")
		}
		return
	}
	old := w.hostNet
	ports := w.updatePorts(old.Ports)
	routes := w.host.routeTable(ports, w.vlans, old.Routes)
	w.portsChanged(old.Ports, ports)
	w.update(ports, routes, publish)
}

// refreshAddrs reads the addresses, and publishes the state if it differs.
func (w *Watcher) refreshAddrs(publish func(*director.HostNet)) {
	if !w.rereadAddrs {
		return // reread was first
	}
	addrs, err := w.nl.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return // it is tried again
	}
	w.host.addrs, w.rereadAddrs = addrs, false
	w.update(w.updatePorts(w.hostNet.Ports), w.hostNet.Routes, publish)
}

// update publishes the state if it differs.
func (w *Watcher) update(ports []director.Port, routes *bart.Table[director.Route], publish func(*director.HostNet)) {
	old := w.hostNet
	w.neighbourChanged = false
	hostNet := w.host.hostNet(ports, routes)
	w.prober.addNeighbours(hostNet)
	if sameHostNet(old, hostNet) {
		return
	}
	if routes != old.Routes {
		w.gateways = hostNet.Gateways()
	}
	w.retargetDue = true
	w.mu.Lock()
	w.hostNet = hostNet
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
	publish(hostNet)
}

// readChanges reads from the kernel what has to be read again.
func (w *Watcher) readChanges() error {
	if err := w.host.read(w.nl, w.conf); err != nil {
		return err
	}
	if w.rereadAll {
		neighbours, err := readNeighbours(w.nl)
		if err != nil {
			return err
		}
		w.host.neighbours = neighbours
	}
	w.rereadAll, w.rereadHost, w.rereadAddrs = false, false, false
	return nil
}

// sameHostNet reports whether two states are equal.
func sameHostNet(a, b *director.HostNet) bool {
	return a.SameButNeighbours(b) && maps.Equal(a.Neighbours, b.Neighbours)
}
