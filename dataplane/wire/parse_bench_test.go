package wire

import "testing"

func BenchmarkParse(b *testing.B) {
	fr := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 1, 0, 0, 0, 0}
	IPv4(fr[14:]).FillChecksum()
	f := Frame{Buf: fr, End: int32(len(fr))}
	var p Packet
	b.ReportAllocs()
	for b.Loop() {
		Parse(&f, &p)
	}
	if p.Kind != KindIP {
		b.Fatal(p)
	}
}
func BenchmarkSum(b *testing.B) {
	buf := make([]byte, 1460)
	for b.Loop() {
		Sum(buf, 0)
	}
}
