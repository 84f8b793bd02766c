// Package slab gets large memory for values without pointers from the kernel
// instead of the Go heap, so that millions of them cost the garbage collector
// nothing, and memory is used only as it is touched.
package slab
