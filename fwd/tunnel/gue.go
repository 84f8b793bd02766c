package tunnel

import "uvs/dataplane/wire"

// GUE is four bytes in UDP, draft-ietf-intarea-gue-09 section 3:
//
//	+---+-+---------+---------------+-------------------------------+
//	| 0 |C|  Hlen   | Proto (4, 41) |            Flags              | 0
//	+---+-+---------+---------------+-------------------------------+
//
// C marks a control message, Hlen is the length of options. We send and take
// neither these nor any flags.
const GUE Type = 1

// GUEPort is the UDP port of GUE (IANA).
const GUEPort = 6080

const gueLen = 4

var gue = Encapsulation{
	Name: "gue", Port: GUEPort, MaxFlags: RemCsum, ChecksumOffset: wire.UDPChecksum,
	proto: wire.ProtoUDP, headerLen: wire.UDPLen + gueLen,
	Put:       func(b []byte, inner uint8, _ bool) { copy(b, []byte{0, inner, 0, 0}) },
	Strip:     stripGUE,
	QuotedLen: func([]byte) int { return gueLen },
}

func stripGUE(_ uint8, b []byte) (n int, inner uint8, ok bool) {
	if len(b) < gueLen || b[0] != 0 || b[2] != 0 || b[3] != 0 {
		return 0, 0, false
	}
	return gueLen, b[1], b[1] == wire.ProtoIPIP || b[1] == wire.ProtoIPv6
}
