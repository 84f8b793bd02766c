package wire

import "math/rand/v2"

// Bounds of a Splitter. The arena holds the pieces of a 64 KiB super-frame cut
// as small as 48 bytes (Linux's smallest MSS, tcp_min_snd_mss) with the longest
// headers, or of 512 KiB (the largest gso_max_size) cut for Ethernet.
const (
	arenaSize = 1 << 20
	maxPieces = 2048
)

// Splitter cuts frames that are too long for their way out, as Frame.MTU asks:
// super-frames into TCP segments or UDP datagrams, other frames into IP
// fragments. One goroutine owns it; it allocates nothing after NewSplitter.
type Splitter struct {
	arena  []byte
	used   int // bytes of arena that hold pieces
	pieces []Frame
	// ident is the last identification given to an IPv6 datagram. It begins at
	// random: other workers send fragments by the same tunnels (RFC 7739 section 5).
	ident uint32

	inner, outer Packet // scratch
}

// NewSplitter makes a Splitter.
func NewSplitter() *Splitter {
	return &Splitter{arena: make([]byte, arenaSize), pieces: make([]Frame, 0, maxPieces), ident: rand.Uint32()}
}

// Reset takes back the memory of all pieces handed out so far.
func (s *Splitter) Reset() { s.used = 0 }

// Split returns the frames to send instead of f: f itself if its IP packet is
// not longer than f.MTU and it is no super-frame, or if f.MTU is 0. Every other
// piece is a finished frame in the splitter's memory, with Headroom bytes in
// front. The slice is good until the next Split, the bytes until Reset.
//
// False if there is no room for the pieces, which Reset can mend, or if f must
// not or cannot be split: an IPv4 packet with DF (the outer one, if there is a
// tunnel), an IPv6 packet that is not our own tunnel's, an MTU smaller than the
// headers. f may then have had its checksum finished or its jumbo option taken
// out, and is as good as before.
func (s *Splitter) Split(f *Frame) (pieces []Frame, ok bool) {
	s.pieces = s.pieces[:0]
	l3, _, ok := linkHeader(f.Bytes())
	if !ok {
		return nil, false
	}
	before := s.used
	switch {
	case f.MTU == 0:
		s.pieces = append(s.pieces, *f)
	case f.segmentable():
		ok = s.segment(f, l3)
	default:
		ok = s.add(f, l3)
	}
	if !ok {
		s.used = before
		return nil, false
	}
	return s.pieces, true
}

// segmentable says whether f is a super-frame that stands for many packets;
// GSOUDP stands for the fragments of one.
func (f *Frame) segmentable() bool {
	t := f.Offload.GSOType &^ GSOECN
	return t != GSONone && t != GSOUDP
}

// add enters a frame among the pieces, in fragments if it is too long.
func (s *Splitter) add(f *Frame, l3 int) bool {
	if f.Len()-l3 > int(f.MTU) {
		return s.fragment(f, l3)
	}
	return s.append(f)
}

// append makes f the next result of Split.
func (s *Splitter) append(f *Frame) bool {
	if len(s.pieces) == cap(s.pieces) {
		return false
	}
	s.pieces = append(s.pieces, *f)
	return true
}

// take gets memory for a piece of f of n bytes; it goes where f goes.
func (s *Splitter) take(f *Frame, n int) (piece Frame, ok bool) {
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

// segment cuts a super-frame whose outermost IP header is at l3 into packets
// with at most GSOSize bytes of payload. TCP segments are made smaller if the
// MTU wants it; datagrams keep their bounds and are fragmented.
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
		piece, ok := s.take(f, headers+len(chunk))
		if !ok {
			return false
		}
		copy(piece.Bytes(), b[:headers])
		copy(piece.Bytes()[headers:], chunk)
		if p.Proto == ProtoTCP {
			segmentTCP(TCP(piece.From(p.L4)), at, at+size >= len(payload))
		}
		setLengths(&piece, p, i)
		FillChecksum(&piece, p)
		if f.TunnelLen > 0 {
			s.sealOuter(&piece, l3, i)
		}
		if !s.add(&piece, l3) {
			return false
		}
	}
	return true
}

// segmentTCP makes the TCP header of a super-frame that of the segment whose
// payload begins at byte at: it ends what the last one ends, and only the first
// answers a congestion mark (RFC 3168 section 6.1.2).
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

// setLengths gives the packet of p, now the i-th piece up to the end of frame f,
// its lengths and identification; its transport checksum is still to be filled in.
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

// sealOuter gives the tunnel headers before piece i their lengths, identification
// and checksums.
func (s *Splitter) sealOuter(f *Frame, l3, i int) {
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

// JumboLen is how many bytes of jumbo payload option (RFC 2675 section 2) the
// packet of p has. The kernel puts it into super-frames of more than 64 KiB, alone
// in a hop-by-hop header right behind the IPv6 header; their pieces have none.
func JumboLen(f *Frame, p *Packet) int { return jumboLen(f.Bytes(), int(p.L3)) }

// jumboLen is JumboLen of the packet at off of frame b.
func jumboLen(b []byte, off int) int {
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

// dropJumbo takes the jumbo payload option out of the IPv6 packet at off.
func dropJumbo(f *Frame, off int) {
	b := f.Bytes()
	if n := jumboLen(b, off); n > 0 {
		IPv6(b[off:]).SetNextHeader(b[off+IPv6Len])
		copy(b[n:], b[:off+IPv6Len])
		f.Off += int32(n)
	}
}
