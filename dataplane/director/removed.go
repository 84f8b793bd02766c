package director

import (
	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/wire"
)

// A manager that restarts deletes servers and services, and adds them again a moment
// later. Until Server.GraceEnd one packet of each conn waits in Director.waitingPackets,
// keyed by client endpoint and VIP endpoint. It is handled again when the server is back
// or the time is over. TCP and SCTP send again what is dropped meanwhile.

// waitingLimits let all of a queue be used. Only releaseWaiting ends the wait.
var waitingLimits = frag.Limits{Timeout: conntrack.MaxTimeout, Bytes: frag.MaxQueue, Source: frag.MaxQueue}

// waits reports whether a client's packet waits for its server. One that begins a
// connection is scheduled again at once, and a datagram may move to another server. A
// packet that has waited does not wait again.
func (d *Director) waits(p *packet, server *Server) bool {
	return d.now < server.GraceEnd && p != &d.released.packet &&
		(p.Proto == wire.ProtoTCP && p.TCPFlags&(wire.TCPSyn|wire.TCPAck) != wire.TCPSyn ||
			p.Proto == wire.ProtoSCTP && !opensConn(p))
}

// awaitServer lets the first packet of a conn wait.
func (d *Director) awaitServer(p *packet) Verdict {
	q := p.query
	key := frag.Key{Src: q.Client, Dst: q.Peer, ID: uint32(q.ClientPort)<<16 | uint32(q.PeerPort), Proto: q.Proto}
	if !d.waitingPackets.Has(&key) && !d.waitingPackets.Push(p.frame, &key, d.now, &waitingLimits) {
		return DroppedServerGone
	}
	return HeldServerGone
}

// releaseWaiting handles packets whose wait is over, as if they came now. Each may need an
// answer, so it stops when the answer limit runs short. more reports whether the next
// call should not wait for frames; it is false while the answer limit is short.
func (d *Director) releaseWaiting() (more bool) {
	released := &d.released
	for range min(lookupsPerBatch, d.waitingPackets.Len()) {
		if released.n == maxReleased || d.answerLimits.short() {
			return false
		}
		key := d.waitingPackets.Next()
		if key == nil || d.serverMayReturn(key) {
			continue
		}
		released.key, more = *key, true
		p, f := &released.packet, &released.frames[released.n]
		d.waitingPackets.Pop(f, &released.key)
		p.frame = f
		wire.Parse(f, &p.Packet)
		d.buildQuery(p)
		if d.decide(p); f.Out != wire.NoPort {
			released.n++
		}
	}
	return more && d.waitingPackets.Len() != 0
}

// serverMayReturn reports whether the server of a waiting packet is away but may still
// return, because its GraceEnd has not passed.
func (d *Director) serverMayReturn(key *frag.Key) bool {
	ref := d.find(conntrack.Query{
		Proto: key.Proto, Dir: conntrack.DirIn, Client: key.Src, ClientPort: uint16(key.ID >> 16),
		Peer: key.Dst, PeerPort: uint16(key.ID),
	})
	if ref == 0 {
		return false
	}
	server := d.table.server(d.conns.Conn(ref).ServerID())
	return !server.servesConns() && d.now < server.GraceEnd
}
