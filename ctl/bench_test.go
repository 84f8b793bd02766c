package ctl

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"uvs/ctl/config"
)

// manyServices are operations that add services of ten servers each.
func manyServices(services int) (ops []config.Op) {
	for i := range services {
		vip := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i / 250), byte(i%250 + 1)}), 80).String()
		ops = append(ops, add(vip, "wlc"))
		for j := range 10 {
			ops = append(ops, with(vip, config.Server{
				ServerKey: config.ServerKey{Addr: testServer(10*i + j), Port: 80},
				Weight:    1,
			}))
		}
	}
	return ops
}

// BenchmarkApply adds a server to a director with 1,024 services of ten servers each, and
// removes it.
func BenchmarkApply(b *testing.B) {
	for _, services := range []int{16, 1024} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			w := newFixture(b, 1)
			if errs := w.ApplyAll(manyServices(services)); slices.ContainsFunc(errs,
				func(err error) bool { return err != nil }) {
				b.Fatal(errs)
			}
			w.must(add("10.9.99.99:80", "wlc"))
			extra := config.Server{
				ServerKey: config.ServerKey{Addr: netip.MustParseAddr("10.2.77.77"), Port: 80},
				Weight:    1,
			}
			for b.Loop() {
				w.must(with("10.9.99.99:80", extra), without("10.9.99.99:80", extra))
			}
		})
	}
}

// BenchmarkApplyAll adds 1,024 services of ten servers each, as ipvsadm-restore does.
func BenchmarkApplyAll(b *testing.B) {
	ops := manyServices(1024)
	for b.Loop() {
		for i, err := range newFixture(b, 1).ApplyAll(ops) {
			if err != nil {
				b.Fatalf("%s: %v", ops[i].Kind, err)
			}
		}
	}
}
