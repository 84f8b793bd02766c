package wire

import "math/rand/v2"

// Bounds of a Splitter. The arena holds the segments of a 64 KiB GSO frame with MinMSS
// and the longest headers. It also holds those of 512 KiB, the largest gso_max_size,
// for an MTU of 1500.
const (
	arenaSize = 1 << 20
	maxResult = 2048
)

// Splitter splits frames that are longer than Frame.MTU: GSO frames into TCP segments
// or UDP datagrams, other frames into IP fragments. One goroutine owns it. It does not
// allocate after NewSplitter.
type Splitter struct {
	arena  []byte
	used   int // bytes of arena in use
	result []Frame
	// ident is the last identification of an IPv6 datagram. The first one is random,
	// because other workers send fragments in the same tunnels (RFC 7739 section 5).
	ident uint32

	inner, outer Packet // scratch
}

// NewSplitter makes a Splitter.
func NewSplitter() *Splitter {
	return &Splitter{arena: make([]byte, arenaSize), result: make([]Frame, 0, maxResult), ident: rand.Uint32()}
}

// Reset frees the memory of all frames that Split returned.
func (s *Splitter) Reset() { s.used = 0 }

// Split returns the frames to send instead of f. That is f itself if f.MTU is 0, or if
// it is not GSO and its IP packet is not longer than f.MTU. Any other frame is
// complete, in the splitter's memory, with Headroom bytes of headroom. The slice is
// valid until the next Split, and its bytes until Reset.
//
// Split returns false if its memory is full, which Reset frees, or if it cannot split f:
//   - an IPv4 packet with DF (in a tunnel, the DF of the outer header)
//   - an IPv6 packet that is not the outer one of a tunnel
//   - an MTU smaller than the headers
//
// Then f is valid, but its checksum may be complete and its jumbo payload option gone.
func (s *Splitter) Split(f *Frame) (result []Frame, ok bool) {
	s.result = s.result[:0]
	l3, _, ok := linkHeader(f.Bytes())
	if !ok {
		return nil, false
	}
	before := s.used
	switch {
	case f.MTU == 0:
		s.result = append(s.result, *f)
	case f.hasSegments():
		ok = s.segment(f, l3)
	default:
		ok = s.appendFragmented(f, l3)
	}
	if !ok {
		s.used = before
		return nil, false
	}
	return s.result, true
}

// hasSegments reports whether f is a GSO frame of several packets. GSOUDP is one packet
// to be fragmented.
func (f *Frame) hasSegments() bool {
	t := f.Offload.GSOType &^ GSOECN
	return t != GSONone && t != GSOUDP
}

// appendFragmented appends f to the result, in fragments if it is too long.
func (s *Splitter) appendFragmented(f *Frame, l3 int) bool {
	if f.Len()-l3 > int(f.MTU) {
		return s.fragment(f, l3)
	}
	return s.append(f)
}

// append appends f to the result. It returns false if the result is full.
func (s *Splitter) append(f *Frame) bool {
	if len(s.result) == cap(s.result) {
		return false
	}
	s.result = append(s.result, *f)
	return true
}

// alloc returns a frame with n bytes of memory and the destination of f.
func (s *Splitter) alloc(f *Frame, n int) (part Frame, ok bool) {
	if n < 0 || len(s.arena)-s.used < Headroom+n {
		return Frame{}, false
	}
	start := s.used
	s.used += Headroom + n
	return Frame{
		Buf: s.arena[start:s.used:s.used], Off: Headroom, End: int32(Headroom + n),
		In: f.In, Out: f.Out, MTU: f.MTU, TunnelLen: f.TunnelLen, TunnelCsum: f.TunnelCsum,
	}, true
}

// segment splits a GSO frame into packets with at most GSOSize bytes of payload. l3 is
// the offset of the outermost IP header. TCP segments are smaller if the MTU needs it.
// Datagrams keep their boundaries, and are fragmented.
func (s *Splitter) segment(f *Frame, l3 int) bool {
	p := &s.inner
	dropJumbo(f, l3+int(f.TunnelLen))
	if ParseIPAt(f, l3+int(f.TunnelLen), p, Whole) != FlawNone || p.Fragment != FragmentNone {
		return false
	}
	headers, size := int(p.L4), int(f.Offload.GSOSize)
	switch p.Proto {
	case ProtoTCP:
		headers += TCP(f.From(p.L4)).HeaderLen()
		size = min(size, int(f.MTU)-(headers-l3))
	case ProtoUDP:
		headers += UDPLen
	default:
		return false
	}
	if size <= 0 {
		return false
	}
	b := f.Bytes()[:int(p.L3)+int(p.Len)]
	payload := b[headers:]
	for i, at := 0, 0; at == 0 || at < len(payload); i, at = i+1, at+size {
		chunk := payload[at:min(at+size, len(payload))]
		seg, ok := s.alloc(f, headers+len(chunk))
		if !ok {
			return false
		}
		copy(seg.Bytes(), b[:headers])
		copy(seg.Bytes()[headers:], chunk)
		if p.Proto == ProtoTCP {
			segmentTCP(TCP(seg.From(p.L4)), at, at+size >= len(payload))
		}
		setLengths(&seg, p, i)
		FillChecksum(&seg, p)
		if f.TunnelLen > 0 {
			s.finishOuter(&seg, l3, i)
		}
		if !s.appendFragmented(&seg, l3) {
			return false
		}
	}
	return true
}

// segmentTCP changes h, the TCP header of a GSO frame, to that of the segment whose
// payload begins at byte at. Only the last segment has FIN and PSH, and only the first
// has CWR (RFC 3168 section 6.1.2).
func segmentTCP(h TCP, at int, last bool) {
	h.SetSeq(h.Seq() + uint32(at))
	flags := h.Flags()
	if !last {
		flags &^= TCPFin | TCPPsh
	}
	if at > 0 {
		flags &^= TCPCwr
	}
	h.SetFlags(flags)
}

// setLengths sets the lengths and the identification of packet p, which is segment i and
// ends with frame f. The transport checksum is not set.
func setLengths(f *Frame, p *Packet, i int) {
	p.Len = uint32(f.Len() - int(p.L3))
	if h := f.From(p.L3); p.IPv6 {
		IPv6(h).SetPayloadLen(uint16(p.Len) - IPv6Len)
	} else {
		IPv4(h).SetTotalLen(uint16(p.Len))
		IPv4(h).SetID(IPv4(h).ID() + uint16(i))
		IPv4(h).FillChecksum()
	}
	if t := f.From(p.L4); p.Proto == ProtoUDP {
		UDP(t).SetLen(uint16(len(t)))
	}
}

// finishOuter sets the lengths, identification and checksums of the tunnel headers of
// segment i.
func (s *Splitter) finishOuter(f *Frame, l3, i int) {
	p := &s.outer
	h := f.From(uint16(l3))
	*p = Packet{L3: uint16(l3), IPv6: h[0]>>4 == 6}
	if p.IPv6 {
		p.Proto, p.L4 = IPv6(h).NextHeader(), uint16(l3+IPv6Len)
	} else {
		p.Proto, p.L4 = IPv4(h).Protocol(), uint16(l3+IPv4(h).HeaderLen())
	}
	setLengths(f, p, i)
	FillTunnelChecksum(f, p)
}

// JumboLen returns the length in bytes of the jumbo payload option (RFC 2675 section 2)
// of the packet at off of frame b. The kernel puts it into GSO frames of more than 64
// KiB, alone in a hop-by-hop header directly after the IPv6 header. Their segments have
// none.
func JumboLen(b []byte, off int) int {
	const headerLen, jumboOption = 8, 0xc2
	if len(b) < off+IPv6Len+headerLen || b[off]>>4 != 6 {
		return 0
	}
	h, x := IPv6(b[off:]), b[off+IPv6Len:]
	if h.NextHeader() != ProtoHopByHop || h.PayloadLen() != 0 || x[1] != 0 || x[2] != jumboOption {
		return 0
	}
	return headerLen
}

// dropJumbo removes the jumbo payload option from the IPv6 packet at off.
func dropJumbo(f *Frame, off int) {
	b := f.Bytes()
	if n := JumboLen(b, off); n > 0 {
		IPv6(b[off:]).SetNextHeader(b[off+IPv6Len])
		copy(b[n:], b[:off+IPv6Len])
		f.Off += int32(n)
	}
}
