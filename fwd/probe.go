package fwd

import "uvs/dataplane/wire"

// ProbeRoom is how long the buffer of a Probe must be.
const ProbeRoom = wire.Headroom + wire.EthernetLen + wire.IPv6Len + wire.TCPLen

// Probe makes of f, a buffer of ProbeRoom bytes, a TCP segment from src to dst
// that asks an end of a connection where it stands: an ACK outside the window.
// An end that knows the connection answers with an ACK of its own numbers (RFC
// 9293 section 3.10.7.4, first check), so that the reset of that answer has
// right ones; an end that does not answers with RST.
func Probe(f *wire.Frame, hop *LinkHeader, src, dst wire.Addr, sport, dport uint16) {
	f.Off = wire.Headroom
	f.End = f.Off + wire.EthernetLen + int32(ipLen(dst)) + wire.TCPLen
	wire.Ethernet(f.Bytes()).SetType(etherType(!dst.Is4()))
	t := wire.TCP(f.From(wire.EthernetLen)[ipLen(dst):])
	clear(t)
	t.SetSrcPort(sport)
	t.SetDstPort(dport)
	t.SetHeaderLen(wire.TCPLen)
	t.SetFlags(wire.TCPAck)
	ip := ipHeader{src: src, dst: dst, proto: wire.ProtoTCP, ttl: ownTTL, df: true}
	ip.putWhole(f, wire.EthernetLen)
	hop.sendOwn(f)
}
