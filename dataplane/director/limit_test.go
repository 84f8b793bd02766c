package director

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// limitedTestbed returns a testbed whose TCP service on 10.9.0.1 has a limit.
func limitedTestbed(t *testing.T, l Limit) (*testbed, *Service) {
	t.Helper()
	w := newTestbed(t, conntrack.MethodNAT)
	svc := w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP})
	l.Policers = NewPolicers()
	svc.Limit = &l
	return w, svc
}

// connect begins a connection and returns the verdict of its SYN.
func (w *testbed) connect(client string) Verdict {
	return w.verdict(0, syn(client, "10.9.0.1:80"))
}

// send sends a segment on a connection.
func (w *testbed) send(client string, flags uint8) Verdict {
	return w.verdict(0, wiretest.Packet{Src: client, Dst: "10.9.0.1:80", TCPFlags: flags})
}

// A client that begins more connections than its rate allows is refused only the rest.
// Other clients are not, and after a second it may begin more.
func TestLimitRate(t *testing.T) {
	w, _ := limitedTestbed(t, Limit{Rate: 3})
	count := func(client string, n, port int) (passed int) {
		for i := range n {
			switch v := w.connect(fmt.Sprintf("%s:%d", client, port+i)); v {
			case ForwardedMasq:
				passed++
			case DroppedClientRate:
			default:
				t.Fatalf("verdict %s", v)
			}
		}
		return passed
	}
	if n := count("10.1.0.2", 10, 5000); n != 3 {
		t.Errorf("%d of 10 passed at once, want 3", n)
	}
	if v := w.send("10.1.0.2:5000", wire.TCPAck); v != ForwardedMasq {
		t.Errorf("a segment of what passed: %s", v)
	}
	if n := count("10.1.0.3", 10, 5000); n != 3 {
		t.Errorf("another client: %d of 10 passed, want 3", n)
	}
	w.now += 334
	if n := count("10.1.0.2", 10, 6000); n != 1 {
		t.Errorf("a third of a second later: %d passed, want 1", n)
	}
	w.now += 5000
	if n := count("10.1.0.2", 10, 7000); n != 3 {
		t.Errorf("seconds later: %d passed, want 3", n)
	}
}

// A client has as many connections as it may; one that ends makes room for one. The
// entry that counts them is no template of any server.
func TestLimitConns(t *testing.T) {
	for _, persist := range []conntrack.Tick{0, 300 * conntrack.Second} {
		t.Run(fmt.Sprint("persist ", persist), func(t *testing.T) {
			w, svc := limitedTestbed(t, Limit{Conns: 2})
			svc.Persist, svc.Mask = persist, everyBit
			expect := func(sentence, client string, want Verdict) {
				t.Helper()
				if v := w.connect(client); v != want {
					t.Errorf("%s: %s, want %s", sentence, v, want)
				}
			}
			expect("the first", "10.1.0.2:5000", ForwardedMasq)
			expect("the second", "10.1.0.2:5001", ForwardedMasq)
			expect("the third", "10.1.0.2:5002", DroppedClientConns)
			expect("the first again", "10.1.0.2:5000", ForwardedMasq)
			expect("another client", "10.1.0.3:5000", ForwardedMasq)
			w.send("10.1.0.2:5000", wire.TCPAck)
			w.send("10.1.0.2:5000", wire.TCPRst)
			expect("one is closing", "10.1.0.2:5002", DroppedClientConns)
			w.advance(11 * conntrack.Second) // CLOSE is kept for ten
			expect("one is forgotten", "10.1.0.2:5002", ForwardedMasq)
			expect("and that is all", "10.1.0.2:5003", DroppedClientConns)
		})
	}
}

// A counted flow that ended may begin again at another server: unlike a template, a
// counter does not keep the client at one.
func TestCountedFlowBeginsAgain(t *testing.T) {
	w, _ := limitedTestbed(t, Limit{Conns: 2})
	w.connect("10.1.0.2:5000")
	w.send("10.1.0.2:5000", wire.TCPAck)
	w.send("10.1.0.2:5000", wire.TCPRst)
	f := in(0, syn("10.1.0.2:5000", "10.9.0.1:80"))
	w.process(&f)
	if wire.Ethernet(f.Bytes()).Dst() != serverMAC[1] {
		t.Error("the closed flow stayed at its server")
	}
}

// The counter of a client ends soon after the last of its conns.
func TestClientCountersEnd(t *testing.T) {
	w, _ := limitedTestbed(t, Limit{Conns: 5})
	for i := range 100 {
		w.connect(fmt.Sprintf("10.1.%d.2:5000", i))
	}
	w.advance(300 * conntrack.Second)
	if n := w.conns.Stats().InUse; n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

// Policers and a plain model, which keeps a time for every client, agree for any order
// of clients, services, rates and pauses.
func TestPolicersTwin(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	type who struct{ service, client uint32 }
	used := map[who]int64{}
	s := NewPolicers()
	now := conntrack.Tick(1)
	rates := []uint32{1, 3, 7, 100, 1000}
	for range 200_000 {
		now += conntrack.Tick(rng.IntN(3) * rng.IntN(20))
		w := who{rng.Uint32N(4), rng.Uint32N(50)}
		rate := rates[w.service]
		a := wire.Addr{10: 0xff, 11: 0xff, 15: byte(w.client)}
		cost := int64(1e6) / int64(rate)
		ahead := max(used[w]-int64(now)*1000, 0)
		want := ahead+cost <= 1e6
		if want {
			used[w] = int64(now)*1000 + ahead + cost
		}
		if got := s.allow(w.service, &a, now, rate); got != want {
			t.Fatalf("at %d client %d of service %d: %t, want %t", now, w.client, w.service, got, want)
		}
	}
}

// In a flood from ten times as many addresses as there is room for, a client that stays
// within its rate is hardly ever refused.
func TestPolicersUnderFlood(t *testing.T) {
	s := NewPolicers()
	honest := wire.Addr{15: 1}
	refused, asked := 0, 0
	for i := range 655_360 {
		stranger := wire.Addr{0: 0x20, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}
		now := conntrack.Tick(1000 + i/1000)
		s.allow(1, &stranger, now, 10)
		if i%100_000 == 0 {
			asked++
			if !s.allow(1, &honest, now, 10) {
				refused++
			}
		}
	}
	if refused > 0 {
		t.Errorf("refused %d of %d", refused, asked)
	}
}

func BenchmarkAdmit(b *testing.B) {
	s := NewPolicers()
	var a wire.Addr
	for i := range b.N {
		a[14], a[15] = byte(i>>8), byte(i)
		s.allow(1, &a, conntrack.Tick(i/1000), 10)
	}
}
