package stream

// half is one direction: the text one end sends the other. Its sender's numbers
// are called old, those the receiver knows new.
type half struct {
	next  uint32 // old: the first number not yet judged, or behind the FIN
	floor uint32 // old: where the half began; if folded, edits before it are forgotten
	base  uint32 // new minus old at floor

	// What the receiver said last. The window's edge is new too.
	acked, edge uint32
	// What the sender said: its last TSval, MSS and window scale.
	tsval uint32
	mss   uint16
	scale uint8

	started   bool // next and floor are set
	peerSeen  bool // acked and edge are set
	hasTSval  bool // stamp is set
	hasScale  bool // scale is set
	compacted bool // some edit is forgotten
	synSeen   bool // the SYN was seen, with mss and scale
	finSeen   bool // the FIN was passed; next is behind it

	numEdits uint8          // how many edits there are
	used     uint16         // bytes of text that belong to them
	held     uint16         // bytes of text behind, which are kept back
	edits    [maxEdits]edit // in the order of their numbers
	text     [maxText]byte  // new texts of the edits, one by one, then what is kept back
}

// edit is a piece of text that is sent on otherwise than it came.
type edit struct {
	start uint32 // old: its first number
	old   uint16 // bytes it came as
	new   uint16 // bytes it goes on as
	// acked of the old bytes were kept back when they came and acknowledged in
	// place of the receiver, so the sender will not send them again.
	acked uint16
}

func (e *edit) end() uint32 { return e.start + uint32(e.old) }

// growth is what the edit adds to the shift, modulo 1<<32.
func (e *edit) growth() uint32 { return uint32(e.new) - uint32(e.old) }

// start sets the first number of the half.
func (h *half) start(next uint32) { h.next, h.floor, h.started = next, next, true }

// heldFrom is the first number kept back, or next.
func (h *half) heldFrom() uint32 { return h.next - uint32(h.held) }

// shift is new minus old behind all edits.
func (h *half) shift() uint32 {
	shift := h.base
	for i := range h.edits[:h.numEdits] {
		shift += h.edits[i].growth()
	}
	return shift
}

// noTextYet says whether no text was seen yet.
func (h *half) noTextYet() bool { return h.next == h.floor && h.unshifted() }

// unshifted says whether numbers of the half are the same on both sides, and
// nothing is kept back.
func (h *half) unshifted() bool { return h.base == 0 && h.numEdits == 0 && h.held == 0 }

// toReceiver is the new number for the old number at. Within an edit it is where its
// new text begins; within what is kept back, where that will begin.
func (h *half) toReceiver(at uint32) uint32 {
	if h.held > 0 && before(h.heldFrom(), at) && !before(h.next, at) {
		at = h.heldFrom()
	}
	shift := h.base
	for i := range h.edits[:h.numEdits] {
		e := &h.edits[i]
		if before(at, e.end()) {
			if before(e.start, at) {
				at = e.start
			}
			break
		}
		shift += e.growth()
	}
	return at + shift
}

// toSender is the old number for the receiver's acknowledgement at: what the sender
// may forget. That is less than the receiver has if it acknowledges a part of an
// edit, and more by what is kept back once all before that is acknowledged. An
// acknowledgement from before a forgotten edit says what the last one says.
func (h *half) toSender(at uint32) uint32 {
	if h.compacted && before(at, h.floor+h.base) {
		at = h.acked
	}
	shift := h.base
	for i := range h.edits[:h.numEdits] {
		e := &h.edits[i]
		start := e.start + shift
		if before(at, start) {
			return at - shift
		}
		if before(at, start+uint32(e.new)) {
			return e.start + uint32(e.acked)
		}
		shift += e.growth()
	}
	if at -= shift; at == h.heldFrom() {
		return h.next
	}
	return at
}

// leftEdgeToSender is the old number for the left edge of a SACK block.
func (h *half) leftEdgeToSender(at uint32) uint32 {
	i, shift := h.editAround(at)
	if i < 0 {
		return h.firstKnown(at - shift)
	}
	return h.edits[i].end()
}

// toSenderBefore is the old number for the right edge of a SACK block, and for any
// number that is not an acknowledgement.
func (h *half) toSenderBefore(at uint32) uint32 {
	i, shift := h.editAround(at)
	if i < 0 {
		return h.firstKnown(at - shift)
	}
	return h.edits[i].start
}

// editAround finds the edit in whose new text the new number at lies, not at its
// ends; -1 if none, with the shift that holds there.
func (h *half) editAround(at uint32) (i int, shift uint32) {
	shift = h.base
	for i := range h.edits[:h.numEdits] {
		e := &h.edits[i]
		start := e.start + shift
		switch {
		case !before(start, at):
			return -1, shift
		case before(at, start+uint32(e.new)):
			return i, shift
		}
		shift += e.growth()
	}
	return -1, shift
}

// firstKnown is the first old number, at or behind seq, whose place is still known.
func (h *half) firstKnown(seq uint32) uint32 {
	if h.startKnown() {
		return later(seq, h.floor)
	}
	return seq
}

// startKnown says whether text before floor is none of the connection's, or was
// received long ago.
func (h *half) startKnown() bool { return h.compacted || h.synSeen }

// resume is where a segment must begin that was to begin at the old number from,
// or at its end: at the head of an edit it would begin in, and of those before it
// whose text the sender believes to have arrived and will not send again.
func (h *half) resume(from, end uint32) uint32 {
	if before(end, from) { // in what is kept back
		from = end
	}
	for i := int(h.numEdits) - 1; i >= 0; i-- {
		e := &h.edits[i]
		if before(e.start, from) && (before(from, e.end()) || from == e.start+uint32(e.acked)) {
			from = e.start
		}
	}
	return from
}

// ackReceived notes an acknowledgement and window of the receiver, in its numbers. An
// acknowledgement of what it was never sent is not believed.
func (h *half) ackReceived(at, window uint32) {
	if before(h.toReceiver(h.next), at) {
		if h.numEdits > 0 || h.held > 0 || h.synSeen {
			return
		}
		h.next = at - h.base // it went by unseen, before the connection was followed
	}
	if h.peerSeen && before(at, h.acked) {
		return
	}
	h.acked, h.edge, h.peerSeen = at, at+window, true
	h.compact()
}

// compact forgets the edits that the receiver has acknowledged.
func (h *half) compact() {
	for h.numEdits > 0 && h.peerSeen {
		e := h.edits[0]
		if before(h.acked, e.start+h.base+uint32(e.new)) {
			return
		}
		h.base += e.growth()
		h.floor, h.compacted = e.end(), true
		h.numEdits--
		copy(h.edits[:], h.edits[1:])
		copy(h.text[:], h.text[e.new:h.used+h.held])
		h.used -= e.new
	}
}

// window is what the sender may be told, with the acknowledgement ack (old), of
// the receiver's window that ends at edge (new): text that grew or is kept back
// takes up room there. Not scaled.
func (h *half) window(ack, edge uint32) uint32 {
	return uint32(max(0, int32(edge-h.shift()-ack)))
}
