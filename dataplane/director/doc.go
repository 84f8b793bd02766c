// Package director decides what becomes of each frame.
//
// Process takes a batch of frames and an immutable Table. It rewrites a frame and
// gives it a port to leave by, or leaves it untouched, and gives every frame
// exactly one Verdict. It works in three short loops, so that memory misses
// overlap: parse all, look up all, decide one by one.
//
//	process.go      parse, query, lookup; first fragments to fragment.go, others by the result:
//	established.go    a conn: state step, TTL, next hop (fib.go); transmit.go, or back to the client
//	newconn.go        none: service, template.go, limit.go, scheduler, clash.go, insert, then as a hit
//	reply.go          none, from a server: refuse it, or route it as the host would
//	icmp.go           an ICMP error: to where the packet it quotes came from
//	fragment.go       a fragment: the first decides, later ones follow it
//	removed.go        a conn whose server was just removed: wait for it
//	neighbour.go      a next hop without a hardware address: wait for it
//	untracked.go      no conn by itself: ARP, neighbour solicitations, echo, tunnel errors
//	transmit.go     leaves: MTU, NAT or tunnel, MAC addresses
//	refuse.go       leaves: ICMP errors and resets, rate limited
//
// It never waits for a lock, allocates, logs, reads a clock or sees more than one table: the
// same frames, ticks and table give the same bytes. One worker owns a Director;
// all Directors share the connection table.
package director
