package director

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/lpm"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// mark moves a service from its address to a mark, with the ports of its servers.
func (w *testbed) mark(method conntrack.Method, mark uint32, port uint16, servers ...string) *Service {
	w.t.Helper()
	v6 := !addr(servers[0]).Is4()
	svc := w.service(method, wire.ProtoTCP, "192.0.2.255", servers...)
	w.table.Services.Delete(Endpoint{addr("192.0.2.255"), 80, wire.ProtoTCP})
	for _, id := range svc.Servers {
		w.table.server(id).Port = port
	}
	svc.Port, svc.Mark = 0, true
	svc.MarkAddr = addr(fmt.Sprintf("0.0.0.%d", mark))
	if v6 {
		svc.MarkAddr = wire.Addr{3: byte(mark)}
	}
	if w.table.Marks == nil {
		w.table.Marks = &Marks{Services: map[MarkKey]*Service{}, nets: new(lpm.Table[struct{}])}
	}
	w.table.Marks.Services[MarkKey{mark, v6}] = svc
	return svc
}

// rule appends a rule.
func (w *testbed) rule(r MarkRule) {
	m := w.table.Marks
	v6 := r.Dst.IsValid() && r.Dst.Addr().Is6() || r.Src.IsValid() && r.Src.Addr().Is6()
	for _, p := range []*netip.Prefix{&r.Dst, &r.Src} {
		if !p.IsValid() {
			*p = netip.MustParsePrefix(map[bool]string{false: "0.0.0.0/0", true: "::/0"}[v6])
		}
	}
	m.Rules = append(m.Rules, r)
	if marks := NewMarks(m.Rules, m.Services); marks != nil {
		*m = *marks
	}
}

func network(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// Which mark a packet has shows in where it goes: mark 1 leads to 10.2.0.11, mark 2 to
// 10.2.0.12, mark 3 has no service.
func TestMarkRules(t *testing.T) {
	tcp := func(r MarkRule) MarkRule { r.Proto, r.In = wire.ProtoTCP, wire.NoPort; return r }
	net1 := tcp(MarkRule{Dst: network("10.8.0.0/16"), Mark: 1})
	udp := func(src, dst string) wiretest.Packet {
		return wiretest.Packet{Src: src, Dst: dst, Proto: wire.ProtoUDP, Payload: []byte("x")}
	}
	one, two, none := "10.2.0.11", "10.2.0.12", ""
	rows := []struct {
		sentence string
		rules    []MarkRule
		in       uint16
		packet   wiretest.Packet
		server   string
	}{
		{"any address of a net", []MarkRule{net1}, 0, syn("10.1.0.2:5000", "10.8.3.4:9"), one},
		{"none outside it", []MarkRule{net1}, 0, syn("10.1.0.2:5000", "10.7.0.1:9"), none},
		{"not another protocol", []MarkRule{net1}, 0, udp("10.1.0.2:5000", "10.8.3.4:9"), none},
		{
			"any protocol",
			[]MarkRule{{Dst: network("10.8.0.0/16"), In: wire.NoPort, Mark: 1}},
			0,
			udp("10.1.0.2:5000", "10.8.3.4:9"), one,
		},
		{
			"the last rule wins",
			[]MarkRule{net1, tcp(MarkRule{Dst: network("10.8.3.4/32"), Mark: 2})},
			0,
			syn("10.1.0.2:5000", "10.8.3.4:9"), two,
		},
		{
			"also if it is the wider",
			[]MarkRule{tcp(MarkRule{Dst: network("10.8.3.4/32"), Mark: 2}), net1},
			0,
			syn("10.1.0.2:5000", "10.8.3.4:9"), one,
		},
		{
			"a mark without a service takes packets out",
			[]MarkRule{net1, tcp(MarkRule{Dst: network("10.8.3.4/32"), Mark: 3})},
			0,
			syn("10.1.0.2:5000", "10.8.3.4:9"), none,
		},
		{
			"ports from a list, first",
			[]MarkRule{
				tcp(MarkRule{DstPorts: []wire.PortRange{{First: 80, Last: 80}, {First: 8000, Last: 8100}}, Mark: 1}),
			},
			0, syn("10.1.0.2:5000", "10.8.3.4:8000"), one,
		},
		{
			"last",
			[]MarkRule{
				tcp(MarkRule{DstPorts: []wire.PortRange{{First: 80, Last: 80}, {First: 8000, Last: 8100}}, Mark: 1}),
			},
			0, syn("10.1.0.2:5000", "10.8.3.4:8100"), one,
		},
		{
			"and not beyond",
			[]MarkRule{
				tcp(MarkRule{DstPorts: []wire.PortRange{{First: 80, Last: 80}, {First: 8000, Last: 8100}}, Mark: 1}),
			},
			0, syn("10.1.0.2:5000", "10.8.3.4:8101"), none,
		},
		{
			"source ports",
			[]MarkRule{tcp(MarkRule{SrcPorts: []wire.PortRange{{First: 5000, Last: 5000}}, Mark: 1})},
			0, syn("10.1.0.2:5000", "10.8.3.4:1"), one,
		},
		{
			"other source ports",
			[]MarkRule{tcp(MarkRule{SrcPorts: []wire.PortRange{{First: 5001, Last: 5002}}, Mark: 1})},
			0,
			syn("10.1.0.2:5000", "10.8.3.4:1"), none,
		},
		{
			"a source net",
			[]MarkRule{tcp(MarkRule{Src: network("10.1.0.0/24"), Mark: 1})},
			0,
			syn("10.1.0.2:5000", "10.8.3.4:1"), one,
		},
		{
			"another source net",
			[]MarkRule{tcp(MarkRule{Src: network("10.3.0.0/24"), Mark: 1})},
			0,
			syn("10.1.0.2:5000", "10.8.3.4:1"), none,
		},
		{
			"the interface it came by",
			[]MarkRule{{Proto: wire.ProtoTCP, In: 0, Mark: 1}},
			0,
			syn("10.1.0.2:5000", "10.8.3.4:1"), one,
		},
		{
			"another interface",
			[]MarkRule{{Proto: wire.ProtoTCP, In: 1, Mark: 1}},
			0,
			syn("10.1.0.2:5000", "10.8.3.4:1"), none,
		},
		{
			"a mark comes before the service of the very port",
			[]MarkRule{tcp(MarkRule{Dst: network("10.9.0.1/32"), Mark: 2})},
			0, syn("10.1.0.2:5000", "10.9.0.1:80"),
			two,
		},
		{
			"rules of IPv4 do not concern IPv6",
			[]MarkRule{{In: wire.NoPort, Mark: 1}},
			0,
			syn("[fd00:1::2]:5000", "[fd00:8::1]:80"), none,
		},
		{
			"marks of IPv6 have services of their own",
			[]MarkRule{{Dst: network("fd00:8::/64"), In: wire.NoPort, Mark: 1}},
			0,
			syn("[fd00:1::2]:5000", "[fd00:8::1]:80"), "fd00:2::12",
		},
	}
	for _, r := range rows {
		t.Run(r.sentence, func(t *testing.T) {
			w := newTestbed(t, conntrack.MethodNAT)
			w.now += 1000
			w.mark(conntrack.MethodNAT, 1, 0, one)
			w.mark(conntrack.MethodNAT, 2, 0, two)
			w.mark(conntrack.MethodNAT, 1, 0, "fd00:2::12")
			for _, rule := range r.rules {
				w.rule(rule)
			}
			f := in(r.in, r.packet)
			v := w.process(&f)
			w.format(f)
			got := none
			if v == ForwardedMasq {
				got = wiretest.Decode(t, f).NetworkLayer().NetworkFlow().Dst().String()
			}
			if got != r.server || got == none && v != NotOurs {
				t.Errorf("%s: went to %q, want %q", v, got, r.server)
			}
		})
	}
}

// A mark's server with port 0 keeps the packet's port. Another port replaces it, unless
// the service is persistent.
func TestMarkServerPort(t *testing.T) {
	for _, r := range []struct {
		sentence string
		port     uint16
		persist  conntrack.Tick
		out      string
	}{
		{"port 0 keeps the packet's", 0, 0, "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>443"},
		{"another port is rewritten to", 8080, 0, "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080"},
		{
			"a persistent service keeps the packet's all the same", 8080, 300000,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>443",
		},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			w := newTestbed(t, conntrack.MethodNAT)
			svc := w.mark(conntrack.MethodNAT, 1, r.port, "10.2.0.11")
			svc.Persist, svc.Mask = r.persist, everyBit
			w.rule(MarkRule{Dst: network("10.8.0.0/16"), In: wire.NoPort, Mark: 1})
			f := in(0, syn("10.1.0.2:5000", "10.8.0.1:443"))
			w.process(&f)
			if out := w.format(f); out != r.out {
				t.Errorf("out %s, want %s", out, r.out)
			}
		})
	}
}

// A persistent mark keeps a client at one server over VIPs, ports and protocols. Its
// template has protocol 0, and the mark as an address.
func TestMarkPersistence(t *testing.T) {
	for _, family := range []struct {
		client, vips, group string
		servers             []string
		dst                 [4]string
	}{
		{
			"10.1.0.2:%d", "10.8.0.0/16", "0.0.0.7",
			[]string{"10.2.0.11", "10.2.0.12"},
			[4]string{"10.8.0.1:80", "10.8.0.1:443", "10.8.9.9:80", "10.8.0.1:6970"},
		},
		{
			"[fd00:1::2]:%d", "fd00:8::/64", "0:7::",
			[]string{"fd00:2::11", "fd00:2::12"},
			[4]string{"[fd00:8::1]:80", "[fd00:8::1]:443", "[fd00:8::9]:80", "[fd00:8::1]:6970"},
		},
	} {
		w := newTestbed(t, conntrack.MethodDR)
		svc := w.mark(conntrack.MethodDR, 7, 0, family.servers...)
		svc.Persist, svc.Mask = 300000, everyBit
		w.rule(MarkRule{Dst: network(family.vips), In: wire.NoPort, Mark: 7})
		var first wire.MAC
		for i, dst := range family.dst {
			p := syn(fmt.Sprintf(family.client, 5000+i), dst)
			if i == 3 {
				p = wiretest.Packet{Src: p.Src, Dst: dst, Proto: wire.ProtoUDP, Payload: []byte("x")}
			}
			f := in(0, p)
			if v := w.process(&f); v != ForwardedRoute {
				t.Fatalf("to %s: %s", dst, v)
			}
			w.format(f)
			if mac := wire.MAC(f.Bytes()[:6]); i == 0 {
				first = mac
			} else if mac != first {
				t.Errorf("packet to %s went to %s, the first to %s", dst, mac, first)
			}
		}
		var templates []conntrack.Snapshot
		w.conns.Walk(func(s *conntrack.Snapshot) bool { return s.Template }, func(s *conntrack.Snapshot) bool {
			templates = append(templates, *s)
			return true
		})
		if len(templates) != 1 {
			t.Fatalf("%d templates, want one", len(templates))
		}
		if s := templates[0]; s.Proto != 0 || s.VIP != addr(family.group) || s.VPort != 0 ||
			s.SPort != 0 || s.ClientPort != 0 || s.Children != 4 {
			t.Errorf("template %+v", s)
		}
	}
}

// The net of a rule contains the clients: replies and errors of both sides still
// arrive, whatever address the client called.
func TestMarkedNetOfClients(t *testing.T) {
	for _, rule := range []MarkRule{
		{Proto: wire.ProtoTCP, DstPorts: []wire.PortRange{{First: 80, Last: 80}}, In: wire.NoPort, Mark: 1},
		{Dst: network("10.0.0.0/8"), Proto: wire.ProtoTCP, In: wire.NoPort, Mark: 1},
	} {
		w := newTestbed(t, conntrack.MethodNAT)
		w.mark(conntrack.MethodNAT, 1, 8080, "10.2.0.11")
		w.rule(rule)
		for _, vip := range []string{"10.8.1.1", "10.8.2.2"} {
			request := in(0, syn("10.1.0.2:5000", vip+":80"))
			if v := w.process(&request); v != ForwardedMasq {
				t.Fatalf("request %s", v)
			}
			answer := in(
				1, wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.2:5000", TCPFlags: wire.TCPSyn | wire.TCPAck},
			)
			w.process(&answer)
			want := fmt.Sprintf("0 02:00:00:00:00:0c: %s>10.1.0.2 ttl 63 tcp 80>5000", vip)
			if out := w.format(answer); out != want {
				t.Errorf("answer %s, want %s", out, want)
			}
			quote := wiretest.Quote(
				in(1, wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.2.0.11:8080", TCPFlags: wire.TCPAck}), 28,
			)
			f := in(1, wiretest.Packet{
				Src: "10.2.0.11", Dst: "10.1.0.2", Proto: wire.ProtoICMP, ICMPType: 3, ICMPCode: 1, Payload: quote,
			})
			if v := w.process(&f); v != ICMPErrorToClient {
				t.Errorf("the server side's error: %s", v)
			}
			quote = wiretest.Quote(
				in(0, wiretest.Packet{Src: vip + ":80", Dst: "10.1.0.2:5000", TCPFlags: wire.TCPAck}), 28,
			)
			f = in(0, wiretest.Packet{
				Src: "10.1.0.2", Dst: vip, Proto: wire.ProtoICMP, ICMPType: 3, ICMPCode: 1, Payload: quote,
			})
			if v := w.process(&f); v != ICMPErrorToServer {
				t.Errorf("the client's error: %s", v)
			}
			w.conns.Flush(func(*conntrack.Snapshot) bool { return true })
		}
	}
}

// In a rule's net, packets that no rule marks are the host's; those that are hidden
// from the host are routed on.
func TestUnmarkedInNet(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.mark(conntrack.MethodNAT, 1, 0, "10.2.0.11")
	w.rule(MarkRule{Proto: wire.ProtoTCP, DstPorts: []wire.PortRange{{First: 80, Last: 80}}, In: wire.NoPort, Mark: 1})
	w.table.ReplySourceRanges = []SourceRange{
		{Net: network("10.2.0.0/24"), Proto: wire.ProtoTCP, Ports: wire.PortRange{First: 8000, Last: 8100}},
	}
	for _, r := range []struct {
		sentence string
		port     uint16
		packet   wiretest.Packet
		verdict  Verdict
	}{
		{"another port is the host's", 0, syn("10.1.0.2:5000", "10.2.0.11:22"), NotOurs},
		{
			"an echo request too", 0,
			wiretest.Packet{Src: "10.1.0.2", Dst: "10.8.0.1", Proto: wire.ProtoICMP, ICMPType: 8},
			NotOurs,
		},
		{
			"an answer without a conn from a hidden range is passed on", 1,
			wiretest.Packet{Src: "10.2.0.11:8050", Dst: "192.0.2.7:5000", TCPFlags: wire.TCPAck},
			PassedUnchanged,
		},
		{
			"one from beside the range is the host's", 1,
			wiretest.Packet{Src: "10.2.0.11:8101", Dst: "192.0.2.7:5000", TCPFlags: wire.TCPAck},
			NotOurs,
		},
	} {
		f := in(r.port, r.packet)
		if v := w.process(&f); v != r.verdict {
			t.Errorf("%s: %s, want %s", r.sentence, v, r.verdict)
		}
		w.format(f)
	}
}

// A persistent service of port 21 takes port 20 and the unprivileged ports of TCP and
// keeps the client at one server; one that is not persistent does not.
func TestPersistentFTP(t *testing.T) {
	for _, r := range []struct {
		persist conntrack.Tick
		dst     string
		verdict Verdict
	}{
		{300000, "10.9.0.1:21", ForwardedRoute},
		{300000, "10.9.0.1:20", ForwardedRoute},
		{300000, "10.9.0.1:1024", ForwardedRoute},
		{300000, "10.9.0.1:40000", ForwardedRoute},
		{300000, "10.9.0.1:1023", RefusedNoService},
		{0, "10.9.0.1:40000", RefusedNoService},
	} {
		w := newTestbed(t, conntrack.MethodDR)
		w.now += 1000
		svc := w.service(conntrack.MethodDR, wire.ProtoTCP, "10.9.0.1", "10.2.0.11", "10.2.0.12")
		svc.Port, svc.Persist, svc.Mask = wire.PortFTP, r.persist, everyBit
		w.table.Services.Set(Endpoint{addr("10.9.0.1"), wire.PortFTP, wire.ProtoTCP}, svc)
		first := in(0, syn("10.1.0.2:5000", "10.9.0.1:21"))
		w.process(&first)
		f := in(0, syn("10.1.0.2:5001", r.dst))
		if v := w.process(&f); v != r.verdict {
			t.Errorf("to %s, persistence %d: %s, want %s", r.dst, r.persist, v, r.verdict)
		} else if v == ForwardedRoute && wire.MAC(f.Bytes()[:6]) != wire.MAC(first.Bytes()[:6]) {
			t.Errorf("to %s: another server than the control connection", r.dst)
		}
	}
}

// Marks, their templates and reversed lookups allocate nothing.
func TestMarksDoNotAllocate(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	svc := w.mark(conntrack.MethodNAT, 1, 0, "10.2.0.11", "10.2.0.12")
	svc.Persist, svc.Mask = 300000, everyBit
	w.rule(MarkRule{DstPorts: []wire.PortRange{{First: 80, Last: 80}}, In: wire.NoPort, Mark: 1})
	w.table.ReplySourceRanges = []SourceRange{
		{Net: network("10.2.0.0/24"), Proto: wire.ProtoTCP, Ports: wire.PortRange{First: 8000, Last: 8100}},
	}
	rng := rand.New(rand.NewPCG(1, 2))
	original := traffic(rng, MaxBatch-2)
	original = append(original, in(0, syn("10.1.0.2:7000", "10.8.0.1:80")),
		in(1, wiretest.Packet{Src: "10.2.0.11:80", Dst: "10.1.0.2:7000", TCPFlags: wire.TCPAck}))
	frames := make([]wire.Frame, len(original))
	saved := make([][]byte, len(original))
	for i := range original {
		saved[i] = append([]byte(nil), original[i].Buf...)
	}
	allocs := testing.AllocsPerRun(100, func() {
		for i := range original {
			frames[i] = original[i]
			copy(frames[i].Buf, saved[i])
		}
		w.now += 50
		w.dir.Process(w.now, w.table, frames, w.verdicts[:len(frames)])
	})
	if allocs != 0 {
		t.Errorf("%v allocations per batch, want 0", allocs)
	}
}
