package ring

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// counter names one count of a port; see PortStats for what each means.
type counter uint8

const (
	received counter = iota
	otherHost
	outgoing
	snapped
	malformed
	tagged
	sent
	split
	dropBusy
	dropQueue
	dropTooLong
	dropDown
	dropOther
	numCounter
)

// counts are a port's counters as its worker keeps them.
type counts [numCounter]uint64

// shown are the same counters for other goroutines, brought up to date by the
// worker at the beginning of every Recv.
type shown [numCounter]atomic.Uint64

// update shows c. Only what changed is stored: an atomic store costs more than
// the frame it counts.
func (s *shown) update(c *counts) {
	for i := range c {
		if s[i].Load() != c[i] {
			s[i].Store(c[i])
		}
	}
}

// PortStats are the counters of one interface of one link since it was opened.
type PortStats struct {
	Interface string
	// Gone says that the interface was deleted.
	Gone bool

	Received uint64 // frames lent

	// Frames that reached the ring and were not lent.
	OtherHost uint64 // for another host's MAC address, seen in promiscuous mode
	Outgoing  uint64 // sent or looped back by this host
	Snapped   uint64 // cut short: longer than a block
	Malformed uint64 // slots without a frame, or with an impossible offload

	// Frames that did not reach the ring, counted by the kernel.
	RingFull uint64 // no free block
	Freezes  uint64 // how often the ring became full

	Tagged uint64 // received frames whose VLAN tag was put back

	Sent  uint64 // frames handed to the device, pieces of a split one each
	Split uint64 // frames that were split into Sent pieces

	// Frames not sent, by cause.
	DropBusy    uint64 // EAGAIN: the socket's send buffer stayed full
	DropQueue   uint64 // ENOBUFS: the device's queue dropped it
	DropTooLong uint64 // EMSGSIZE: longer than the device takes, and not to be split
	DropDown    uint64 // ENETDOWN, ENXIO: the interface is down or gone
	DropOther   uint64 // refused for another reason, or without room for the header
}

// Stats are the counters of a link.
type Stats struct {
	Ports  []PortStats
	Turns  uint64 // Recvs that lent frames; Received/Turns is the mean batch
	Sleeps uint64 // how often the link slept on its doorbells
}

// Stats returns the counters; any goroutine may call it. They are as of the
// beginning of the Recv in progress, and exact once the link is closed.
func (l *Link) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{Turns: l.shownTurns.Load(), Sleeps: l.shownSleeps.Load()}
	for _, p := range l.ports {
		p.askKernel()
		c := &p.shown
		s.Ports = append(s.Ports, PortStats{
			Interface:   p.name,
			Gone:        p.gone.Load(),
			Received:    c[received].Load(),
			OtherHost:   c[otherHost].Load(),
			Outgoing:    c[outgoing].Load(),
			Snapped:     c[snapped].Load(),
			Malformed:   c[malformed].Load(),
			RingFull:    p.ringFull,
			Freezes:     p.freezes,
			Tagged:      c[tagged].Load(),
			Sent:        c[sent].Load(),
			Split:       c[split].Load(),
			DropBusy:    c[dropBusy].Load(),
			DropQueue:   c[dropQueue].Load(),
			DropTooLong: c[dropTooLong].Load(),
			DropDown:    c[dropDown].Load(),
			DropOther:   c[dropOther].Load(),
		})
	}
	return s
}

// askKernel adds what the kernel counted since the last time; reading clears its
// counters. The caller holds Link.mu.
func (p *port) askKernel() {
	if p.fd < 0 {
		return
	}
	if st, err := unix.GetsockoptTpacketStatsV3(p.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		p.ringFull += uint64(st.Drops)
		p.freezes += uint64(st.Freeze_q_cnt)
	}
}

// publish shows the worker's counters to other goroutines.
func (l *Link) publish() {
	for _, p := range l.ports {
		p.shown.update(&p.counts)
	}
	if l.shownTurns.Load() != l.turns {
		l.shownTurns.Store(l.turns)
	}
	if l.shownSleeps.Load() != l.sleeps {
		l.shownSleeps.Store(l.sleeps)
	}
}
