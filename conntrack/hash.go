package conntrack

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"

	"uvs/dataplane/wire"
)

// secret keys the hash of a client's end. The hash is NH (Black et al., "UMAC:
// Fast and Secure Message Authentication", CRYPTO 1999) over two pairs of 64-bit
// words with 128-bit sums, folded by one keyed multiplication. For any two
// clients, chosen without knowing the secret, NH gives the same 128 bits with
// probability of at most 2^-64, whatever the clients; so who wants a crowd in
// one bucket would have to learn the secret, and nothing that leaves the
// director depends on a hash: neither the server picked nor any byte sent. Three
// multiplications take about 2 ns.
type secret [6]uint64

// newSecret draws a secret, or stretches a seed into one for tests that must
// repeat.
func newSecret(seed uint64) (s secret) {
	if seed == 0 {
		var raw [8 * len(s)]byte
		rand.Read(raw[:]) // never fails (crypto/rand since Go 1.24)
		for i := range s {
			s[i] = binary.LittleEndian.Uint64(raw[8*i:])
		}
		return s
	}
	for i := range s { // splitmix64 (Steele et al., 2014)
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		s[i] = z ^ z>>31
	}
	return s
}

// hash is that of a client's end; templates have hashes of their own.
func (s *secret) hash(client *wire.Addr, port uint16, proto uint8, template bool) uint64 {
	w := uint64(port) | uint64(proto)<<16
	if template {
		w |= 1 << 24
	}
	h1, l1 := bits.Mul64(binary.LittleEndian.Uint64(client[:8])+s[0], binary.LittleEndian.Uint64(client[8:])+s[1])
	h2, l2 := bits.Mul64(w+s[2], s[3])
	lo, carry := bits.Add64(l1, l2, 0)
	hi, _ := bits.Add64(h1, h2, carry)
	a, b := bits.Mul64(hi^s[4], lo^s[5])
	return a ^ b
}
