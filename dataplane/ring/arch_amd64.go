package ring

// opensBlocks says whether frames may be read from a block the kernel is still
// filling. amd64 makes stores visible in program order, which is what the
// kernel's order of writing (payload, then header) needs to be worth anything.
const opensBlocks = true
