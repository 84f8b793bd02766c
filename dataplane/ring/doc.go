// Package ring is the kernel's rim: frames in by AF_PACKET receive rings
// (TPACKET_V3), frames out by sendmmsg straight from the ring's memory, with
// checksum and segmentation offload carried through in both directions
// (PACKET_VNET_HDR). One Link is all interfaces of one worker.
//
// # Receiving
//
// The kernel fills a ring block by block and hands a block over when it is full
// or its timer fires. Waiting for that makes a lone frame late by a
// millisecond, so a ring that was found empty is also read from the block still
// being filled ("open"), and an idle link sleeps on a doorbell: a second packet
// socket without a ring, whose queue becomes readable with every frame. Three
// rules make that safe, and each has its place in the code:
//
//   - A frame is taken from an open block only when every word of its header
//     that is read is non-zero (slot.go). The kernel raises the block's packet
//     count first, copies the payload and writes the header last. This relies
//     on stores becoming visible in order, as on amd64; elsewhere only closed
//     blocks are read, with a short block timer, and the link sleeps on the ring
//     socket itself (see opensBlocks).
//   - Memory is zeroed before it goes back to the kernel (reader.go), or a header
//     of the ring's previous lap would pass for a new one.
//   - The doorbell is bound before the ring socket (open.go): the kernel runs
//     taps newest first, so the frame is in the ring before the bell rings.
//     Going to sleep is: drain the bell, look once more, poll (link.go).
//
// Looking at the open block all the time would make small batches and slow the
// kernel down (it writes the very cache line that is read), so under load the
// link lets frames gather for some microseconds (pace.go).
//
// # Lending
//
// Recv lends frames: slices of ring memory with at least wire.Headroom bytes in
// front. The next Recv takes them back, as does Close. The room in front covers
// the slot's own header, which has been read by then; so a slot costs 22 bytes
// more than without headroom, not 96.
//
// # Steering
//
// OpenGroup opens the links of several workers on the same interfaces and joins
// them in one fanout group per interface. The doorbells form a fanout group
// too, with its members in the same order, so that a frame wakes the worker that
// got it and no other.
//
// Frames the host sends, frames for other hosts' MAC addresses (promiscuous
// mode) and frames cut short by the ring never leave this package; they are
// counted in Stats.
package ring
