//go:build !amd64

package ring

// opensBlocks reports whether a link reads frames from a block that the kernel is
// still filling. The kernel orders its stores only when it closes a block, and this
// machine may reorder the others.
const opensBlocks = false
