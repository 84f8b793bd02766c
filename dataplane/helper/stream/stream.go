package stream

import (
	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd/reply"
)

// Bounds of what one direction remembers.
const (
	// MaxUnit is the longest text a Rewriter can wait for, or replace, or put in
	// place of another: a line.
	MaxUnit = 256
	// maxText holds the new texts of edits and the text kept back.
	maxText = 2 * MaxUnit
	// maxEdits are the edits not yet acknowledged by the receiver.
	maxEdits = 8
)

// Conn is what is remembered of one TCP connection: some 1.3 KiB without
// pointers. The zero value is a connection of which nothing was seen yet, its
// SYN comes first; one that is met in the middle is followed from the first
// segment seen, as if a line began there. Whoever uses it must see to it that
// only one frame is processed with it at a time.
type Conn struct {
	halves      [2]half // by the Dir that sends
	passthrough bool    // the text is no longer looked at, only numbers are shifted
	refused     bool    // nothing goes on any more but resets
	reset       bool    // a reset was seen
}

// Outcome is what became of a segment.
type Outcome uint8

const (
	// Passed: the segment goes on, rewritten if need be (in the frame and in the
	// Packet, whose Len and TCPFlags may have changed).
	Passed Outcome = iota
	// Shortened is Passed without the end of the segment: that is kept back, or
	// left to the sender's retransmission (FIN included).
	Shortened
	// Answered: all of the segment was kept back. The frame has been turned round
	// into an ACK to its sender and leaves by the port it came from, as it is: no
	// translation, no TTL.
	Answered
	// The segment must be dropped. Where TCP sends it again, it will be better then.
	DroppedKept     // kept back, but no ACK can be made: nothing was heard of the receiver
	DroppedGap      // text before it was not seen yet
	DroppedFull     // more edits than are remembered wait for the receiver's acknowledgement
	DroppedRoom     // no room in the buffer for text that grew, or a frame over 64 KiB
	DroppedChecksum // TCP checksum wrong
	DroppedFragment // an IP fragment of the connection
	DroppedRefused  // the Rewriter refused the text; all that follows is refused too
	NumOutcome
)

var outcomeNames = [NumOutcome]string{
	"passed", "shortened", "answered", "dropped_kept", "dropped_gap", "dropped_full", "dropped_room",
	"dropped_checksum", "dropped_fragment", "dropped_refused",
}

func (o Outcome) String() string {
	if o < NumOutcome {
		return outcomeNames[o]
	}
	return "unknown"
}

// Dropped says whether the frame goes nowhere.
func (o Outcome) Dropped() bool { return o >= DroppedKept }

// Action is what a Rewriter wants done.
type Action uint8

const (
	Pass    Action = iota // the unit goes on as it is
	Replace               // another text goes on in its place
	More                  // nothing can be said before more text is there: keep it back
	Leave                 // this and everything after it goes on unseen, in both directions
	Refuse                // the connection is not to go on
)

// Judgement is a Rewriter's answer: what is done to the first N bytes of the
// text. N is at least 1 and at most the text's length; for More, Leave and
// Refuse it is not looked at. New is the text for Replace, at most MaxUnit
// bytes, 0 for none; it is the Rewriter's, no part of the text it was asked about,
// and is copied before the next call.
type Judgement struct {
	Do  Action
	N   int
	New []byte
}

// Rewriter knows a protocol. It keeps its own state of the connection.
type Rewriter interface {
	// Judge looks at text that was sent and not yet judged, in order and without
	// gaps, and decides about its beginning; it is called again for the rest. A
	// unit that is passed may end anywhere (half a line of no interest need not
	// wait for its end). After More, the same text comes again with more behind it.
	// last: there will be no more, because the stream ends here or MaxUnit bytes
	// are there. More is then taken for Pass of all of it.
	Judge(dir conntrack.Dir, text []byte, last bool) Judgement
}

// Process treats a segment of the connection on its way through the director:
// f is the frame as it came in, not yet translated, p what Parse found in it.
// The frame is changed in place; text that grew moves the headers back into the
// frame's headroom, so f.Off may change (offsets of p stay right). Checksums,
// half-made ones and super-frames are kept right. A segment whose checksum is
// wrong is dropped and changes nothing.
func (c *Conn) Process(dir conntrack.Dir, f *wire.Frame, p *wire.Packet, rw Rewriter) Outcome {
	switch {
	case p.Fragment != wire.FragmentNone:
		return DroppedFragment
	case !f.IsGSO() && !wire.VerifyChecksum(f, p): // pieces of a super-frame have checksums of their own
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

// Restarts says whether the segment, a SYN, begins another connection than the one
// remembered: that is over, or was only asked for. c must then be the zero value
// before the segment is processed.
func (c *Conn) Restarts(dir conntrack.Dir, f *wire.Frame, p *wire.Packet) bool {
	h := &c.halves[conntrack.DirIn.Index()]
	return dir == conntrack.DirIn && p.TCPFlags&(wire.TCPSyn|wire.TCPAck|wire.TCPRst) == wire.TCPSyn &&
		p.Fragment == wire.FragmentNone && h.started && wire.TCP(f.From(p.L4)).Seq()+1 != h.next &&
		(c.reset || h.noTextYet() || h.finSeen && c.halves[conntrack.DirOut.Index()].finSeen)
}

// QuotedSeq is the sequence number that the sender in dir knows a segment by, of which
// an ICMP error quotes seq, the receiver's number.
func (c *Conn) QuotedSeq(dir conntrack.Dir, seq uint32) uint32 {
	return c.halves[dir.Index()].toSenderBefore(seq)
}

// observe remembers what a segment says of its sender, and of what its sender has
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

// scale is the window scale of a segment from dir: 0 in a SYN, if not both ends
// have one, and if their SYNs were not seen. (Then windows are passed on as they
// are; they end where they would have but for the few bytes an edit adds.)
func (c *Conn) scale(dir conntrack.Dir, s *segment) uint8 {
	if s.has(wire.TCPSyn) || !c.halves[dir.Index()].hasScale || !c.halves[dir.Opposite().Index()].hasScale {
		return 0
	}
	return c.halves[dir.Index()].scale
}

// synOrRst treats SYN and RST. Text in a SYN (RFC 7413) is left to the sender's
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

// payload treats a segment with text or FIN.
func (c *Conn) payload(dir conntrack.Dir, f *wire.Frame, p *wire.Packet, s *segment, rw Rewriter) Outcome {
	h := &c.halves[dir.Index()]
	if !c.acceptNew(dir, s, rw) {
		return DroppedGap
	}
	if c.refused {
		return DroppedRefused
	}
	end := s.seq + uint32(len(s.payload))
	to := end // of what goes on
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
	case h.firstKnown(end) != end || h.startKnown() && end == h.floor: // all of it arrived long ago: make the receiver say so
		x.seq = h.toReceiver(h.floor) - 1
	case before(h.next, end):
		return DroppedFull
	default:
		return c.answerWithAck(dir, f, p, s)
	}
	rewritten := !x.unchanged()
	if rewritten {
		if p.Len > 0xffff { // with a jumbo option of its own
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

// acceptNew has what is new in a segment judged, its FIN included. False: there is
// text before it that was not seen.
func (c *Conn) acceptNew(dir conntrack.Dir, s *segment, rw Rewriter) bool {
	h := &c.halves[dir.Index()]
	fin := s.has(wire.TCPFin)
	end := s.seq + uint32(len(s.payload))
	switch {
	case c.passthrough && h.held == 0: // what is not looked at may come in any order
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

// renumber puts the segment's numbers into those of its receiver: seq is its
// sequence number there, dirty says that its checksum must be made anew anyway.
func (c *Conn) renumber(dir conntrack.Dir, f *wire.Frame, p *wire.Packet, s *segment, seq uint32, dirty bool) {
	h, o := &c.halves[dir.Index()], &c.halves[dir.Opposite().Index()]
	if s.has(wire.TCPUrg) {
		at := s.tcp.Seq() + uint32(s.tcp.Urgent()) // the last urgent byte, or behind it
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

// windowField is a window as a header says it.
func windowField(window uint32, scale uint8) uint16 { return uint16(min(window>>scale, 0xffff)) }

// answerWithAck turns a segment of which nothing goes on into an ACK to its sender,
// of what its receiver has and of what was kept back for it.
func (c *Conn) answerWithAck(dir conntrack.Dir, f *wire.Frame, p *wire.Packet, s *segment) Outcome {
	h, o := &c.halves[dir.Index()], &c.halves[dir.Opposite().Index()]
	if !h.peerSeen || !s.has(wire.TCPAck) || s.hasTSval && !o.hasTSval {
		return DroppedKept
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
	answer := reply.TCPAck{
		Seq: s.ack, Ack: ack, Window: windowField(window, scale),
		Stamped: s.hasTSval, Stamp: o.tsval, Echo: s.tsval,
	}
	if !reply.Acknowledge(f, p, &answer) {
		return DroppedKept
	}
	return Answered
}
