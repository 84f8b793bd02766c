package director

import (
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// syn returns the first packet of a client.
func syn(src, dst string) wiretest.Packet {
	return wiretest.Packet{Src: src, Dst: dst, TCPFlags: wire.TCPSyn, Seq: 1000, DF: true}
}

// One frame on a new director: a sentence, the frame, its verdict, and what leaves.
func TestFirstFrame(t *testing.T) {
	rows := []struct {
		sentence string
		method   conntrack.Method
		port     uint16
		packet   wiretest.Packet
		verdict  Verdict
		out      string
	}{
		{
			"a SYN to a masqueraded service goes to the first server and its port", conntrack.MethodNAT, 0,
			syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
		{
			"so does one over IPv6", conntrack.MethodNAT, 0,
			syn("[fd00:1::2]:5000", "[fd00:9::1]:80"), ForwardedMasq,
			"1 02:00:00:00:01:01: fd00:1::2>fd00:2::11 ttl 63 tcp 5000>8080",
		},
		{
			"a datagram begins a conn too", conntrack.MethodNAT, 0,
			datagram("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 udp 5000>8080",
		},
		{
			"direct routing changes the hardware address only", conntrack.MethodDR, 0,
			syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedRoute,
			"1 02:00:00:00:01:01: 10.1.0.2>10.9.0.1 ttl 63 tcp 5000>80",
		},
		{
			"a tunnel puts an IP header before it", conntrack.MethodTunnel, 0,
			syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedTunnel,
			"1 02:00:00:00:01:01: 10.2.0.1>10.2.0.11 ttl 63 10.1.0.2>10.9.0.1 ttl 63 tcp 5000>80",
		},
		{
			"IPv6 goes through an IPv6 tunnel", conntrack.MethodTunnel, 0,
			syn("[fd00:1::2]:5000", "[fd00:9::1]:80"), ForwardedTunnel,
			"1 02:00:00:00:01:01: fd00:2::1>fd00:2::11 ttl 63 fd00:1::2>fd00:9::1 ttl 63 tcp 5000>80",
		},
		{
			"TTL 1 ends here, said by the VIP", conntrack.MethodNAT, 0,
			wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPSyn, TTL: 1},
			AnsweredTTLExceeded, "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp TimeExceeded(TTLExceeded)",
		},
		{
			"a VIP of ours without such a service resets", conntrack.MethodNAT, 0,
			syn("10.1.0.2:5000", "10.9.0.1:81"), RefusedNoService,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 tcp 81>5000 rst",
		},
		{
			"and answers datagrams with port unreachable", conntrack.MethodNAT, 0,
			datagram("10.1.0.2:5000", "10.9.0.1:81"), RefusedNoService,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp DestinationUnreachable(Port)",
		},
		{
			"a port without a service of a VIP the host holds is the host's", conntrack.MethodNAT, 0,
			syn("10.1.0.2:5000", "10.9.0.2:81"), NotOurs, "",
		},
		{
			"a segment without a conn is reset, as the host would", conntrack.MethodNAT, 0,
			wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.2:80", TCPFlags: wire.TCPAck, Seq: 5, Ack: 7},
			RefusedNoConn, "0 02:00:00:00:00:0c: 10.9.0.2>10.1.0.2 ttl 64 tcp 80>5000 rst",
		},
		{
			"a ping of a VIP of ours is answered", conntrack.MethodNAT, 0,
			wiretest.Packet{
				Src: "10.1.0.2", Dst: "10.9.0.1", Proto: wire.ProtoICMP, ICMPType: 8, Payload: []byte("ping"),
			},
			AnsweredEcho, "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp EchoReply",
		},
		{
			"a ping of a VIP the host holds is the host's", conntrack.MethodNAT, 0,
			wiretest.Packet{Src: "10.1.0.2", Dst: "10.9.0.2", Proto: wire.ProtoICMP, ICMPType: 8},
			NotOurs, "",
		},
		{
			"traffic to the host is the host's", conntrack.MethodNAT, 0,
			syn("10.1.0.2:5000", "10.1.0.1:22"), NotOurs, "",
		},
		{
			"traffic through the host is the host's", conntrack.MethodNAT, 0,
			syn("10.1.0.2:5000", "10.2.0.11:22"), NotOurs, "",
		},
		{
			"a reply without a conn, hidden from the host, is routed on", conntrack.MethodNAT, 1,
			wiretest.Packet{Src: "10.2.0.11:8080", Dst: "192.0.2.7:5000", TCPFlags: wire.TCPAck},
			PassedUnchanged, "0 02:00:00:00:00:fe: 10.2.0.11>192.0.2.7 ttl 63 tcp 8080>5000",
		},
		{
			"unless it is for the host itself", conntrack.MethodNAT, 1,
			wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.1:5000", TCPFlags: wire.TCPAck},
			NotOurs, "",
		},
		{
			"too long for a tunnel and not to be fragmented: the client learns the size", conntrack.MethodTunnel, 0,
			wiretest.Packet{
				Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", Proto: wire.ProtoUDP, DF: true, Payload: make([]byte, 1472),
			},
			AnsweredTooBig,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp DestinationUnreachable(FragmentationNeeded)",
		},
		{
			"a later fragment has no ports and waits for the first", conntrack.MethodNAT, 0,
			wiretest.Packet{
				Src: "10.1.0.2", Dst: "10.9.0.1", Proto: wire.ProtoUDP, Offset: 1480, Payload: make([]byte, 64),
			},
			HeldFragment, "",
		},
	}
	for _, r := range rows {
		t.Run(r.sentence, func(t *testing.T) {
			w := newTestbed(t, r.method)
			w.now += 1000
			f := in(r.port, r.packet)
			if v := w.process(&f); v != r.verdict {
				t.Errorf("verdict %s, want %s", v, r.verdict)
			}
			if out := w.format(f); out != r.out {
				t.Errorf("out\n%s, want\n%s", out, r.out)
			}
		})
	}
}

// ARP requests and probes for a VIP of ours are answered with the port's address. ARP
// for anything else is the host's.
func TestARP(t *testing.T) {
	rows := []struct {
		sentence, sender, target string
		verdict                  Verdict
		out                      string
	}{
		{
			"who has our VIP", "10.1.0.2", "10.9.0.1", AnsweredARP,
			"0 02:00:00:00:00:0c: arp 2 10.9.0.1 is-at 02:00:00:00:00:0d",
		},
		{
			"a probe for our VIP", "0.0.0.0", "10.9.0.1", AnsweredARP,
			"0 02:00:00:00:00:0c: arp 2 10.9.0.1 is-at 02:00:00:00:00:0d",
		},
		{"who has a VIP the host holds", "10.1.0.2", "10.9.0.2", NotOurs, ""},
		{"who has the host", "10.1.0.2", "10.1.0.1", NotOurs, ""},
	}
	for _, r := range rows {
		t.Run(r.sentence, func(t *testing.T) {
			w := newTestbed(t, conntrack.MethodNAT)
			f := wiretest.ARP(1, wiretest.ClientMAC, r.sender, wire.MAC{}, r.target)
			if v := w.process(&f); v != r.verdict {
				t.Errorf("verdict %s, want %s", v, r.verdict)
			}
			if out := w.format(f); out != r.out {
				t.Errorf("out %q, want %q", out, r.out)
			}
		})
	}
}

// A neighbour solicitation for a VIP is answered unless the host answers it, which it
// does only for addresses of the interface that was asked.
func TestNeighbourSolicitation(t *testing.T) {
	rows := []struct {
		sentence, target string
		verdict          Verdict
		out              string
	}{
		{
			"our VIP", "fd00:9::1", AnsweredND,
			"0 02:00:00:00:00:0c: fd00:9::1>fd00:1::2 ttl 255 icmp6 NeighborAdvertisement",
		},
		{
			"a VIP on the host's loopback", "fd00:9::2", AnsweredND,
			"0 02:00:00:00:00:0c: fd00:9::2>fd00:1::2 ttl 255 icmp6 NeighborAdvertisement",
		},
		{"a VIP on the interface itself", "fd00:9::3", NotOurs, ""},
		{"any other address", "fd00:1::1", NotOurs, ""},
	}
	for _, r := range rows {
		t.Run(r.sentence, func(t *testing.T) {
			w := newTestbed(t, conntrack.MethodNAT)
			f := wiretest.Solicitation(wiretest.ClientMAC, "fd00:1::2", r.target)
			if v := w.process(&f); v != r.verdict {
				t.Errorf("verdict %s, want %s", v, r.verdict)
			}
			if out := w.format(f); out != r.out {
				t.Errorf("out %q, want %q", out, r.out)
			}
		})
	}
}

// step is one frame of a conversation.
type step struct {
	sentence string
	port     uint16
	packet   wiretest.Packet
	verdict  Verdict
	out      string
}

func converse(t *testing.T, w *testbed, steps []step) {
	t.Helper()
	for _, s := range steps {
		f := in(s.port, s.packet)
		if v := w.process(&f); v != s.verdict {
			t.Errorf("%s: verdict %s, want %s", s.sentence, v, s.verdict)
		}
		if out := w.format(f); out != s.out {
			t.Errorf("%s: out\n%s, want\n%s", s.sentence, out, s.out)
		}
		w.now += 10
	}
}

// A conversation by NAT: replies come from the VIP and go back where the client's
// frames came from, and ICMP errors arrive in both directions.
func TestNATConversation(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	reply := wiretest.Packet{
		SrcMAC: serverMAC[0], Src: "10.2.0.11:8080", Dst: "10.1.0.2:5000", TCPFlags: wire.TCPSyn | wire.TCPAck,
	}
	toClient := wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.2.0.11:8080", TCPFlags: wire.TCPAck}.Frame()
	fromVIP := wiretest.Packet{Src: "10.9.0.1:80", Dst: "10.1.0.2:5000", TCPFlags: wire.TCPAck}.Frame()
	converse(t, w, []step{
		{
			"the client calls", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
		{"the server answers", 1, reply, ReturnedMasq, "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 63 tcp 80>5000"},
		{
			"a second client gets the second server", 0, syn("10.1.0.3:5000", "10.9.0.1:80"), ForwardedMasq,
			"1 02:00:00:00:01:02: 10.1.0.3>10.2.0.12 ttl 63 tcp 5000>8080",
		},
		{
			"the first keeps its own", 0,
			wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck},
			ForwardedMasq,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
		{
			"a router behind the server complains about the request: the VIP says so", 1,
			wiretest.Packet{
				SrcMAC: serverMAC[0], Src: "10.2.0.254", Dst: "10.1.0.2", Proto: wire.ProtoICMP, ICMPType: 3,
				ICMPCode: 1, Payload: wiretest.Quote(toClient, 28),
			},
			ICMPErrorToClient, "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 63 icmp DestinationUnreachable(Host)",
		},
		{
			"the client's router complains about the reply: its server hears it", 0,
			wiretest.Packet{
				Src: "10.1.0.254", Dst: "10.9.0.1", Proto: wire.ProtoICMP, ICMPType: 3, ICMPCode: 4, ICMPRest: 1400,
				Payload: wiretest.Quote(fromVIP, 28),
			},
			ICMPErrorToServer,
			"1 02:00:00:00:01:01: 10.1.0.254>10.2.0.11 ttl 63 icmp DestinationUnreachable(FragmentationNeeded)",
		},
	})
	if n := w.conns.Counts(1).Active.Load(); n != 1 {
		t.Errorf("server 1 has %d active conns, want 1", n)
	}
	got := w.table.server(1).Counters.Totals()
	if got.Conns != 1 || got.InPkts != 3 || got.OutPkts != 2 {
		t.Errorf("server 1 counted %+v, want 1 conn, 3 packets in and 2 out", got)
	}
}

// A removed server under expire_nodest_conn 0, as in IPVS: the client's packets are
// dropped and counted, and the server's replies still come back.
func TestServerRemovedSilently(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.table.Settings.RescheduleRemoved = false
	converse(t, w, []step{
		{
			"a conn to the first server", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
	})
	w.remove("10.2.0.11")
	converse(t, w, []step{
		{
			"a segment has nowhere to go", 0,
			wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck},
			DroppedServerGone, "",
		},
		{"nor has another SYN", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), DroppedServerGone, ""},
		{
			"replies are still translated", 1,
			wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.2:5000", TCPFlags: wire.TCPAck},
			ReturnedMasq,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 63 tcp 80>5000",
		},
	})
}

// A removed server: new connections go elsewhere at once, and a segment in the middle
// of a connection is reset. Until then the server's replies still come back.
func TestServerRemoved(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	converse(t, w, []step{
		{
			"a conn to the first server", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
		{
			"a flow of datagrams to it", 0,
			wiretest.Packet{Src: "10.1.0.2:6000", Dst: "10.9.0.1:80", Proto: wire.ProtoUDP},
			ForwardedMasq,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 udp 6000>8080",
		},
	})
	w.remove("10.2.0.11")
	converse(t, w, []step{
		{
			"its replies are still translated", 1,
			wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.2:5000", TCPFlags: wire.TCPAck},
			ReturnedMasq,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 63 tcp 80>5000",
		},
		{
			"a segment in mid-stream is reset", 0,
			wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck},
			RefusedNoConn,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 tcp 80>5000 rst",
		},
		{
			"a SYN is scheduled again", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq,
			"1 02:00:00:00:01:02: 10.1.0.2>10.2.0.12 ttl 63 tcp 5000>8080",
		},
		{
			"so is the next datagram", 0,
			wiretest.Packet{Src: "10.1.0.2:6000", Dst: "10.9.0.1:80", Proto: wire.ProtoUDP},
			ForwardedMasq,
			"1 02:00:00:00:01:02: 10.1.0.2>10.2.0.12 ttl 63 udp 6000>8080",
		},
	})
}

// Replies go to the gateway that the host's route names, else where the client's packet
// came from.
func TestReturnHop(t *testing.T) {
	router := wire.MAC{2, 0, 0, 0, 0, 0x77} // not the host's gateway
	rows := []struct{ sentence, client, to string }{
		{"a client behind the default gateway", "192.0.2.9", "02:00:00:00:00:fe"},
		{"a client on the link", "10.1.0.9", "02:00:00:00:00:77"},
		{"a client whose route leaves by another interface", "10.66.0.9", "02:00:00:00:00:77"},
	}
	for _, r := range rows {
		t.Run(r.sentence, func(t *testing.T) {
			w := newTestbed(t, conntrack.MethodNAT)
			call := syn(r.client+":5000", "10.9.0.1:80")
			call.SrcMAC = router
			converse(t, w, []step{
				{
					"the call", 0, call, ForwardedMasq,
					"1 02:00:00:00:01:01: " + r.client + ">10.2.0.11 ttl 63 tcp 5000>8080",
				},
				{
					"the reply", 1,
					wiretest.Packet{
						Src: "10.2.0.11:8080", Dst: r.client + ":5000", TCPFlags: wire.TCPSyn | wire.TCPAck,
					},
					ReturnedMasq,
					"0 " + r.to + ": 10.9.0.1>" + r.client + " ttl 63 tcp 80>5000",
				},
			})
		})
	}
}
