package director

import (
	"encoding/binary"
	"slices"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/wire"
	"uvs/fwd/answer"
)

// A packet whose next hop has no known hardware address waits, as the kernel's own packets do
// (net/core/neighbour.c, __neigh_event_send), and the host is to resolve the next hop
// (Director.Unresolved). The packet is handled again when a table knows the address. After
// unresolvedTime its sender gets host unreachable.

const (
	// unresolvedTime is three requests, one second apart: mcast_solicit and retrans_time of
	// net/ipv4/arp.c, arp_tbl, and RFC 4861 section 10.
	unresolvedTime = 3 * conntrack.Second

	// maxUnresolved bounds the next hops that packets of all workers wait for at a time. It
	// is a quarter of the entries that the kernel's neighbour table has (gc_thresh3).
	maxUnresolved = 256
)

// unresolvedLimits give the packets to one next hop an eighth of a queue: at least one GSO
// frame.
var unresolvedLimits = frag.Limits{Timeout: unresolvedTime, Bytes: frag.MaxQueue, Source: frag.MaxQueue / 8}

// unresolved are the next hops of a worker that packets wait for.
type unresolved struct {
	queue     *frag.Queue
	list      []awaited      // oldest first; never longer than its capacity
	fib       *FIB           // the one that list was last looked up in
	toResolve []NeighbourKey // next hops that joined the list in this batch

	// packet is one that has waited and is handled again. A one-packet service sent it to
	// a port of a server; 0: it is of another service.
	packet packet
	server uint32
	port   uint16
}

// awaited is a next hop that packets wait for.
type awaited struct {
	// key is that of the packets in the queue: the next hop is Src, its port ID. Of
	// packets of a one-packet service, Dst begins with the server's ID and port.
	key      frag.Key
	deadline conntrack.Tick
	sender   wire.Addr // of the first packet
	dir      conntrack.Dir
}

// awaitNeighbour lets a packet to an address wait for its next hop. If it has waited, the
// address self answers that the host is unreachable.
func (d *Director) awaitNeighbour(p *packet, addr, self wire.Addr) Verdict {
	u := &d.unresolved
	switch {
	case p == &u.packet:
		return d.answerError(p, answer.HostUnreachable, self, 0, AnsweredNoRoute)
	case p.Fragment == wire.FragmentLater, !hasConnKey(&p.Packet):
		return DroppedNoNeighbour
	}
	hop := d.table.FIB.neighbour(addr)
	key := frag.Key{Src: hop.Addr, ID: uint32(hop.Port)}
	if c := d.conns.Conn(p.query.Ref); p.query.Ref != 0 && c.OnePacket() {
		_, port := c.Server()
		binary.BigEndian.PutUint32(key.Dst[:], c.ServerID())
		binary.BigEndian.PutUint16(key.Dst[4:], port)
	}
	if !d.await(p, hop, &key) || !u.queue.Push(p.frame, &key, d.now, &unresolvedLimits) {
		return DroppedNoNeighbour
	}
	return HeldNoNeighbour
}

// await adds a next hop to the list unless it is there. It returns false if there is no
// room. Packets of each direction have half the list, and packets of one sender a quarter:
// what a server sends to addresses that do not exist must not harm others.
func (d *Director) await(p *packet, hop NeighbourKey, key *frag.Key) bool {
	u, sameDir, sameSender := &d.unresolved, 0, 0
	for i := range u.list {
		a := &u.list[i]
		if a.key == *key {
			return true
		}
		if a.dir == p.query.Dir {
			sameDir++
		}
		if a.sender == p.Src {
			sameSender++
		}
	}
	if sameDir >= cap(u.list)/2 || sameSender >= cap(u.list)/4 {
		return false
	}
	u.list = append(u.list, awaited{key: *key, deadline: d.now + unresolvedTime, sender: p.Src, dir: p.query.Dir})
	if hop.Port != wire.NoPort { // else it is a server, which the host resolves anyway
		u.toResolve = append(u.toResolve, hop)
	}
	return true
}

// Unresolved returns the next hops that packets began to wait for in the last Process. The
// host is to resolve them. They are valid until the next Process.
func (d *Director) Unresolved() []NeighbourKey { return d.unresolved.toResolve }

// resumeUnresolved handles packets again whose next hop is known now, or did not answer in
// time. more reports whether there are others.
func (d *Director) resumeUnresolved() (more bool) {
	u, fib := &d.unresolved, d.table.FIB
	changed := u.fib != fib
	for i := 0; i < len(u.list); {
		a := &u.list[i]
		known := changed && fib.knows(NeighbourKey{uint16(a.key.ID), a.key.Src})
		if !known && d.now < a.deadline {
			if !changed {
				break // the others have more time
			}
			i++
			continue
		}
		if !d.resumeFor(a, known) {
			return true
		}
		u.list = slices.Delete(u.list, i, i+1)
	}
	if u.fib = fib; len(u.list) == 0 {
		u.fib = nil // or it would be kept in memory
	}
	return false
}

// resumeFor handles packets again that wait for a next hop. It returns false if this batch
// had no room for all of them.
func (d *Director) resumeFor(a *awaited, known bool) bool {
	u, released := &d.unresolved, &d.released
	u.server, u.port = binary.BigEndian.Uint32(a.key.Dst[:]), binary.BigEndian.Uint16(a.key.Dst[4:])
	for released.n < maxReleased && released.nFirsts < len(released.firsts) {
		p, f := &u.packet, &released.frames[released.n]
		if !u.queue.Pop(f, &a.key) {
			return true
		}
		p.frame = f
		wire.Parse(f, &p.Packet)
		d.buildQuery(p)
		if p.query.Dir != conntrack.DirNone {
			d.lookup(p.query)
		}
		if p.Fragment == wire.FragmentFirst {
			d.firstFragment(p)
		} else {
			d.decide(p)
		}
		sent := f.Out != wire.NoPort
		if sent {
			released.n++
		}
		switch {
		case !known:
			u.queue.Expired.Add(1)
		case sent:
			u.queue.Sent.Add(1)
		default:
			u.queue.Stopped.Add(1)
		}
	}
	return false
}
