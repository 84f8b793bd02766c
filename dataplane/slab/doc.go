// Package slab maps memory for large arrays of values without pointers, outside the Go
// heap. So millions of them cost the garbage collector nothing, and memory is used only
// as it is touched.
package slab
