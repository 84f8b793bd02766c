package ring

import (
	"sync/atomic"
	"unsafe"
)

// load32 reads the 32-bit word at b[off], which the kernel may be writing. off must be
// a multiple of four, and b aligned to its page or slot.
func load32(b []byte, off int) uint32 {
	_ = b[off+3]
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&b[off])))
}

// store32 writes the 32-bit word at b[off]. A reader of the word sees everything that
// was written before it. off is as in load32.
func store32(b []byte, off int, v uint32) {
	_ = b[off+3]
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&b[off])), v)
}
