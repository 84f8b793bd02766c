package director

import (
	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/helper"
	"uvs/dataplane/keyhash"
	"uvs/dataplane/wire"
	"uvs/fwd/answer"
)

// MaxBatch is the most frames that Process takes at once. From sixteen on the number
// makes no difference to sendmmsg; sixty-four let memory misses of the connection
// table overlap.
const MaxBatch = 64

// Director decides about the frames of one worker.
type Director struct {
	// The current batch. What a batch touches has to fit into the level 1 cache.
	queries [MaxBatch]conntrack.Query // contiguous, so that one lookup takes them all
	packets [MaxBatch]packet
	now     conntrack.Tick
	table   *Table
	// onePacketServer is the server of the current packet, if of a one-packet service.
	onePacketServer uint32

	conns           *conntrack.Worker
	frags           *frag.Table
	queuedFragments *frag.Queue // fragments that came before the first of their datagram
	waitingPackets  *frag.Queue // packets whose server may come back
	worker          int
	answerLimits    answerLimits
	released        released
	keepAlives      [maxKeepAlives]wire.Frame
	helper          helperContext

	// Scratch for what would otherwise escape to the heap.
	inner   [MaxBatch]wire.Packet // see packet.inner
	outer   wire.Packet           // the tunnel packet that an ICMP error quotes
	request packet                // the request that a quoted reply answered
	entry   conntrack.Entry

	unresolved unresolved

	progress progress
	faults   []Fault
}

// packet is a frame and all that the director knows of it.
type packet struct {
	wire.Packet                  // what parsing found in the frame
	frame       *wire.Frame      // rewritten in place
	query       *conntrack.Query // query.Ref is the conn of the packet, or of inner; 0: none
	inner       *wire.Packet     // the packet that an ICMP error quotes
}

// New makes the director of a worker over its parts of the connection table and
// the fragment table.
func New(conns *conntrack.Worker, frags *frag.Table, worker int) *Director {
	d := &Director{
		conns: conns, frags: frags, worker: worker,
		answerLimits:    answerLimits{all: limiter{tokens: limitBurst}, key: keyhash.New(0)},
		queuedFragments: frags.Queue(frag.ForFirst, worker), waitingPackets: frags.Queue(frag.ForServer, worker),
	}
	nextHops := max(maxUnresolved/frags.Workers(), 4)
	d.unresolved = unresolved{
		queue: frags.Queue(frag.ForNeighbour, worker),
		list:  make([]awaited, 0, nextHops), toResolve: make([]NeighbourKey, 0, nextHops),
	}
	d.helper.d, d.helper.scratch = d, helper.NewScratch(&d.helper)
	for i := range d.packets {
		d.packets[i].query, d.packets[i].inner = &d.queries[i], &d.inner[i]
	}
	for _, p := range []*packet{&d.released.packet, &d.unresolved.packet} {
		p.query, p.inner = new(conntrack.Query), new(wire.Packet)
	}
	memory := make([]byte, maxKeepAlives*answer.KeepAliveLen)
	for i := range d.keepAlives {
		d.keepAlives[i].Buf = memory[i*answer.KeepAliveLen:][:answer.KeepAliveLen]
	}
	return d
}
