package sched

import "math/bits"

// sipKey is a SipHash key of two equal words. mh has two hash functions, whose keys
// are constants (ip_vs_mh.c), so that all directors agree.
type sipKey uint64

const (
	slotKey sipKey = 2654435761 // a client's slot, a server's offset
	skipKey sipKey = 2654446892 // a server's skip
)

// hash returns the low 32 bits of SipHash-1-3 of v, as four little-endian bytes. It is
// the kernel's hsiphash_1u32 on a 64-bit machine. SipHash-1-3 has one round per word
// and three at the end (Aumasson and Bernstein, "SipHash: a fast short-input PRF",
// 2012).
func (k sipKey) hash(v uint32) uint32 {
	s := sipState{
		uint64(k) ^ 0x736f6d6570736575, // "somepseu"
		uint64(k) ^ 0x646f72616e646f6d, // "dorandom"
		uint64(k) ^ 0x6c7967656e657261, // "lygenera"
		uint64(k) ^ 0x7465646279746573, // "tedbytes"
	}
	word := uint64(v) | 4<<56 // the length in the top byte
	s.v3 ^= word
	s = s.round()
	s.v0 ^= word
	s.v2 ^= 0xff
	s = s.round().round().round()
	return uint32(s.v0 ^ s.v1 ^ s.v2 ^ s.v3)
}

type sipState struct{ v0, v1, v2, v3 uint64 }

func (s sipState) round() sipState {
	s.v0 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 13) ^ s.v0
	s.v0 = bits.RotateLeft64(s.v0, 32)
	s.v2 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 16) ^ s.v2
	s.v0 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 21) ^ s.v0
	s.v2 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 17) ^ s.v2
	s.v2 = bits.RotateLeft64(s.v2, 32)
	return s
}
