package answer

import (
	"encoding/binary"

	"uvs/dataplane/wire"
	"uvs/fwd"
)

// segment is a TCP segment of our own, which has no data.
type segment struct {
	src, dst     wire.Addr
	sport, dport uint16
	seq, ack     uint32
	flags        uint8
	window       uint16
}

// answerTo returns a segment to the sender of TCP segment p.
func answerTo(p *wire.Packet, seq, ack uint32, flags uint8) segment {
	return segment{src: p.Dst, dst: p.Src, sport: p.DstPort, dport: p.SrcPort, seq: seq, ack: ack, flags: flags}
}

// put makes the segment the packet at offset l3, and the end of the frame its end.
func (s *segment) put(f *wire.Frame, l3 uint16, options []byte) {
	ipLen, tcpLen := fwd.IPLen(s.dst), wire.TCPLen+len(options)
	f.End = f.Off + int32(l3) + int32(ipLen) + int32(tcpLen)
	t := wire.TCP(f.From(l3)[ipLen:])
	clear(t)
	t.SetSrcPort(s.sport)
	t.SetDstPort(s.dport)
	t.SetSeq(s.seq)
	t.SetAck(s.ack)
	t.SetHeaderLen(tcpLen)
	t.SetFlags(s.flags)
	t.SetWindow(s.window)
	copy(t[wire.TCPLen:], options)
	ip := fwd.IPHeader{Src: s.src, Dst: s.dst, Proto: wire.ProtoTCP, TTL: ownTTL, DF: true}
	ip.PutWithChecksum(f, l3)
}

// Reset turns a TCP segment of no known connection into the RST that answers it,
// with the numbers of RFC 9293 section 3.10.7.1. False for a RST, which is never
// answered, for fragments, for segments with a wrong checksum, and if either address
// is not that of one host.
func Reset(f *wire.Frame, p *wire.Packet) bool {
	if p.Proto != wire.ProtoTCP || p.Fragment != wire.FragmentNone || p.TCPFlags&wire.TCPRst != 0 ||
		!answerable(f, p) || !wire.VerifyChecksum(f, p) {
		return false
	}
	t := wire.TCP(f.From(p.L4))
	s := answerTo(p, t.Ack(), 0, wire.TCPRst)
	if p.TCPFlags&wire.TCPAck == 0 {
		s.seq, s.ack, s.flags = 0, t.Seq()+segmentLen(p, t), wire.TCPRst|wire.TCPAck
	}
	leaveBack(f)
	s.put(f, p.L3, nil)
	return true
}

// segmentLen is SEG.LEN of RFC 9293: the sequence numbers that a segment takes up.
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

// TCPAck is an ACK of our own, in the numbers of the sender of the segment that it
// answers. If Stamped, it has a timestamps option (RFC 7323 section 3).
type TCPAck struct {
	Seq, Ack    uint32
	Window      uint16
	Stamped     bool
	Stamp, Echo uint32
}

// Acknowledge turns a TCP segment, whose checksum must be right, into an ACK to its
// sender. It returns false for fragments, if an address is not that of one host, and
// without room for the header (a header as long as the segment's always has room).
func Acknowledge(f *wire.Frame, p *wire.Packet, a *TCPAck) bool {
	// A timestamps option after two NOPs, which align it (RFC 7323 appendix A).
	stamps := [12]byte{1, 1, 8, 10}
	options := stamps[:0]
	if a.Stamped {
		binary.BigEndian.PutUint32(stamps[4:], a.Stamp)
		binary.BigEndian.PutUint32(stamps[8:], a.Echo)
		options = stamps[:]
	}
	end := int(f.Off) + int(p.L3) + fwd.IPLen(p.Src) + wire.TCPLen + len(options)
	if p.Proto != wire.ProtoTCP || p.Fragment != wire.FragmentNone || !answerable(f, p) || end > len(f.Buf) {
		return false
	}
	s := answerTo(p, a.Seq, a.Ack, wire.TCPAck)
	s.window = a.Window
	leaveBack(f)
	s.put(f, p.L3, options)
	return true
}

// KeepAliveLen is the length of the buffer of a KeepAlive in bytes.
const KeepAliveLen = wire.Headroom + wire.EthernetLen + wire.IPv6Len + wire.TCPLen

// KeepAlive makes f, with a buffer of KeepAliveLen bytes, a TCP segment from src to dst:
// like a keep-alive (RFC 9293 section 3.8.4), an ACK outside the window. A host that
// knows the connection replies with an ACK of its own numbers (section 3.10.7.4, first
// check), which a reset then needs. Any other replies with RST.
func KeepAlive(f *wire.Frame, link *fwd.LinkHeader, src, dst wire.Addr, sport, dport uint16) {
	f.Off = wire.Headroom
	f.End = f.Off + wire.EthernetLen
	wire.Ethernet(f.Bytes()).SetType(fwd.EtherType(!dst.Is4()))
	s := segment{src: src, dst: dst, sport: sport, dport: dport, flags: wire.TCPAck}
	s.put(f, wire.EthernetLen, nil)
	leaveBy(link, f)
}
