package director

import (
	"fmt"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// removeWithGrace takes a server out of its services; packets of its conns wait for a time.
func (w *testbed) removeWithGrace(server string, grace conntrack.Tick) {
	w.remove(server)
	for i := range w.lastID {
		if s := w.table.server(i + 1); s.Addr == addr(server) {
			s.GraceEnd = w.now + grace
		}
	}
}

func segment(flags uint8) wiretest.Packet {
	return wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: flags, Payload: []byte("text")}
}

// The first segment of a conn waits for its removed server; what begins a connection and
// datagrams do not. It goes on when the server is back, and is reset when the time is over.
func TestServerRemovedAndBack(t *testing.T) {
	const toServer = "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080"
	for _, r := range []struct {
		sentence string
		after    conntrack.Tick
		back     bool
		want     string
	}{
		{"it waits", 1999, false, "[]"},
		{"the server is back", 300, true, "[" + toServer + "]"},
		{"it is not back in time", 2000, false, "[0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 tcp 80>5000 rst]"},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			w := newTestbed(t, conntrack.MethodNAT)
			other := wiretest.Packet{Src: "10.1.0.2:6000", Dst: "10.9.0.1:80", Proto: wire.ProtoUDP}
			converse(t, w, []step{
				{"a conn to the first server", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq, toServer},
				{
					"a flow of datagrams to it", 0, other,
					ForwardedMasq, "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 udp 6000>8080",
				},
			})
			removed := w.now
			w.removeWithGrace("10.2.0.11", 2000)
			converse(t, w, []step{
				{"a segment waits", 0, segment(wire.TCPAck), HeldServerGone, ""},
				{"so does what follows", 0, segment(wire.TCPFin | wire.TCPAck), HeldServerGone, ""},
				{
					"replies are translated", 1,
					wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.2:5000", TCPFlags: wire.TCPAck},
					ReturnedMasq, "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 63 tcp 80>5000",
				},
				{
					"a datagram moves", 0, other,
					ForwardedMasq, "1 02:00:00:00:01:02: 10.1.0.2>10.2.0.12 ttl 63 udp 6000>8080",
				},
				{
					"a new connection is scheduled", 0, syn("10.1.0.2:5001", "10.9.0.1:80"),
					ForwardedMasq, "1 02:00:00:00:01:02: 10.1.0.2>10.2.0.12 ttl 63 tcp 5001>8080",
				},
			})
			w.now = removed + r.after
			w.table.server(1).InService = r.back
			if got := fmt.Sprint(w.originated()); got != r.want {
				t.Errorf("sent %s, want %s", got, r.want)
			}
		})
	}
}

// A SYN of a known flow does not wait, because the client wants a new connection.
func TestSynOfRemovedServer(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.verdict(0, syn("10.1.0.2:5000", "10.9.0.1:80"))
	w.removeWithGrace("10.2.0.11", 2000)
	converse(t, w, []step{{
		"it is scheduled", 0, syn("10.1.0.2:5000", "10.9.0.1:80"),
		ForwardedMasq, "1 02:00:00:00:01:02: 10.1.0.2>10.2.0.12 ttl 63 tcp 5000>8080",
	}})
}

// Under removed_conns=serve conns of a removed server go on, and it gets no new ones.
func TestServerRemovedServes(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.verdict(0, syn("10.1.0.2:5000", "10.9.0.1:80"))
	w.removeWithGrace("10.2.0.11", 2000)
	w.table.server(1).KeepsConns = true
	converse(t, w, []step{{
		"a segment", 0, segment(wire.TCPAck),
		ForwardedMasq, "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
	}})
}

// A service that was removed and whose packets the guard hides is refused by the director,
// even if the host holds the address.
func TestServiceRemoved(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	for vip, before := range map[string]Verdict{"10.9.0.1": RefusedNoService, "10.9.0.2": NotOurs} {
		reset := "0 02:00:00:00:00:0c: " + vip + ">10.1.0.2 ttl 64 tcp 80>5000 rst"
		key, first := Endpoint{addr(vip), 80, wire.ProtoTCP}, syn("10.1.0.2:5000", vip+":80")
		hidden := new(Table)
		hidden.Services.Set(key, w.table.serviceAt(key))
		w.table.Services.Delete(key)
		sent := map[Verdict]string{RefusedNoService: reset}[before]
		converse(t, w, []step{{"not hidden from the host", 0, first, before, sent}})
		w.table.Removed = hidden
		converse(t, w, []step{{"hidden from the host", 0, first, RefusedNoService, reset}})
		w.table.Removed = nil
	}
}

// A template waits for its removed server: other servers take the client's connections
// meanwhile, and its packets are forwarded again when the server is back.
func TestTemplateWaits(t *testing.T) {
	w := persistentTestbed(t, conntrack.MethodNAT, "255.255.255.255")
	svc := w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP})
	svc.Picker = pickConstant(0)
	for i, want := range []int{1, 2, 1} {
		switch i {
		case 1:
			svc.Picker = pickConstant(1)
			w.removeWithGrace("10.2.0.11", 2000)
		case 2:
			w.table.server(1).InService = true
		}
		if got := w.serverFor(syn(fmt.Sprintf("10.1.0.2:%d", 5000+i), "10.9.0.1:80")); got != want {
			t.Errorf("connection %d: server %d, want %d", i, got, want)
		}
	}
}

// The segments of a thousand conns wait, and are answered no faster than answers are
// limited; none is lost.
func TestManyConnsWait(t *testing.T) {
	const conns = 1000
	w := newTestbed(t, conntrack.MethodNAT)
	w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP}).Picker = pickConstant(0)
	each := func(flags uint8, want Verdict) {
		t.Helper()
		for i := range conns {
			p := segment(flags)
			p.Src = fmt.Sprintf("10.1.0.2:%d", 5000+i)
			if w.verdict(0, p) != want {
				t.Fatalf("conn %d: verdict %v, want %v", i, w.verdicts[0], want)
			}
		}
	}
	each(wire.TCPSyn, ForwardedMasq)
	w.removeWithGrace("10.2.0.11", 2000)
	each(wire.TCPAck, HeldServerGone)
	each(wire.TCPAck, HeldServerGone)
	w.now += 2000
	sent := 0
	for range conns {
		sent += len(w.originated())
		w.now++
	}
	if sent != conns || w.dir.waitingPackets.Len() != 0 {
		t.Errorf("%d resets, %d still waiting, want %d and none", sent, w.dir.waitingPackets.Len(), conns)
	}
}

// Nothing is allocated for what waits.
func TestWaitingAllocates(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.verdict(0, syn("10.1.0.2:5000", "10.9.0.1:80"))
	frames := []wire.Frame{in(0, segment(wire.TCPAck))}
	if n := testing.AllocsPerRun(100, func() {
		w.table.server(1).InService, w.table.server(1).GraceEnd = false, w.now+2000
		w.dir.Process(w.now, w.table, frames, w.verdicts[:1])
		w.table.server(1).InService = true
		w.dir.Process(w.now, w.table, nil, nil)
		w.now++
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
