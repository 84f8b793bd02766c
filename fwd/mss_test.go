package fwd_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd"
	"uvs/fwd/fwdtest"
)

// TestClampMSS: the options of a SYN after a clamp to 1360.
func TestClampMSS(t *testing.T) {
	for _, r := range []struct {
		sentence   string
		have, want []byte
	}{
		{"no options", nil, nil},
		{"an MSS above", []byte{2, 4, 5, 0xb4}, []byte{2, 4, 5, 0x50}},
		{"an MSS of just as much", []byte{2, 4, 5, 0x50}, []byte{2, 4, 5, 0x50}},
		{"an MSS below", []byte{2, 4, 2, 0x18}, []byte{2, 4, 2, 0x18}},
		{"behind others", []byte{4, 2, 1, 3, 3, 7, 2, 4, 5, 0xb4, 0, 0}, []byte{4, 2, 1, 3, 3, 7, 2, 4, 5, 0x50, 0, 0}},
		{"at an odd place", []byte{1, 2, 4, 5, 0xb4, 1, 1, 1}, []byte{1, 2, 4, 5, 0x50, 1, 1, 1}},
		{"twice", []byte{2, 4, 5, 0xb4, 2, 4, 9, 0xb4}, []byte{2, 4, 5, 0x50, 2, 4, 5, 0x50}},
		{"behind the end of options", []byte{0, 0, 0, 0, 2, 4, 5, 0xb4}, []byte{0, 0, 0, 0, 2, 4, 5, 0xb4}},
		{"of a length it cannot have", []byte{2, 6, 5, 0xb4, 9, 9, 1, 1}, []byte{2, 6, 5, 0xb4, 9, 9, 1, 1}},
		{"behind an option without length", []byte{8, 0, 1, 1, 2, 4, 5, 0xb4}, []byte{8, 0, 1, 1, 2, 4, 5, 0xb4}},
		{"longer than the header", []byte{1, 2, 4, 5}, []byte{1, 2, 4, 5}},
		{"cut off behind its kind", []byte{1, 1, 1, 2}, []byte{1, 1, 1, 2}},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			for _, family := range fwdtest.Families {
				for _, partial := range []bool{false, true} {
					p := wiretest.Packet{
						Src: family.Client, Dst: family.VIP, TCPFlags: wire.TCPSyn,
						PartialChecksum: partial, TCPOptions: r.have, Payload: []byte{2, 4, 5, 0xb4},
					}
					f := p.Frame()
					fwd.ClampMSS(&f, fwdtest.Parse(t, &f), 1360)
					p.TCPOptions = r.want
					fwdtest.WantFrame(t, f, p.Frame())
				}
			}
		})
	}
}

// TestClampMSSTwin: random options become the same as by a slow twin, which knows where
// it put the MSS. A checksum that was right stays right.
func TestClampMSSTwin(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 20_000 {
		var have, want []byte
		most := uint16(1 + rng.IntN(0xffff))
		for len(have) < 30 && rng.IntN(6) > 0 {
			switch rng.IntN(4) {
			case 0:
				have, want = append(have, 1), append(want, 1)
			case 1:
				mss := uint16(rng.Uint32())
				have = binary.BigEndian.AppendUint16(append(have, 2, 4), mss)
				want = binary.BigEndian.AppendUint16(append(want, 2, 4), min(mss, most))
			default:
				o := make([]byte, 2+rng.IntN(7))
				for i := range o {
					o[i] = byte(rng.Uint32())
				}
				o[0], o[1] = byte(3+rng.IntN(250)), byte(len(o))
				have, want = append(have, o...), append(want, o...)
			}
		}
		for len(have)%4 != 0 {
			have, want = append(have, 1), append(want, 1)
		}
		family := fwdtest.Families[rng.IntN(len(fwdtest.Families))]
		p := wiretest.Packet{
			Src: family.Client, Dst: family.VIP, TCPFlags: wire.TCPSyn,
			PartialChecksum: rng.IntN(2) == 0, TCPOptions: have, Payload: make([]byte, rng.IntN(9)),
		}
		f := p.Frame()
		fwd.ClampMSS(&f, fwdtest.Parse(t, &f), most)
		p.TCPOptions = want
		wiretest.Check(t, f)
		fwdtest.WantFrame(t, f, p.Frame())
		if t.Failed() {
			t.Fatalf("options %x, at most %d", have, most)
		}
	}
}

// TestClampMSSDoesNotAllocate: clamping does not allocate.
func TestClampMSSDoesNotAllocate(t *testing.T) {
	f := wiretest.Packet{
		Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP, TCPFlags: wire.TCPSyn,
		TCPOptions: []byte{1, 2, 4, 5, 0xb4, 1, 1, 1},
	}.Frame()
	p := fwdtest.Parse(t, &f)
	if n := testing.AllocsPerRun(100, func() {
		binary.BigEndian.PutUint16(f.From(p.L4)[23:], 1460)
		fwd.ClampMSS(&f, p, 1360)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
