package stream

import "uvs/conntrack"

// judgeAll hands new text, which begins at next, to the Rewriter. If last is set, the
// FIN follows the text. It stops where memory runs out; the rest is not judged.
func (c *Conn) judgeAll(dir conntrack.Dir, text []byte, last bool, rw Rewriter) {
	h := &c.halves[dir.Index()]
	for len(text) > 0 || last && h.held > 0 {
		switch {
		case c.passthrough && h.held == 0:
			h.next += uint32(len(text))
			return
		case h.numEdits == maxEdits || int(h.used)+MaxUnit > maxText: // no room for one more unit
			return
		case c.passthrough:
			h.pass(int(h.held))
			continue
		}
		n := c.judgeUnit(dir, text, last, rw)
		if c.refused {
			return
		}
		text = text[n:]
	}
}

// judgeUnit asks the Rewriter about the held text and the text after it, and does what
// it decides. It returns how many bytes of text are settled.
func (c *Conn) judgeUnit(dir conntrack.Dir, text []byte, last bool, rw Rewriter) int {
	h := &c.halves[dir.Index()]
	unit := text[:min(len(text), MaxUnit)]
	if h.held > 0 {
		whole := h.text[h.used : h.used+MaxUnit]
		unit = whole[:int(h.held)+copy(whole[h.held:], text)]
	}
	last = len(unit) == MaxUnit || last && len(unit) == int(h.held)+len(text)
	j := rw.Judge(dir, unit, last)
	n := j.N
	if n < 1 || n > len(unit) || j.Do == More {
		n = len(unit)
	}
	switch {
	case j.Do == More && !last:
		return h.retain(unit)
	case j.Do == Leave:
		c.passthrough = true
		return 0
	case j.Do == Refuse || j.Do == Replace && !h.fits(n, len(j.New)):
		c.refused = true
		return 0
	case j.Do == Replace:
		return h.replace(n, j.New)
	}
	return h.pass(n)
}

// retain holds unit back: the held text and all of the text after it. It returns how many
// bytes of the text that is.
func (h *half) retain(unit []byte) int {
	copy(h.text[h.used:], unit)
	n := len(unit) - int(h.held)
	h.held = uint16(len(unit))
	h.next += uint32(n)
	return n
}

// pass lets the first n bytes of the held text and the text after it through unchanged,
// and returns how many bytes of the text those are. If some were held back, h.text
// contains all n, and they become an edit.
func (h *half) pass(n int) int {
	if h.held == 0 {
		h.next += uint32(n)
		return n
	}
	return h.addEdit(n, n)
}

// fits reports whether size bytes can replace the first n.
func (h *half) fits(n, size int) bool {
	return size <= MaxUnit && int(h.used)+size+max(0, int(h.held)-n) <= maxText
}

// replace is pass with other text in place of the n bytes. The text must fit.
func (h *half) replace(n int, text []byte) int {
	if rest := int(h.held) - n; rest > 0 {
		at := int(h.used) + n
		copy(h.text[int(h.used)+len(text):], h.text[at:at+rest])
	}
	copy(h.text[h.used:], text)
	return h.addEdit(n, len(text))
}

// addEdit records that the receiver gets the first old bytes of the held text and the
// text after it as the new bytes that are in h.text.
func (h *half) addEdit(old, new int) int {
	kept := min(old, int(h.held))
	h.edits[h.numEdits] = edit{start: h.heldFrom(), old: uint16(old), new: uint16(new), ackedEarly: uint16(kept)}
	h.numEdits++
	h.used += uint16(new)
	h.held -= uint16(kept)
	h.next += uint32(old - kept)
	return old - kept
}
