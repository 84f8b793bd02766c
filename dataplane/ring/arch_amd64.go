package ring

// opensBlocks reports whether a link reads frames from a block that the kernel is
// still filling. The kernel writes the payload, then the header. On amd64 stores
// become visible in program order, so that a whole header means a whole payload.
const opensBlocks = true
