package director

import (
	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
)

// MaxBatch is the most frames Process takes at once. Sixteen and more make no
// difference to sendmmsg; sixty-four let the table's memory misses overlap.
const MaxBatch = 64

// Director decides about the frames of one worker.
type Director struct {
	conns       *conntrack.Worker
	frags       *frag.Table
	queue       *frag.Queue // of fragments that came before their first
	worker      int
	answerLimit limiter
	probes      *originator
	held        *heldFragments

	// Of the current batch.
	now     conntrack.Tick
	table   *Table
	packets [MaxBatch]packet
	queries [MaxBatch]conntrack.Query // side by side, for one lookup of them all
	quoted  [MaxBatch]wire.Packet

	// Scratch for what would otherwise escape to the heap.
	outer   wire.Packet // the tunnel packet that an ICMP error quotes
	request packet      // the packet that a quoted one answers
	entry   conntrack.Entry
	single  [1]conntrack.Query

	helper helperContext
}

// packet is a frame with all that is known of it while the director decides.
type packet struct {
	wire.Packet                  // what parsing found in the frame
	frame       *wire.Frame      // rewritten in place
	inner       *wire.Packet     // the packet that an ICMP error quotes
	query       *conntrack.Query // which conn the packet, or the inner one, is of; Ref 0: none
}

// New makes the director of a worker over its parts of the connection table and
// the fragment table.
func New(conns *conntrack.Worker, frags *frag.Table, worker int) *Director {
	d := &Director{conns: conns, frags: frags, queue: frags.Queue(worker), worker: worker, answerLimit: limiter{tokens: limitBurst}, probes: newOriginator(), held: new(heldFragments)}
	d.helper.d, d.helper.worker = d, helper.NewWorker(&d.helper)
	for i := range d.packets {
		d.packets[i].inner, d.packets[i].query = &d.quoted[i], &d.queries[i]
	}
	d.held.packet.query = new(conntrack.Query)
	return d
}
