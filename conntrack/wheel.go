package conntrack

// The wheel moves in steps of 64 ms (a listing shows whole seconds). The slots of its
// four levels are 64 ms, 16.4 s, 70 min and 12.4 days long, the whole is 8.7 years.
const (
	wheelStep   Tick = 1 << wheelShift
	wheelShift       = 6
	wheelBits        = 8
	wheelSlots       = 1 << wheelBits
	wheelLevels      = 4

	inSlot  = 1 << 31                  // in Conn.prev: first in the slot of this number
	dueSlot = wheelLevels * wheelSlots // the first of wheelLevels lists of due conns
)

// wheel keeps the conns of one worker by deadline. Only that worker touches the wheel
// and the next and prev of its conns. Packets move deadlines without touching the wheel.
// So a conn is in the slot of a deadline that it once had. That is never later than the
// present one, unless the conn is in the worker's inbox.
type wheel struct {
	conns []Conn
	step  int64 // all slots up to this step were emptied
	count int
	heads [dueSlot + wheelLevels]Ref
}

// put places a conn that is in no slot by a deadline.
func (w *wheel) put(ref Ref, deadline Tick) {
	step := max(int64((deadline+wheelStep-1)>>wheelShift), w.step+1)
	level, ahead := 0, step-w.step
	for ahead >= wheelSlots && level < wheelLevels-1 {
		level, ahead = level+1, ahead>>wheelBits
	}
	i := int(step >> (level * wheelBits) & (wheelSlots - 1))
	w.link(ref, level*wheelSlots+i)
	w.count++
}

func (w *wheel) link(ref Ref, slot int) {
	c, head := &w.conns[ref], w.heads[slot]
	c.next, c.prev = head, inSlot|uint32(slot)
	if head != 0 {
		w.conns[head].prev = uint32(ref)
	}
	w.heads[slot] = ref
}

// take removes a conn from its slot, if it is in one.
func (w *wheel) take(ref Ref) {
	c := &w.conns[ref]
	switch {
	case c.prev == 0:
		return
	case c.prev&inSlot != 0:
		w.heads[c.prev&^inSlot] = c.next
	default:
		w.conns[c.prev].next = c.next
	}
	if c.next != 0 {
		w.conns[c.next].prev = c.prev
	}
	c.next, c.prev = 0, 0
	w.count--
}

// due takes the next conn whose slot is due at now; 0: none is left. Each step and each
// conn takes one from the budget.
func (w *wheel) due(now Tick, budget *int) Ref {
	end := int64(now >> wheelShift)
	for *budget > 0 {
		for level := range wheelLevels {
			if ref := w.heads[dueSlot+level]; ref != 0 {
				*budget--
				w.take(ref)
				return ref
			}
		}
		if w.step >= end {
			return 0
		}
		if w.count == 0 {
			w.step = end
			return 0
		}
		*budget--
		w.advance()
	}
	return 0
}

// advance moves on by one step: on every level, the slot that begins now is due.
func (w *wheel) advance() {
	w.step++
	for level := range wheelLevels {
		shift := level * wheelBits
		if w.step&(1<<shift-1) != 0 {
			return
		}
		slot := level*wheelSlots + int(w.step>>shift&(wheelSlots-1))
		if ref := w.heads[slot]; ref != 0 {
			w.heads[dueSlot+level], w.heads[slot] = ref, 0
			w.conns[ref].prev = inSlot | uint32(dueSlot+level)
		}
	}
}
