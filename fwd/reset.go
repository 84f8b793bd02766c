package fwd

import "uvs/dataplane/wire"

// Reset turns a TCP segment of no known connection into the RST that answers
// it, with the numbers RFC 9293 section 3.10.7.1 asks for. False for a RST,
// which is never answered, for fragments, for segments whose checksum is wrong,
// and to or from more or less than one host.
func Reset(f *wire.Frame, p *wire.Packet) bool {
	if p.Proto != wire.ProtoTCP || p.Fragment != wire.FragmentNone || p.TCPFlags&wire.TCPRst != 0 ||
		!answerable(f, p) || !wire.VerifyChecksum(f, p) {
		return false
	}
	segment := wire.TCP(f.From(p.L4))
	seq, ack, flags := segment.Ack(), uint32(0), uint8(wire.TCPRst)
	if p.TCPFlags&wire.TCPAck == 0 {
		seq, ack, flags = 0, segment.Seq()+segmentLen(p, segment), wire.TCPRst|wire.TCPAck
	}

	ip := ipHeader{src: p.Dst, dst: p.Src, proto: wire.ProtoTCP, ttl: ownTTL, df: true}
	f.End = f.Off + int32(p.L3) + int32(ipLen(p.Src)) + wire.TCPLen
	turnRound(f)
	t := wire.TCP(f.From(p.L3)[ipLen(p.Src):])
	clear(t)
	t.SetSrcPort(p.DstPort)
	t.SetDstPort(p.SrcPort)
	t.SetSeq(seq)
	t.SetAck(ack)
	t.SetHeaderLen(wire.TCPLen)
	t.SetFlags(flags)
	ip.putWhole(f, p.L3)
	return true
}

// segmentLen is SEG.LEN of RFC 9293: the sequence numbers a segment takes up.
func segmentLen(p *wire.Packet, t wire.TCP) uint32 {
	n := p.Len - uint32(p.L4-p.L3) - uint32(t.HeaderLen())
	if p.TCPFlags&wire.TCPSyn != 0 {
		n++
	}
	if p.TCPFlags&wire.TCPFin != 0 {
		n++
	}
	return n
}
