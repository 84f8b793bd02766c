package wire_test

import (
	"testing"

	"uvs/dataplane/wire"
)

// slowSum is Sum as RFC 1071 describes it: add 16-bit words and the carries.
func slowSum(b []byte, sum uint32) uint32 {
	for i := range b {
		word := uint32(b[i])
		if i%2 == 0 {
			word <<= 8
		}
		sum = slowFold(sum) + word
	}
	return sum
}

func slowFold(sum uint32) uint32 {
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return sum
}

// TestSum: Sum equals slowSum for any length, alignment and initial sum.
func TestSum(t *testing.T) {
	r := newRandom(t)
	buf := r.bytes(2100)
	for n := range 200 {
		compareSums(t, buf[n%9:][:n], r.Uint32())
	}
	for range 2000 {
		at := r.IntN(100)
		compareSums(t, buf[at:at+r.IntN(2000)], r.Uint32())
	}
	for i := range buf {
		buf[i] = 0xff // every addition carries
	}
	for n := range 200 {
		compareSums(t, buf[:n], 0xffffffff)
	}
}

func compareSums(t *testing.T, b []byte, initial uint32) {
	t.Helper()
	got, want := wire.Fold(wire.Sum(b, initial)), uint16(slowFold(slowSum(b, initial)))
	if got != want {
		t.Fatalf("sum of %d bytes from %#x is %#04x, want %#04x", len(b), initial, got, want)
	}
}

// TestSumOfSlices: the sums of slices of even length add up to the sum of all.
func TestSumOfSlices(t *testing.T) {
	r := newRandom(t)
	for range 1000 {
		b := r.bytes(2 + r.IntN(500))
		at := r.IntN(len(b)) &^ 1
		got, want := wire.Fold(wire.Sum(b[at:], wire.Sum(b[:at], 0))), wire.Fold(wire.Sum(b, 0))
		if got != want {
			t.Fatalf("%d and %d bytes sum to %#04x, together to %#04x", at, len(b)-at, got, want)
		}
	}
}

// TestFold: Fold equals slowFold.
func TestFold(t *testing.T) {
	r := newRandom(t)
	for _, sum := range []uint32{0, 1, 0xffff, 0x10000, 0x1ffff, 0xffff0000, 0xfffffffe, 0xffffffff} {
		if got, want := wire.Fold(sum), uint16(slowFold(sum)); got != want {
			t.Errorf("Fold(%#x) = %#04x, want %#04x", sum, got, want)
		}
	}
	for range 10000 {
		if sum := r.Uint32(); wire.Fold(sum) != uint16(slowFold(sum)) {
			t.Fatalf("Fold(%#x) = %#04x, want %#04x", sum, wire.Fold(sum), slowFold(sum))
		}
	}
}

// TestPseudoSum: PseudoSum equals the sum of a written-out pseudo-header, for both
// families.
func TestPseudoSum(t *testing.T) {
	r := newRandom(t)
	for range 1000 {
		length := r.Uint32N(200_000)
		tail := []byte{byte(length >> 24), byte(length >> 16), byte(length >> 8), byte(length), 0, 0, 0, wire.ProtoTCP}
		src, dst := r.bytes(16), r.bytes(16)
		got := wire.Fold(wire.PseudoSum(wire.Addr(src), wire.Addr(dst), wire.ProtoTCP, length))
		if want := wire.Fold(slowSum(append(append(src, dst...), tail...), 0)); got != want {
			t.Fatalf("IPv6 %x > %x: %#04x, want %#04x", src, dst, got, want)
		}
		got = wire.Fold(wire.PseudoSum(wire.AddrFrom4(src), wire.AddrFrom4(dst), wire.ProtoTCP, length))
		if want := wire.Fold(slowSum(append(append(src[:4:4], dst[:4]...), tail...), 0)); got != want {
			t.Fatalf("IPv4 %x > %x: %#04x, want %#04x", src[:4], dst[:4], got, want)
		}
	}
}

// TestUpdate: an updated checksum equals the checksum of the new bytes.
func TestUpdate(t *testing.T) {
	r := newRandom(t)
	check := func(b []byte) uint16 { return ^wire.Fold(slowSum(b, 0)) }
	for range 10000 {
		b := r.bytes(60)
		switch r.IntN(3) { // words of only zeros or ones are the hard cases
		case 0:
			copy(b[8:], make([]byte, 16))
		case 1:
			copy(b[8:], []byte{0xff, 0xff, 0xff, 0xff})
		}
		old, before := append([]byte(nil), b...), check(b)
		var got uint16
		switch n := []int{2, 4, 16}[r.IntN(3)]; n {
		case 2:
			copy(b[8:], r.bytes(n))
			got = wire.Update16(before, uint16(old[8])<<8|uint16(old[9]), uint16(b[8])<<8|uint16(b[9]))
		case 4:
			copy(b[8:], r.bytes(n))
			got = wire.Update32(before, word32(old[8:]), word32(b[8:]))
		case 16:
			copy(b[8:], r.bytes(n))
			got = wire.UpdateAddr(before, wire.Addr(old[8:]), wire.Addr(b[8:]))
		}
		if want := check(b); got != want {
			t.Fatalf("%x to %x: checksum %#04x became %#04x, want %#04x", old, b, before, got, want)
		}
	}
}

func word32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// BenchmarkSum sums the payload of a full Ethernet frame.
func BenchmarkSum(b *testing.B) {
	payload := make([]byte, 1460)
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		wire.Sum(payload, 0)
	}
}
