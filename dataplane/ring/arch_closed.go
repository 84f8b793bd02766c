//go:build !(amd64 || 386 || s390x || arm64 || riscv64)

package ring

// The data cache may hold several copies of a page (arm before version 7, mips). For
// TPACKET_V3 the kernel flushes it only when it closes a block (prb_flush_block).
const (
	readsOpenBlocks = false
	storeDelay      = 0
)
