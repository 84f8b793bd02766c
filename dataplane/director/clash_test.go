package director

import (
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// newClashTestbed has services that share servers: 10.9.0.1 (tcp and udp) those of both
// addresses, 10.9.0.2 (tcp and udp) only 10.2.0.11.
func newClashTestbed(t *testing.T) *testbed {
	w := newTestbed(t, conntrack.MethodNAT)
	w.service(conntrack.MethodNAT, wire.ProtoUDP, "10.9.0.2", "10.2.0.11")
	return w
}

const (
	clashClient = "10.1.0.2:5000"
	sharedVIP   = "10.9.0.1:80"
	singleVIP   = "10.9.0.2:80"
)

// tcp returns a segment without payload.
func tcp(src, dst string, flags uint8) wiretest.Packet {
	return wiretest.Packet{Src: src, Dst: dst, TCPFlags: flags}
}

// TestClashOtherServer: a client port that has a conn at a server gets another server
// from a second service, and each server's replies come from the right VIP.
func TestClashOtherServer(t *testing.T) {
	for _, persist := range []conntrack.Tick{0, 300 * conntrack.Second} {
		w := newClashTestbed(t)
		w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP}).Persist = persist
		converse(t, w, []step{
			{
				"a connection to the service of one server", 0, syn(clashClient, singleVIP), ForwardedMasq,
				"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
			},
			{
				"the other service's first server has the port", 0, syn(clashClient, sharedVIP), ForwardedMasq,
				"1 02:00:00:00:01:02: 10.1.0.2>10.2.0.12 ttl 63 tcp 5000>8080",
			},
			{
				"the first server's reply", 1, tcp("10.2.0.11:8080", clashClient, wire.TCPSyn|wire.TCPAck),
				ReturnedMasq,
				"0 02:00:00:00:00:0c: 10.9.0.2>10.1.0.2 ttl 63 tcp 80>5000",
			},
			{
				"the second server's reply", 1, tcp("10.2.0.12:8080", clashClient, wire.TCPSyn|wire.TCPAck),
				ReturnedMasq,
				"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 63 tcp 80>5000",
			},
		})
	}
}

// TestClashRefused: without another server the new flow is refused at once, and the
// first goes on.
func TestClashRefused(t *testing.T) {
	w := newClashTestbed(t)
	converse(t, w, []step{
		{
			"a connection to the first server", 0, syn(clashClient, sharedVIP), ForwardedMasq,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
		{
			"another to the only server of its service", 0, syn(clashClient, singleVIP), RefusedClash,
			"0 02:00:00:00:00:0c: 10.9.0.2>10.1.0.2 ttl 64 tcp 80>5000 rst",
		},
		{
			"the first goes on", 1, tcp("10.2.0.11:8080", clashClient, wire.TCPSyn|wire.TCPAck), ReturnedMasq,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 63 tcp 80>5000",
		},
		{
			"a datagram to the first server", 0, datagram(clashClient, sharedVIP), ForwardedMasq,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 udp 5000>8080",
		},
		{
			"another to the only server", 0, datagram(clashClient, singleVIP), RefusedClash,
			"0 02:00:00:00:00:0c: 10.9.0.2>10.1.0.2 ttl 64 icmp DestinationUnreachable(Port)",
		},
		{
			"another port of the client", 0, datagram("10.1.0.2:5001", singleVIP), ForwardedMasq,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 udp 5001>8080",
		},
	})
}

// TestClashWithTemplate: a persistent client keeps its server, so its flow is refused.
func TestClashWithTemplate(t *testing.T) {
	w := newClashTestbed(t)
	w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP}).Persist = 300 * conntrack.Second
	for _, r := range []struct {
		packet wiretest.Packet
		want   Verdict
	}{
		{syn("10.1.0.2:4000", sharedVIP), ForwardedMasq}, // makes the template, for 10.2.0.11
		{syn(clashClient, singleVIP), ForwardedMasq},
		{syn(clashClient, sharedVIP), RefusedClash},
		{syn("10.1.0.2:4001", sharedVIP), ForwardedMasq},
	} {
		if v := w.verdict(0, r.packet); v != r.want {
			t.Errorf("%s to %s: %s, want %s", r.packet.Src, r.packet.Dst, v, r.want)
		}
	}
}

// TestClashIneligible: servers that schedulers would not pick get no flow that clashed.
func TestClashIneligible(t *testing.T) {
	for name, change := range map[string]func(s *Server){
		"weight 0":    func(s *Server) { s.Weight = 0 },
		"down":        func(s *Server) { s.Down = true },
		"unavailable": func(s *Server) { s.InService = false },
	} {
		w := newClashTestbed(t)
		w.verdict(0, syn(clashClient, singleVIP))
		svc := w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP})
		change(w.table.server(svc.Servers[1]))
		if v := w.verdict(0, syn(clashClient, sharedVIP)); v != RefusedClash {
			t.Errorf("%s: %s, want %s", name, v, RefusedClash)
		}
	}
}

// TestClashWithClosedConn: a connection that is over gives way to a new one.
func TestClashWithClosedConn(t *testing.T) {
	const client = "192.168.1.1:5000" // behind the gateway, which the host knows
	for name, last := range map[string][]wiretest.Packet{
		"reset":      {tcp(client, sharedVIP, wire.TCPRst)},
		"both close": {tcp(client, sharedVIP, wire.TCPFin|wire.TCPAck)},
	} {
		for _, to := range []string{singleVIP, "10.2.0.11:8080"} {
			w := newClashTestbed(t)
			w.verdict(0, syn(client, sharedVIP))
			w.verdict(1, tcp("10.2.0.11:8080", client, wire.TCPSyn|wire.TCPAck))
			w.verdict(0, tcp(client, sharedVIP, wire.TCPAck))
			for _, p := range last {
				w.verdict(0, p)
			}
			w.verdict(1, tcp("10.2.0.11:8080", client, wire.TCPFin|wire.TCPAck))
			forward, reply := ForwardedMasq, ReturnedMasq
			if to != singleVIP {
				forward, reply = NotOurs, PassedUnchanged
			}
			if v := w.verdict(0, syn(client, to)); v != forward {
				t.Errorf("%s: a new connection to %s: %s, want %s", name, to, v, forward)
			}
			if v := w.verdict(1, tcp("10.2.0.11:8080", client, wire.TCPSyn|wire.TCPAck)); v != reply {
				t.Errorf("%s: the reply of %s: %s, want %s", name, to, v, reply)
			}
		}
	}
}

// TestClashWithDirectFlow: a flow to the server's own address from a port that has a
// conn there is refused; from another port the host routes it.
func TestClashWithDirectFlow(t *testing.T) {
	w := newClashTestbed(t)
	w.verdict(0, syn(clashClient, sharedVIP))
	w.verdict(0, datagram(clashClient, sharedVIP))
	for _, r := range []struct {
		packet wiretest.Packet
		want   Verdict
	}{
		{syn(clashClient, "10.2.0.11:8080"), RefusedClash},
		{datagram(clashClient, "10.2.0.11:8080"), RefusedClash},
		{syn(clashClient, "10.2.0.12:8080"), NotOurs},
		{syn(clashClient, "10.2.0.11:22"), NotOurs},
		{syn("10.1.0.2:5001", "10.2.0.11:8080"), NotOurs},
		{tcp(clashClient, "10.2.0.11:8080", wire.TCPAck), NotOurs},
	} {
		if v := w.verdict(0, r.packet); v != r.want {
			t.Errorf("%s to %s: %s, want %s", r.packet.Src, r.packet.Dst, v, r.want)
		}
	}
	if v := w.verdict(1, tcp("10.2.0.11:8080", clashClient, wire.TCPSyn|wire.TCPAck)); v != ReturnedMasq {
		t.Errorf("the reply of the first: %s", v)
	}
}
