package stream

// half is one direction: the text that one end sends. "Old" numbers are the sequence
// numbers of its sender, "new" numbers those that the receiver knows.
type half struct {
	next  uint32 // old: the first number not yet judged, or the one after the FIN
	floor uint32 // old: below it no mapping is known; the first number, or the end of the last edit dropped
	base  uint32 // new minus old at floor

	// The receiver's last acknowledgement and the end of its window, both new.
	acked, edge uint32
	// The sender's last TSval, its MSS and its window scale.
	tsval uint32
	mss   uint16
	scale uint8

	started   bool // next and floor are set
	peerSeen  bool // acked and edge are set
	hasTSval  bool // tsval is set
	hasScale  bool // scale is set
	compacted bool // an edit was dropped after its acknowledgement
	synSeen   bool // the SYN was seen, with mss and scale
	finSeen   bool // the FIN has passed; next is the number after it

	numEdits uint8          // edits in use
	used     uint16         // bytes of text that belong to edits
	held     uint16         // bytes of text after those, which are held back
	edits    [maxEdits]edit // in the order of their numbers
	text     [maxText]byte  // the new text of each edit, then the text held back
}

// edit is a piece of text that the receiver gets in another form.
type edit struct {
	start uint32 // old: its first number
	old   uint16 // length in bytes as sent
	new   uint16 // length in bytes as received
	// ackedEarly is how many of the old bytes were held back and acknowledged in place of
	// the receiver. The sender will not send them again.
	ackedEarly uint16
}

func (e *edit) end() uint32 { return e.start + uint32(e.old) }

// growth returns what the edit adds to the shift, modulo 1<<32.
func (e *edit) growth() uint32 { return uint32(e.new) - uint32(e.old) }

// start sets the first number of the half.
func (h *half) start(next uint32) { h.next, h.floor, h.started = next, next, true }

// heldFrom returns the first number held back, or next if there is none.
func (h *half) heldFrom() uint32 { return h.next - uint32(h.held) }

// shift is new minus old after all edits.
func (h *half) shift() uint32 {
	shift := h.base
	for i := range h.edits[:h.numEdits] {
		shift += h.edits[i].growth()
	}
	return shift
}

// noTextYet reports whether no text has been seen yet.
func (h *half) noTextYet() bool { return h.next == h.floor && h.unshifted() }

// unshifted reports whether numbers are the same on both sides and nothing is held
// back.
func (h *half) unshifted() bool { return h.base == 0 && h.numEdits == 0 && h.held == 0 }

// toReceiver maps an old number to the new one. A number within an edit maps to where
// its new text begins, one within held text to where that will begin.
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

// toSender maps the receiver's acknowledgement to an old number: what the sender may
// forget. It is less than the receiver has if an edit is acknowledged only in part. It
// includes the held text once all text before it is acknowledged. An acknowledgement
// from before a dropped edit counts as the last one.
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
			return e.start + uint32(e.ackedEarly)
		}
		shift += e.growth()
	}
	if at -= shift; at == h.heldFrom() {
		return h.next
	}
	return at
}

// editAround maps a new number that is not an acknowledgement to old ones: the start and
// the end of the edit that has it strictly inside its new text. Without such an edit both
// are the number itself. The left edge of a SACK block becomes the end, anything else the
// start.
func (h *half) editAround(at uint32) (start, end uint32) {
	shift := h.base
	for i := range h.edits[:h.numEdits] {
		e := &h.edits[i]
		first := e.start + shift
		if !before(first, at) {
			break
		}
		if before(at, first+uint32(e.new)) {
			return e.start, e.end()
		}
		shift += e.growth()
	}
	at = h.firstKnown(at - shift)
	return at, at
}

// firstKnown returns the first old number, at or after seq, whose position is still known.
func (h *half) firstKnown(seq uint32) uint32 {
	if h.startKnown() {
		return later(seq, h.floor)
	}
	return seq
}

// startKnown reports whether text before floor is not part of the connection, or was
// received long ago.
func (h *half) startKnown() bool { return h.compacted || h.synSeen }

// resume returns where a segment must begin that was to begin at old number from. If
// that is inside an edit, the segment begins with the edit. It also includes edits
// directly before, whose text the sender believes to have arrived and will not resend.
func (h *half) resume(from, end uint32) uint32 {
	if before(end, from) { // inside held text
		from = end
	}
	for i := int(h.numEdits) - 1; i >= 0; i-- {
		e := &h.edits[i]
		if before(e.start, from) && (before(from, e.end()) || from == e.start+uint32(e.ackedEarly)) {
			from = e.start
		}
	}
	return from
}

// ackReceived records an acknowledgement and window of the receiver, in new numbers. It
// ignores an acknowledgement of text that the receiver was never sent.
func (h *half) ackReceived(at, window uint32) {
	if before(h.toReceiver(h.next), at) {
		if h.numEdits > 0 || h.held > 0 || h.synSeen {
			return
		}
		h.next = at - h.base // the text passed before the connection was followed
	}
	if h.peerSeen && before(at, h.acked) {
		return
	}
	h.acked, h.edge, h.peerSeen = at, at+window, true
	h.compact()
}

// compact drops the edits that the receiver has acknowledged.
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

// window returns how much of the receiver's window, which ends at edge (new), the
// sender may be told together with the acknowledgement ack (old). Text that grew or is
// held back takes up room there. The result is in bytes, not scaled.
func (h *half) window(ack, edge uint32) uint32 {
	return uint32(max(0, int32(edge-h.shift()-ack)))
}
