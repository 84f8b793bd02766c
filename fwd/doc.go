// Package fwd is how a frame reaches its server and comes back: it rewrites the
// bytes of a frame in place, keeps every length and checksum right, and decides
// nothing. Which server, which hop and whether at all is the director's.
//
//	hop.go       the way out: MAC addresses, TTL, what is too long
//	nat.go       masquerading: addresses and ports
//	quote.go     masquerading of ICMP errors and of the packets they quote
//	tunnel.go    IPIP, GUE and GRE, on and off; shim.go: what is between the IP headers
//	icmp.go      ICMP errors and echo replies of our own
//	reset.go     TCP resets
//	ack.go       TCP acknowledgements in place of a receiver
//	arp.go       ARP replies
//	neighbour.go  neighbour advertisements
//	turn.go      the frame turned round to make such answers; header.go: their IP header
//
// A wire.Packet handed in must describe the frame as it is. Functions that
// return false have left the frame untouched. Nothing here allocates, blocks
// or knows the time.
package fwd
