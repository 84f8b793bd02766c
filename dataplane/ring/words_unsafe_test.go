package ring

import "unsafe"

// wordsAsBytes returns the memory of words, which is aligned.
func wordsAsBytes(words []uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 8*len(words))
}
