package director

import (
	"runtime/debug"
	"slices"

	"uvs/dataplane/wire"
)

// phase is a part of Process. Those up to phaseDecide treat frames one by one, except for
// phaseLookup.
type phase uint8

const (
	phaseParse phase = iota
	phaseQuery
	phaseLookup
	phaseDecide
	phaseWaiting
	phaseUnresolved
	phaseQueued
	phaseTag
	phaseEnd
	phaseOver
)

var phaseNames = [...]string{
	"parse", "query", "lookup", "decide", "release waiting", "resume unresolved", "send fragments", "tag", "upkeep",
}

// progress is how far Process is: what a panic leaves is done after it.
type progress struct {
	phase phase
	at    int // the frame, in steps that treat frames one by one
	more  bool
}

func (b *progress) next() { b.phase, b.at = b.phase+1, 0 }

// Fault is a panic while a batch was processed.
type Fault struct {
	Step  string
	Value any
	Stack []byte
	// Frame is a copy of the frame that was decided about, from the Ethernet header on, as
	// it was then: it may have been rewritten in part. nil: the step has no frame.
	Frame []byte
}

// maxFaultFrame is how many bytes of a frame a Fault has: all headers that the director
// reads, and the text that a helper may have read.
const maxFaultFrame = 512

// Faults are the panics of the last Process; valid until the next.
func (d *Director) Faults() []Fault { return d.faults }

// recoverFault recovers from a panic. The frame that was being treated is dropped. Where
// none was, the rest of the step is left out. The next advance goes on from there.
//
// What the panic left half done is made safe. A helper's session is unlocked, and its conn
// ends, because its text may be out of step. A fragment's flow is unlocked (package frag
// defers that). A queued frame that was being treated has left its queue. The epoch of the
// batch is open until End, or until the next Begin if End panicked. A panic inside
// conntrack may leave a conn that never expires; eviction and a flush end it. That, and
// faults of the upkeep, are why a worker bears only so many (dataplane.Worker).
func (d *Director) recoverFault(frames []wire.Frame, verdicts []Verdict) {
	value := recover()
	if value == nil {
		return
	}
	b := &d.progress
	d.faults = append(d.faults, Fault{
		Step: phaseNames[b.phase], Value: value, Stack: debug.Stack(), Frame: d.faultFrame(frames),
	})
	switch b.phase {
	case phaseParse, phaseQuery:
		// A bad frame without a flaw: see flawVerdicts.
		p := &d.packets[b.at]
		p.frame, p.Packet = &frames[b.at], wire.Packet{Kind: wire.KindBad}
		p.query.Ref, p.query.Dir, p.frame.Out = 0, 0, wire.NoPort
		b.at++
	case phaseDecide:
		verdicts[b.at], frames[b.at].Out = DroppedFault, wire.NoPort
		b.at++
	case phaseLookup:
		for i := range frames {
			verdicts[i] = DroppedFault
		}
		b.next()
		b.next() // nothing is left to decide
	case phaseTag:
		for i := range frames {
			if frames[i].Out != wire.NoPort {
				verdicts[i], frames[i].Out = DroppedFault, wire.NoPort
			}
		}
		b.next()
	default:
		b.next()
	}
	if h := &d.helper; h.locked != 0 {
		d.conns.Expire(h.ref)
		d.conns.UnlockSession(h.ref, h.locked)
		h.locked = 0
	}
}

// faultFrame returns a copy of the frame that was being treated.
func (d *Director) faultFrame(frames []wire.Frame) []byte {
	var f *wire.Frame
	switch b := &d.progress; b.phase {
	case phaseParse, phaseQuery, phaseDecide:
		f = &frames[b.at]
	case phaseWaiting, phaseUnresolved, phaseQueued:
		f = &d.released.frames[min(d.released.n, maxReleased-1)]
	default:
		return nil
	}
	start, end := max(f.Off, 0), min(f.End, int32(len(f.Buf)), f.Off+maxFaultFrame)
	if start >= end {
		return nil
	}
	return slices.Clone(f.Buf[start:end])
}
