package wire

import "encoding/binary"

// fragment cuts f into IP fragments that fit its MTU: RFC 791 section 3.2, RFC
// 8200 section 4.5. l3 is the offset of the outermost IP header. A partial
// checksum covers the whole packet, and is completed first.
func (s *Splitter) fragment(f *Frame, l3 int) bool {
	FinishChecksum(f)
	p := &s.outer
	if ParseIPAt(f, l3, p, Whole) != FlawNone || !mayFragment(f, p) {
		return false
	}
	// Every fragment begins with the bytes before the payload; over IPv6 a
	// fragment header follows.
	headers, extra := l3+IPv6Len, fragmentLen
	if !p.IPv6 {
		headers, extra = l3+IPv4(f.From(p.L3)).HeaderLen(), 0
	}
	size := (int(f.MTU) + l3 - headers - extra) &^ 7
	if size <= 0 {
		return false
	}
	s.ident++
	b := f.Bytes()[:l3+int(p.Len)]
	payload := b[headers:]
	for at := 0; at < len(payload); at += size {
		chunk := payload[at:min(at+size, len(payload))]
		part, ok := s.alloc(f, headers+extra+len(chunk))
		if !ok {
			return false
		}
		copy(part.Bytes(), b[:headers])
		copy(part.Bytes()[headers+extra:], chunk)
		last := at+size >= len(payload)
		if p.IPv6 {
			finishFragment6(part.From(p.L3), at, last, s.ident)
		} else {
			finishFragment4(part.From(p.L3), at, last)
		}
		if !s.append(&part) {
			return false
		}
	}
	return true
}

// mayFragment reports whether we may fragment the packet. Only the source of an IPv6
// packet may, and we are the source of a tunnel's outer packet (RFC 2473 section 7.1).
func mayFragment(f *Frame, p *Packet) bool {
	if p.IPv6 {
		return f.TunnelLen > 0
	}
	return !IPv4(f.From(p.L3)).DF()
}

// finishFragment4 completes h, the header of a fragment: a copy of the packet's header.
// The packet may be a fragment itself. The new one begins at byte at of its payload.
func finishFragment4(h IPv4, at int, last bool) {
	var flags uint16
	if h.MF() || !last {
		flags = IPv4MF
	}
	if at > 0 {
		clearFirstOptions(h[IPv4Len:h.HeaderLen()])
	}
	h.SetFragment(flags, h.FragmentOffset()+at)
	h.SetTotalLen(uint16(len(h)))
	h.FillChecksum()
}

// finishFragment6 writes the fragment header that follows h, a copy of the packet's
// IPv6 header.
func finishFragment6(h IPv6, at int, last bool, ident uint32) {
	x := h[IPv6Len:]
	x[0], x[1] = h.NextHeader(), 0
	word := uint16(at)
	if !last {
		word |= fragmentMore
	}
	binary.BigEndian.PutUint16(x[fragmentOffset:], word)
	binary.BigEndian.PutUint32(x[fragmentID:], ident)
	h.SetNextHeader(ProtoFragment)
	h.SetPayloadLen(uint16(len(x)))
}

// clearFirstOptions overwrites the IPv4 options that belong in the first fragment
// only with no-operations: those without the copied flag.
func clearFirstOptions(o []byte) {
	for n := OptionLen(o); n > 0; n = OptionLen(o) {
		if o[0]&optionCopied == 0 {
			for i := range o[:n] {
				o[i] = OptionNop
			}
		}
		o = o[n:]
	}
}
