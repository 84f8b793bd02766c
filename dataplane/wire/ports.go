package wire

import (
	"fmt"
	"strconv"
)

// Ports of protocols that uvs handles specially.
const (
	PortFTPData      = 20   // RFC 959 section 5.2
	PortFTP          = 21   // RFC 959 section 5.2
	PortTFTP         = 69   // RFC 1350 section 4
	PortIKE          = 500  // RFC 7296 section 2
	PortUnprivileged = 1024 // the first that a process may bind without privilege (RFC 6335 section 6)
)

// PortRange is a range of ports that includes both ends.
type PortRange struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
}

// Contains reports whether the range includes a port.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// String returns the port, or the range as iptables writes it.
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d:%d", r.First, r.Last)
}
