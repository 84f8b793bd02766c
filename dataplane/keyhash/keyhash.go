// Package keyhash hashes addresses under a secret key, so that no outsider
// can choose addresses that share a bucket.
package keyhash

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"

	"uvs/dataplane/wire"
)

// Key is the secret of a hash table. The hash is NH (Black et al., "UMAC: Fast
// and Secure Message Authentication", CRYPTO 1999) over two pairs of 64-bit
// words with 128-bit sums, folded by one keyed multiplication. For any two
// inputs chosen without the key, NH gives the same 128 bits with probability of
// at most 2^-64. An attacker who wants many entries in one bucket would have to
// learn the key, and nothing that leaves the director depends on a hash: neither
// the server chosen nor any byte sent. Three multiplications take about 2 ns.
type Key [6]uint64

// New draws a key at random. Tests that must repeat give a seed other than 0,
// which it stretches into a key.
func New(seed uint64) (k Key) {
	if seed == 0 {
		var raw [8 * len(k)]byte
		rand.Read(raw[:]) // never fails (crypto/rand since Go 1.24)
		for i := range k {
			k[i] = binary.LittleEndian.Uint64(raw[8*i:])
		}
		return k
	}
	for i := range k { // splitmix64 (Steele et al., 2014)
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		k[i] = z ^ z>>31
	}
	return k
}

// Hash returns the hash of an address and one more word: a port, a protocol, an ID.
func (k *Key) Hash(addr *wire.Addr, word uint64) uint64 {
	h1, l1 := bits.Mul64(binary.LittleEndian.Uint64(addr[:8])+k[0], binary.LittleEndian.Uint64(addr[8:])+k[1])
	h2, l2 := bits.Mul64(word+k[2], k[3])
	lo, carry := bits.Add64(l1, l2, 0)
	hi, _ := bits.Add64(h1, h2, carry)
	a, b := bits.Mul64(hi^k[4], lo^k[5])
	return a ^ b
}
