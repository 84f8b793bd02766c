package ring

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// The layout of a block: struct tpacket_block_desc with its
// tpacket_hdr_v1 (linux/if_packet.h), then the slots.
//
//	 0  version          u32
//	 4  offset_to_priv   u32
//	 8  block_status     u32   TP_STATUS_USER: closed, may be read
//	12  num_pkts         u32   incremented before a slot is written
//	16  offset_to_first  u32
//	20  blk_len          u32
//	24  seq_num          u64
//	32  ts_first_pkt, 40 ts_last_pkt
const (
	blockStatus = 8
	blockCount  = 12
	blockFirst  = 16
	blockHeader = 48
)

// The layout of a slot: struct tpacket3_hdr, a sockaddr_ll, then padding and, up to
// tp_mac, the virtio_net_hdr of the frame (linux/if_packet.h). The kernel writes
// sockaddr_ll last, and its ifindex at the very end (net/packet/af_packet.c,
// tpacket_rcv).
//
//	 0  tp_next_offset u32   to the next slot; 0 in the last of a closed block
//	 4  tp_sec  u32,  8 tp_nsec u32
//	12  tp_snaplen u32       bytes stored
//	16  tp_len u32           bytes the frame had
//	20  tp_status u32
//	24  tp_mac u16, 26 tp_net u16    offsets of the Ethernet and IP headers
//	28  tp_rxhash u32
//	32  tp_vlan_tci u32, 36 tp_vlan_tpid u16
//	48  sll_family u16, 50 sll_protocol u16
//	52  sll_ifindex i32
//	56  sll_hatype u16, 58 sll_pkttype u8, 59 sll_halen u8, 60 sll_addr [8]
const (
	slotNext    = 0
	slotSec     = 4
	slotSnapLen = 12
	slotLen     = 16
	slotStatus  = 20
	slotMacNet  = 24 // tp_mac and tp_net, read as one word
	slotMac     = 24
	slotTCI     = 32
	slotTPID    = 36
	slotIfindex = 52
	slotPktType = 58
	slotHeader  = 68 // TPACKET3_HDRLEN
	slotAlign   = 8  // V3_ALIGNMENT in af_packet.c
	vnetHdrLen  = 10 // sizeof(struct virtio_net_hdr)
)

// bufStart is the offset in the slot at which a lent buffer begins. The bytes before
// it are excluded, because the kernel writes tp_next_offset of the last slot when it
// closes a block, and that slot may be lent already.
const bufStart = 8

// reserve is the value for PACKET_RESERVE. tpacket_rcv puts the frame at offset
//
//	TPACKET_ALIGN(slotHeader + 16) + reserve + vnetHdrLen - 14 = 92 + reserve
//
// With 22 that is 114. So wire.Headroom and a restored tag fit between bufStart and
// the frame, and the IP header, at 128, is aligned.
const reserve = 22

// slotState is the result of readSlot.
type slotState uint8

const (
	slotPending   slotState = iota // not completely written yet; or, in an open block, invalid
	slotReady                      // complete
	slotUnwritten                  // counted by the kernel, which then failed to write it
	slotInvalid                    // impossible values, so that the next slot cannot be found
)

// slot has the used fields of a slot's header, checked against the block. Bytes 0 to
// size are in the block, mac+snap is at most size, and the header and the
// virtio_net_hdr fit before mac.
type slot struct {
	size   int // bytes to the next slot
	mac    int // offset of the frame
	snap   int // stored bytes of the frame
	len    int // bytes of the frame as received
	status uint32
	kind   uint8 // PACKET_HOST, PACKET_OTHERHOST …
}

// readSlot reads the header of the slot that begins at b[0]. b ends with the block.
// closed reports whether the block is closed. In an open block the kernel may be
// writing the header. So readSlot reads the word that is written last first, and the
// slot is ready if all words are there.
func readSlot(b []byte, closed bool) (s slot, state slotState) {
	if len(b) < slotHeader {
		return s, slotInvalid
	}
	ifindex := load32(b, slotIfindex)
	sec := load32(b, slotSec)
	macNet := load32(b, slotMacNet)
	length, snap := load32(b, slotLen), load32(b, slotSnapLen)
	s.status = load32(b, slotStatus)
	next := load32(b, slotNext)
	whole := s.status&unix.TP_STATUS_USER != 0 && ifindex != 0 && sec != 0 &&
		macNet != 0 && snap != 0 && length >= snap
	switch {
	case !closed && !whole:
		return s, slotPending
	case s.status&unix.TP_STATUS_USER == 0:
		s.size, state = int(next), slotUnwritten
	default:
		s.mac = int(binary.NativeEndian.Uint16(b[slotMac:]))
		s.snap, s.len = int(snap), int(length)
		s.kind = b[slotPktType]
		s.size, state = int(next), slotReady
		if next == 0 {
			s.size = min((s.mac+s.snap+slotAlign-1)&^(slotAlign-1), len(b))
		}
		if s.mac < slotHeader+vnetHdrLen || uint64(s.mac)+uint64(snap) > uint64(s.size) {
			state = slotInvalid
		}
	}
	if s.size < slotHeader || s.size > len(b) || s.size%slotAlign != 0 {
		state = slotInvalid
	}
	if state == slotInvalid && !closed {
		state = slotPending
	}
	return s, state
}

// fill makes f the frame of the ready slot s that begins at b[0]. It returns false if
// the frame's offload is impossible.
func (s *slot) fill(f *wire.Frame, b []byte) bool {
	f.Buf = b[bufStart:s.size:s.size]
	f.Off = int32(s.mac - bufStart)
	f.End = f.Off + int32(s.snap)
	f.Out, f.MTU, f.TunnelLen = wire.NoPort, 0, 0
	f.Offload = readOffload(b[s.mac-vnetHdrLen : s.mac])
	if f.ChecksumPartial() && int(f.Offload.CsumStart)+int(f.Offload.CsumOffset)+2 > s.snap {
		return false
	}
	if f.ChecksumPartial() && f.Offload.CsumOffset == wire.SCTPChecksum {
		wire.FinishChecksum(f) // no link can pass on a partial CRC32c
	}
	return true
}

// restoreTag inserts the VLAN tag that the kernel removed. f must have headroom for
// it. restoreTag returns false if the frame is too short for an EtherType.
func (s *slot) restoreTag(f *wire.Frame, b []byte) bool {
	tpid := uint16(wire.EtherTypeVLAN)
	if s.status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		tpid = binary.NativeEndian.Uint16(b[slotTPID:])
	}
	return wire.PushVLAN(f, tpid, uint16(binary.NativeEndian.Uint32(b[slotTCI:])))
}
