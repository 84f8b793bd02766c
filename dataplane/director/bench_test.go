package director

import (
	"fmt"
	"net/netip"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// BenchmarkProcess is the cost of one frame in full batches, by what becomes of it.
// There are 1024 flows; each frame is restored before it is processed again ("copy" is
// the cost of that alone). New flows end by timeout while it runs.
func BenchmarkProcess(b *testing.B) {
	const flows = 1024
	client := func(i int) string { return fmt.Sprintf("10.1.0.%d:%d", 2+i%200, 5000+i) }
	request := func(i int) wiretest.Packet {
		return wiretest.Packet{Src: client(i), Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck}
	}
	for _, bench := range []struct {
		name   string
		method conntrack.Method
		frame  func(w *testbed, i int) wire.Frame // the i-th, of a flow that is known if this makes it so
		want   Verdict
	}{
		{
			"copy", conntrack.MethodNAT, func(*testbed, int) wire.Frame { return wiretest.Frame(make([]byte, 54)) },
			NotOurs,
		},
		{"other", conntrack.MethodNAT, func(_ *testbed, i int) wire.Frame {
			return in(0, wiretest.Packet{Src: client(i), Dst: "10.1.0.1:22"})
		}, NotOurs},
		{"masq in", conntrack.MethodNAT, func(w *testbed, i int) wire.Frame {
			w.establish(request(i))
			return in(0, request(i))
		}, ForwardedMasq},
		{"masq out", conntrack.MethodNAT, func(w *testbed, i int) wire.Frame {
			server := netip.AddrPortFrom(w.establish(request(i)), 8080).String()
			return in(1, wiretest.Packet{Src: server, Dst: client(i), TCPFlags: wire.TCPAck})
		}, ReturnedMasq},
		{"route", conntrack.MethodDR, func(w *testbed, i int) wire.Frame {
			w.establish(request(i))
			return in(0, request(i))
		}, ForwardedRoute},
		{"tunnel", conntrack.MethodTunnel, func(w *testbed, i int) wire.Frame {
			w.establish(request(i))
			return in(0, request(i))
		}, ForwardedTunnel},
		{"masq new", conntrack.MethodNAT, func(_ *testbed, i int) wire.Frame {
			return in(0, syn(client(i), "10.9.0.1:80"))
		}, ForwardedMasq},
	} {
		b.Run(bench.name, func(b *testing.B) {
			w := newTestbed(b, bench.method)
			var originals, frames [flows]wire.Frame
			for i := range flows {
				originals[i] = bench.frame(w, i)
				frames[i] = wiretest.Frame(originals[i].Bytes())
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += MaxBatch {
				at := n % flows
				batch := frames[at : at+MaxBatch]
				for i := range batch {
					f, o := &batch[i], &originals[at+i]
					f.Off, f.End, f.In = o.Off, o.End, o.In
					copy(f.Bytes(), o.Bytes())
				}
				switch bench.name {
				case "copy":
					continue
				case "masq new":
					// Each flow comes again long after SYN_RECV's 60 s.
					w.now += 80 * conntrack.Second / (flows / MaxBatch)
				}
				w.dir.Process(w.now, w.table, batch, w.verdicts[:])
			}
			b.StopTimer()
			if w.verdicts[0] != bench.want {
				b.Errorf("measured %s, want %s", w.verdicts[0], bench.want)
			}
			if n := w.conns.Stats().Inserted; bench.name == "masq new" && n < uint64(b.N) {
				b.Errorf("%d conns for %d new flows", n, b.N)
			}
		})
	}
}

// establish makes the packet's flow an established conn and returns where it went.
func (w *testbed) establish(p wiretest.Packet) netip.Addr {
	var f wire.Frame
	for _, flags := range []uint8{wire.TCPSyn, wire.TCPAck} {
		p.TCPFlags = flags
		f = in(0, p)
		w.process(&f)
	}
	return wire.IPv4(f.Bytes()[wire.EthernetLen:]).Dst().Netip()
}
