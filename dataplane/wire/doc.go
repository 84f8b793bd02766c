// Package wire knows what the bytes of a frame mean.
//
//	Frame   bytes with room in front, lent by a link
//	Packet  what Parse found in them: addresses, ports, offsets, or a Flaw
//	views   IPv4, IPv6, TCP, … : a header as a typed byte slice, read and
//	        written in place
//	Fix     what rewriting addresses and ports does to a checksum
//
// A Splitter cuts frames that are too long for their way out. Nothing here
// knows time, rules or sockets. Everything called per frame works on any input
// without panicking, allocating or looping without a bound.
package wire
