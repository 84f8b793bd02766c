// Package tftp reads the requests of TFTP (RFC 1350). The server replies to a request
// from another port than the one that the client used (section 4).
package tftp

// Opcodes of requests (RFC 1350 section 5).
const (
	opRead  = 1
	opWrite = 2
)

// IsRequest reports whether a UDP payload is a request: its first two bytes are the
// opcode, in network order.
func IsRequest(payload []byte) bool {
	return len(payload) >= 2 && payload[0] == 0 && (payload[1] == opRead || payload[1] == opWrite)
}
