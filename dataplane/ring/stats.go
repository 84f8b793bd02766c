package ring

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// counter is the index of one counter of a port. PortStats describes them.
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

// counts are the counters of a port that its worker increments.
type counts [numCounter]uint64

// sharedCounts are copies for other goroutines. The worker updates them at the
// beginning of every Recv.
type sharedCounts [numCounter]atomic.Uint64

// update copies c. It stores only what changed, because an atomic store costs more
// than the frame that it counts.
func (s *sharedCounts) update(c *counts) {
	for i := range c {
		if s[i].Load() != c[i] {
			s[i].Store(c[i])
		}
	}
}

// PortStats are the counters of one interface of one link since it was opened.
type PortStats struct {
	Interface string
	Gone      bool // the interface was deleted

	Received uint64 // frames lent

	// Frames in the ring that were not lent.
	OtherHost uint64 // for another host's MAC address, received in promiscuous mode
	Outgoing  uint64 // sent or looped back by this host
	Snapped   uint64 // truncated: longer than a block
	Malformed uint64 // slot without a frame, or with an impossible offload

	// Frames that did not reach the ring, counted by the kernel.
	RingFull uint64 // no free block
	Freezes  uint64 // how often the ring became full

	Tagged uint64 // received frames whose VLAN tag was restored

	Sent  uint64 // frames that the device accepted, each part of a split frame
	Split uint64 // frames that were split

	// Frames not sent, by cause.
	DropBusy    uint64 // EAGAIN: the socket's send buffer stayed full
	DropQueue   uint64 // ENOBUFS: the device's queue dropped it
	DropTooLong uint64 // EMSGSIZE: longer than the device accepts, and must not be split
	DropDown    uint64 // ENETDOWN, ENXIO: the interface is down or gone
	DropOther   uint64 // another error, or no headroom for the virtio_net_hdr
}

// Stats are the counters of a link.
type Stats struct {
	Ports   []PortStats
	Batches uint64 // Recvs that lent frames; Received/Batches is the mean batch
	Sleeps  uint64 // how often the link slept
}

// Stats returns the counters. Any goroutine may call it. They are those at the
// beginning of the current Recv, and exact once the link is closed.
func (l *Link) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{Batches: l.sharedBatches.Load(), Sleeps: l.sharedSleeps.Load()}
	for _, p := range l.ports {
		p.readKernelStats()
		c := &p.shared
		s.Ports = append(s.Ports, PortStats{
			Interface: p.name, Gone: p.gone.Load(), RingFull: p.ringFull, Freezes: p.freezes,
			Received: c[received].Load(), OtherHost: c[otherHost].Load(), Outgoing: c[outgoing].Load(),
			Snapped: c[snapped].Load(), Malformed: c[malformed].Load(), Tagged: c[tagged].Load(),
			Sent: c[sent].Load(), Split: c[split].Load(),
			DropBusy: c[dropBusy].Load(), DropQueue: c[dropQueue].Load(), DropTooLong: c[dropTooLong].Load(),
			DropDown: c[dropDown].Load(), DropOther: c[dropOther].Load(),
		})
	}
	return s
}

// readKernelStats adds the kernel's counters, which are cleared when they are read.
// The caller holds Link.mu.
func (p *port) readKernelStats() {
	if p.fd < 0 {
		return
	}
	if st, err := unix.GetsockoptTpacketStatsV3(p.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		p.ringFull += uint64(st.Drops)
		p.freezes += uint64(st.Freeze_q_cnt)
	}
}

// publish copies the worker's counters for other goroutines.
func (l *Link) publish() {
	for _, p := range l.ports {
		p.shared.update(&p.counts)
	}
	if l.sharedBatches.Load() != l.batches {
		l.sharedBatches.Store(l.batches)
	}
	if l.sharedSleeps.Load() != l.sleeps {
		l.sharedSleeps.Store(l.sleeps)
	}
}
