package stream

import (
	"uvs/dataplane/wire"
	"uvs/fwd"
)

// linkHeadroom is the headroom that is left to the link, in bytes: a virtio_net_hdr of
// 10 bytes, rounded up.
const linkHeadroom = 16

// A segment that was not longer before grows to at most what every path carries (RFC
// 9293 section 3.7.1): its sender knows the path MTU, the director does not.
const (
	safeMSS4 = 536
	safeMSS6 = 1220
)

// piece is a part of a segment's new payload: n bytes at offset at, either of the old
// payload or of half.text.
type piece struct {
	at, n  int
	edited bool
}

// plan describes a segment's new payload before it is written.
type plan struct {
	pieces     [2*maxEdits + 1]piece
	count      int
	length     int    // bytes of all pieces
	headGrowth int    // how many bytes nearer to the start of the buffer it begins
	seq        uint32 // new: of the first byte

	// Limits in bytes: the payload's length, and its growth at either end of the buffer.
	maxLen, headroom, tailroom int
	oldLen                     int  // length of the old payload
	truncated                  bool // a limit was reached, and the rest is left out
}

// add appends a piece, or as much of it as the limits allow.
//
// The payload is written in order into the buffer that it came in, from headGrowth bytes
// nearer to the start of the buffer. No byte is overwritten before it is read, if no
// piece of the old payload moves towards the end of the buffer by more than that. The
// whole must end within the buffer.
func (p *plan) add(x piece) {
	if p.truncated || x.n == 0 {
		return
	}
	n := min(x.n, p.maxLen-p.length)
	if x.edited {
		n = min(n, p.oldLen+p.tailroom+p.headroom-p.length)
	} else if p.length-x.at > p.headroom {
		n = 0
	}
	p.truncated = n < x.n
	if n <= 0 {
		return
	}
	x.n = n
	if x.edited {
		p.headGrowth = max(p.headGrowth, p.length+n-p.oldLen-p.tailroom)
	} else {
		p.headGrowth = max(p.headGrowth, p.length-x.at)
	}
	p.pieces[p.count] = x
	p.count++
	p.length += n
}

// setLimits sets the limits for the segment in frame f.
func (p *plan) setLimits(f *wire.Frame, packet *wire.Packet, s *segment, mss uint16) {
	headers := len(s.tcp) - len(s.payload)
	p.oldLen = len(s.payload)
	p.headroom = max(0, f.Headroom()-linkHeadroom)
	p.tailroom = len(f.Buf) - int(f.End)
	longest := 0xffff - int(packet.L4-packet.L3) - headers // IPv4's maximum; IPv6 allows more
	if !f.IsGSO() {
		safe := wire.ByFamily(packet.IPv6, safeMSS4, safeMSS6)
		if mss != 0 {
			safe = min(safe, int(mss))
		}
		longest = min(longest, safe-(headers-wire.TCPLen))
	}
	p.maxLen = max(p.oldLen, longest)
}

// layout plans the new payload for the old numbers from `from` to end, for a segment
// whose payload begins at old number seq.
func (p *plan) layout(h *half, seq, from, end uint32) {
	from = h.resume(from, end)
	shift, text := h.base, 0
	p.seq = h.toReceiver(from)
	for i := range h.edits[:h.numEdits] {
		e := &h.edits[i]
		if !before(e.start, end) {
			break
		}
		if before(from, e.end()) {
			skip := 0
			switch start := e.start + shift; {
			case before(from, e.start):
				p.add(piece{at: int(from - seq), n: int(e.start - from)})
			case p.length == 0 && h.peerSeen:
				// The receiver may have a part of it; then the rest is enough.
				skip = int(min(max(0, int32(h.acked-start)), int32(e.new)))
				p.seq = start + uint32(skip)
			}
			p.add(piece{at: text + skip, n: int(e.new) - skip, edited: true})
			from = e.end()
		}
		shift += e.growth()
		text += int(e.new)
	}
	if before(from, end) {
		p.add(piece{at: int(from - seq), n: int(end - from)})
	}
}

// unchanged reports whether the new payload is the old one.
func (p *plan) unchanged() bool {
	return p.length == p.oldLen && (p.count == 0 || p.count == 1 && !p.pieces[0].edited)
}

// write writes the planned payload into the frame and moves the headers in front of it.
// It sets all lengths but not the TCP checksum.
func (p *plan) write(f *wire.Frame, packet *wire.Packet, s *segment, h *half) {
	headers := f.Len() - len(s.payload)
	payload := int(f.Off) + headers
	to := payload - p.headGrowth
	copy(f.Buf[int(f.Off)-p.headGrowth:], f.Buf[f.Off:payload])
	at := to
	for _, x := range p.pieces[:p.count] {
		from := f.Buf[payload:]
		if x.edited {
			from = h.text[:]
		}
		at += copy(f.Buf[at:], from[x.at:x.at+x.n])
	}
	f.Off -= int32(p.headGrowth)
	f.End = int32(at)
	s.tcp = wire.TCP(f.From(packet.L4))
	fwd.SetLen(f, packet, uint32(f.Len())-uint32(packet.L3))
	if f.IsGSO() && p.length <= int(f.Offload.GSOSize) {
		f.Offload.GSOType, f.Offload.GSOSize, f.Offload.HdrLen = wire.GSONone, 0, 0
	}
}
