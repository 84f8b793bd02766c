package director

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/helper/sip"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// Two frames of one new flow in one batch make one conn.
func TestOneConnForABatch(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	frames := []wire.Frame{
		in(0, syn("10.1.0.2:5000", "10.9.0.1:80")), in(0, syn("10.1.0.2:5000", "10.9.0.1:80")),
		in(0, syn("10.1.0.4:5000", "10.9.0.1:80")),
	}
	w.dir.Process(w.now, w.table, frames, w.verdicts[:3])
	want := []string{"10.2.0.11", "10.2.0.11", "10.2.0.12"}
	for i := range frames {
		var p wire.Packet
		wire.Parse(&frames[i], &p)
		if p.Dst != addr(want[i]) {
			t.Errorf("frame %d went to %s, want %s", i, p.Dst, want[i])
		}
	}
}

// traffic returns a random mix of frames: of flows to every service, replies, junk.
func traffic(rng *rand.Rand, n int) []wire.Frame {
	frames := make([]wire.Frame, n)
	for i := range frames {
		client := [...]string{"10.1.0.2:5000", "10.1.0.3:5001", "192.0.2.9:40000"}[rng.IntN(3)]
		p := wiretest.Packet{
			Src: client, Dst: "10.9.0.1:80", TCPFlags: uint8(rng.IntN(32)), Payload: make([]byte, rng.IntN(200)),
		}
		port := uint16(0)
		switch rng.IntN(6) {
		case 0:
			p.Src, p.Dst, port = "10.2.0.11:8080", client, 1
		case 1:
			p.Proto = wire.ProtoUDP
		case 2:
			p = sipMessage(client, "10.9.0.1:80", fmt.Sprint(rng.IntN(9)))
		case 3:
			p, port = sipMessage("10.2.0.11:8080", "192.0.2.9:6000", fmt.Sprint(rng.IntN(9))), 1
		}
		frames[i] = in(port, p)
		if rng.IntN(4) == 0 { // spoil it
			b := frames[i].Bytes()
			b[rng.IntN(len(b))] ^= byte(1 + rng.IntN(255))
		}
	}
	return frames
}

// The same frames, ticks and table give the same bytes, and every frame one verdict.
func TestReplay(t *testing.T) {
	run := func() (out []byte, counts [NumVerdict]int) {
		w := newTestbed(t, conntrack.MethodNAT)
		rng := rand.New(rand.NewPCG(7, 7))
		for range 200 {
			frames := traffic(rng, MaxBatch)
			w.dir.Process(w.now, w.table, frames, w.verdicts[:])
			for i := range frames {
				counts[w.verdicts[i]]++
				if frames[i].Out != wire.NoPort {
					out = append(out, frames[i].Bytes()...)
				}
			}
			w.now += 3
		}
		return out, counts
	}
	first, counts := run()
	second, again := run()
	if !bytes.Equal(first, second) || counts != again {
		t.Error("two runs over the same frames differ")
	}
	sum := 0
	for _, n := range counts {
		sum += n
	}
	if sum != 200*MaxBatch || len(first) == 0 {
		t.Errorf("%d verdicts for %d frames, %d bytes out", sum, 200*MaxBatch, len(first))
	}
}

// A batch allocates nothing, whatever is in it.
func TestProcessDoesNotAllocate(t *testing.T) {
	for _, method := range []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel} {
		for name, options := range serviceOptions {
			processDoesNotAllocate(t, method, name, options)
		}
	}
	for _, e := range encapsulations {
		for _, over6 := range []bool{false, true} {
			batchDoesNotAllocate(
				t, tunnelTestbed(t, e.tunnel, over6), conntrack.MethodTunnel, e.name,
				traffic(rand.New(rand.NewPCG(1, 1)), MaxBatch),
			)
		}
	}
}

// serviceOptions are what services can have beyond scheduler and servers.
var serviceOptions = map[string]func(*testbed, *Service){
	"plain":   func(*testbed, *Service) {},
	"persist": func(_ *testbed, s *Service) { s.Persist, s.Mask = 300*conntrack.Second, everyBit },
	"sorry":   func(w *testbed, s *Service) { s.Picker = pickNone{}; w.sorry(s, "10.2.0.13") },
	"limits": func(_ *testbed, s *Service) {
		s.Limit = &Limit{Rate: 100, Conns: 3, Policers: NewPolicers()}
	},
	"calls": func(w *testbed, s *Service) {
		s.Persist, s.Mask, s.SIPCalls = 300*conntrack.Second, everyBit, new(sip.Calls)
		w.table.ReplyServices = map[Endpoint]ReplyService{{addr("10.2.0.11"), 8080, wire.ProtoUDP}: {
			VIP: addr("10.9.0.1"), VPort: 80, Counters: NewCounters(1), Service: s, Server: s.Servers[0],
		}}
	},
	"mss": func(w *testbed, _ *Service) {
		for i := range w.lastID {
			w.table.server(i + 1).MSS = AutoMSS
		}
	},
	"one packet": func(w *testbed, s *Service) {
		s.OnePacket = true
		w.table.ReplyServices = map[Endpoint]ReplyService{
			{addr("10.2.0.11"), 8080, wire.ProtoTCP}: {VIP: addr("10.9.0.1"), VPort: 80, Counters: NewCounters(1)},
		}
	},
}

func processDoesNotAllocate(t *testing.T, method conntrack.Method, name string, options func(*testbed, *Service)) {
	t.Helper()
	w := newTestbed(t, method)
	for _, svc := range w.table.Services.All() {
		options(w, svc)
	}
	rng := rand.New(rand.NewPCG(1, uint64(method)))
	var unusual []wire.Frame
	for _, r := range unusualFrames() {
		unusual = append(unusual, r.frame)
	}
	for batch := range slices.Chunk(unusual, MaxBatch) {
		batchDoesNotAllocate(t, w, method, name, batch)
	}
	original := traffic(rng, MaxBatch-14)
	for i, order := range []string{"in order", "reversed"} {
		pieces := fragmentsOf(uint16(i), 1, 1400, large(
			wire.ProtoUDP, [...]string{"10.1.0.2:5000", "10.2.0.11:8080"}[i],
			[...]string{"10.9.0.1:80", "10.1.0.2:5000"}[i],
		))
		orders[order](pieces)
		original = append(original, pieces...)
	}
	original = append(original, wiretest.ARP(1, wiretest.ClientMAC, "10.1.0.2", wire.MAC{}, "10.9.0.1"),
		wiretest.Solicitation(wiretest.ClientMAC, "fd00:1::2", "fd00:9::1"))
	batchDoesNotAllocate(t, w, method, name, original)
}

func batchDoesNotAllocate(t *testing.T, w *testbed, method conntrack.Method, name string, original []wire.Frame) {
	t.Helper()
	frames := make([]wire.Frame, len(original))
	saved := make([][]byte, len(original))
	for i := range original {
		saved[i] = bytes.Clone(original[i].Buf)
	}
	allocs := testing.AllocsPerRun(200, func() {
		for i := range original {
			frames[i] = original[i]
			copy(frames[i].Buf, saved[i])
		}
		w.now += 50
		w.dir.Process(w.now, w.table, frames, w.verdicts[:len(frames)])
	})
	if allocs != 0 {
		t.Errorf("method %d, %s: %v allocations per batch, want 0", method, name, allocs)
	}
}

// No frame makes the director panic. Each ends with lengths within its buffer and one
// verdict, and what leaves can be parsed.
func FuzzProcess(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, fr := range traffic(rng, 20) {
		f.Add(fr.Bytes(), uint8(0), uint16(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, flags uint8, gso uint16) {
		for _, method := range []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel} {
			w := vlanTestbed(t, method)
			w.table.Settings.KeepTags = flags&4 != 0
			for port := range uint16(2) {
				fr := wiretest.Frame(bytes.Clone(b))
				for tags := flags >> 6; tags > 0; tags-- { // besides those it may have
					wire.PushVLAN(&fr, wire.EtherTypeVLAN, uint16(6+tags))
				}
				fr.In = port
				if flags&1 != 0 {
					fr.Offload = wire.Offload{
						Flags: wire.OffloadNeedsCsum, CsumStart: 34, CsumOffset: 16, GSOSize: gso,
						GSOType: flags >> 4 & 1,
					}
				}
				if len(b) >= 6 && flags&2 != 0 {
					copy(fr.Bytes(), portMAC[port][:])
				}
				v := w.process(&fr)
				if v >= NumVerdict || fr.Off < 0 || fr.Off > fr.End || int(fr.End) > len(fr.Buf) {
					t.Fatalf("verdict %d, frame %d..%d of %d", v, fr.Off, fr.End, len(fr.Buf))
				}
			}
		}
	})
}
