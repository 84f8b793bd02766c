package fwd

import (
	"encoding/binary"

	"uvs/dataplane/wire"
)

// TCPAck is what an ACK of our own says to the sender of a segment, in the
// sender's numbers. If Stamped, it has a timestamps option (RFC 7323 section 3).
type TCPAck struct {
	Seq, Ack    uint32
	Window      uint16
	Stamped     bool
	Stamp, Echo uint32
}

// stampLen is a timestamps option with two NOPs before it, which align it as RFC
// 7323 appendix A wants.
const stampLen = 12

// Acknowledge turns a TCP segment into an ACK to its sender. False for fragments,
// for segments that have no room for the header (one as long as the
// segment's own is always there), and to or from more or less than one host. The
// segment's checksum must have been found right.
func Acknowledge(f *wire.Frame, p *wire.Packet, a *TCPAck) bool {
	headers := wire.TCPLen
	if a.Stamped {
		headers += stampLen
	}
	end := int32(p.L3) + int32(ipLen(p.Src)) + int32(headers)
	if p.Proto != wire.ProtoTCP || p.Fragment != wire.FragmentNone || !answerable(f, p) || f.Off+end > int32(len(f.Buf)) {
		return false
	}
	ip := ipHeader{src: p.Dst, dst: p.Src, proto: wire.ProtoTCP, ttl: ownTTL, df: true}
	f.End = f.Off + end
	turnRound(f)
	t := wire.TCP(f.From(p.L3)[ipLen(p.Src):])
	clear(t)
	t.SetSrcPort(p.DstPort)
	t.SetDstPort(p.SrcPort)
	t.SetSeq(a.Seq)
	t.SetAck(a.Ack)
	t.SetHeaderLen(headers)
	t.SetFlags(wire.TCPAck)
	t.SetWindow(a.Window)
	if a.Stamped {
		option := t[wire.TCPLen:]
		option[0], option[1], option[2], option[3] = 1, 1, 8, 10 // NOP, NOP, timestamps, its length
		binary.BigEndian.PutUint32(option[4:], a.Stamp)
		binary.BigEndian.PutUint32(option[8:], a.Echo)
	}
	ip.putWhole(f, p.L3)
	return true
}
