// Package wire knows what the bytes of a frame mean.
//
//	Frame          bytes with headroom, lent by a link
//	Packet         what Parse found in them: addresses, ports, offsets, or a Flaw
//	IPv4, TCP, …   a header as a typed byte slice, read and written in place
//	ChecksumDelta  how a rewrite of addresses and ports changes a checksum
//	Splitter       cuts frames that are longer than the MTU of their next hop
//
// Nothing here knows time, rules or sockets. Everything that runs per frame
// accepts any input: it does not panic, allocate or loop without a bound.
package wire
