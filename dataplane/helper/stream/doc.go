// Package stream follows one TCP connection through the director and lets a
// Rewriter change its text, in both directions, so that neither end notices:
// where text grows or shrinks, sequence numbers, acknowledgements, SACK blocks
// and windows are shifted for the rest of the connection. It is the seam for
// protocols that name addresses in their text (FTP, SIP) or want a word put in
// front of it (PROXY protocol).
//
//	stream.go  Conn, Process: one segment in, at most one out
//	half.go    one direction: what was judged, edits, mapping of numbers
//	judge.go   new text handed to the Rewriter
//	compose.go the segment written anew
//	tcp.go     the parts of a TCP header that matter here
//
// Every byte of a direction is judged once, in order. A segment is
//
//	sender's numbers:    ... | passed | edit | passed | kept back | not yet seen
//	                         ^floor                   ^line      ^next
//	receiver's numbers:  ... | passed | its new text | passed |
//
// An edit is remembered with its new text until the receiver has acknowledged
// it; a retransmission, however it is cut, brings the same bytes again. Text
// that may become of interest, but is not whole yet, is kept back: the sender is
// told that it arrived, the receiver gets it with the segment that completes it.
// If that one is lost, the sender's retransmission of the last piece brings all
// of it. There is no other buffer: a segment beyond a gap is dropped, because its
// text cannot be judged, and TCP sends it again; so is what does not fit into a
// frame or the receiver's MSS.
//
// What a sender sends is believed the first time: retransmitting other bytes
// where the first were of no interest is not found out. Multipath TCP (RFC 8684)
// and TCP's authentication (RFC 2385, RFC 5925) sign what is changed here; such
// connections do not survive a change.
//
// Nothing here allocates, blocks or knows the time, and a Conn holds no
// pointers.
package stream
