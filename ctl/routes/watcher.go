package routes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"uvs/dataplane/director"
)

const (
	// coalesceDelay is how long the rest of a burst of events is waited for: far more
	// than the microseconds between events of one cause, and too short for
	// anybody to notice.
	coalesceDelay = 20 * time.Millisecond

	// rereadPause keeps reading a large routing table from taking the machine: the
	// next reading waits this many times as long as the last one took.
	rereadPause = 9

	// retransTime is the pace of everything that is repeated: RETRANS_TIMER of RFC
	// 4861 section 10, and the kernel's retrans_time for ARP.
	retransTime = time.Second

	// receiveBuffer is the receive buffer for events, in bytes. An event takes
	// about one kilobyte there; more at once means reading everything again.
	receiveBuffer = 1 << 20
)

// Watcher follows the host's ways out. The goroutine in Run owns everything that
// is not behind mu; New and Run must be called in the network namespace to
// watch.
type Watcher struct {
	log    zerolog.Logger
	nl     *netlink.Handle
	sub    *nl.NetlinkSocket
	names  []string // configured, in port order
	vlans  []VLAN   // the ports behind them
	wakeup chan struct{}

	mu      sync.Mutex
	hostNet *director.HostNet
	changed chan struct{} // closed when hops is replaced
	needed  []netip.Addr
	waiting map[*[]netip.Addr]bool
	vips    []netip.Addr

	host             host
	up               []bool // of each port
	rereadHost       bool   // links, addresses or routes are to be read again
	rereadAll        bool   // neighbours too: events were dropped
	neighbourChanged bool   // a neighbour has another hardware address, or none any more

	wanted      []netip.Addr                   // needed, and waited for
	gateways    map[director.NeighbourKey]bool // of the routes in hops
	targets     map[director.NeighbourKey]bool // who is to be kept resolved
	retargetDue bool                           // … is to be found anew
	solicited   map[neighbourID]time.Time
	prober      prober
	pending     map[announcement]repetition
	announced   map[netip.Addr]bool // VIPs that were announced, or are being so
}

// New reads the host's state once. Interfaces are in port order; each must
// exist and speak Ethernet. Behind them come the VLANs, each of one of them.
func New(interfaces []string, vlans []VLAN, log zerolog.Logger) (*Watcher, error) {
	w := &Watcher{
		log: log, names: slices.Clone(interfaces), vlans: slices.Clone(vlans), wakeup: make(chan struct{}, 1),
		changed: make(chan struct{}), waiting: map[*[]netip.Addr]bool{},
		retargetDue: true, solicited: map[neighbourID]time.Time{}, prober: newProber(),
		pending: map[announcement]repetition{},
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
	// Events first, state second: what changes in between is read twice rather
	// than missed.
	w.sub, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return fmt.Errorf("subscribe to rtnetlink: %w", err)
	}
	if err := w.sub.SetReceiveBufferSize(receiveBuffer, true); err != nil {
		w.sub.SetReceiveBufferSize(receiveBuffer, false) // as much as allowed
	}
	for {
		if err = w.host.read(w.nl); err == nil {
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
	w.host.checkMasters(ports, func(port, of string) {
		w.log.Warn().Str("interface", port).Str("of", of).
			Msg("routes: interface is a part of another, whose addresses and routes it does not have; run on that one")
	})
	if err := w.host.checkVLANs(w.names, w.vlans); err != nil {
		return err
	}
	ports = withVLANs(ports, w.names, w.vlans)
	w.up = w.host.linksUp(ports)
	w.hostNet = w.host.hostNet(ports, w.host.routeTable(ports, w.vlans, nil))
	w.gateways = gateways(w.hostNet)
	return nil
}

func (w *Watcher) close() {
	if w.nl != nil {
		w.nl.Close()
	}
	if w.sub != nil {
		w.sub.Close()
	}
	w.prober.close()
}

// HostNet is the present state.
func (w *Watcher) HostNet() *director.HostNet {
	hostNet, _ := w.current()
	return hostNet
}

// current also returns a channel that is closed when there is a newer state.
func (w *Watcher) current() (*director.HostNet, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hostNet, w.changed
}

// KeepResolved says which addresses frames are sent to: servers and tunnel ends. The
// next hop of each is kept resolved from now on, and those of no others but the
// gateways of routes.
func (w *Watcher) KeepResolved(addrs []netip.Addr) {
	w.mu.Lock()
	w.needed = slices.Clone(addrs)
	w.mu.Unlock()
	w.wake()
}

// WaitResolved waits until the next hop of each address is resolved, or ctx is done,
// and returns those that are not. It needs Run to be running; the addresses
// need not be among those of Need.
func (w *Watcher) WaitResolved(ctx context.Context, addrs []netip.Addr) (unresolved []netip.Addr) {
	w.mu.Lock()
	w.waiting[&addrs] = true
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.waiting, &addrs)
		w.mu.Unlock()
	}()
	w.wake()
	for {
		hostNet, changed := w.current()
		unresolved = slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return resolved(hostNet, a) })
		if len(unresolved) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return unresolved
		}
	}
}

// Announce says which VIPs uvs answers for. Those that are new are announced on
// every port, and all of them on a port that comes up or gets another hardware
// address. Addresses the host owns are left to it.
func (w *Watcher) Announce(vips []netip.Addr) {
	w.mu.Lock()
	w.vips = slices.Clone(vips)
	w.mu.Unlock()
	w.wake()
}

// wake makes Run look at what was asked for.
func (w *Watcher) wake() {
	select {
	case w.wakeup <- struct{}{}:
	default:
	}
}

// Run follows the host until ctx is done, and calls publish with every new
// state, from its own goroutine. It can be called once.
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
	var last time.Time // when the last reading ended
	var took time.Duration
	var due <-chan time.Time
	for {
		w.resolve(time.Now())
		w.announce(time.Now())
		if due == nil && (w.rereadHost || w.rereadAll || w.neighbourChanged) {
			due = time.After(max(coalesceDelay, time.Until(last.Add(rereadPause*took))))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-w.wakeup:
			w.takeRequests()
		case batch, ok := <-events:
			if !ok && ctx.Err() == nil {
				return errors.New("routes: rtnetlink events have ended")
			}
			for _, e := range batch {
				w.apply(e)
			}
		case a := <-w.prober.replies:
			if _, asked := w.solicited[a.id]; asked && w.prober.learn(a, time.Now()) {
				w.neighbourChanged = true
			}
		case <-due:
			due = nil
			start := time.Now()
			w.refresh(publish)
			last = time.Now()
			took = last.Sub(start)
		}
	}
}

// takeRequests takes over what was asked for with Need, Wait and Announce.
func (w *Watcher) takeRequests() {
	w.mu.Lock()
	w.wanted = slices.Clone(w.needed)
	for addrs := range w.waiting {
		w.wanted = append(w.wanted, *addrs...)
	}
	vips := w.vips
	w.mu.Unlock()
	w.retargetDue = true
	w.setAnnounced(vips)
}

// refresh reads what is stale, and publishes if it means anything new.
func (w *Watcher) refresh(publish func(*director.HostNet)) {
	old := w.hostNet
	ports, routes := old.Ports, old.Routes
	if w.rereadAll || w.rereadHost {
		if err := w.reread(); err != nil {
			if !errors.Is(err, netlink.ErrDumpInterrupted) {
				w.log.Warn().Err(err).Msg("routes: cannot read the host's state, trying again")
			}
			return
		}
		ports = w.updatePorts(old.Ports)
		routes = w.host.routeTable(ports, w.vlans, old.Routes)
		w.portsChanged(old.Ports, ports)
	}
	w.neighbourChanged = false
	hostNet := w.host.hostNet(ports, routes)
	w.prober.addNeighbours(hostNet)
	if sameHostNet(old, hostNet) {
		return
	}
	if routes != old.Routes {
		w.gateways = gateways(hostNet)
	}
	w.retargetDue = true
	w.mu.Lock()
	w.hostNet = hostNet
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
	publish(hostNet)
}

// reread asks the kernel for what is stale.
func (w *Watcher) reread() error {
	if err := w.host.read(w.nl); err != nil {
		return err
	}
	if w.rereadAll {
		neighbours, err := readNeighbours(w.nl)
		if err != nil {
			return err
		}
		w.host.neighbours = neighbours
	}
	w.rereadAll, w.rereadHost = false, false
	return nil
}

// sameHostNet compares two states.
func sameHostNet(a, b *director.HostNet) bool {
	return a.Routes == b.Routes && slices.Equal(a.Ports, b.Ports) &&
		maps.Equal(a.Neighbours, b.Neighbours) && maps.Equal(a.HostAddrs, b.HostAddrs)
}
