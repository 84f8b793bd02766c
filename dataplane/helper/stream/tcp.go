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

// TCP option kinds (IANA), and the length of each in bytes with its value. RFC 9293
// section 3.2, RFC 7323, RFC 2018.
const (
	optionEnd   = 0 // no length field
	optionNop   = 1 // no length field
	optionMSS   = 2 // 4
	optionScale = 3 // 3
	optionSACK  = 5 // 2, and sackBlock for each block
	optionStamp = 8 // 10: TSval, TSecr
	sackBlock   = 8 // left edge, right edge
)

// maxScale is the largest window scale (RFC 7323 section 2.3).
const maxScale = 14

// read fills in s from the frame.
func (s *segment) read(f *wire.Frame, p *wire.Packet) {
	t := wire.TCP(f.From(p.L4))
	n := t.HeaderLen()
	*s = segment{tcp: t, payload: t[n:], seq: t.Seq(), ack: t.Ack(), flags: t.Flags()}
	if s.flags&wire.TCPSyn != 0 {
		s.seq++
	}
	for at := wire.TCPLen; at+1 < n && t[at] != optionEnd; {
		if t[at] == optionNop {
			at++
			continue
		}
		length := int(t[at+1])
		if length < 2 || at+length > n {
			return
		}
		s.option(at, t[at+2:at+length])
		at += length
	}
}

// option reads the option at an offset of the header.
func (s *segment) option(at int, value []byte) {
	syn := s.has(wire.TCPSyn)
	switch kind := s.tcp[at]; {
	case kind == optionMSS && len(value) == 2 && syn:
		s.mss = binary.BigEndian.Uint16(value)
	case kind == optionScale && len(value) == 1 && syn:
		s.scale, s.hasScale = min(value[0], maxScale), true
	case kind == optionStamp && len(value) == 8:
		s.tsval, s.hasTSval = binary.BigEndian.Uint32(value), true
	case kind == optionSACK && len(value)%sackBlock == 0:
		s.sackAt = at
	}
}

// has reports whether any of the flags is set.
func (s *segment) has(flags uint8) bool { return s.flags&flags != 0 }

// end is the sequence number after the segment and its FIN.
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
		left := h.leftEdgeToSender(binary.BigEndian.Uint32(option[at:]))
		right := h.toSenderBefore(binary.BigEndian.Uint32(option[at+4:]))
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
		option[kept+i] = optionNop
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
