package ctl

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/ctl/nettest"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// manyServices are operations that add services.
func manyServices(services, servers int) (ops []config.Op) {
	for i := range services {
		vip := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i / 250), byte(i%250 + 1)}), 80).String()
		ops = append(ops, add(vip, "wlc"))
		for j := range servers {
			ops = append(ops, with(vip, config.Server{
				ServerKey: config.ServerKey{Addr: testServer(servers*i + j), Port: 80},
				Weight:    1,
			}))
		}
	}
	return ops
}

// useRealGuard gives the manager nftables rules in a network namespace that has the
// fixture's interfaces.
func (w *fixture) useRealGuard(b *testing.B) {
	ns := nettest.New(b)
	nettest.Join(ns, testPorts[0].Name, ns, testPorts[1].Name)
	var g *guard.Guard
	var err error
	ns.Do(func() { g, err = guard.New(zerolog.Nop()) })
	ns.Must(err)
	b.Cleanup(func() { g.Close() })
	w.Manager.guard = g
}

// BenchmarkChange measures single changes beside many services of four servers each, with
// the rules in the kernel: the median time of each kind of change.
func BenchmarkChange(b *testing.B) {
	for _, services := range []int{1000, 5000, 10000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			w := newFixture(b, 1)
			w.useRealGuard(b)
			for part := range slices.Chunk(manyServices(services, 4), 10000) {
				for _, err := range w.ApplyAll(part) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			kinds := []string{"add-service", "add-server", "edit-weight", "delete-server", "delete-service"}
			times := make([][]time.Duration, len(kinds))
			for n := 0; b.Loop(); n++ {
				vip, server := fmt.Sprintf("10.8.0.%d:80", 1+n%16), masq(n%8, 1)
				for i, op := range []config.Op{
					add(vip, "wlc"), with(vip, server), edited(vip, masq(n%8, 2)), without(vip, server),
					{Kind: config.DeleteService, Service: service(vip, "")},
				} {
					start := time.Now()
					w.must(op)
					times[i] = append(times[i], time.Since(start))
				}
			}
			for i, kind := range kinds {
				slices.Sort(times[i])
				b.ReportMetric(float64(times[i][len(times[i])/2].Microseconds())/1e3, "ms/"+kind)
			}
		})
	}
}

// BenchmarkApply adds a server to a director with 1,024 services of ten servers each, and
// removes it.
func BenchmarkApply(b *testing.B) {
	for _, services := range []int{16, 1024} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			w := newFixture(b, 1)
			if errs := w.ApplyAll(manyServices(services, 10)); slices.ContainsFunc(errs,
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

// BenchmarkNeighbour measures what a server's new hardware address costs beside 10,000
// services, and BenchmarkRecompile what another address of the host costs.
func BenchmarkNeighbour(b *testing.B) {
	benchmarkHostNet(b, func(net *director.HostNet, n int) {
		net.Neighbours[director.NeighbourKey{Port: 1, Addr: wire.AddrFrom(testServer(0))}] = wire.MAC{2, 1, 4: byte(n)}
	})
}

func BenchmarkRecompile(b *testing.B) {
	benchmarkHostNet(b, func(net *director.HostNet, n int) {
		net.HostAddrs[wire.AddrFrom(netip.AddrFrom4([4]byte{10, 1, 1, byte(n)}))] = 2
	})
}

func benchmarkHostNet(b *testing.B, change func(net *director.HostNet, n int)) {
	w := newFixture(b, 1)
	for part := range slices.Chunk(manyServices(10000, 4), api.MaxOps) {
		w.ApplyAll(part)
	}
	for n := 0; b.Loop(); n++ {
		net := *w.host.HostNet()
		net.Neighbours, net.HostAddrs = maps.Clone(net.Neighbours), maps.Clone(testHostNet(0).HostAddrs)
		change(&net, n)
		w.host.set(&net)
		w.RoutesChanged()
	}
}

// BenchmarkApplyAll adds many services with their servers, as ipvsadm-restore does.
func BenchmarkApplyAll(b *testing.B) {
	for _, size := range []struct{ services, servers int }{{1024, 10}, {10000, 4}} {
		b.Run(fmt.Sprintf("%dx%d", size.services, size.servers), func(b *testing.B) {
			ops := manyServices(size.services, size.servers)
			for b.Loop() {
				w := newFixture(b, 1)
				for part := range slices.Chunk(ops, api.MaxOps) {
					for i, err := range w.ApplyAll(part) {
						if err != nil {
							b.Fatalf("%s: %v", part[i].Kind, err)
						}
					}
				}
			}
		})
	}
}
