package director

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// setNeighbour changes the hardware address of a neighbour, as a new table of the control
// plane does; zero: it is not known.
func (w *testbed) setNeighbour(port uint16, address string, mac wire.MAC) {
	neighbours := maps.Clone(w.table.FIB.Neighbours)
	if neighbours[NeighbourKey{port, addr(address)}] = mac; mac.IsZero() {
		delete(neighbours, NeighbourKey{port, addr(address)})
	}
	table := *w.table
	table.FIB = w.table.FIB.WithNeighbours(neighbours)
	for i := range w.lastID {
		server := *table.server(i + 1)
		server.NextHop = table.FIB.NextHop(server.Addr)
		table.Servers.Set(i+1, &server, &w.table.Servers)
	}
	w.table = &table
}

// toResolve describes the next hops that packets began to wait for in the last batch.
func (w *testbed) toResolve() (list []string) {
	for _, hop := range w.dir.Unresolved() {
		list = append(list, fmt.Sprintf("%d %s", hop.Port, hop.Addr.Netip()))
	}
	return list
}

// unresolvedStats is what became of packets that waited for their next hop.
func (w *testbed) unresolvedStats() frag.Stats { return w.frags.Stats(frag.ForNeighbour) }

// Packets to a server whose hardware address is not known wait, and then leave as they would
// have at once, byte for byte and in order. They count once. The next hop is to be resolved once.
func TestPacketsWaitForTheirServer(t *testing.T) {
	for _, method := range []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel} {
		for _, f := range []struct{ client, vip, server string }{
			{"10.1.0.2:5000", "10.9.0.1:80", "10.2.0.11"}, {"[fd00:1::2]:5000", "[fd00:9::1]:80", "fd00:2::11"},
		} {
			t.Run(fmt.Sprintf("%d/%s", method, f.server), func(t *testing.T) {
				data := wiretest.Packet{
					Src: f.client, Dst: f.vip, TCPFlags: wire.TCPAck | wire.TCPPsh, Payload: []byte("text"),
				}
				packets := []wiretest.Packet{syn(f.client, f.vip), data, datagram(f.client, f.vip)}
				twin, w := newTestbed(t, method), newTestbed(t, method)
				w.setNeighbour(1, f.server, wire.MAC{})
				var want []wire.Frame
				for i, p := range packets {
					sent, _ := twin.separately(in(0, p))
					want = append(want, sent...)
					if v := w.process(new(in(0, p))); v != HeldNoNeighbour {
						t.Fatalf("packet %d: verdict %s", i, v)
					}
					if got, hops := w.toResolve(), []string{"1 " + f.server}; i == 0 && !slices.Equal(got, hops) ||
						i > 0 && len(got) != 0 {
						t.Errorf("packet %d: to resolve: %v", i, got)
					}
				}
				if sent := w.originated(); len(sent) != 0 {
					t.Errorf("sent %v before the server is known", sent)
				}
				w.setNeighbour(1, f.server, serverMAC[0])
				got, _ := w.inOneBatch()
				if len(got) != len(want) {
					t.Fatalf("%d packets left, want %d", len(got), len(want))
				}
				for i := range got {
					if got[i].Out != want[i].Out || !bytes.Equal(got[i].Bytes(), want[i].Bytes()) {
						t.Errorf("packet %d left as %s, want %s", i, w.format(got[i]), twin.format(want[i]))
					}
				}
				for i := range w.lastID {
					a, b := w.table.server(i+1).Counters.Totals(), twin.table.server(i+1).Counters.Totals()
					if a != b {
						t.Errorf("server %d counted %+v, want %+v", i+1, a, b)
					}
				}
				if s := w.unresolvedStats(); s != (frag.Stats{Sent: 3}) {
					t.Errorf("counted %+v", s)
				}
			})
		}
	}
}

// A packet whose next hop does not answer for three seconds is answered with host
// unreachable, from the VIP or from the director as a router. Then the next hop is to be
// resolved again.
func TestNoNeighbourAnswers(t *testing.T) {
	for _, r := range []struct {
		sentence string
		port     uint16
		packet   wiretest.Packet
		hop, out string
	}{
		{
			"to a server", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), "1 10.2.0.11",
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp DestinationUnreachable(Host)",
		},
		{
			"to a server, IPv6", 0, datagram("[fd00:1::2]:5000", "[fd00:9::1]:80"), "1 fd00:2::11",
			"0 02:00:00:00:00:0c: fd00:9::1>fd00:1::2 ttl 64 icmp6 DestinationUnreachable(AddressUnreachable)",
		},
		{
			"from a server", 1, datagram("10.2.0.12:8080", "10.1.0.77:5000"), "0 10.1.0.77",
			"1 02:00:00:00:00:0c: 10.2.0.1>10.2.0.12 ttl 64 icmp DestinationUnreachable(Host)",
		},
		{
			"by a gateway", 1, datagram("10.2.0.12:8080", "198.51.100.7:5000"), "0 10.1.0.254",
			"1 02:00:00:00:00:0c: 10.2.0.1>10.2.0.12 ttl 64 icmp DestinationUnreachable(Host)",
		},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			w := newTestbed(t, conntrack.MethodNAT)
			for _, a := range []string{"10.2.0.11", "fd00:2::11"} {
				w.setNeighbour(1, a, wire.MAC{})
			}
			w.setNeighbour(0, "10.1.0.254", wire.MAC{})
			for range 2 {
				if v := w.process(new(in(r.port, r.packet))); v != HeldNoNeighbour {
					t.Fatalf("verdict %s", v)
				}
				if got := w.toResolve(); !slices.Equal(got, []string{r.hop}) {
					t.Errorf("to resolve: %v, want %s", got, r.hop)
				}
				w.now += unresolvedTime - 1
				if sent := w.originated(); len(sent) != 0 {
					t.Errorf("sent %v too early", sent)
				}
				w.now++
				if sent := w.originated(); !slices.Equal(sent, []string{r.out}) {
					t.Errorf("sent\n%v, want\n%s", sent, r.out)
				}
				// Another server has its turn by round-robin.
				w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP}).Picker = pickConstant(0)
				w.table.serviceAt(Endpoint{addr("fd00:9::1"), 80, wire.ProtoUDP}).Picker = pickConstant(0)
			}
			if s := w.unresolvedStats(); s != (frag.Stats{Expired: 2}) {
				t.Errorf("counted %+v", s)
			}
		})
	}
}

// Packets without a conn of the director's find their next hop when it is known: replies of
// direct flows and of one-packet services to clients on the link, or behind a gateway.
func TestRepliesWaitForTheirClient(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	svc := w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoUDP})
	server := w.table.server(svc.Servers[1])
	w.table.ReplyServices = map[Endpoint]ReplyService{
		{server.Addr, 8080, wire.ProtoUDP}: {VIP: addr("10.9.0.1"), VPort: 80, Counters: server.Counters},
	}
	w.setNeighbour(0, "10.1.0.254", wire.MAC{})
	client, gateway := wire.MAC{2, 0, 0, 0, 0, 0x77}, gwMAC
	for _, r := range []struct {
		packet wiretest.Packet
		hop    string
		mac    wire.MAC
		out    string
	}{
		{
			wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.77:5000", TCPFlags: wire.TCPSyn | wire.TCPAck},
			"10.1.0.77", client, "0 02:00:00:00:00:77: 10.2.0.11>10.1.0.77 ttl 63 tcp 8080>5000",
		},
		{
			datagram("[fd00:2::12]:8080", "[fd00:1::77]:5000"),
			"fd00:1::77", client, "0 02:00:00:00:00:77: fd00:2::12>fd00:1::77 ttl 63 udp 8080>5000",
		},
		{
			datagram("10.2.0.12:8080", "10.1.0.78:5000"),
			"10.1.0.78", client, "0 02:00:00:00:00:77: 10.9.0.1>10.1.0.78 ttl 63 udp 80>5000",
		},
		{
			datagram("10.2.0.12:8080", "198.51.100.7:5000"),
			"10.1.0.254", gateway, "0 02:00:00:00:00:fe: 10.9.0.1>198.51.100.7 ttl 63 udp 80>5000",
		},
	} {
		if v := w.process(new(in(1, r.packet))); v != HeldNoNeighbour {
			t.Errorf("%s: verdict %s", r.hop, v)
		}
		if got := w.toResolve(); !slices.Equal(got, []string{"0 " + r.hop}) {
			t.Errorf("to resolve: %v, want %s", got, r.hop)
		}
		w.setNeighbour(0, r.hop, r.mac)
		if sent := w.originated(); !slices.Equal(sent, []string{r.out}) {
			t.Errorf("sent\n%v, want\n%s", sent, r.out)
		}
	}
	if got := server.Counters.Totals().OutPkts; got != 2 {
		t.Errorf("counted %d replies, want 2", got)
	}
}

// A datagram of a one-packet service waits for the server that it was scheduled to, and is
// not scheduled again.
func TestOnePacketWaits(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	svc := w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoUDP})
	svc.OnePacket = true
	w.setNeighbour(1, "10.2.0.11", wire.MAC{})
	w.setNeighbour(1, "10.2.0.12", wire.MAC{})
	for i := range 4 {
		client := fmt.Sprintf("10.1.0.2:%d", 5000+i)
		if v := w.process(new(in(0, datagram(client, "10.9.0.1:80")))); v != HeldNoNeighbour {
			t.Fatalf("verdict %s", v)
		}
	}
	w.setNeighbour(1, "10.2.0.12", serverMAC[1])
	want := []string{
		"1 02:00:00:00:01:02: 10.1.0.2>10.2.0.12 ttl 63 udp 5001>8080",
		"1 02:00:00:00:01:02: 10.1.0.2>10.2.0.12 ttl 63 udp 5003>8080",
	}
	if sent := w.originated(); !slices.Equal(sent, want) {
		t.Errorf("sent\n%v, want\n%v", sent, want)
	}
	for i, id := range svc.Servers {
		if got := w.table.server(id).Counters.Totals(); got.Conns != 2 || got.InPkts != 2 {
			t.Errorf("server %d counted %+v, want 2 conns and packets", i, got)
		}
	}
}

// The fragments of a datagram wait with the first of them, in every order, and arrive whole.
// If the server does not answer, the first is answered and the others are dropped.
func TestFragmentsWaitForTheirServer(t *testing.T) {
	for order, arrange := range orders {
		for _, known := range []bool{true, false} {
			for _, onePacket := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/known=%t/ops=%t", order, known, onePacket), func(t *testing.T) {
					w := newTestbed(t, conntrack.MethodNAT)
					w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoUDP}).OnePacket = onePacket
					w.setNeighbour(1, "10.2.0.11", wire.MAC{})
					request := large(wire.ProtoUDP, "10.1.0.2:5000", "10.9.0.1:80")
					pieces := fragmentsOf(0, 77, 1400, request)
					arrange(pieces)
					if out, verdicts := w.separately(pieces...); len(out) != 0 ||
						!slices.Contains(verdicts, HeldNoNeighbour) || !slices.Contains(verdicts, HeldFragment) {
						t.Fatalf("%d fragments left: %v", len(out), verdicts)
					}
					if !known {
						w.now += unresolvedTime
						if sent := w.originated(); len(sent) != 1 {
							t.Errorf("sent %v, want an ICMP error", sent)
						}
						if s := w.frags.Stats(frag.ForFirst); int(s.Stopped) != len(pieces)-1 || s.Waiting != 0 {
							t.Errorf("the others are counted as %+v", s)
						}
						return
					}
					w.setNeighbour(1, "10.2.0.11", serverMAC[0])
					out, _ := w.inOneBatch()
					if len(out) != len(pieces) {
						t.Fatalf("%d fragments became %d", len(pieces), len(out))
					}
					request.Dst, request.TTL = "10.2.0.11:8080", 63
					request.SrcMAC, request.DstMAC = portMAC[1], serverMAC[0]
					checkFragments(t, "the server", out, request)
				})
			}
		}
	}
}

// ICMP errors and later fragments do not wait: they are dropped, and nothing is resolved for them.
func TestWhatDoesNotWait(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	converse(t, w, []step{{
		"a conn", 0, datagram("10.1.0.2:5000", "10.9.0.1:80"),
		ForwardedMasq, "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 udp 5000>8080",
	}})
	pieces := fragmentsOf(0, 77, 1400, large(wire.ProtoUDP, "10.1.0.2:5000", "10.9.0.1:80"))
	w.separately(pieces[0])
	w.setNeighbour(1, "10.2.0.11", wire.MAC{})
	reply := datagram("10.9.0.1:80", "10.1.0.2:5000")
	for sentence, f := range map[string]wire.Frame{
		"an ICMP error about a reply": in(0, wiretest.Packet{
			Proto: wire.ProtoICMP, ICMPType: wire.ICMPUnreachable, ICMPCode: 1, Src: "10.3.0.1", Dst: "10.9.0.1",
			Payload: wiretest.Quote(reply.Frame(), 100),
		}),
		"a later fragment": pieces[1],
	} {
		if v := w.process(&f); v != DroppedNoNeighbour || len(w.dir.Unresolved()) != 0 {
			t.Errorf("%s: verdict %s, to resolve: %v", sentence, v, w.toResolve())
		}
	}
}

// A server without any route is looked for on all links; the host does so anyway. One whose
// route leads elsewhere is unreachable at once.
func TestServerWithoutRouteWaits(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	h := *w.table.FIB.HostNet
	h.Routes = h.Routes.Clone()
	h.Routes.Delete(netip.MustParsePrefix("0.0.0.0/0"))
	w.table.FIB = NewFIB(&h)
	svc := w.service(conntrack.MethodNAT, wire.ProtoTCP, "10.9.0.1", "172.16.0.1", "10.66.0.1")
	svc.Picker = pickConstant(0)
	v := w.process(new(in(0, syn("10.1.0.2:5000", "10.9.0.1:80"))))
	if v != HeldNoNeighbour || len(w.toResolve()) != 0 {
		t.Errorf("verdict %s, to resolve: %v", v, w.toResolve())
	}
	w.setNeighbour(1, "172.16.0.1", serverMAC[1])
	want := []string{"1 02:00:00:00:01:02: 10.1.0.2>172.16.0.1 ttl 63 tcp 5000>8080"}
	if sent := w.originated(); !slices.Equal(sent, want) {
		t.Errorf("sent %v, want %v", sent, want)
	}
	svc.Picker = pickConstant(1)
	if v := w.process(new(in(0, syn("10.1.0.2:5001", "10.9.0.1:80")))); v != AnsweredNoRoute {
		t.Errorf("by another interface: verdict %s", v)
	}
}

// A packet that waited for a removed server, which is back with an unknown hardware address,
// waits for that too.
func TestServerBackWithoutNeighbour(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.process(new(in(0, syn("10.1.0.2:5000", "10.9.0.1:80"))))
	w.removeWithGrace("10.2.0.11", 2000)
	w.process(new(in(0, segment(wire.TCPAck))))
	w.table.server(1).InService = true
	w.setNeighbour(1, "10.2.0.11", wire.MAC{})
	if sent := w.originated(); len(sent) != 0 {
		t.Fatalf("sent %v", sent)
	}
	w.setNeighbour(1, "10.2.0.11", serverMAC[0])
	want := []string{"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080"}
	if sent := w.originated(); !slices.Equal(sent, want) {
		t.Errorf("sent %v, want %v", sent, want)
	}
}

// What is decided when the packet goes on is what holds then: its server may be gone.
func TestServerRemovedMeanwhile(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.setNeighbour(1, "10.2.0.11", wire.MAC{})
	w.process(new(in(0, syn("10.1.0.2:5000", "10.9.0.1:80"))))
	w.remove("10.2.0.11")
	w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP}).Picker = pickConstant(1)
	w.now += unresolvedTime
	want := []string{"1 02:00:00:00:01:02: 10.1.0.2>10.2.0.12 ttl 63 tcp 5000>8080"}
	if sent := w.originated(); !slices.Equal(sent, want) {
		t.Errorf("sent %v, want %v", sent, want)
	}
}

// A server that sends to 65,000 addresses that do not exist has a quarter of the next hops
// resolved, and a part of the memory. Packets of other servers and of clients wait and
// arrive as ever.
func TestFloodToUnknownAddresses(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	h := *w.table.FIB.HostNet
	h.Routes = h.Routes.Clone()
	h.Routes.Insert(netip.MustParsePrefix("10.128.0.0/16"), Route{Port: 0})
	w.table.FIB = NewFIB(&h)
	w.setNeighbour(1, "10.2.0.11", wire.MAC{})
	flood := datagram("10.2.0.12:8080", "10.128.0.1:5000")
	flood.Payload = make([]byte, 1400)
	hops, dropped := 0, 0
	for i := range 65_000 {
		f := in(1, flood)
		dst := netip.AddrFrom4([4]byte{10, 128, byte(i >> 8), byte(i)})
		f = retarget(f, dst)
		if w.process(&f) == DroppedNoNeighbour {
			dropped++
		}
		hops += len(w.dir.Unresolved())
		w.dir.Originate()
	}
	if s := w.unresolvedStats(); hops != maxUnresolved/4 || dropped != 65_000-hops || s.Waiting != int64(hops) {
		t.Errorf("%d to resolve, dropped %d, counted %+v", hops, dropped, s)
	}
	for range 10_000 { // to one of these
		f := retarget(in(1, flood), netip.MustParseAddr("10.128.0.1"))
		w.process(&f)
	}
	if s := w.unresolvedStats(); s.Waiting > int64(hops)+int64(unresolvedLimits.Source)/1400 || s.Evicted != 0 {
		t.Errorf("after a flood to one: %+v", s)
	}
	converse(t, w, []step{
		{"another server to a client", 1, datagram("10.2.0.11:8080", "10.1.0.77:5000"), HeldNoNeighbour, ""},
		{"a client to a server", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), HeldNoNeighbour, ""},
		{
			"a client to a server that is known", 0, syn("10.1.0.3:5000", "10.9.0.1:80"),
			ForwardedMasq, "1 02:00:00:00:01:02: 10.1.0.3>10.2.0.12 ttl 63 tcp 5000>8080",
		},
	})
	w.setNeighbour(1, "10.2.0.11", serverMAC[0])
	w.setNeighbour(0, "10.1.0.77", wire.MAC{2, 0, 0, 0, 0, 0x77})
	want := []string{
		"0 02:00:00:00:00:77: 10.2.0.11>10.1.0.77 ttl 63 udp 8080>5000",
		"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
	}
	if sent := w.originated(); !slices.Equal(sent, want) {
		t.Errorf("sent %v, want %v", sent, want)
	}
	w.now += unresolvedTime
	if sent := w.originated(); len(sent) != limitBurst/2 || w.unresolvedStats().Waiting != 0 {
		t.Errorf("%d answers, want %d; counted %+v", len(sent), limitBurst/2, w.unresolvedStats())
	}
}

// retarget changes the destination of an IPv4 packet with UDP.
func retarget(f wire.Frame, dst netip.Addr) wire.Frame {
	var p wire.Packet
	wire.Parse(&f, &p)
	h := wire.IPv4(f.From(p.L3))
	h.SetDst(wire.AddrFrom(dst))
	h.FillChecksum()
	wire.Parse(&f, &p)
	wire.FillChecksum(&f, &p)
	return f
}

// More packets go on with one batch than it takes frames; the rest follow at once.
func TestManyPacketsGoOn(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.setNeighbour(1, "10.2.0.11", wire.MAC{})
	w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP}).Picker = pickConstant(0)
	const n = 3 * maxReleased
	for i := range n {
		w.process(new(in(0, syn(fmt.Sprintf("10.1.0.2:%d", 5000+i), "10.9.0.1:80"))))
	}
	w.setNeighbour(1, "10.2.0.11", serverMAC[0])
	if sent := w.originated(); len(sent) != n {
		t.Errorf("%d left, want %d", len(sent), n)
	}
}

// What waits comes and leaves by VLANs that are no devices, with their tags.
func TestWaitingInVLANs(t *testing.T) {
	w := vlanTestbed(t, conntrack.MethodNAT)
	w.setNeighbour(3, "10.8.0.11", wire.MAC{})
	call, reply := syn("192.0.2.9:5000", "10.9.0.8:80"), datagram("10.8.0.11:8080", "10.7.0.9:5000")
	call.VLANs, reply.VLANs = []uint16{7}, []uint16{8}
	for i, p := range []wiretest.Packet{call, reply} {
		hop := []string{"3 10.8.0.11", "2 10.7.0.9"}[i]
		if v := w.process(new(in(0, p))); v != HeldNoNeighbour || !slices.Equal(w.toResolve(), []string{hop}) {
			t.Errorf("verdict %s, to resolve: %v, want %s", v, w.toResolve(), hop)
		}
	}
	w.setNeighbour(3, "10.8.0.11", serverMAC[0])
	want := []string{"0 02:00:00:00:01:01: vlan 8 192.0.2.9>10.8.0.11 ttl 63 tcp 5000>8080"}
	if sent := w.originated(); !slices.Equal(sent, want) {
		t.Errorf("sent %v, want %v", sent, want)
	}
	w.now += unresolvedTime
	want = []string{"0 02:00:00:00:00:0c: vlan 8 10.8.0.1>10.8.0.11 ttl 64 icmp DestinationUnreachable(Host)"}
	if sent := w.originated(); !slices.Equal(sent, want) {
		t.Errorf("sent %v, want %v", sent, want)
	}
}

// Nothing is allocated for packets that wait, are sent on or are answered.
func TestWaitingForNeighbourAllocates(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	known := w.table
	w.setNeighbour(1, "10.2.0.11", wire.MAC{})
	unknown := w.table
	w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP}).Picker = pickConstant(0)
	frame := in(0, syn("10.1.0.2:5000", "10.9.0.1:80"))
	keep := bytes.Clone(frame.Buf)
	frames := make([]wire.Frame, 1)
	if n := testing.AllocsPerRun(100, func() {
		for _, next := range []*Table{known, unknown} {
			copy(frame.Buf, keep)
			frames[0] = frame
			w.dir.Process(w.now, unknown, frames, w.verdicts[:1])
			w.dir.Unresolved()
			w.now += unresolvedTime
			w.dir.Process(w.now, next, nil, nil)
			w.dir.Originate()
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	if s := w.unresolvedStats(); s.Sent == 0 || s.Expired == 0 {
		t.Errorf("counted %+v", s)
	}
}
