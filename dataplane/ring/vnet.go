package ring

import (
	"encoding/binary"

	"uvs/dataplane/wire"
)

// struct virtio_net_hdr (linux/virtio_net.h) precedes every frame in both directions,
// because of PACKET_VNET_HDR. It is in the machine's byte order.
//
//	0  flags u8        NEEDS_CSUM, DATA_VALID
//	1  gso_type u8
//	2  hdr_len u16     bytes of headers, a hint
//	4  gso_size u16    payload bytes per segment
//	6  csum_start u16, 8 csum_offset u16

// readOffload reads the virtio_net_hdr in h.
func readOffload(h []byte) wire.Offload {
	_ = h[vnetHdrLen-1]
	e := binary.NativeEndian
	return wire.Offload{
		Flags: h[0], GSOType: h[1],
		HdrLen: e.Uint16(h[2:]), GSOSize: e.Uint16(h[4:]),
		CsumStart: e.Uint16(h[6:]), CsumOffset: e.Uint16(h[8:]),
	}
}

// writeOffload writes o to h as the virtio_net_hdr of a frame to send. The sending
// device does not need to know that a received checksum was verified. So a frame
// that is not GSO, and has no partial checksum, gets a zero header.
func writeOffload(h []byte, o wire.Offload) {
	_ = h[vnetHdrLen-1]
	if o.Flags&wire.OffloadNeedsCsum == 0 && o.GSOType == wire.GSONone {
		clear(h[:vnetHdrLen])
		return
	}
	e := binary.NativeEndian
	h[0], h[1] = o.Flags&wire.OffloadNeedsCsum, o.GSOType
	e.PutUint16(h[2:], o.HdrLen)
	e.PutUint16(h[4:], o.GSOSize)
	e.PutUint16(h[6:], o.CsumStart)
	e.PutUint16(h[8:], o.CsumOffset)
}
