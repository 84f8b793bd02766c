package wire

import "encoding/binary"

// Lengths of transport headers in bytes, without options.
const (
	TCPLen  = 20
	UDPLen  = 8
	SCTPLen = 12
)

// TCP is a TCP header and what follows it, RFC 9293 section 3.1:
//
//	+-------------------------------+-------------------------------+
//	|          Source Port          |       Destination Port        | 0
//	+-------------------------------+-------------------------------+
//	|                        Sequence Number                        | 4
//	+---------------------------------------------------------------+
//	|                    Acknowledgment Number                      | 8
//	+-------+-------+---------------+-------------------------------+
//	| Offset|Rsrvd  |C E U A P R S F|            Window             | 12
//	+-------+-------+---------------+-------------------------------+
//	|           Checksum            |         Urgent Pointer        | 16
//	+-------------------------------+-------------------------------+
//	|                    Options, up to 40 bytes                    | 20
type TCP []byte

const (
	tcpSeq        = 4
	tcpAck        = 8
	tcpDataOffset = 12
	tcpFlags      = 13
	tcpWindow     = 14
	tcpChecksum   = 16
	tcpUrgent     = 18
)

func (h TCP) SrcPort() uint16 { return binary.BigEndian.Uint16(h) }
func (h TCP) DstPort() uint16 { return binary.BigEndian.Uint16(h[2:]) }
func (h TCP) Seq() uint32     { return binary.BigEndian.Uint32(h[tcpSeq:]) }
func (h TCP) Ack() uint32     { return binary.BigEndian.Uint32(h[tcpAck:]) }

// HeaderLen returns the length of the header in bytes, options included.
func (h TCP) HeaderLen() int { return int(h[tcpDataOffset]>>4) * 4 }

// Flags returns the bits TCPFin … TCPCwr.
func (h TCP) Flags() uint8 { return h[tcpFlags] }

func (h TCP) Window() uint16   { return binary.BigEndian.Uint16(h[tcpWindow:]) }
func (h TCP) Checksum() uint16 { return binary.BigEndian.Uint16(h[tcpChecksum:]) }

// Urgent returns the distance from Seq to the end of the urgent data, if TCPUrg is set.
func (h TCP) Urgent() uint16 { return binary.BigEndian.Uint16(h[tcpUrgent:]) }

func (h TCP) SetSrcPort(v uint16) { binary.BigEndian.PutUint16(h, v) }
func (h TCP) SetDstPort(v uint16) { binary.BigEndian.PutUint16(h[2:], v) }
func (h TCP) SetSeq(v uint32)     { binary.BigEndian.PutUint32(h[tcpSeq:], v) }
func (h TCP) SetAck(v uint32)     { binary.BigEndian.PutUint32(h[tcpAck:], v) }

// SetHeaderLen writes the length of the header in bytes, a multiple of 4.
func (h TCP) SetHeaderLen(n int) { h[tcpDataOffset] = uint8(n/4) << 4 }

func (h TCP) SetFlags(v uint8)     { h[tcpFlags] = v }
func (h TCP) SetWindow(v uint16)   { binary.BigEndian.PutUint16(h[tcpWindow:], v) }
func (h TCP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(h[tcpChecksum:], c) }
func (h TCP) SetUrgent(v uint16)   { binary.BigEndian.PutUint16(h[tcpUrgent:], v) }

// TCP option kinds (IANA), and the length of each in bytes (RFC 9293 section 3.2, RFC
// 7323, RFC 2018).
const (
	OptionMSS      = 2 // 4
	OptionScale    = 3 // 3
	OptionSACK     = 5 // 2, and 8 for each block: left edge, right edge
	OptionStamp    = 8 // 10: TSval, TSecr
	OptionMSSLen   = 4
	OptionScaleLen = 3
	OptionStampLen = 10
)

// UDP is a UDP header and what follows it, RFC 768:
//
//	+-------------------------------+-------------------------------+
//	|          Source Port          |       Destination Port        | 0
//	+-------------------------------+-------------------------------+
//	|            Length             |           Checksum            | 4
//	+-------------------------------+-------------------------------+
//
// TCP and SCTP have their ports at the same offsets.
type UDP []byte

const (
	udpLength   = 4
	UDPChecksum = 6 // offset of its checksum
)

func (h UDP) SrcPort() uint16 { return binary.BigEndian.Uint16(h) }
func (h UDP) DstPort() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// Len returns the length of header and payload in bytes.
func (h UDP) Len() uint16 { return binary.BigEndian.Uint16(h[udpLength:]) }

// Checksum is 0 if the sender computed none.
func (h UDP) Checksum() uint16 { return binary.BigEndian.Uint16(h[UDPChecksum:]) }

func (h UDP) SetSrcPort(v uint16)  { binary.BigEndian.PutUint16(h, v) }
func (h UDP) SetDstPort(v uint16)  { binary.BigEndian.PutUint16(h[2:], v) }
func (h UDP) SetLen(n uint16)      { binary.BigEndian.PutUint16(h[udpLength:], n) }
func (h UDP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(h[UDPChecksum:], c) }

// Offsets in the SCTP common header, RFC 9260 section 3.1: ports (2 bytes each),
// verification tag and CRC32c (4 bytes each).
const (
	SCTPTag      = 4
	SCTPChecksum = 8
)

// ChunkLen is the length of the header of an SCTP chunk, RFC 9260 section 3.2: type,
// flags, and length (2 bytes).
const ChunkLen = 4

// PaddedChunk returns the length of the first of some SCTP chunks, of which at least
// ChunkLen bytes are there, with its padding.
func PaddedChunk(chunks []byte) int { return (int(binary.BigEndian.Uint16(chunks[2:])) + 3) &^ 3 }

// SCTP chunk types with a meaning here, RFC 9260 section 3.2.
const (
	ChunkInit             = 1
	ChunkInitAck          = 2
	ChunkAbort            = 6
	ChunkShutdown         = 7
	ChunkShutdownAck      = 8
	ChunkError            = 9
	ChunkCookieEcho       = 10
	ChunkCookieAck        = 11
	ChunkShutdownComplete = 14
)
