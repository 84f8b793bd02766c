//go:build arm64 || riscv64

package ring

import "time"

// Stores may become visible in another order, and tpacket_rcv has no barrier between
// payload and header. A store waits in its CPU for a transfer of its cache line at
// most, well below a microsecond. So the payload is there storeDelay after the header.
const (
	readsOpenBlocks = true
	storeDelay      = 5 * time.Microsecond
)
