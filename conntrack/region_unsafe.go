//go:build !race

package conntrack

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// region is zeroed memory outside the Go heap for n values of a type without
// pointers. Pages nobody touched cost nothing (anonymous, not reserved), huge
// pages are asked for and done without if there are none.
type region[T any] struct {
	items []T
	raw   []byte
}

func newRegion[T any](n int) (region[T], error) {
	var zero T
	size := n * int(unsafe.Sizeof(zero))
	raw, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return region[T]{}, fmt.Errorf("map %d bytes of connection table: %w", size, err)
	}
	_ = unix.Madvise(raw, unix.MADV_HUGEPAGE) // a wish
	return region[T]{unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(raw))), n), raw}, nil
}

// close gives the memory back; items must not be used afterwards.
func (r *region[T]) close() error {
	if r.raw == nil {
		return nil
	}
	raw := r.raw
	r.raw, r.items = nil, nil
	return unix.Munmap(raw)
}
