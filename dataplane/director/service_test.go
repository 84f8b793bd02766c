package director

import (
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

func datagram(src, dst string) wiretest.Packet {
	return wiretest.Packet{Src: src, Dst: dst, Proto: wire.ProtoUDP, Payload: []byte("hello")}
}

// exhaust leaves a service without a server that takes anything.
func (w *world) exhaust(proto uint8) *Service {
	svc := w.table.Services[ServiceKey{addr("10.9.0.1"), 80, proto}]
	svc.Picker = none{}
	return svc
}

// sorry gives a service one more server, as its sorry server.
func (w *world) sorry(svc *Service, server string) {
	id := uint32(len(w.table.Servers))
	w.table.Servers = append(w.table.Servers, Server{
		ID: id, Service: svc.ID, Addr: addr(server), Port: 8080, Method: conntrack.MethodMasq, Available: true, Weight: 1,
		Way: w.table.Ways.To(addr("10.2.0.12")), Counters: NewCounters(1),
	})
	svc.Sorry = id
}

// A connection no server can take is refused by ICMP as IPVS does, or by a reset
// if the service says so; datagrams know only ICMP.
func TestNoServer(t *testing.T) {
	const unreachable = "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp DestinationUnreachable(Port)"
	for _, r := range []struct {
		sentence string
		proto    uint8
		reset    bool
		packet   wiretest.Packet
		out      string
	}{
		{"TCP", wire.ProtoTCP, false, syn("10.1.0.2:5000", "10.9.0.1:80"), unreachable},
		{"TCP with reset", wire.ProtoTCP, true, syn("10.1.0.2:5000", "10.9.0.1:80"), "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 tcp 80>5000 rst"},
		{"UDP", wire.ProtoUDP, true, datagram("10.1.0.2:5000", "10.9.0.1:80"), unreachable},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			w := newWorld(t, conntrack.MethodMasq)
			w.now += 1000
			w.exhaust(r.proto).Reset = r.reset
			converse(t, w, []step{{r.sentence, 0, r.packet, RefusedNoServer, r.out}})
		})
	}
}

// The sorry server has what begins while no server takes anything, and no
// longer; what began there ends there.
func TestSorry(t *testing.T) {
	const first, last = "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 ", "1 02:00:00:00:01:02: 10.1.0.2>10.2.0.13 ttl 63 "
	w := newWorld(t, conntrack.MethodMasq)
	svc := w.exhaust(wire.ProtoTCP)
	w.sorry(svc, "10.2.0.13")
	converse(t, w, []step{
		{"no server", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), Masqueraded, last + "tcp 5000>8080"},
		{"the sorry server's answer", 1, wiretest.Packet{Src: "10.2.0.13:8080", Dst: "10.1.0.2:5000", TCPFlags: wire.TCPSyn | wire.TCPAck}, Returned, "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 63 tcp 80>5000"},
	})
	svc.Picker = constant(0)
	converse(t, w, []step{
		{"a server is back", 0, syn("10.1.0.2:5001", "10.9.0.1:80"), Masqueraded, first + "tcp 5001>8080"},
		{"what began stays", 0, wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck}, Masqueraded, last + "tcp 5000>8080"},
		{"until the client resets", 0, wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPRst}, Masqueraded, last + "tcp 5000>8080 rst"},
		{"then the same port begins at the server", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), Masqueraded, first + "tcp 5000>8080"},
	})
}

// Persistence does not hold a client to the sorry server, and brings it back to
// none either.
func TestSorryMakesNoTemplate(t *testing.T) {
	const first, last = "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 ", "1 02:00:00:00:01:02: 10.1.0.2>10.2.0.13 ttl 63 "
	w := newWorld(t, conntrack.MethodMasq)
	svc := w.exhaust(wire.ProtoTCP)
	w.sorry(svc, "10.2.0.13")
	svc.Persist, svc.Mask = 300*conntrack.Second, everyBit
	converse(t, w, []step{{"no server", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), Masqueraded, last + "tcp 5000>8080"}})
	if n := w.conns.Counts(svc.Sorry).Templates.Load(); n != 0 {
		t.Errorf("%d templates of the sorry server", n)
	}
	svc.Picker = constant(0)
	converse(t, w, []step{{"a server is back", 0, syn("10.1.0.2:5001", "10.9.0.1:80"), Masqueraded, first + "tcp 5001>8080"}})
	svc.Picker = none{}
	converse(t, w, []step{{"its template lives, and it is only full", 0, syn("10.1.0.2:5002", "10.9.0.1:80"), Masqueraded, first + "tcp 5002>8080"}})
	w.remove("10.2.0.11")
	converse(t, w, []step{{"it was removed", 0, syn("10.1.0.2:5003", "10.9.0.1:80"), Masqueraded, last + "tcp 5003>8080"}})
}

// everyBit is the mask of a template for one client.
var everyBit = func() (m wire.Addr) {
	for i := range m {
		m[i] = 0xff
	}
	return m
}()
