package stream

import "uvs/dataplane/wire"

// Dir says which end sent a segment.
type Dir uint8

const (
	FromClient Dir = iota
	FromServer
)

// Opposite is the other direction.
func (d Dir) Opposite() Dir { return d ^ 1 }

// Bounds of what one direction remembers.
const (
	// MaxUnit is the longest text a Rewriter can wait for, or replace, or put in
	// place of another: a line.
	MaxUnit = 256
	// maxText holds the new texts of edits and the text kept back.
	maxText = 2 * MaxUnit
	// maxEdits are the edits not yet acknowledged by the receiver.
	maxEdits = 4
)

// Conn is what is remembered of one TCP connection: some 1.2 KiB without
// pointers. The zero value is a connection of which nothing was seen yet, its
// SYN comes first; one that is met in the middle is followed from the first
// segment seen, as if a line began there. Whoever uses it must see to it that
// only one frame is processed with it at a time.
type Conn struct {
	half [2]half // by the Dir that sends
	// blind: the text is no longer looked at, only numbers are shifted.
	blind bool
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
// bytes, 0 for none; it stays the Rewriter's and is copied before the next call.
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
	Judge(dir Dir, text []byte, last bool) Judgement
}

// Process treats a segment of the connection on its way through the director:
// f is the frame as it came in, not yet translated, p what Parse found in it.
// The frame is changed in place; text that grew moves the headers back into the
// frame's headroom, so f.Off may change (offsets of p stay right). Checksums,
// half-made ones and super-frames are kept right. A segment whose checksum is
// wrong is dropped and changes nothing.
func (c *Conn) Process(dir Dir, f *wire.Frame, p *wire.Packet, rw Rewriter) Outcome {
	return Passed
}

// Idle says whether the connection needs no more help: its text is left alone
// and its numbers were never, or are no longer, shifted. Process would pass
// every segment as it is.
func (c *Conn) Idle() bool { return false }

// half is one direction.
type half struct {
	next uint32
}
