package wire

import "encoding/binary"

// fragment cuts f, whose outermost IP header is at l3, into fragments that fit
// its MTU: RFC 791 section 3.2, RFC 8200 section 4.5. A half-made checksum is
// finished first, being one of the whole.
func (s *Splitter) fragment(f *Frame, l3 int) bool {
	FinishChecksum(f)
	p := &s.outer
	if ParseIPAt(f, l3, p, Whole) != FlawNone || !mayFragment(f, p) {
		return false
	}
	// Every piece has the bytes before the payload and, over IPv6, a fragment
	// header behind them.
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
		piece, ok := s.take(f, headers+extra+len(chunk))
		if !ok {
			return false
		}
		copy(piece.Bytes(), b[:headers])
		copy(piece.Bytes()[headers+extra:], chunk)
		last := at+size >= len(payload)
		if p.IPv6 {
			sealFragment6(piece.From(p.L3), at, last, s.ident)
		} else {
			sealFragment4(piece.From(p.L3), at, last)
		}
		if !s.enter(&piece) {
			return false
		}
	}
	return true
}

// mayFragment says whether the packet may be cut by us. IPv6 is cut by its
// source alone, which we are of our tunnels' packets (RFC 2473 section 7.1).
func mayFragment(f *Frame, p *Packet) bool {
	if p.IPv6 {
		return f.TunnelLen > 0
	}
	return !IPv4(f.From(p.L3)).DF()
}

// sealFragment4 makes h, a copy of the header of a packet that may be a fragment
// already, that of the part which begins at byte at of its payload.
func sealFragment4(h IPv4, at int, last bool) {
	var flags uint16
	if h.MF() || !last {
		flags = IPv4MF
	}
	if at > 0 {
		blankOptions(h[IPv4Len:h.HeaderLen()])
	}
	h.SetFragment(flags, h.FragmentOffset()+at)
	h.SetTotalLen(uint16(len(h)))
	h.FillChecksum()
}

// sealFragment6 puts a fragment header behind the copied IPv6 header h.
func sealFragment6(h IPv6, at int, last bool, ident uint32) {
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

// blankOptions overwrites with no-operations the IPv4 options that stand only
// in the first fragment, those without the copied flag: RFC 791 section 3.1.
func blankOptions(o []byte) {
	const end, nop, copied = 0, 1, 0x80
	for len(o) > 0 && o[0] != end {
		n := 1
		if o[0] != nop {
			if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
				return
			}
			n = int(o[1])
		}
		if o[0]&copied == 0 {
			for i := range o[:n] {
				o[i] = nop
			}
		}
		o = o[n:]
	}
}
