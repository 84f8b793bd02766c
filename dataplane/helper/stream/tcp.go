package stream

import (
	"encoding/binary"

	"uvs/dataplane/wire"
)

// segment is the TCP segment of a frame, with its options.
type segment struct {
	tcp     wire.TCP // the header and all that follows, to the end of the packet
	payload []byte
	seq     uint32 // of the first byte of payload
	ack     uint32 // as it came
	flags   uint8

	mss      uint16 // SYN: maximum segment size, 0 if absent
	scale    uint8  // SYN: window scale
	hasScale bool   // SYN: scale is present
	hasTSval bool   // tsval is present
	tsval    uint32 // from the timestamps option
	sackAt   int    // offset of the SACK option in the header, 0 if absent
}

const (
	sackBlock = 8  // bytes of a block of the SACK option: left edge, right edge
	maxScale  = 14 // RFC 7323 section 2.3
)

// read fills in s from the frame.
func (s *segment) read(f *wire.Frame, p *wire.Packet) {
	t := wire.TCP(f.From(p.L4))
	n := t.HeaderLen()
	*s = segment{tcp: t, payload: t[n:], seq: t.Seq(), ack: t.Ack(), flags: t.Flags()}
	if s.flags&wire.TCPSyn != 0 {
		s.seq++
	}
	syn, o := s.has(wire.TCPSyn), t[wire.TCPLen:n]
	for length := wire.OptionLen(o); length > 0; length = wire.OptionLen(o) {
		switch kind := o[0]; {
		case kind == wire.OptionMSS && length == wire.OptionMSSLen && syn:
			s.mss = binary.BigEndian.Uint16(o[2:])
		case kind == wire.OptionScale && length == wire.OptionScaleLen && syn:
			s.scale, s.hasScale = min(o[2], maxScale), true
		case kind == wire.OptionStamp && length == wire.OptionStampLen:
			s.tsval, s.hasTSval = binary.BigEndian.Uint32(o[2:]), true
		case kind == wire.OptionSACK && (length-2)%sackBlock == 0:
			s.sackAt = n - len(o)
		}
		o = o[length:]
	}
}

// has reports whether any of the flags is set.
func (s *segment) has(flags uint8) bool { return s.flags&flags != 0 }

// end returns the sequence number after the segment and its FIN.
func (s *segment) end() uint32 {
	end := s.seq + uint32(len(s.payload))
	if s.has(wire.TCPFin) {
		end++
	}
	return end
}

// mapSACK puts the SACK blocks, which acknowledge h, into old numbers. Edges within an
// edit move inward. Blocks that become empty are removed, and NOPs fill the option's
// end.
func (s *segment) mapSACK(h *half) {
	if s.sackAt == 0 {
		return
	}
	option := s.tcp[s.sackAt:]
	option = option[:option[1]]
	kept := 2
	for at := kept; at < len(option); at += sackBlock {
		_, left := h.editAround(binary.BigEndian.Uint32(option[at:]))
		right, _ := h.editAround(binary.BigEndian.Uint32(option[at+4:]))
		if before(left, right) {
			binary.BigEndian.PutUint32(option[kept:], left)
			binary.BigEndian.PutUint32(option[kept+4:], right)
			kept += sackBlock
		}
	}
	if kept == len(option) {
		return
	}
	option[1] = uint8(kept)
	if kept == 2 {
		kept = 0
	}
	for i := range option[kept:] {
		option[kept+i] = wire.OptionNop
	}
}

// before reports whether a comes before b in sequence number arithmetic (RFC 9293
// section 3.4).
func before(a, b uint32) bool { return int32(a-b) < 0 }

// later returns whichever of a and b comes later.
func later(a, b uint32) uint32 {
	if before(a, b) {
		return b
	}
	return a
}
