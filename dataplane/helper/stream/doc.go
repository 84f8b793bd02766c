// Package stream follows one TCP connection through the director and lets a
// Rewriter change its text in both directions. Neither end notices: where text
// grows or shrinks, sequence numbers, acknowledgements, SACK blocks and windows are
// shifted for the rest of the connection. Protocols that name addresses in their
// text (FTP, SIP) need this, and so does one that inserts text (PROXY protocol).
//
//	stream.go  Conn, Process: one segment in, at most one out
//	half.go    one direction: what was judged, edits, mapping of numbers
//	judge.go   hands new text to the Rewriter
//	compose.go writes a changed segment
//	tcp.go     the parts of a TCP header that matter here
//
// Every byte of a direction is judged once, in order. A segment is
//
//	sender's numbers:    ... | passed | edit | passed | held back | not yet seen
//	                         ^floor                   ^heldFrom   ^next
//	receiver's numbers:  ... | passed | its new text | passed |
//
// An edit is kept with its new text until the receiver has acknowledged it. So a
// retransmission brings the same bytes again, however it is segmented.
//
// Text that may matter but is incomplete is held back. The sender gets an
// acknowledgement for it; the receiver gets it with the segment that completes it.
// If that segment is lost, the sender's retransmission of its last part brings all of
// the text. There is no other buffer. A segment beyond a gap is dropped, because its
// text cannot be judged, and TCP sends it again. The same holds for text that does
// not fit into a frame or the receiver's MSS.
//
// Bytes are judged when they pass for the first time. If a sender retransmits other
// bytes in place of some that were of no interest, they pass unjudged. Multipath TCP
// (RFC 8684) and TCP's authentication (RFC 2385, RFC 5925) sign what is changed here;
// such connections do not survive a change.
//
// Nothing here allocates, blocks or reads a clock, and a Conn holds no pointers.
package stream
