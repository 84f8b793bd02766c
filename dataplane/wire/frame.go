package wire

// NoPort is the Out of a frame that is not to be sent.
const NoPort = ^uint16(0)

// Headroom is how many bytes every link leaves free before an incoming frame:
// an outer IPv6 header (40), UDP and GUE (8+8, or GRE 8), a VLAN tag put back
// (4), and the virtio_net_hdr the ring writes before the frame (10), rounded up.
const Headroom = 96

// Frame is one Ethernet frame lent by a link, in a buffer with room in front:
//
//	Buf:  |<- room ->|<- frame: Buf[Off:End] ->|<- rest of the slot ->|
//
// The lender keeps the memory; a frame is valid until the next Recv of its
// link. Rewriting happens in place; a header is put on by moving Off back.
type Frame struct {
	Buf []byte
	Off int32 // where the Ethernet header starts
	End int32 // one past the last byte

	In  uint16 // port the frame came in by
	Out uint16 // port it leaves by; NoPort: it goes nowhere

	// Offload is what the link said of the frame, and what it will be told.
	Offload Offload

	// MTU, when not 0, asks the sending link to split the frame so that no IP
	// packet is longer than MTU bytes: a super-frame into segments, any other
	// frame into IP fragments. 0: send as it is.
	MTU uint16

	// TunnelLen is the length of the tunnel headers put in front of the inner IP
	// header (everything between the link header and it); 0: no tunnel. The
	// splitter needs it, because Offload describes the inner packet only; its
	// CsumStart still counts from the Ethernet header, over the tunnel headers.
	TunnelLen uint8
}

// Offload describes the work left to a device, in the terms of struct
// virtio_net_hdr (linux/virtio_net.h); the zero value is a plain finished frame.
type Offload struct {
	Flags      uint8  // OffloadNeedsCsum, OffloadDataValid
	GSOType    uint8  // GSONone, GSOTCPv4, GSOUDPL4, GSOTCPv6, | GSOECN
	HdrLen     uint16 // bytes of headers in front of the payload, a hint
	GSOSize    uint16 // payload bytes per segment of a super-frame
	CsumStart  uint16 // from the Ethernet header to where summing starts
	CsumOffset uint16 // from CsumStart to the checksum field
}

// Offload.Flags and Offload.GSOType, values of linux/virtio_net.h.
const (
	// OffloadNeedsCsum (VIRTIO_NET_HDR_F_NEEDS_CSUM): the checksum field at
	// CsumStart+CsumOffset holds the uncomplemented pseudo-header sum only. Of
	// SCTP it is a CRC that was not begun, which no link can pass on: a link
	// that receives CsumOffset SCTPChecksum finishes it at once (FinishChecksum).
	OffloadNeedsCsum = 1
	// OffloadDataValid (VIRTIO_NET_HDR_F_DATA_VALID): the receiver verified it.
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

// From returns the frame from an offset of its Packet on.
func (f *Frame) From(off uint16) []byte { return f.Buf[f.Off+int32(off) : f.End] }

// Len is the length of the frame in bytes, Ethernet header included.
func (f *Frame) Len() int { return int(f.End - f.Off) }

// Headroom is the number of bytes free before the frame.
func (f *Frame) Headroom() int { return int(f.Off) }

// ChecksumPartial says whether the transport checksum is only half made.
func (f *Frame) ChecksumPartial() bool { return f.Offload.Flags&OffloadNeedsCsum != 0 }

// IsGSO says whether the frame is a super-frame: one TCP or UDP packet that
// stands for several, to be cut into pieces of Offload.GSOSize.
func (f *Frame) IsGSO() bool { return f.Offload.GSOType&^GSOECN != GSONone }
