//go:build amd64 || 386 || s390x

package ring

// Stores become visible in program order (the kernel's smp_wmb is empty). So a whole
// header means a whole payload.
const (
	readsOpenBlocks = true
	storeDelay      = 0
)
