package director

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/gaissmai/bart"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// family is the same conversation in one of the families.
type family struct {
	name                               string
	client, vip, server, router, inner string // router is on the clients' side, inner on the servers'
	icmp                               uint8
	errors                             []uint8
}

var families = []family{
	{
		"IPv4", "10.1.0.2:5000", "10.9.0.1:80", "10.2.0.11:8080", "10.1.0.254", "10.2.0.254", wire.ProtoICMP,
		[]uint8{wire.ICMPUnreachable, wire.ICMPSourceQuench, wire.ICMPTimeExceeded, wire.ICMPParameter},
	},
	{
		"IPv6", "[fd00:1::2]:5000", "[fd00:9::1]:80", "[fd00:2::11]:8080", "fd00:1::fe", "fd00:2::fe", wire.ProtoICMPv6,
		[]uint8{wire.ICMPv6Unreachable, wire.ICMPv6TooBig, wire.ICMPv6TimeExceeded, wire.ICMPv6Parameter, 100, 127},
	},
}

// Every ICMP error about a known flow reaches the end that sent what it quotes,
// by every method, from either side, whatever it quotes of it and however its
// checksum was made. It quotes what that end sent, and its checksums are right
// wherever they can be. An error whose own checksum is wrong is dropped.
func TestErrorsOfKnownFlows(t *testing.T) {
	bodies := []wiretest.Packet{
		{Payload: make([]byte, 100)},
		{TCPOptions: []byte{2, 4, 5, 0xb4}, TCPFlags: wire.TCPSyn},
		{Proto: wire.ProtoUDP, Payload: []byte("odd")},
		{Proto: wire.ProtoUDP, NoChecksum: true, Payload: make([]byte, 50)},
	}
	for _, method := range []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel} {
		w, port := newTestbed(t, method), uint16(5000)
		for _, s := range w.table.Services.All() {
			s.Picker = pickConstant(0)
		}
		for _, fam := range families {
			client := netip.MustParseAddrPort(fam.client).Addr()
			for _, kind := range fam.errors {
				for _, body := range bodies {
					for _, quoted := range []int{8, 15, 20, 1000} {
						for _, partial := range []bool{false, true} {
							if body.NoChecksum && fam.icmp == wire.ProtoICMPv6 {
								continue
							}
							port++
							fam.client = netip.AddrPortFrom(client, port).String()
							w.errorOfKnownFlow(method, fam, kind, body, quoted, partial)
						}
					}
				}
			}
		}
	}
}

// errorOfKnownFlow sends an error in each direction about a new flow.
func (w *testbed) errorOfKnownFlow(method conntrack.Method, fam family, kind uint8,
	body wiretest.Packet, quoted int, partial bool,
) {
	t := w.t
	t.Helper()
	name := fmt.Sprintf(
		"method %d, %s, type %d, protocol %d, %d bytes quoted, partial checksum %t", method, fam.name, kind, body.Proto,
		quoted, partial,
	)
	first := body
	first.Src, first.Dst, first.TCPFlags = fam.client, fam.vip, wire.TCPSyn
	f := in(0, first)
	if v := w.process(&f); v.Dropped() {
		t.Fatalf("%s: the first packet was %s", name, v)
	}
	end := fam.vip // where requests go and replies come from, as the servers' side sees it
	if method == conntrack.MethodNAT {
		end = fam.server
	}
	header := 20
	if fam.icmp == wire.ProtoICMPv6 {
		header = 40
	}
	about := func(src, dst, from string) wiretest.Packet {
		q := body
		q.Src, q.Dst = src, dst
		return wiretest.Packet{
			Src: from, Dst: host(src), Proto: fam.icmp, ICMPType: kind, ICMPRest: 1400, PartialChecksum: partial,
			Payload: wiretest.Quote(q.Frame(), header+quoted),
		}
	}
	for _, row := range []struct {
		port     uint16
		packet   wiretest.Packet
		verdict  Verdict
		src, dst string // of the quoted packet afterwards
	}{
		{0, about(fam.vip, fam.client, fam.router), ICMPErrorToServer, end, fam.client},
		{1, about(fam.client, end, fam.inner), ICMPErrorToClient, fam.client, fam.vip},
	} {
		spoiled := in(row.port, row.packet)
		spoiled.Bytes()[spoiled.Len()-1] ^= 1
		if v := w.process(&spoiled); !partial && (v != DroppedBadICMPChecksum || spoiled.Out != wire.NoPort) {
			t.Errorf("%s, with a wrong checksum: %s", name, v)
		}
		f := in(row.port, row.packet)
		if v := w.process(&f); v != row.verdict || f.Out != 1-row.port {
			t.Errorf("%s: %s by port %d, want %s", name, v, f.Out, row.verdict)
			continue
		}
		wiretest.Check(t, f)
		var p, in wire.Packet
		wire.Parse(&f, &p)
		if p.Proto != fam.icmp { // in its tunnel
			at := int(p.L4)
			wire.ParseIPAt(&f, at, &p, wire.Whole)
		}
		whole := about(row.src, row.dst, fam.router)
		if !wire.ParseQuoted(&f, &p, &in) || p.ICMPType != kind {
			t.Errorf("%s, %s: type %d quotes nothing", name, row.verdict, p.ICMPType)
			continue
		}
		if got, want := f.From(in.L3), whole.Payload; !equalButForNoChecksum(got, want, header, body.NoChecksum) {
			t.Errorf("%s, %s: quotes\n%x, want\n%x", name, row.verdict, got, want)
		}
	}
}

// equalButForNoChecksum compares quotes. Where a UDP packet had no checksum, the quote
// may have one, as the packet itself.
func equalButForNoChecksum(got, want []byte, header int, none bool) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if got[i] != want[i] && !(none && (i == header+6 || i == header+7)) {
			return false
		}
	}
	return true
}

// Every packet that we should answer is answered to a client. It is not if it comes
// from where no single host is, was sent to several hosts, is a later fragment or is an
// ICMP error (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)).
func TestNeverAnswered(t *testing.T) {
	calls := []struct {
		sentence string
		method   conntrack.Method
		port     uint16
		prepare  func(w *testbed)
		packet   func(fam family) wiretest.Packet
	}{
		{"no such service", conntrack.MethodNAT, 0, nil, func(fam family) wiretest.Packet {
			return wiretest.Packet{Src: fam.client, Dst: fam.vip[:len(fam.vip)-2] + "81", Proto: wire.ProtoUDP}
		}},
		{"no such service, TCP", conntrack.MethodNAT, 0, nil, func(fam family) wiretest.Packet {
			return wiretest.Packet{Src: fam.client, Dst: fam.vip[:len(fam.vip)-2] + "81", TCPFlags: wire.TCPSyn}
		}},
		{"no such connection", conntrack.MethodNAT, 0, nil, func(fam family) wiretest.Packet {
			return wiretest.Packet{Src: fam.client, Dst: fam.vip, TCPFlags: wire.TCPAck}
		}},
		{"no server", conntrack.MethodNAT, 0, func(w *testbed) {
			for _, s := range w.table.Services.All() {
				s.Picker = pickNone{}
			}
		}, func(fam family) wiretest.Packet {
			return wiretest.Packet{Src: fam.client, Dst: fam.vip, TCPFlags: wire.TCPSyn}
		}},
		{"TTL used up", conntrack.MethodDR, 0, nil, func(fam family) wiretest.Packet {
			return wiretest.Packet{Src: fam.client, Dst: fam.vip, TCPFlags: wire.TCPSyn, TTL: 1}
		}},
		{"too long for the tunnel", conntrack.MethodTunnel, 0, nil, func(fam family) wiretest.Packet {
			return wiretest.Packet{
				Src: fam.client, Dst: fam.vip, Proto: wire.ProtoUDP, DF: true, Payload: make([]byte, 1470),
			}
		}},
		{"no route", conntrack.MethodDR, 0, func(w *testbed) {
			for i := range w.lastID {
				w.table.server(i + 1).NextHop = NextHop{}
			}
		}, func(fam family) wiretest.Packet {
			return wiretest.Packet{Src: fam.client, Dst: fam.vip, TCPFlags: wire.TCPSyn}
		}},
		{"a ping", conntrack.MethodNAT, 0, nil, func(fam family) wiretest.Packet {
			p := wiretest.Packet{
				Src: host(fam.client), Dst: host(fam.vip), Proto: fam.icmp, ICMPType: wire.ICMPEcho,
				Payload: make([]byte, 64),
			}
			if fam.icmp == wire.ProtoICMPv6 {
				p.ICMPType = wire.ICMPv6Echo
			}
			return p
		}},
		{"a server's packet without a connection, under nat_icmp_send", conntrack.MethodNAT, 1, func(w *testbed) {
			w.table.Settings.NATICMPSend = true
		}, func(fam family) wiretest.Packet {
			return wiretest.Packet{Src: fam.server, Dst: fam.client, TCPFlags: wire.TCPAck}
		}},
	}
	sources := map[string][]string{
		"IPv4": {"127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"},
		"IPv6": {"::1", "::", "ff02::1", "ff0e::5"},
	}
	for _, c := range calls {
		for _, fam := range families {
			var spoiled []wiretest.Packet
			var why []string
			spoil := func(sentence string, change func(p *wiretest.Packet)) {
				p := c.packet(fam)
				change(&p)
				spoiled, why = append(spoiled, p), append(why, sentence)
			}
			for _, src := range sources[fam.name] {
				spoil("from "+src, func(p *wiretest.Packet) { p.Src = withHost(p.Src, src) })
			}
			spoil(
				"to everybody on the link",
				func(p *wiretest.Packet) { p.DstMAC = wire.MAC{255, 255, 255, 255, 255, 255} },
			)
			spoil("to a group on the link", func(p *wiretest.Packet) { p.DstMAC = wire.MAC{1, 0, 0x5e, 0, 0, 1} })
			if fam.name == "IPv4" {
				spoil("a later fragment", func(p *wiretest.Packet) { p.Offset, p.Payload = 64, make([]byte, 64) })
				spoil("to everybody", func(p *wiretest.Packet) { p.Dst = withHost(p.Dst, "255.255.255.255") })
				spoil("to a group", func(p *wiretest.Packet) { p.Dst = withHost(p.Dst, "224.0.0.251") })
			} else {
				spoil("a later fragment", func(p *wiretest.Packet) {
					p.Extension, p.Extensions = wire.ProtoFragment, []byte{
						max(p.Proto, wire.ProtoTCP), 0, 1, 0, 0, 0, 0, 7,
					}
				})
				spoil("to a group", func(p *wiretest.Packet) { p.Dst = withHost(p.Dst, "ff02::fb") })
			}
			answer := func(p wiretest.Packet) (Verdict, bool) {
				w := newTestbed(t, c.method)
				if c.prepare != nil {
					c.prepare(w)
				}
				f := in(c.port, p)
				v := w.process(&f)
				return v, f.Out == c.port
			}
			if v, answered := answer(c.packet(fam)); !answered {
				t.Errorf("%s, %s: not answered but %s", c.sentence, fam.name, v)
			}
			for i, p := range spoiled {
				if v, answered := answer(p); answered {
					t.Errorf("%s, %s, %s: answered: %s", c.sentence, fam.name, why[i], v)
				}
			}
		}
	}
}

// withHost returns an endpoint with another host.
func withHost(end, a string) string {
	if ap, err := netip.ParseAddrPort(end); err == nil {
		return netip.AddrPortFrom(netip.MustParseAddr(a), ap.Port()).String()
	}
	return a
}

// No ICMP error is answered, whatever is wrong with it: its TTL is used up, it is too
// long for the tunnel, its server was removed, or its flow is not known.
func TestErrorsAreNeverAnswered(t *testing.T) {
	for _, method := range []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel} {
		for _, fam := range families {
			redirect := uint8(wire.ICMPRedirect)
			if fam.icmp == wire.ProtoICMPv6 {
				redirect = 137
			}
			for _, kind := range append([]uint8{redirect}, fam.errors...) {
				end := fam.vip
				if method == conntrack.MethodNAT {
					end = fam.server
				}
				long := wiretest.Packet{Payload: make([]byte, 1450-len(fam.client)), TCPFlags: wire.TCPAck}
				about := func(src, dst, from string, port uint16, ttl uint8) wire.Frame {
					q := long
					q.Src, q.Dst = src, dst
					return in(port, wiretest.Packet{
						Src: from, Dst: host(src), Proto: fam.icmp, ICMPType: kind, TTL: ttl, DF: true,
						Payload: wiretest.Quote(q.Frame(), 1500-48),
					})
				}
				for _, prepare := range []func(w *testbed){
					func(*testbed) {},
					func(w *testbed) { w.table.Settings.ScheduleICMP = true },
					func(w *testbed) { w.table.Settings.ScheduleICMP = true; w.exhaust(wire.ProtoTCP) },
					func(w *testbed) { w.remove("10.2.0.11"); w.remove("fd00:2::11") },
					func(w *testbed) {
						w.table.FIB = NewFIB(&HostNet{Ports: testHostNet().Ports, Routes: new(bart.Table[Route])})
					},
				} {
					for _, known := range []bool{true, false} {
						w := newTestbed(t, method)
						if known {
							f := in(0, wiretest.Packet{Src: fam.client, Dst: fam.vip, TCPFlags: wire.TCPSyn})
							w.process(&f)
						}
						prepare(w)
						for _, f := range []wire.Frame{
							about(fam.vip, fam.client, fam.router, 0, 1), about(fam.vip, fam.client, fam.router, 0, 64),
							about(fam.client, end, fam.inner, 1, 1), about(fam.client, end, fam.inner, 1, 64),
						} {
							if v := w.process(&f); f.Out == f.In {
								t.Errorf(
									"method %d, %s, type %d, known %t: answered: %s", method, fam.name, kind, known, v,
								)
							}
						}
					}
				}
			}
		}
	}
}

// nat_icmp_send: what a NAT server sends from its service's port without a conn is
// refused to the server. RST and ABORT, other ports, and what DR and tunnel servers
// send are routed on.
func TestNATICMPSend(t *testing.T) {
	const refused = "1 02:00:00:00:00:0c: 10.2.0.1>10.2.0.11 ttl 64 icmp DestinationUnreachable(Port)"
	abort := append([]byte{6, 0, 0, 4}, make([]byte, 4)...)
	for _, r := range []struct {
		sentence string
		method   conntrack.Method
		send     bool
		packet   wiretest.Packet
		verdict  Verdict
		out      string
	}{
		{
			"not set: routed on", conntrack.MethodNAT, false,
			wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.254:5000", TCPFlags: wire.TCPAck},
			PassedUnchanged,
			"0 02:00:00:00:00:fe: 10.2.0.11>10.1.0.254 ttl 63 tcp 8080>5000",
		},
		{
			"a segment", conntrack.MethodNAT, true,
			wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.254:5000", TCPFlags: wire.TCPAck},
			RefusedReply,
			refused,
		},
		{
			"a SYN+ACK", conntrack.MethodNAT, true,
			wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.254:5000", TCPFlags: wire.TCPAck | wire.TCPSyn},
			RefusedReply, refused,
		},
		{
			"a datagram", conntrack.MethodNAT, true,
			wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.254:5000", Proto: wire.ProtoUDP},
			RefusedReply, refused,
		},
		{
			"a datagram over IPv6", conntrack.MethodNAT, true,
			wiretest.Packet{Src: "[fd00:2::11]:8080", Dst: "[fd00:1::2]:5000", Proto: wire.ProtoUDP},
			RefusedReply,
			"1 02:00:00:00:00:0c: fd00:2::1>fd00:2::11 ttl 64 icmp6 DestinationUnreachable(PortUnreachable)",
		},
		{
			"a reset", conntrack.MethodNAT, true,
			wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.254:5000", TCPFlags: wire.TCPRst},
			PassedUnchanged,
			"0 02:00:00:00:00:fe: 10.2.0.11>10.1.0.254 ttl 63 tcp 8080>5000 rst",
		},
		{
			"an SCTP ABORT", conntrack.MethodNAT, true,
			wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.254:5000", Proto: wire.ProtoSCTP, Payload: abort},
			PassedUnchanged, "0 02:00:00:00:00:fe: 10.2.0.11>10.1.0.254 ttl 63 sctp 8080>5000 abort",
		},
		{
			"another port", conntrack.MethodNAT, true,
			wiretest.Packet{Src: "10.2.0.11:22", Dst: "10.1.0.254:5000", TCPFlags: wire.TCPAck},
			NotOurs, "",
		},
		{
			"to the host itself", conntrack.MethodNAT, true,
			wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.1:5000", TCPFlags: wire.TCPAck},
			NotOurs, "",
		},
		{
			"from the VIP", conntrack.MethodDR, true,
			wiretest.Packet{Src: "10.9.0.1:80", Dst: "10.1.0.254:5000", TCPFlags: wire.TCPAck},
			PassedUnchanged,
			"0 02:00:00:00:00:fe: 10.9.0.1>10.1.0.254 ttl 63 tcp 80>5000",
		},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			w := newTestbed(t, r.method)
			w.table.Settings.NATICMPSend = r.send
			w.table.ReplySources.Set(Endpoint{addr("10.2.0.11"), 8080, wire.ProtoSCTP}, 1)
			converse(t, w, []step{{r.sentence, 1, r.packet, r.verdict, r.out}})
		})
	}
}

// schedule_icmp: an error about a reply whose request no director here forwarded goes
// to the server that the client's packets would go to, by its method.
func TestScheduleICMP(t *testing.T) {
	complaint := wiretest.Packet{
		Src: "10.1.0.254", Dst: "10.9.0.1", Proto: wire.ProtoICMP, ICMPType: 3, ICMPCode: 4, ICMPRest: 1400,
		Payload: wiretest.Quote(
			wiretest.Packet{Src: "10.9.0.1:80", Dst: "10.1.0.2:5000", TCPFlags: wire.TCPAck}.Frame(), 28,
		),
	}
	datagrams, elsewhere, local := complaint, complaint, complaint
	datagrams.Payload = wiretest.Quote(
		wiretest.Packet{Src: "10.9.0.1:80", Dst: "10.1.0.2:5000", Proto: wire.ProtoUDP}.Frame(), 28,
	)
	elsewhere.Payload = wiretest.Quote(wiretest.Packet{Src: "10.9.0.1:81", Dst: "10.1.0.2:5000"}.Frame(), 28)
	local.Payload = wiretest.Quote(wiretest.Packet{Src: "10.9.0.1:80", Dst: "127.0.0.1:5000"}.Frame(), 28)
	segment := wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck}
	for method, out := range map[conntrack.Method][2]string{
		conntrack.MethodNAT: {
			"1 02:00:00:00:01:01: 10.1.0.254>10.2.0.11 ttl 63 icmp DestinationUnreachable(FragmentationNeeded)",
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
		conntrack.MethodDR: {
			"1 02:00:00:00:01:01: 10.1.0.254>10.9.0.1 ttl 63 icmp DestinationUnreachable(FragmentationNeeded)",
			"1 02:00:00:00:01:01: 10.1.0.2>10.9.0.1 ttl 63 tcp 5000>80",
		},
		conntrack.MethodTunnel: {
			"1 02:00:00:00:01:01: 10.2.0.1>10.2.0.11 ttl 63 10.1.0.254>10.9.0.1 ttl 63 icmp " +
				"DestinationUnreachable(FragmentationNeeded)",
			"1 02:00:00:00:01:01: 10.2.0.1>10.2.0.11 ttl 63 10.1.0.2>10.9.0.1 ttl 63 tcp " +
				"5000>80",
		},
	} {
		w := newTestbed(t, method)
		converse(t, w, []step{{"not set: no server gets it", 0, complaint, DroppedVIPOther, ""}})
		w.table.Settings.ScheduleICMP = true
		spoiled := in(0, complaint)
		spoiled.Bytes()[spoiled.Len()-1] ^= 1
		if v := w.process(&spoiled); v != DroppedBadICMPChecksum || w.conns.Stats().Inserted != 0 {
			t.Errorf("method %d: a wrong checksum: %s", method, v)
		}
		verdict := map[conntrack.Method]Verdict{
			conntrack.MethodNAT: ForwardedMasq, conntrack.MethodDR: ForwardedRoute,
			conntrack.MethodTunnel: ForwardedTunnel,
		}[method]
		converse(t, w, []step{
			{"the first server gets it", 0, complaint, ICMPErrorToServer, out[0]},
			{"and the client's next segment", 0, segment, verdict, out[1]},
			{"an error about no service", 0, elsewhere, DroppedVIPOther, ""},
			{"one about a reply to nobody", 0, local, DroppedSourceLoopback, ""},
		})
		f := in(0, datagrams)
		if v := w.process(&f); v != ICMPErrorToServer {
			t.Errorf("method %d: about a datagram: %s", method, v)
		}
		unanswered := complaint
		unanswered.Payload = wiretest.Quote(wiretest.Packet{Src: "10.9.0.1:80", Dst: "10.1.0.4:5000"}.Frame(), 28)
		f = in(0, unanswered)
		w.process(&f)
		left := func(proto uint8, client string) (n int) {
			w.conns.Walk(
				func(s *conntrack.Snapshot) bool { return s.Proto == proto && s.Client == addr(client) },
				func(*conntrack.Snapshot) bool { n++; return true },
			)
			return n
		}
		for _, seconds := range []conntrack.Tick{2, 4} {
			w.dir.Process(w.now+seconds*conntrack.Second, w.table, nil, nil)
			tcp, udp := left(wire.ProtoTCP, "10.1.0.4"), left(wire.ProtoUDP, "10.1.0.2")
			if (tcp == 1) != (seconds < 3) || udp != 0 {
				t.Errorf("method %d: %d and %d conns are left after %d s", method, tcp, udp, seconds)
			}
		}
		w.now += 4 * conntrack.Second
		w.exhaust(wire.ProtoTCP)
		late := complaint
		late.Payload = wiretest.Quote(wiretest.Packet{Src: "10.9.0.1:80", Dst: "10.1.0.3:5000"}.Frame(), 28)
		converse(t, w, []step{{"without a server there is silence", 0, late, DroppedUnanswered, ""}})
	}
}
