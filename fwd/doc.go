// Package fwd rewrites a frame on its way to a server and back. It changes the
// bytes in place, keeps every length and checksum right, and decides nothing: the
// director chooses the server, the next hop and what happens to the frame.
//
//	nat.go    addresses and ports of method nat
//	icmp.go   the same for ICMP errors and the packets they quote
//	mss.go    the MSS option of a SYN
//	link.go   the link header: MAC addresses, EtherType
//	ip.go     the IP header: TTL, lengths, and headers of our own
//	scope.go  what kind of host an address can be of
//
// Package fwd/tunnel encapsulates; package fwd/answer makes packets of our own, such
// as ICMP errors, out of the frame that they answer.
//
// A wire.Packet passed in must describe the frame as it is. Functions that return
// false have left the frame untouched. Nothing here or in the two other packages
// allocates, blocks or reads a clock.
package fwd
