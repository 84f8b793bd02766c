package wire

// NoPort is the Out of a frame that must not be sent.
const NoPort = ^uint16(0)

// Headroom is how many bytes every link leaves free before an incoming frame. They hold
// an outer IPv6 header (40), UDP and GUE (8+8, or GRE 8), a VLAN tag that is put back
// (4), and the virtio_net_hdr that the ring writes (10). The sum is rounded up.
const Headroom = 96

// Frame is one Ethernet frame lent by a link, in a buffer with headroom:
//
//	Buf:  |<- headroom ->|<- frame: Buf[Off:End] ->|<- rest of the slot ->|
//
// The link owns the memory: a frame is valid until the next Recv of its link.
// Frames are rewritten in place. To prepend a header, move Off towards the start of Buf.
type Frame struct {
	Buf []byte
	Off int32 // where the Ethernet header starts
	End int32 // one past the last byte

	In  uint16 // port that received the frame
	Out uint16 // port that sends it; NoPort: it is not sent

	// Offload is the work left to the device. The receiving link fills it in,
	// and the sending link passes it on.
	Offload Offload

	// MTU, if not 0, asks the sending link to split the frame, so that no IP
	// packet is longer than MTU bytes. A GSO frame becomes segments, any other
	// frame IP fragments. 0: send it as it is.
	MTU uint16

	// TunnelLen is the number of bytes between the link header and the inner IP
	// header: the tunnel's headers. 0: no tunnel. The splitter needs it, because
	// Offload describes the inner packet only. CsumStart still counts from the
	// Ethernet header, and so includes the tunnel's headers.
	TunnelLen uint8
	// TunnelCsum is the offset of the tunnel's own checksum from the end of the
	// outer IP header; 0: it has none. Valid if TunnelLen is not 0.
	TunnelCsum uint8
}

// Offload describes the work left to a device, in the terms of struct virtio_net_hdr
// (linux/virtio_net.h). The zero value is one packet with a complete checksum.
type Offload struct {
	Flags      uint8  // OffloadNeedsCsum, OffloadDataValid
	GSOType    uint8  // GSONone, GSOTCPv4, GSOUDPL4, GSOTCPv6, | GSOECN
	HdrLen     uint16 // bytes of headers before the payload, a hint
	GSOSize    uint16 // payload bytes per segment of a GSO frame
	CsumStart  uint16 // from the Ethernet header to where summing starts
	CsumOffset uint16 // from CsumStart to the checksum field
}

// Offload.Flags and Offload.GSOType, values of linux/virtio_net.h.
const (
	// OffloadNeedsCsum (VIRTIO_NET_HDR_F_NEEDS_CSUM): the checksum is partial.
	// The field at CsumStart+CsumOffset holds only the sum of the pseudo-header,
	// not complemented. The field of SCTP holds nothing yet, and no link can ask
	// a device for a CRC: a link that receives CsumOffset SCTPChecksum completes
	// it at once (FinishChecksum).
	OffloadNeedsCsum = 1
	// OffloadDataValid (VIRTIO_NET_HDR_F_DATA_VALID): the receiver verified the checksum.
	OffloadDataValid = 2

	GSONone  = 0
	GSOTCPv4 = 1
	GSOUDP   = 3 // UFO, no longer made by kernels
	GSOTCPv6 = 4
	GSOUDPL4 = 5
	GSOECN   = 0x80
)

// Bytes returns the frame, from the Ethernet header on.
func (f *Frame) Bytes() []byte { return f.Buf[f.Off:f.End] }

// From returns the frame from offset off on, as a Packet counts offsets.
func (f *Frame) From(off uint16) []byte { return f.Buf[f.Off+int32(off) : f.End] }

// Len returns the length of the frame in bytes, Ethernet header included.
func (f *Frame) Len() int { return int(f.End - f.Off) }

// Headroom returns the number of free bytes before the frame.
func (f *Frame) Headroom() int { return int(f.Off) }

// ChecksumPartial reports whether the transport checksum is partial, which is
// Linux's CHECKSUM_PARTIAL: see OffloadNeedsCsum.
func (f *Frame) ChecksumPartial() bool { return f.Offload.Flags&OffloadNeedsCsum != 0 }

// IsGSO reports whether the frame is a GSO frame: one TCP or UDP packet with the
// payload of several segments, Offload.GSOSize bytes each.
func (f *Frame) IsGSO() bool { return f.Offload.GSOType&^GSOECN != GSONone }
