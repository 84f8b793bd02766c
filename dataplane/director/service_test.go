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

// chunk returns an SCTP packet with one chunk, 16 bytes of zeros behind its header.
func chunk(src, dst string, kind uint8) wiretest.Packet {
	return wiretest.Packet{
		Src: src, Dst: dst, Proto: wire.ProtoSCTP, Payload: append([]byte{kind, 0, 0, 20}, make([]byte, 16)...),
	}
}

// exhaust leaves a service without a server that takes new connections.
func (w *testbed) exhaust(proto uint8) *Service {
	svc := w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, proto})
	svc.Picker = pickNone{}
	return svc
}

// sorry adds a server to a service, as its sorry server.
func (w *testbed) sorry(svc *Service, server string) {
	s := w.addServer(svc, Server{Addr: addr(server), Port: 8080, Method: conntrack.MethodNAT, Path: new(Path)})
	s.NextHop = w.table.FIB.NextHop(addr("10.2.0.12"))
	svc.Sorry = s.ID
}

// A connection that no server can take is refused with ICMP, as IPVS does, or with a
// reset or ABORT if the service has that. Datagrams get only ICMP.
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
		{
			"TCP with reset", wire.ProtoTCP, true, syn("10.1.0.2:5000", "10.9.0.1:80"),
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 tcp 80>5000 rst",
		},
		{"UDP", wire.ProtoUDP, true, datagram("10.1.0.2:5000", "10.9.0.1:80"), unreachable},
		{"SCTP", wire.ProtoSCTP, false, chunk("10.1.0.2:5000", "10.9.0.1:80", wire.ChunkInit), unreachable},
		{
			"SCTP with reset", wire.ProtoSCTP, true, chunk("10.1.0.2:5000", "10.9.0.1:80", wire.ChunkInit),
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 sctp 80>5000 abort",
		},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			w := newTestbed(t, conntrack.MethodNAT)
			w.now += 1000
			w.service(conntrack.MethodNAT, wire.ProtoSCTP, "10.9.0.1", "10.2.0.11")
			w.exhaust(r.proto).Reset = r.reset
			converse(t, w, []step{{r.sentence, 0, r.packet, RefusedNoServer, r.out}})
		})
	}
}

// The sorry server takes new connections only while no other server does; those that
// began there end there.
func TestSorry(t *testing.T) {
	const (
		first = "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 "
		last  = "1 02:00:00:00:01:02: 10.1.0.2>10.2.0.13 ttl 63 "
	)
	w := newTestbed(t, conntrack.MethodNAT)
	svc := w.exhaust(wire.ProtoTCP)
	w.sorry(svc, "10.2.0.13")
	converse(t, w, []step{
		{"no server", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq, last + "tcp 5000>8080"},
		{
			"the sorry server's answer", 1,
			wiretest.Packet{Src: "10.2.0.13:8080", Dst: "10.1.0.2:5000", TCPFlags: wire.TCPSyn | wire.TCPAck},
			ReturnedMasq, "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 63 tcp 80>5000",
		},
	})
	svc.Picker = pickConstant(0)
	converse(t, w, []step{
		{"a server is back", 0, syn("10.1.0.2:5001", "10.9.0.1:80"), ForwardedMasq, first + "tcp 5001>8080"},
		{
			"what began stays", 0,
			wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck},
			ForwardedMasq, last + "tcp 5000>8080",
		},
		{
			"until the client resets", 0,
			wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPRst},
			ForwardedMasq,
			last + "tcp 5000>8080 rst",
		},
		{
			"then the same port begins at the server", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq,
			first + "tcp 5000>8080",
		},
	})
}

// No template keeps a client at the sorry server, or brings it back there.
func TestSorryMakesNoTemplate(t *testing.T) {
	const (
		first = "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 "
		last  = "1 02:00:00:00:01:02: 10.1.0.2>10.2.0.13 ttl 63 "
	)
	w := newTestbed(t, conntrack.MethodNAT)
	svc := w.exhaust(wire.ProtoTCP)
	w.sorry(svc, "10.2.0.13")
	svc.Persist, svc.Mask = 300*conntrack.Second, everyBit
	converse(t, w, []step{{"no server", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq, last + "tcp 5000>8080"}})
	if n := w.conns.Counts(svc.Sorry).Templates.Load(); n != 0 {
		t.Errorf("%d templates of the sorry server", n)
	}
	svc.Picker = pickConstant(0)
	converse(
		t, w,
		[]step{{"a server is back", 0, syn("10.1.0.2:5001", "10.9.0.1:80"), ForwardedMasq, first + "tcp 5001>8080"}},
	)
	svc.Picker = pickNone{}
	converse(t, w, []step{{
		"its template lives, and it is only full", 0, syn("10.1.0.2:5002", "10.9.0.1:80"), ForwardedMasq,
		first + "tcp 5002>8080",
	}})
	w.remove("10.2.0.11")
	converse(
		t, w, []step{{"it was removed", 0, syn("10.1.0.2:5003", "10.9.0.1:80"), ForwardedMasq, last + "tcp 5003>8080"}},
	)
}

// everyBit is the mask of a template for one client.
var everyBit = func() (m wire.Addr) {
	for i := range m {
		m[i] = 0xff
	}
	return m
}()

// A one-packet service keeps no conns, and counts one for every datagram. Its replies
// are routed on unchanged, or translated if one and only one service can be meant.
func TestOnePacket(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.now += 1000
	svc := w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoUDP})
	svc.OnePacket = true
	const (
		first  = "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 udp 5000>8080"
		second = "1 02:00:00:00:01:02: 10.1.0.2>10.2.0.12 ttl 63 udp 5000>8080"
	)
	const far = "192.0.2.7:5000" // behind the gateway
	reply := datagram("10.2.0.11:8080", far)
	ask := func(s string) step { return step{s, 0, datagram("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq, first} }
	again := ask("a datagram more of the same flow is scheduled again")
	again.out = second
	converse(t, w, []step{
		ask("a datagram"), again, ask("and another"),
		{
			"a reply is routed on as it is", 1, reply, PassedUnchanged,
			"0 02:00:00:00:00:fe: 10.2.0.11>192.0.2.7 ttl 63 udp 8080>5000",
		},
	})
	if n := w.conns.Stats().InUse; n != 0 {
		t.Errorf("%d conns are kept", n)
	}
	server := w.table.server(svc.Servers[0])
	if got := server.Counters.Totals(); got.Conns != 2 || got.InPkts != 2 || got.OutPkts != 0 {
		t.Errorf("the first server counted %+v, want 2 conns of 2 packets", got)
	}

	end := Endpoint{addr("10.2.0.11"), 8080, wire.ProtoUDP}
	w.table.ReplyServices = map[Endpoint]ReplyService{
		end: {VIP: addr("10.9.0.1"), VPort: 80, Counters: server.Counters},
	}
	converse(t, w, []step{
		{
			"a reply of a known origin comes from the VIP", 1, reply, ReturnedMasq,
			"0 02:00:00:00:00:fe: 10.9.0.1>192.0.2.7 ttl 63 udp 80>5000",
		},
		{"from another port it does not", 1, datagram("10.2.0.11:9999", far), NotOurs, ""},
		{"nor to the host itself", 1, datagram("10.2.0.11:8080", "10.1.0.1:5000"), NotOurs, ""},
		{
			"nor from another server", 1, datagram("10.2.0.12:8080", far), PassedUnchanged,
			"0 02:00:00:00:00:fe: 10.2.0.12>192.0.2.7 ttl 63 udp 8080>5000",
		},
	})
	if got := server.Counters.Totals(); got.OutPkts != 1 {
		t.Errorf("counted %d packets out, want 1", got.OutPkts)
	}
	every := end
	every.Port = 0
	w.table.ReplySources.Set(every, 1)
	w.table.ReplyServices[every] = ReplyService{VIP: addr("10.9.0.2"), Counters: server.Counters}
	converse(t, w, []step{
		{
			"of a port two services have, it is not clear whose it is", 1, reply, PassedAmbiguous,
			"0 02:00:00:00:00:fe: 10.2.0.11>192.0.2.7 ttl 63 udp 8080>5000",
		},
		{
			"a service of every port keeps the port", 1, datagram("10.2.0.11:9999", far), ReturnedMasq,
			"0 02:00:00:00:00:fe: 10.9.0.2>192.0.2.7 ttl 63 udp 9999>5000",
		},
	})
}

// One-packet scheduling with persistence: every datagram goes where the client's
// template leads, and only the template stays.
func TestOnePacketPersists(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	svc := w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoUDP})
	svc.OnePacket, svc.Persist, svc.Mask = true, 60*conntrack.Second, everyBit
	for i := range 3 {
		f := in(0, datagram("10.1.0.2:5000", "10.9.0.1:80"))
		if v := w.process(&f); v != ForwardedMasq || wire.Ethernet(f.Bytes()).Dst() != serverMAC[0] {
			t.Errorf("datagram %d: %s to %s", i, v, wire.Ethernet(f.Bytes()).Dst())
		}
	}
	if n := w.conns.Stats().InUse; n != 1 || w.conns.Counts(svc.Servers[0]).Templates.Load() != 1 {
		t.Errorf("%d entries, want one template", n)
	}
}
