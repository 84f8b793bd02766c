package conntrack

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"uvs/dataplane/wire"
)

// TestOneClientPort: a client that connects from one port to ten thousand has a conn for
// each, by any method. No conns of others are evicted for them.
func TestOneClientPort(t *testing.T) {
	const conns = 10000
	for _, method := range []Method{MethodNAT, MethodDR} {
		tab := newTestTable(t, Config{Max: 3 * conns})
		fill(t, tab, 0, 0, 5000, EventSYN) // others, half-open
		w := tab.Worker(0)
		e := tcpEntry(9999)
		e.Method = method
		for port := range conns {
			w.Begin(Tick(port / 64))
			e.VPort, e.SPort = uint16(port), uint16(port)
			if ref, created := w.Insert(&e); ref == 0 || !created {
				t.Fatalf("port %d: %d %v", port, ref, created)
			}
			w.End()
		}
		w.Begin(200)
		for port := range conns {
			e.VPort, e.SPort = uint16(port), uint16(port)
			in, out := lookup(w, clientQuery(&e)), lookup(w, serverQuery(&e))
			if in == 0 || in != out {
				t.Fatalf("method %d: port %d finds %d, its replies %d", method, port, in, out)
			}
			if _, created := w.Insert(&e); created {
				t.Fatalf("method %d: port %d has two conns", method, port)
			}
		}
		w.End()
		if s := tab.Stats(); s.InUse != 5000+conns {
			t.Errorf("method %d: %d conns are left of %d", method, s.InUse, 5000+conns)
		}
		check(t, tab)
		runBatches(tab, 1000*Second)
		reclaimAll(tab, 1000*Second)
		check(t, tab)
		if s := tab.Stats(); s.InUse != 0 {
			t.Errorf("method %d: %d conns are left at the end", method, s.InUse)
		}
	}
}

// TestOneClientPortFillsTable: a client that goes on when the table is full of its conns
// evicts those, and every conn that is left is found.
func TestOneClientPortFillsTable(t *testing.T) {
	tab := newTestTable(t, Config{Max: 1000, Workers: 2})
	e := udpOf(1, 0)
	for port := range 5000 {
		w := tab.Worker(port % 2)
		w.Begin(Tick(port))
		e.VPort, e.SPort = uint16(port), uint16(port)
		if ref, created := w.Insert(&e); ref == 0 || !created {
			t.Fatalf("port %d: %d %v", port, ref, created)
		}
		w.End()
	}
	reclaimAll(tab, 5000)
	check(t, tab)
	if s := tab.Stats(); s.InUse < 500 {
		t.Errorf("%d conns, want at least half of the table's", s.InUse)
	}
}

// TestManyFullWindows: client ports that fill their windows, and with them many others,
// end some of their own conns while the table has room. Answered flows of others stay,
// and new ones find a place.
func TestManyFullWindows(t *testing.T) {
	const clients, flows, others = 200, 58, 4000
	for _, method := range []Method{MethodNAT, MethodDR} {
		tab := newTestTable(t, Config{Max: 20000})
		w := tab.Worker(0)
		answered := func(from, to int) {
			for i := from; i < to; i++ {
				w.Begin(0)
				e := udpEntry(uint64(clients + i))
				ref, _ := w.Insert(&e)
				w.Step(ref, DirIn, EventData, nil)
				w.Step(ref, DirOut, EventData, nil)
				w.End()
			}
		}
		answered(0, others/2)
		for i := range clients * flows {
			w.Begin(1)
			e := udpOf(i%clients, i/clients)
			e.Method, e.SPort = method, uint16(i)
			w.Insert(&e)
			w.End()
		}
		answered(others/2, others)
		w.Begin(1)
		for i := range others {
			e := udpEntry(uint64(clients + i))
			if lookup(w, clientQuery(&e)) == 0 {
				t.Errorf("method %d: flow %d of others has ended", method, i)
			}
		}
		w.End()
		check(t, tab)
		s := tab.Stats()
		if evicted := s.Ended[EvictedHalfOpen]; evicted == 0 || evicted > clients*flows/100 {
			t.Errorf("method %d: %d conns are evicted, want a few", method, evicted)
		}
	}
}

// TestExpectationsOverflow: templates and expectations of one client have no limit
// either.
func TestExpectationsOverflow(t *testing.T) {
	tab := newTestTable(t, Config{Max: 10000})
	w := tab.Worker(0)
	w.Begin(0)
	for i := range 300 {
		passive, active, template := tcpEntry(1), tcpEntry(1), templateEntry(1, Second)
		passive.NoClientPort, passive.VPort = true, uint16(i)
		active.NoServerPort, active.Server = true, clientAddr(uint64(i))
		template.VPort = uint16(i)
		for _, e := range []*Entry{&passive, &active, &template} {
			if _, created := w.Insert(e); !created {
				t.Fatalf("%d: %+v is not created", i, e)
			}
		}
		in, out := clientQuery(&passive), serverQuery(&active)
		in.ClientPort, out.PeerPort = 999, 999
		if ref := lookup(w, in); ref == 0 || !w.Conn(ref).NoClientPort() {
			t.Errorf("the client's packet finds %d", ref)
		}
		if ref := lookup(w, out); ref == 0 || !w.Conn(ref).Expectation() {
			t.Errorf("the server's packet finds %d", ref)
		}
		if lookup(w, clientQuery(&template)) == 0 {
			t.Errorf("template %d is not found", i)
		}
	}
	w.End()
	reclaimAll(tab, 0)
	check(t, tab)
}

// udpOf returns a masqueraded datagram flow of one of few clients, numbered by client and
// flow.
func udpOf(client, flow int) Entry {
	e := udpEntry(uint64(client))
	e.VIP, e.VPort = v4(9, byte(flow%50)), uint16(flow/50)
	return e
}

// TestClash compares the table with two maps, by client's packet and by reply, while two
// clients open and end connections to many VIPs at few servers.
func TestClash(t *testing.T) {
	completed := 0
	for range 4 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			tab := newTestTable(t, Config{Max: 4000, Workers: 2, Seed: seed | 1})
			byFlow, byReply := map[Query]Entry{}, map[Query]bool{}
			for batch := range 200 {
				w := tab.Worker(rnd.IntN(2))
				w.Begin(Tick(batch))
				for range 64 {
					e := udpOf(rnd.IntN(2), rnd.IntN(500))
					e.Server, e.SPort = v4(1, byte(rnd.IntN(3))), uint16(rnd.IntN(80))
					e.Proto = []uint8{wire.ProtoTCP, wire.ProtoUDP}[rnd.IntN(2)]
					flow, reply := clientQuery(&e), serverQuery(&e)
					old, known := byFlow[flow]
					if ref := lookup(w, flow); (ref != 0) != known {
						t.Fatalf("%+v finds %d, known %t", flow, ref, known)
					} else if known && rnd.IntN(2) == 0 {
						w.Expire(ref)
						delete(byFlow, flow)
						delete(byReply, serverQuery(&old))
						continue
					}
					ref, created := w.Insert(&e)
					if tab.Stats().Ended[EvictedHalfOpen] != 0 {
						return // both its windows were full by chance; it evicted one of the client's conns
					}
					switch {
					case created != (!known && !byReply[reply]):
						t.Fatalf("%+v: created %t, known %t, reply taken %t", e, created, known, byReply[reply])
					case created:
						byFlow[flow], byReply[reply] = e, true
					case known != (ref != 0):
						t.Fatalf("%+v: conn %d, known %t", e, ref, known)
					}
					if found := lookup(w, reply); (found != 0) != byReply[reply] || created && found != ref {
						t.Fatalf("reply %+v finds %d, want %d", reply, found, ref)
					}
				}
				w.End()
			}
			reclaimAll(tab, 200)
			check(t, tab)
			if s := tab.Stats(); s.InUse != int64(len(byFlow)) || len(byFlow) < 200 {
				t.Errorf("%d conns, want %d", s.InUse, len(byFlow))
			}
			completed++
		})
	}
	if completed == 0 {
		t.Error("each run evicted a conn")
	}
}

// In a small table a window has the same bucket at several places. A conn counts at the
// first of them, wherever a search saw it: one that began before the conn was in sees it
// at a later place.
func TestBucketAtSeveralPlaces(t *testing.T) {
	x := &index{buckets: make([]bucket, 2)}
	for hash := range uint64(1000) {
		hash *= 0x9e3779b97f4a7c15
		for place := range places {
			v := newSlot(1, hash)
			if pos, ok := x.put(hash, v); !ok || pos.bucket != x.at(hash, 0) {
				t.Fatalf("hash %#x: not at home", hash)
			}
			pos := position{x.at(hash, place), 0, hash}
			if taken := x.take(pos, v); taken != (pos.bucket == x.at(hash, 0)) {
				t.Fatalf("hash %#x: taken at place %d: %t", hash, place, taken)
			} else if !taken {
				x.take(position{x.at(hash, 0), 0, hash}, v)
			}
			if away := x.buckets[0].displaced.Load() | x.buckets[1].displaced.Load(); away != 0 {
				t.Fatalf("hash %#x: taken at place %d, %#x are counted away", hash, place, away)
			}
		}
	}
}
