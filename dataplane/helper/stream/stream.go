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
	half    [2]half // by the Dir that sends
	blind   bool    // the text is no longer looked at, only numbers are shifted
	refused bool    // nothing goes on any more but resets
	reset   bool    // a reset was seen
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
	c.note(dir, &s)
	if s.has(wire.TCPSyn | wire.TCPRst) {
		return c.control(dir, f, p, &s)
	}
	if c.refused {
		return DroppedRefused
	}
	h := &c.half[dir.Index()]
	if len(s.payload) == 0 && !s.has(wire.TCPFin) {
		c.renumber(dir, f, p, &s, h.forth(s.seq), false)
		return Passed
	}
	return c.text(dir, f, p, &s, rw)
}

// Anew says whether the segment, a SYN, begins another connection than the one
// remembered: that is over, or was only asked for. c must then be the zero value
// before the segment is processed.
func (c *Conn) Anew(dir conntrack.Dir, f *wire.Frame, p *wire.Packet) bool {
	h := &c.half[conntrack.DirIn.Index()]
	return dir == conntrack.DirIn && p.TCPFlags&(wire.TCPSyn|wire.TCPAck|wire.TCPRst) == wire.TCPSyn &&
		p.Fragment == wire.FragmentNone && h.seen && wire.TCP(f.From(p.L4)).Seq()+1 != h.next &&
		(c.reset || h.untouched() || h.ended && c.half[conntrack.DirOut.Index()].ended)
}

// Quoted is the sequence number that the sender in dir knows a segment by, of which
// an ICMP error quotes seq, the receiver's number.
func (c *Conn) Quoted(dir conntrack.Dir, seq uint32) uint32 {
	return c.half[dir.Index()].backRight(seq)
}

// note remembers what a segment says of its sender, and of what its sender has
// received.
func (c *Conn) note(dir conntrack.Dir, s *segment) {
	h, o := &c.half[dir.Index()], &c.half[dir.Opposite().Index()]
	switch {
	case s.has(wire.TCPRst):
		c.reset = true
		return
	case s.has(wire.TCPSyn):
		if !h.seen || h.untouched() {
			h.begin(s.seq)
			h.mss, h.scale, h.scaled, h.greeted = s.mss, s.scale, s.scaled, true
		}
	case !h.seen:
		h.begin(s.seq)
	}
	if s.stamped {
		if !h.stamped {
			h.stamp = s.stamp
		}
		h.stamp, h.stamped = later(h.stamp, s.stamp), true
	}
	if s.has(wire.TCPAck) {
		if !o.seen {
			o.begin(s.ack)
		}
		o.hear(s.ack, uint32(s.tcp.Window())<<c.scale(dir, s))
	}
}

// scale is the window scale of a segment from dir: 0 in a SYN, if not both ends
// have one, and if their SYNs were not seen. (Then windows are passed on as they
// are; they end where they would have but for the few bytes an edit adds.)
func (c *Conn) scale(dir conntrack.Dir, s *segment) uint8 {
	if s.has(wire.TCPSyn) || !c.half[dir.Index()].scaled || !c.half[dir.Opposite().Index()].scaled {
		return 0
	}
	return c.half[dir.Index()].scale
}

// control treats SYN and RST. Text in a SYN (RFC 7413) is left to the sender's
// retransmission.
func (c *Conn) control(dir conntrack.Dir, f *wire.Frame, p *wire.Packet, s *segment) Outcome {
	seq := c.half[dir.Index()].forth(s.tcp.Seq())
	if !s.has(wire.TCPSyn) || len(s.payload) == 0 {
		c.renumber(dir, f, p, s, seq, false)
		return Passed
	}
	new(plan).put(f, p, s, &c.half[dir.Index()])
	c.renumber(dir, f, p, s, seq, true)
	return Shortened
}

// text treats a segment with text or FIN.
func (c *Conn) text(dir conntrack.Dir, f *wire.Frame, p *wire.Packet, s *segment, rw Rewriter) Outcome {
	h := &c.half[dir.Index()]
	if !c.take(dir, s, rw) {
		return DroppedGap
	}
	if c.refused {
		return DroppedRefused
	}
	end := s.seq + uint32(len(s.payload))
	to := end // of what goes on
	if before(h.line(), end) {
		to = h.line()
	}
	if h.edited == 0 && to == end && s.seq == h.from(s.seq) && !before(h.next, s.end()) {
		c.renumber(dir, f, p, s, h.forth(s.seq), false)
		return Passed
	}

	var x plan
	x.bound(f, p, s, c.half[dir.Opposite().Index()].mss)
	x.lay(h, s.seq, h.from(s.seq), to)
	fin := s.has(wire.TCPFin) && !x.full && !before(h.next, s.end())
	switch {
	case x.length > 0:
	case x.full:
		return DroppedRoom
	case fin:
		x.seq = h.forth(end)
	case h.from(end) != end || h.bounded() && end == h.floor: // all of it arrived long ago: make the receiver say so
		x.seq = h.forth(h.floor) - 1
	case before(h.next, end):
		return DroppedFull
	default:
		return c.acknowledge(dir, f, p, s)
	}
	rewritten := !x.same()
	if rewritten {
		if p.Len > 0xffff { // with a jumbo option of its own
			return DroppedRoom
		}
		x.put(f, p, s, h)
	}
	outcome := Passed
	if to != end || x.full {
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

// take has what is new in a segment judged, its FIN included. False: there is
// text before it that was not seen.
func (c *Conn) take(dir conntrack.Dir, s *segment, rw Rewriter) bool {
	h := &c.half[dir.Index()]
	fin := s.has(wire.TCPFin)
	end := s.seq + uint32(len(s.payload))
	switch {
	case c.blind && h.held == 0: // what is not looked at may come in any order
		if before(h.next, s.end()) {
			h.next, h.ended = s.end(), fin
		}
	case before(h.next, s.seq):
		return false
	case h.ended || before(end, h.next):
	default:
		c.advance(dir, s.payload[h.next-s.seq:], fin, rw)
		if fin && h.next == end && h.held == 0 {
			h.next, h.ended = h.next+1, true
		}
	}
	return true
}

// renumber puts the segment's numbers into those of its receiver: seq is its
// sequence number there, dirty says that its checksum must be made anew anyway.
func (c *Conn) renumber(dir conntrack.Dir, f *wire.Frame, p *wire.Packet, s *segment, seq uint32, dirty bool) {
	h, o := &c.half[dir.Index()], &c.half[dir.Opposite().Index()]
	if s.has(wire.TCPUrg) {
		at := s.tcp.Seq() + uint32(s.tcp.Urgent()) // the last urgent byte, or behind it
		s.tcp.SetUrgent(uint16(max(0, min(int32(h.forth(at)-seq), 0xffff))))
		dirty = true
	}
	if s.tcp.Seq() != seq {
		s.tcp.SetSeq(seq)
		dirty = true
	}
	if s.has(wire.TCPAck) && (o.folded || !o.plain()) {
		ack := o.back(s.ack)
		s.tcp.SetAck(ack)
		if h.greeted && o.greeted {
			scale := c.scale(dir, s)
			edge := s.ack + uint32(s.tcp.Window())<<scale
			s.tcp.SetWindow(stated(o.window(ack, edge), scale))
		}
		s.mapSACK(o)
		dirty = true
	}
	if dirty {
		wire.FillChecksum(f, p)
	}
}

// stated is a window as a header says it.
func stated(window uint32, scale uint8) uint16 { return uint16(min(window>>scale, 0xffff)) }

// acknowledge turns a segment of which nothing goes on into an ACK to its sender,
// of what its receiver has and of what was kept back for it.
func (c *Conn) acknowledge(dir conntrack.Dir, f *wire.Frame, p *wire.Packet, s *segment) Outcome {
	h, o := &c.half[dir.Index()], &c.half[dir.Opposite().Index()]
	if !h.heard || !s.has(wire.TCPAck) || s.stamped && !o.stamped {
		return DroppedKept
	}
	scale := uint8(0)
	if h.scaled && o.scaled {
		scale = o.scale
	}
	h.fold()
	ack, window := h.back(h.acked), h.edge-h.acked
	if h.greeted && o.greeted {
		window = h.window(ack, h.edge)
	}
	answer := reply.TCPAck{
		Seq: s.ack, Ack: ack, Window: stated(window, scale),
		Stamped: s.stamped, Stamp: o.stamp, Echo: s.stamp,
	}
	if !reply.Acknowledge(f, p, &answer) {
		return DroppedKept
	}
	return Answered
}
