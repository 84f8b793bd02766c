package stream

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd/answer"
)

// Limits of what is remembered of one direction.
const (
	// MaxUnit is the longest text, in bytes, that a Rewriter can wait for, replace, or
	// insert: a line.
	MaxUnit = 256
	// maxText bytes hold the new texts of edits and the text held back.
	maxText = 2 * MaxUnit
	// maxEdits is the number of edits that the receiver has not acknowledged.
	maxEdits = 8
)

// Conn is what is remembered of one TCP connection: some 1.3 KiB without pointers. The
// zero value is a connection that has not been seen; its SYN comes first. A connection
// without a SYN is followed from its first segment, as if a line began there. The
// caller must process only one frame of it at a time.
type Conn struct {
	halves      [2]half // by the index of the direction
	passthrough bool    // text is no longer judged, only numbers are shifted
	refused     bool    // the Rewriter refused: only resets pass
	reset       bool    // a reset was seen
}

// Outcome is what happened to a segment.
type Outcome uint8

const (
	// Passed: the segment continues, rewritten if necessary. The frame and the Packet
	// are changed; Len and TCPFlags of the Packet too.
	Passed Outcome = iota
	// Shortened is Passed without the end of the segment (or its FIN), which is held
	// back or left to the sender's retransmission.
	Shortened
	// Answered: the whole segment was held back. The frame is now an ACK to its sender.
	// It leaves unchanged by the port that it came from, without translation or TTL
	// decrement.
	Answered
	// From here on the segment is dropped. If TCP retransmits it, it may pass then.
	DroppedHeldBack // held back, but no ACK is possible: the receiver has not been seen
	DroppedGap      // earlier text has not been seen
	DroppedFull     // too many edits wait for the receiver's acknowledgement
	DroppedRoom     // the text grew beyond the buffer, or the frame beyond 64 KiB
	DroppedChecksum // wrong TCP checksum
	DroppedFragment // an IP fragment of the connection
	DroppedRefused  // the Rewriter refused this or earlier text
	NumOutcome
)

// Dropped reports whether the frame goes nowhere.
func (o Outcome) Dropped() bool { return o >= DroppedHeldBack }

// Action is what a Rewriter decides.
type Action uint8

const (
	Pass    Action = iota // the unit passes unchanged
	Replace               // other text takes its place
	More                  // more text is needed to decide: hold it back
	Leave                 // this and all later text passes unjudged, in both directions
	Refuse                // nothing of the connection passes any more
)

// Judgement is what happens to the first N bytes of the text. N is at least 1 and at
// most the text's length; it is ignored for More, Leave and Refuse. New is the text for
// Replace: at most MaxUnit bytes, 0 to remove the text. The Rewriter owns New, which
// must not overlap the text it was asked about. It is copied before the next call.
type Judgement struct {
	Do  Action
	N   int
	New []byte
}

// Rewriter knows a protocol. It keeps its own state of the connection.
type Rewriter interface {
	// Judge decides about the beginning of text that was not judged before. Text comes
	// in order and without gaps, and Judge is called again for the rest. A unit that
	// passes may end anywhere: half a line of no interest need not wait for its end.
	// After More, the same text comes again with more after it. If last is set, no more
	// will come, because the stream ends or MaxUnit bytes are there. More then passes
	// all of it.
	Judge(dir conntrack.Dir, text []byte, last bool) Judgement
}

// Process processes a segment of the connection. f is the frame as it came in, before
// translation, and p what wire.Parse found in it. The frame is changed in place. Text
// that grew moves the headers into the frame's headroom, so f.Off may change; offsets
// in p stay right. Checksums are updated, also for partial checksums and GSO frames. A
// segment with a wrong checksum is dropped and changes nothing.
func (c *Conn) Process(dir conntrack.Dir, f *wire.Frame, p *wire.Packet, rw Rewriter) Outcome {
	switch {
	case p.Fragment != wire.FragmentNone:
		return DroppedFragment
	case !f.IsGSO() && !wire.VerifyChecksum(f, p): // the segments of a GSO frame have their own checksums
		return DroppedChecksum
	}
	var s segment
	s.read(f, p)
	c.observe(dir, &s)
	if s.has(wire.TCPSyn | wire.TCPRst) {
		return c.synOrRst(dir, f, p, &s)
	}
	if c.refused {
		return DroppedRefused
	}
	h := &c.halves[dir.Index()]
	if len(s.payload) == 0 && !s.has(wire.TCPFin) {
		c.renumber(dir, f, p, &s, h.toReceiver(s.seq), false)
		return Passed
	}
	return c.payload(dir, f, p, &s, rw)
}

// Restarts reports whether the segment is a SYN that begins another connection. That is
// so if the one remembered has ended, or has only its SYN. The caller must then set c
// to the zero value before it processes the segment.
func (c *Conn) Restarts(dir conntrack.Dir, f *wire.Frame, p *wire.Packet) bool {
	h := &c.halves[conntrack.DirIn.Index()]
	return dir == conntrack.DirIn && p.TCPFlags&(wire.TCPSyn|wire.TCPAck|wire.TCPRst) == wire.TCPSyn &&
		p.Fragment == wire.FragmentNone && h.started && wire.TCP(f.From(p.L4)).Seq()+1 != h.next &&
		(c.reset || h.noTextYet() || h.finSeen && c.halves[conntrack.DirOut.Index()].finSeen)
}

// QuotedSeq translates seq, a number as the receiver sees it, back to the sender's. dir is
// the sender's direction.
func (c *Conn) QuotedSeq(dir conntrack.Dir, seq uint32) uint32 {
	start, _ := c.halves[dir.Index()].editAround(seq)
	return start
}

// observe records what a segment says about its sender, and about what its sender has
// received.
func (c *Conn) observe(dir conntrack.Dir, s *segment) {
	h, o := &c.halves[dir.Index()], &c.halves[dir.Opposite().Index()]
	switch {
	case s.has(wire.TCPRst):
		c.reset = true
		return
	case s.has(wire.TCPSyn):
		if !h.started || h.noTextYet() {
			h.start(s.seq)
			h.mss, h.scale, h.hasScale, h.synSeen = s.mss, s.scale, s.hasScale, true
		}
	case !h.started:
		h.start(s.seq)
	}
	if s.hasTSval {
		if !h.hasTSval {
			h.tsval = s.tsval
		}
		h.tsval, h.hasTSval = later(h.tsval, s.tsval), true
	}
	if s.has(wire.TCPAck) {
		if !o.started {
			o.start(s.ack)
		}
		o.ackReceived(s.ack, uint32(s.tcp.Window())<<c.scale(dir, s))
	}
}

// scale returns the window scale of a segment from dir. It is 0 in a SYN, unless both
// ends scale, and if their SYNs were not seen. In the last case windows pass unchanged,
// and their ends are wrong by no more than the bytes that edits add.
func (c *Conn) scale(dir conntrack.Dir, s *segment) uint8 {
	if s.has(wire.TCPSyn) || !c.halves[dir.Index()].hasScale || !c.halves[dir.Opposite().Index()].hasScale {
		return 0
	}
	return c.halves[dir.Index()].scale
}

// synOrRst processes SYN and RST. Text in a SYN (RFC 7413) is left to the sender's
// retransmission.
func (c *Conn) synOrRst(dir conntrack.Dir, f *wire.Frame, p *wire.Packet, s *segment) Outcome {
	seq := c.halves[dir.Index()].toReceiver(s.tcp.Seq())
	if !s.has(wire.TCPSyn) || len(s.payload) == 0 {
		c.renumber(dir, f, p, s, seq, false)
		return Passed
	}
	new(plan).write(f, p, s, &c.halves[dir.Index()])
	c.renumber(dir, f, p, s, seq, true)
	return Shortened
}

// payload processes a segment with text or FIN.
func (c *Conn) payload(dir conntrack.Dir, f *wire.Frame, p *wire.Packet, s *segment, rw Rewriter) Outcome {
	h := &c.halves[dir.Index()]
	if !c.acceptNew(dir, s, rw) {
		return DroppedGap
	}
	if c.refused {
		return DroppedRefused
	}
	end := s.seq + uint32(len(s.payload))
	to := end // old: the end of what continues
	if before(h.heldFrom(), end) {
		to = h.heldFrom()
	}
	if h.numEdits == 0 && to == end && s.seq == h.firstKnown(s.seq) && !before(h.next, s.end()) {
		c.renumber(dir, f, p, s, h.toReceiver(s.seq), false)
		return Passed
	}

	var x plan
	x.setLimits(f, p, s, c.halves[dir.Opposite().Index()].mss)
	x.layout(h, s.seq, h.firstKnown(s.seq), to)
	fin := s.has(wire.TCPFin) && !x.truncated && !before(h.next, s.end())
	switch {
	case x.length > 0:
	case x.truncated:
		return DroppedRoom
	case fin:
		x.seq = h.toReceiver(end)
	// All of it arrived long ago: make the receiver acknowledge again.
	case h.firstKnown(end) != end || h.startKnown() && end == h.floor:
		x.seq = h.toReceiver(h.floor) - 1
	case before(h.next, end):
		return DroppedFull
	default:
		return c.answerWithAck(dir, f, p, s)
	}
	rewritten := !x.unchanged()
	if rewritten {
		if p.Len > 0xffff { // it has its own jumbo payload option
			return DroppedRoom
		}
		x.write(f, p, s, h)
	}
	outcome := Passed
	if to != end || x.truncated {
		outcome = Shortened
	}
	if s.has(wire.TCPFin) && !fin {
		s.tcp.SetFlags(s.flags &^ wire.TCPFin)
		p.TCPFlags &^= wire.TCPFin
		outcome, rewritten = Shortened, true
	}
	c.renumber(dir, f, p, s, x.seq, rewritten)
	return outcome
}

// acceptNew judges what is new in a segment, and records its FIN. It returns false if
// earlier text has not been seen.
func (c *Conn) acceptNew(dir conntrack.Dir, s *segment, rw Rewriter) bool {
	h := &c.halves[dir.Index()]
	fin := s.has(wire.TCPFin)
	end := s.seq + uint32(len(s.payload))
	switch {
	case c.passthrough && h.held == 0: // unjudged text may come in any order
		if before(h.next, s.end()) {
			h.next, h.finSeen = s.end(), fin
		}
	case before(h.next, s.seq):
		return false
	case h.finSeen || before(end, h.next):
	default:
		c.judgeAll(dir, s.payload[h.next-s.seq:], fin, rw)
		if fin && h.next == end && h.held == 0 {
			h.next, h.finSeen = h.next+1, true
		}
	}
	return true
}

// renumber puts the segment's numbers into those of its receiver, with seq as its
// sequence number. If dirty is set, the TCP checksum must be computed again in any
// case.
func (c *Conn) renumber(dir conntrack.Dir, f *wire.Frame, p *wire.Packet, s *segment, seq uint32, dirty bool) {
	h, o := &c.halves[dir.Index()], &c.halves[dir.Opposite().Index()]
	if s.has(wire.TCPUrg) {
		at := s.tcp.Seq() + uint32(s.tcp.Urgent()) // the last urgent byte, or the one after it
		s.tcp.SetUrgent(uint16(max(0, min(int32(h.toReceiver(at)-seq), 0xffff))))
		dirty = true
	}
	if s.tcp.Seq() != seq {
		s.tcp.SetSeq(seq)
		dirty = true
	}
	if s.has(wire.TCPAck) && (o.compacted || !o.unshifted()) {
		ack := o.toSender(s.ack)
		s.tcp.SetAck(ack)
		if h.synSeen && o.synSeen {
			scale := c.scale(dir, s)
			edge := s.ack + uint32(s.tcp.Window())<<scale
			s.tcp.SetWindow(windowField(o.window(ack, edge), scale))
		}
		s.mapSACK(o)
		dirty = true
	}
	if dirty {
		wire.FillChecksum(f, p)
	}
}

// windowField returns the window as a header field.
func windowField(window uint32, scale uint8) uint16 { return uint16(min(window>>scale, 0xffff)) }

// answerWithAck turns a segment that is held back as a whole into an ACK to its sender,
// of what the receiver has and of what was held back.
func (c *Conn) answerWithAck(dir conntrack.Dir, f *wire.Frame, p *wire.Packet, s *segment) Outcome {
	h, o := &c.halves[dir.Index()], &c.halves[dir.Opposite().Index()]
	if !h.peerSeen || !s.has(wire.TCPAck) || s.hasTSval && !o.hasTSval {
		return DroppedHeldBack
	}
	scale := uint8(0)
	if h.hasScale && o.hasScale {
		scale = o.scale
	}
	h.compact()
	ack, window := h.toSender(h.acked), h.edge-h.acked
	if h.synSeen && o.synSeen {
		window = h.window(ack, h.edge)
	}
	segment := answer.TCPAck{
		Seq: s.ack, Ack: ack, Window: windowField(window, scale),
		Stamped: s.hasTSval, Stamp: o.tsval, Echo: s.tsval,
	}
	if !answer.Acknowledge(f, p, &segment) {
		return DroppedHeldBack
	}
	return Answered
}
