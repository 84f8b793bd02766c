//go:build !race

package slab

import (
	"fmt"
	"math"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Slab is memory for values of a type without pointers. The zero value is empty.
type Slab[T any] struct {
	Items []T
	raw   []byte
}

// New maps memory for n values, all zero. Untouched pages take no memory (anonymous,
// not reserved). New asks for huge pages, and does without if there are none.
func New[T any](n int) (Slab[T], error) {
	var zero T
	size, raw, err := uint64(n)*uint64(unsafe.Sizeof(zero)), []byte(nil), error(unix.ENOMEM)
	if size <= math.MaxInt {
		raw, err = unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	}
	if err != nil {
		return Slab[T]{}, fmt.Errorf("map %d bytes for %d of %T: %w", size, n, zero, err)
	}
	_ = unix.Madvise(raw, unix.MADV_HUGEPAGE) // may fail
	return Slab[T]{unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(raw))), n), raw}, nil
}

// Close unmaps the memory; Items must not be used afterwards.
func (s *Slab[T]) Close() error {
	if s.raw == nil {
		return nil
	}
	raw := s.raw
	s.raw, s.Items = nil, nil
	return unix.Munmap(raw)
}
