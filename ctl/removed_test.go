package ctl

import (
	"fmt"
	"testing"
	"time"

	"uvs/conntrack"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

func set(name string, v uint32) config.Op {
	return config.Op{Kind: config.SetSettings, Settings: config.Values{name: v}}
}

// data returns the next segment of a connection that syn began.
func data(port string) wiretest.Packet {
	p := syn(port)
	p.TCPFlags, p.Payload = wire.TCPAck, []byte("text")
	return p
}

// sent waits for the frame that the first worker sends by itself.
func (w *fixture) sent() []byte {
	w.t.Helper()
	for range 400 {
		if sent := w.link.Sent(); len(sent) > 0 {
			return sent[0].Data
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// isReset reports whether a frame is a TCP reset.
func isReset(frame []byte) bool {
	return len(frame) > 47 && wire.TCP(frame[34:]).Flags()&wire.TCPRst != 0
}

// A server or service that is deleted and added again keeps its conns, whatever is done to
// it: the segment that comes in between waits and goes to the same server.
func TestDeletedAndAddedAgain(t *testing.T) {
	deleted := config.Op{Kind: config.DeleteService, Service: service(vip, "")}
	persistent := add(vip, "wlc")
	persistent.Service.Persist = 300
	for name, r := range map[string]struct{ first, gone, back []config.Op }{
		"a server": {
			[]config.Op{add(vip, "rr"), with(vip, one)}, []config.Op{without(vip, one)}, []config.Op{with(vip, one)},
		},
		"the service": {
			[]config.Op{add(vip, "rr"), with(vip, one)},
			[]config.Op{deleted},
			[]config.Op{add(vip, "rr"), with(vip, two), with(vip, one)},
		},
		"the service, its servers later": {
			[]config.Op{add(vip, "rr"), with(vip, one)},
			[]config.Op{deleted, add(vip, "rr")},
			[]config.Op{with(vip, one)},
		},
		"everything": {
			[]config.Op{add(vip, "rr"), with(vip, one)},
			[]config.Op{{Kind: config.Flush}},
			[]config.Op{add(vip, "wlc"), with(vip, one)},
		},
		"a persistent service": {
			[]config.Op{persistent, with(vip, one)},
			[]config.Op{{Kind: config.Flush}},
			[]config.Op{persistent, with(vip, two), with(vip, one)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newFixture(t, 1)
			w.must(r.first...)
			w.exchange(0, syn("5000"))
			w.ApplyAll(r.gone)
			if got := w.exchange(0, data("5000")); got != nil {
				t.Fatalf("sent %x meanwhile", got)
			}
			if got := w.exchange(0, syn("5001")); !isReset(got) && wire.IPv4(got[14:]).Protocol() != wire.ProtoICMP {
				t.Errorf("a new connection meanwhile: %x, want a refusal", got)
			}
			w.ApplyAll(r.back)
			if got := w.sent(); got == nil || server(got) != one.Addr {
				t.Errorf("sent %x, want the segment to %v", got, one.Addr)
			}
			if name != "a persistent service" {
				return
			}
			if got := w.exchange(0, syn("5002")); server(got) != one.Addr {
				t.Errorf("the client's next connection goes to %v, want %v", server(got), one.Addr)
			}
		})
	}
}

// When the grace is over, removed_conns says what becomes of conns: of the last service of
// a VIP as of any other. Without a grace that is at once.
func TestRemovedConns(t *testing.T) {
	for mode, want := range map[uint32]struct {
		segment string
		conns   int // once the segment was answered
		ended   int // once the manager looked, without a segment
	}{
		0: {"reset", 0, 1}, config.RemovedDrop: {"dropped", 1, 1},
		config.RemovedServe: {"served", 1, 1}, config.RemovedEnd: {"reset", 0, 0},
	} {
		for _, others := range []bool{false, true} {
			t.Run(fmt.Sprint(mode, others), func(t *testing.T) {
				w := newFixture(t, 1)
				w.must(set("removed_grace", 0), set("removed_conns", mode), add(vip, "rr"), with(vip, one))
				if others {
					w.must(add("10.9.0.1:81", "rr"))
				}
				w.exchange(0, syn("5000"))
				w.must(config.Op{Kind: config.DeleteService, Service: service(vip, "")})
				w.maintain(w.now)
				if n := w.count(); n != want.ended {
					t.Fatalf("%d conns after the manager looked, want %d", n, want.ended)
				}
				frame := w.exchange(0, data("5000"))
				got := "served"
				switch {
				case frame == nil:
					got = "dropped"
				case isReset(frame):
					got = "reset"
				}
				if n := w.count(); got != want.segment || n != want.conns {
					t.Errorf("the segment is %s, %d conns are left, want %s and %d", got, n, want.segment, want.conns)
				}
				if got := w.exchange(0, syn("5001")); !isReset(got) {
					t.Errorf("a new connection: %x, want a reset", got)
				}
				w.conns.Flush(func(*conntrack.Snapshot) bool { return true })
				w.maintain(w.now)
				w.maintain(w.now.Add(compile.TrashTime))
				if n := w.plane.table().VIPs.Len(); n != 0 != others {
					t.Errorf("%d VIPs are left", n)
				}
			})
		}
	}
}

func (w *fixture) count() (n int) {
	w.conns.Walk(nil, func(*conntrack.Snapshot) bool { n++; return true })
	return n
}

// While conns wait for a service of an address that the host holds, the guard hides them,
// and the director answers what is new. Then all is the host's again, unless conns of
// removed servers go on or are dropped.
func TestRemovedServiceOfHost(t *testing.T) {
	for mode, hidden := range []int{0: 0, config.RemovedDrop: 1, config.RemovedServe: 1, config.RemovedEnd: 0} {
		w := newFixture(t, 1)
		hops := *w.host.HostNet()
		hops.HostAddrs[wire.AddrFrom(service(vip, "").Addr)] = 2
		w.host.set(&hops)
		w.RoutesChanged()
		w.must(set("removed_conns", uint32(mode)), add(vip, "rr"), with(vip, one))
		w.exchange(0, syn("5000"))
		w.must(config.Op{Kind: config.Flush})
		w.maintain(w.now)
		if n := len(w.guard.all().Destinations); n != 1 {
			t.Errorf("mode %d: %d services hidden within the grace, want 1", mode, n)
		}
		if got := w.exchange(0, syn("5001")); !isReset(got) {
			t.Errorf("mode %d: a new connection: %x, want a reset", mode, got)
		}
		w.plane.ahead = 2 * conntrack.Second
		w.maintain(w.now)
		if n := len(w.guard.all().Destinations); n != hidden {
			t.Errorf("mode %d: %d services hidden after the grace, want %d", mode, n, hidden)
		}
	}
}

// A VIP without services is known for a while, but is announced again with its next one.
func TestRemovedVIPIsAnnouncedAgain(t *testing.T) {
	w := newFixture(t, 1)
	w.must(add(vip, "rr"), with(vip, one), config.Op{Kind: config.Flush})
	if known := w.plane.table().VIPs.Len(); known != 1 || len(w.host.vips) != 0 {
		t.Errorf("%d VIPs known, %v to announce, want one and none", known, w.host.vips)
	}
	if w.must(add(vip, "rr")); len(w.host.vips) != 1 {
		t.Errorf("%v to announce, want the VIP", w.host.vips)
	}
}
