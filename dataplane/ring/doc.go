// Package ring is the frame I/O of the kernel. It receives from AF_PACKET rings
// (TPACKET_V3) and sends with sendmmsg, directly from the ring's memory. Checksum
// and segmentation offload are kept in both directions (PACKET_VNET_HDR). A Link
// has all interfaces of one worker.
//
// # Receiving
//
// The kernel fills a ring block by block, and closes a block when it is full or its
// timer fires. A short timer delays a single frame by a millisecond, and fills the ring
// with nearly empty blocks while the worker is away. So the timer is long, and a block
// that is still being filled ("open") is read too. An idle link sleeps on a wake
// socket: a second packet socket without a ring, which becomes readable with every
// frame. Three rules make that safe:
//
//   - A frame is taken from an open block only when the words of its header that
//     cannot be 0 are there (readSlot in slot.go). The kernel increments the block's
//     packet count first, then copies the payload, and writes the header last.
//     Where stores become visible in another order, the reader waits until the
//     payload must be there (arch_weak.go). Where the data cache needs flushing,
//     only closed blocks are read, with a short block timer, and the link sleeps
//     on the ring socket itself (arch_closed.go).
//   - Memory is zeroed before it goes back to the kernel (reader.go). Otherwise a
//     header of the ring's previous lap would look like a new one.
//   - The wake socket is bound before the ring socket (open.go). The kernel runs taps
//     newest first, so the frame is in the ring before the wake socket is readable.
//     Before it sleeps, the link drains that and reads the ring once more (link.go).
//
// If the link always read the open block, batches would be small, and the kernel
// would slow down, because it writes the cache line that is read. So under load the
// link waits some microseconds for frames to gather (pace.go).
//
// # Lending
//
// Recv lends frames: slices of ring memory with at least wire.Headroom bytes before
// them. The next Recv takes them back, as does Close. The headroom overlaps the
// slot's header, which was read already. So a slot needs only 22 bytes more than
// without headroom, not 96.
//
// # Steering
//
// OpenGroup opens the links of several workers on the same interfaces, with one
// fanout group per interface. The wake sockets have a fanout group too, with the
// members in the same order, so that a frame wakes only the worker that gets it.
//
// The package does not lend frames that this host sends, frames for the MAC
// addresses of other hosts (promiscuous mode), and frames that the ring truncated.
// Stats counts them.
package ring
