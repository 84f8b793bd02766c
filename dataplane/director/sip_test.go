package director

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/helper/sip"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// sipMessage returns a datagram of a SIP call.
func sipMessage(src, dst, call string) wiretest.Packet {
	p := datagram(src, dst)
	p.Payload = fmt.Appendf(nil, "BYE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP x\r\nCall-ID: %s\r\n"+
		"CSeq: 2 BYE\r\n\r\n", call)
	return p
}

// sipTestbed returns a testbed with SIP services over UDP on 10.9.0.1 and fd00:9::1.
func sipTestbed(t testing.TB) (w *testbed, svc *Service) {
	t.Helper()
	w = newTestbed(t, conntrack.MethodNAT)
	w.now += 1000
	calls := new(sip.Calls)
	w.table.ReplyServices = map[Endpoint]ReplyService{}
	for _, vip := range []string{"fd00:9::1", "10.9.0.1"} {
		svc = w.table.serviceAt(Endpoint{addr(vip), 80, wire.ProtoUDP})
		svc.Persist, svc.Mask, svc.SIPCalls = 30*conntrack.Second, everyBit, calls
		for _, id := range svc.Servers {
			s := w.table.server(id)
			w.table.ReplyServices[Endpoint{s.Addr, 8080, wire.ProtoUDP}] = ReplyService{
				VIP: addr(vip), VPort: 80, Counters: s.Counters, Service: svc, Server: id,
			}
		}
	}
	return w, svc
}

// A call stays at its server, from whatever client and port its messages come. Another
// call of the same client is scheduled again.
func TestCallsStayAtTheirServer(t *testing.T) {
	w, svc := sipTestbed(t)
	for _, r := range []struct {
		name   string
		packet wiretest.Packet
		server int
	}{
		{"the first call", sipMessage("10.1.0.2:5060", "10.9.0.1:80", "a@x"), 1},
		{"another call", sipMessage("10.1.0.3:5060", "10.9.0.1:80", "b@x"), 2},
		{"the first from another port", sipMessage("10.1.0.2:5061", "10.9.0.1:80", "a@x"), 1},
		{"the first from another client", sipMessage("10.1.0.9:5060", "10.9.0.1:80", "a@x"), 1},
		{"a third from a client with a call", sipMessage("10.1.0.2:5062", "10.9.0.1:80", "c@x"), 1},
		{
			"a flow that has a conn goes on there, whatever it says", sipMessage("10.1.0.3:5060", "10.9.0.1:80", "a@x"),
			2,
		},
		{"IPv6 is another service", sipMessage("[fd00:1::2]:5060", "[fd00:9::1]:80", "b@x"), 1},
		{"whose calls are its own", sipMessage("[fd00:1::2]:5061", "[fd00:9::1]:80", "a@x"), 2},
	} {
		if got := w.serverFor(r.packet); got != r.server {
			t.Errorf("%s: server %d, want %d", r.name, got, r.server)
		}
	}
	if n := w.conns.Counts(svc.Servers[0]).Templates.Load() + w.conns.Counts(svc.Servers[1]).Templates.Load(); n != 3 {
		t.Errorf("%d templates of IPv4, want 3", n)
	}
	w.advance(400 * conntrack.Second)
	if n := w.conns.Stats().InUse; n != 0 {
		t.Errorf("%d entries are left after all timeouts", n)
	}
}

// A message without a Call-ID begins no call.
func TestNoCall(t *testing.T) {
	w, svc := sipTestbed(t)
	for _, r := range []struct {
		name   string
		change func(*wiretest.Packet)
	}{
		{"nothing said", func(p *wiretest.Packet) { p.Payload = nil }},
		{"no Call-ID", func(p *wiretest.Packet) { p.Payload = []byte("OPTIONS sip:x SIP/2.0\r\nVia: x\r\n\r\n") }},
		{"a Call-ID too long", func(p *wiretest.Packet) {
			p.Payload = fmt.Appendf(nil, "BYE\r\ni: %s\r\n", strings.Repeat("x", sip.MaxCallID+1))
		}},
		{"one that is cut off", func(p *wiretest.Packet) { p.Payload = []byte("BYE\r\ni: abc") }},
	} {
		p := sipMessage("10.1.0.2:5060", "10.9.0.1:80", "a@x")
		r.change(&p)
		f := in(0, p)
		if v := w.process(&f); v != DroppedNoCallID || f.Out != wire.NoPort {
			t.Errorf("%s: %s by %d", r.name, v, f.Out)
		}
	}
	if n := w.conns.Stats().InUse; n != 0 {
		t.Errorf("%d entries", n)
	}
	svc.Persist = 0 // then the engine has no effect
	f := in(0, datagram("10.1.0.2:5060", "10.9.0.1:80"))
	if v := w.process(&f); v != ForwardedMasq {
		t.Errorf("without persistence: %s", v)
	}
}

// A call of one-packet scheduling: its messages make no conns. What servers send,
// replies or calls, leaves as from the service.
func TestCallsOnePacket(t *testing.T) {
	w, svc := sipTestbed(t)
	svc.OnePacket = true
	const first = "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 udp 5060>8080"
	const second = "1 02:00:00:00:01:02: 10.1.0.2>10.2.0.12 ttl 63 udp 5060>8080"
	converse(t, w, []step{
		{"a call", 0, sipMessage("10.1.0.2:5060", "10.9.0.1:80", "a"), ForwardedMasq, first},
		{"another by the same flow", 0, sipMessage("10.1.0.2:5060", "10.9.0.1:80", "b"), ForwardedMasq, second},
		{"the first again", 0, sipMessage("10.1.0.2:5060", "10.9.0.1:80", "a"), ForwardedMasq, first},
		{
			"an answer", 1, sipMessage("10.2.0.11:8080", "192.0.2.7:5060", "a"), ReturnedMasq,
			"0 02:00:00:00:00:fe: 10.9.0.1>192.0.2.7 ttl 63 udp 80>5060",
		},
		{
			"a call of a server", 1, sipMessage("10.2.0.12:8080", "192.0.2.7:5060", "c"), ReturnedMasq,
			"0 02:00:00:00:00:fe: 10.9.0.1>192.0.2.7 ttl 63 udp 80>5060",
		},
		{"stays there", 0, sipMessage("10.1.0.2:5060", "10.9.0.1:80", "c"), ForwardedMasq, second},
	})
	if n := w.conns.Stats().InUse; n != 3 {
		t.Errorf("%d entries, want three templates", n)
	}
}

// All fragments of a server's message leave as the first does: as from the service if
// it has a Call-ID, else unchanged, whatever the others contain.
func TestServerInitiatedInFragments(t *testing.T) {
	for _, onePacket := range []bool{false, true} {
		for _, r := range []struct {
			name    string
			call    string
			verdict Verdict
			source  string
		}{{"of a call", "Call-ID", ReturnedMasq, "10.9.0.1"}, {"of none", "Call", PassedUnchanged, "10.2.0.11"}} {
			w, svc := sipTestbed(t)
			svc.OnePacket = onePacket
			p := sipMessage("10.2.0.11:8080", "192.0.2.7:5060", "a")
			p.Payload = bytes.Replace(p.Payload, []byte("Call-ID"), []byte(r.call), 1)
			p.Payload = append(append(p.Payload, make([]byte, 1600)...), "\r\nCall-ID: b\r\n"...)
			out, verdicts := w.separately(fragmentsOf(1, 1, 800, p)...)
			if want := []Verdict{r.verdict, r.verdict, r.verdict}; !slices.Equal(verdicts, want) {
				t.Fatalf("one packet %t, %s: %v, want %v", onePacket, r.name, verdicts, want)
			}
			whole := wiretest.Reassemble(t, out)
			wiretest.Check(t, whole)
			if got := wire.IPv4(whole.Bytes()[wire.EthernetLen:]).Src(); got != addr(r.source) {
				t.Errorf("one packet %t, %s: from %v, want %s", onePacket, r.name, got, r.source)
			}
		}
	}
}

// A server's packet without a conn makes one, by which the client's replies find the
// server, and a template if the call has none.
func TestServerInitiated(t *testing.T) {
	w, svc := sipTestbed(t)
	converse(t, w, []step{
		{
			"a server calls", 1, sipMessage("10.2.0.12:8080", "192.0.2.7:5060", "a"), ReturnedMasq,
			"0 02:00:00:00:00:fe: 10.9.0.1>192.0.2.7 ttl 63 udp 80>5060",
		},
		{
			"and is answered, by whatever message", 0, datagram("192.0.2.7:5060", "10.9.0.1:80"), ForwardedMasq,
			"1 02:00:00:00:01:02: 192.0.2.7>10.2.0.12 ttl 63 udp 5060>8080",
		},
		{
			"and goes on by the conn", 1, datagram("10.2.0.12:8080", "192.0.2.7:5060"), ReturnedMasq,
			"0 02:00:00:00:00:fe: 10.9.0.1>192.0.2.7 ttl 63 udp 80>5060",
		},
		{
			"the call is its own", 0, sipMessage("192.0.2.7:5061", "10.9.0.1:80", "a"), ForwardedMasq,
			"1 02:00:00:00:01:02: 192.0.2.7>10.2.0.12 ttl 63 udp 5061>8080",
		},
		{
			"what is of no call is routed on", 1, datagram("10.2.0.11:8080", "192.0.2.9:5060"), PassedUnchanged,
			"0 02:00:00:00:00:fe: 10.2.0.11>192.0.2.9 ttl 63 udp 8080>5060",
		},
		{"from another port it is the host's", 1, sipMessage("10.2.0.11:9999", "192.0.2.9:5060", "b"), NotOurs, ""},
		{
			"the other server joins the call", 1, sipMessage("10.2.0.11:8080", "192.0.2.9:5060", "a"), ReturnedMasq,
			"0 02:00:00:00:00:fe: 10.9.0.1>192.0.2.9 ttl 63 udp 80>5060",
		},
		{
			"which stays where it was", 0, sipMessage("192.0.2.7:5062", "10.9.0.1:80", "a"), ForwardedMasq,
			"1 02:00:00:00:01:02: 192.0.2.7>10.2.0.12 ttl 63 udp 5062>8080",
		},
	})
	w.conns.Walk(nil, func(s *conntrack.Snapshot) bool {
		if s.Template != sip.IsCall(s.Client) || !s.Template && s.Control == 0 {
			t.Errorf("entry %+v", s)
		}
		return true
	})
	if got := w.table.server(svc.Servers[1]).Counters.Totals(); got.Conns != 3 || got.OutPkts != 2 {
		t.Errorf("counted %+v", got)
	}
	w.remove("10.2.0.12")
	f := in(1, sipMessage("10.2.0.12:8080", "192.0.2.8:5060", "z"))
	if v := w.process(&f); v != PassedUnchanged {
		t.Errorf("a removed server's call: %s", v)
	}
}

// Listings show a call's name until another call takes its slot.
func TestCallNames(t *testing.T) {
	w, svc := sipTestbed(t)
	w.serverFor(sipMessage("10.1.0.2:5060", "10.9.0.1:80", "a@x"))
	w.serverFor(sipMessage("10.1.0.9:5060", "10.9.0.1:80", "a@x"))
	list := w.templates()
	if len(list) != 1 || !sip.IsCall(list[0].Client) {
		t.Fatalf("templates %+v", list)
	}
	if client, id, ok := svc.SIPCalls.Name(list[0].Client); !ok || id != "a@x" || client != addr("10.1.0.9") {
		t.Errorf("named %s %q %t", client, id, ok)
	}
	if _, id, ok := svc.SIPCalls.Name(sip.Key([]byte("never"))); ok {
		t.Errorf("a call that was never made is named %q", id)
	}
}
