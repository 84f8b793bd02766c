package director

import (
	"slices"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/cow"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// olderTable returns the table as it was before servers were added after the ID last.
func (w *testbed) olderTable(last uint32) *Table {
	t := *w.table
	for id := last + 1; id <= w.lastID; id++ {
		t.Servers.Set(id, new(Server), &w.table.Servers)
	}
	t.Services = cow.Map[Endpoint, *Service]{}
	for key, svc := range w.table.Services.All() {
		s := *svc
		s.Servers = slices.DeleteFunc(slices.Clone(svc.Servers), func(id uint32) bool { return id > last })
		t.Services.Set(key, &s)
	}
	return &t
}

// A worker with an older table meets conns of servers that it does not know, because
// another worker made them with the newer table. It sends their replies back and drops
// what is for them, without ending them.
func TestConnOfANewerTable(t *testing.T) {
	for _, method := range []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel} {
		w := newTestbed(t, method)
		w.now += 1000
		w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP}).Persist = 60_000
		known := w.lastID
		w.service(method, wire.ProtoTCP, "10.9.0.3", "10.2.0.11", "10.2.0.12")
		w.table.VIPs.Set(addr("10.9.0.3"), VIP{DirectorOnly: true})
		newer, older := w.table, w.olderTable(known)

		replyFrom, replyTo := "10.2.0.11:8080", "10.1.0.2:5000"
		if method != conntrack.MethodNAT {
			replyFrom = "10.9.0.3:80"
		}
		request := wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.3:80", TCPFlags: wire.TCPAck}
		reply := wiretest.Packet{Src: replyFrom, Dst: replyTo, TCPFlags: wire.TCPAck}
		aboutRequest := wiretest.Packet{
			Src: "10.2.0.254", Dst: "10.1.0.2", Proto: wire.ProtoICMP, ICMPType: 3, ICMPCode: 1,
			Payload: wiretest.Quote(wiretest.Packet{Src: replyTo, Dst: replyFrom}.Frame(), 28),
		}
		aboutReply := wiretest.Packet{
			Src: "10.1.0.254", Dst: "10.9.0.3", Proto: wire.ProtoICMP, ICMPType: 3, ICMPCode: 1,
			Payload: wiretest.Quote(wiretest.Packet{Src: "10.9.0.3:80", Dst: replyTo}.Frame(), 28),
		}

		first := in(0, syn("10.1.0.2:5000", "10.9.0.3:80"))
		if w.process(&first); first.Out != 1 {
			t.Fatalf("method %d: the first packet left by %d", method, first.Out)
		}
		w.table = older
		for _, s := range []struct {
			sentence string
			port     uint16
			packet   wiretest.Packet
			dropped  bool
		}{
			{"a segment", 0, request, true},
			{"the SYN again", 0, syn("10.1.0.2:5000", "10.9.0.3:80"), true},
			{"an error about a reply", 0, aboutReply, true},
			{"a reply", 1, reply, false},
			{"an error about a request", 1, aboutRequest, false},
		} {
			f := in(s.port, s.packet)
			v := w.process(&f)
			w.format(f)
			if s.dropped != (v == DroppedServerGone) || s.dropped == (f.Out != wire.NoPort) {
				t.Errorf("method %d: %s: %s, out port %d", method, s.sentence, v, f.Out)
			}
		}
		w.table = newer
		if f := in(0, request); w.process(&f) == RefusedNoConn || f.Out != 1 {
			t.Errorf("method %d: the conn did not outlive the older table", method)
		}
	}
}

// A frame whose conn an earlier frame of its batch ended goes where that frame went,
// not to the previous server.
func TestConnEndedWithinABatch(t *testing.T) {
	for _, r := range []struct {
		sentence string
		second   wiretest.Packet
	}{
		{"a segment", wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck}},
		{"the same SYN", syn("10.1.0.2:5000", "10.9.0.1:80")},
	} {
		w := newTestbed(t, conntrack.MethodNAT)
		converse(t, w, []step{
			{
				"the client calls", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq,
				"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
			},
			{
				"is connected", 0,
				wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck},
				ForwardedMasq, "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
			},
			{
				"and gives up", 0,
				wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPRst},
				ForwardedMasq, "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080 rst",
			},
		})
		frames := []wire.Frame{in(0, syn("10.1.0.2:5000", "10.9.0.1:80")), in(0, r.second)}
		w.dir.Process(w.now, w.table, frames, w.verdicts[:2])
		for i, f := range frames {
			if got := wire.Ethernet(f.Bytes()).Dst(); got != serverMAC[1] {
				t.Errorf("%s: frame %d went to %s (%s), want the second server", r.sentence, i, got, w.verdicts[i])
			}
		}
	}
}

// No packet from port 20, FTP's data port, begins a conn, in any protocol. It is refused.
func TestNothingFromPort20(t *testing.T) {
	for _, proto := range []uint8{wire.ProtoTCP, wire.ProtoUDP} {
		w := newTestbed(t, conntrack.MethodNAT)
		w.table.Settings.SloppyTCP = true
		f := in(0, wiretest.Packet{Src: "10.1.0.2:20", Dst: "10.9.0.1:80", Proto: proto, TCPFlags: wire.TCPSyn})
		if v := w.process(&f); v != RefusedNoConn || w.conns.Stats().Inserted != 0 {
			t.Errorf("protocol %d: %s, %d conns", proto, v, w.conns.Stats().Inserted)
		}
	}
}

// A template that names a server of a newer table leads nowhere in an older one: the
// client is scheduled as if there were none.
func TestTemplateOfANewerTable(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.service(conntrack.MethodNAT, wire.ProtoTCP, "10.9.0.3", "10.2.0.11")
	known := w.lastID
	svc := w.service(conntrack.MethodNAT, wire.ProtoTCP, "10.9.0.3", "10.2.0.12")
	svc.Persist = 60_000
	w.table.VIPs.Set(addr("10.9.0.3"), VIP{DirectorOnly: true})
	first := in(0, syn("10.1.0.2:5000", "10.9.0.3:80"))
	w.process(&first)

	older := w.olderTable(known)
	before := *w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP})
	before.Persist = 60_000
	older.Services.Set(Endpoint{addr("10.9.0.3"), 80, wire.ProtoTCP}, &before)
	w.table = older
	again := in(0, syn("10.1.0.2:5001", "10.9.0.3:80"))
	if v := w.process(&again); v != ForwardedMasq || again.Out != 1 {
		t.Errorf("%s, out port %d", v, again.Out)
	}
}

// A conn keeps the method that it began with when its server's is changed (ipvsadm -e),
// as in IPVS, whose conns are bound to a transmit function.
func TestConnKeepsItsMethod(t *testing.T) {
	for method, out := range map[conntrack.Method]string{
		conntrack.MethodNAT:    "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		conntrack.MethodDR:     "1 02:00:00:00:01:01: 10.1.0.2>10.9.0.1 ttl 63 tcp 5000>80",
		conntrack.MethodTunnel: "1 02:00:00:00:01:01: 10.2.0.1>10.2.0.11 ttl 63 10.1.0.2>10.9.0.1 ttl 63 tcp 5000>80",
	} {
		for _, later := range []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel} {
			w := newTestbed(t, method)
			f := in(0, syn("10.1.0.2:5000", "10.9.0.1:80"))
			w.process(&f)
			w.table.server(1).Method = later
			f = in(0, wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck})
			w.process(&f)
			if got := w.format(f); got != out {
				t.Errorf("method %d, later %d: out\n%s, want\n%s", method, later, got, out)
			}
		}
	}
}
