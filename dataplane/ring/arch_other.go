//go:build !amd64

package ring

// opensBlocks says whether frames may be read from a block the kernel is still
// filling. The kernel orders its stores only when it closes a block, and this
// machine may reorder the rest.
const opensBlocks = false
