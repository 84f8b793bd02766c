package director

import (
	"fmt"
	"slices"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// What a SYN on a known flow means, by conn_reuse_mode and the packets before.
func TestPortReuse(t *testing.T) {
	fin := wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPFin | wire.TCPAck}
	rst := wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPRst}
	serverFin := wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.2:5000", TCPFlags: wire.TCPFin | wire.TCPAck}
	rows := []struct {
		sentence string
		method   conntrack.Method
		mode     uint8
		weight   int32
		before   []wiretest.Packet
		moves    bool
	}{
		{"the same SYN again stays", conntrack.MethodNAT, 1, 1, nil, false},
		{"after both FINs it begins again", conntrack.MethodNAT, 1, 1, []wiretest.Packet{fin, serverFin}, true},
		{"but not under mode 0", conntrack.MethodNAT, 0, 1, []wiretest.Packet{fin, serverFin}, false},
		{
			"after a RST of an established flow it begins again", conntrack.MethodNAT, 1, 1,
			[]wiretest.Packet{{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck}, rst},
			true,
		},
		{
			"FIN_WAIT of a routed conn stays under mode 1", conntrack.MethodDR, 1, 1,
			[]wiretest.Packet{{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck}, fin},
			false,
		},
		{
			"and begins again with bit 2", conntrack.MethodDR, 3, 1,
			[]wiretest.Packet{{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck}, fin},
			true,
		},
		{"a server of weight 0 gets no new connection from an old port", conntrack.MethodNAT, 1, 0, nil, true},
	}
	for _, r := range rows {
		t.Run(r.sentence, func(t *testing.T) {
			w := newTestbed(t, r.method)
			w.table.Settings.ConnReuseMode = r.mode
			first := in(0, syn("10.1.0.2:5000", "10.9.0.1:80"))
			w.process(&first)
			for _, p := range r.before {
				port := uint16(0)
				if p.Src == "10.2.0.11:8080" {
					port = 1
				}
				f := in(port, p)
				w.process(&f)
			}
			w.table.server(1).Weight = r.weight
			again := in(0, syn("10.1.0.2:5000", "10.9.0.1:80"))
			w.process(&again)
			if moved := wire.Ethernet(again.Bytes()).Dst() != serverMAC[0]; moved != r.moves {
				t.Errorf("moved to another server: %t, want %t", moved, r.moves)
			}
		})
	}
}

// A connection that idled too long: both ends get keep-alives, and their answers are reset
// with their own numbers. A new SYN begins a new connection.
func TestTimedOutConn(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.resetForgotten(5*conntrack.Second, conntrack.TCPEstablished)
	converse(t, w, []step{
		{
			"the client calls", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq,
			"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
		{
			"and is connected", 0,
			wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck},
			ForwardedMasq, "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 63 tcp 5000>8080",
		},
	})
	keepAlives := w.advance(10 * conntrack.Second)
	want := []string{
		"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 tcp 80>5000",
		"1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 64 tcp 5000>8080",
	}
	if !slices.Equal(keepAlives, want) {
		t.Fatalf("keep-alives\n%q, want\n%q", keepAlives, want)
	}
	if n := w.conns.Counts(1).Active.Load(); n != 0 {
		t.Errorf("%d active conns, want none", n)
	}
	converse(t, w, []step{
		{
			"the client's answer is reset", 0,
			wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck, Seq: 7, Ack: 9},
			RefusedForgotten, "0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 tcp 80>5000 rst",
		},
		{
			"and the server's", 1,
			wiretest.Packet{
				SrcMAC: serverMAC[0], Src: "10.2.0.11:8080", Dst: "10.1.0.2:5000", TCPFlags: wire.TCPAck, Seq: 9,
				Ack: 7,
			},
			RefusedForgotten, "1 02:00:00:00:01:01: 10.1.0.2>10.2.0.11 ttl 64 tcp 5000>8080 rst",
		},
		{
			"a SYN begins again, at the next server", 0, syn("10.1.0.2:5000", "10.9.0.1:80"), ForwardedMasq,
			"1 02:00:00:00:01:02: 10.1.0.2>10.2.0.12 ttl 63 tcp 5000>8080",
		},
	})
}

// An end that closed its side waits for the other. If that is silent for too long, both
// get keep-alives as those of an established connection.
func TestForgottenHalfClosedConn(t *testing.T) {
	clientFIN := wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPFin | wire.TCPAck}
	serverFIN := wiretest.Packet{
		SrcMAC: serverMAC[0], Src: "10.2.0.11:8080", Dst: "10.1.0.2:5000",
		TCPFlags: wire.TCPFin | wire.TCPAck,
	}
	for _, r := range []struct {
		name       string
		method     conntrack.Method
		in         uint16
		fin        wiretest.Packet
		keepAlives int
	}{
		{"nat, the client closed", conntrack.MethodNAT, 0, clientFIN, 2},
		{"nat, the server closed", conntrack.MethodNAT, 1, serverFIN, 2},
		{"dr, the client closed", conntrack.MethodDR, 0, clientFIN, 1},
	} {
		w := newTestbed(t, r.method)
		w.resetForgotten(2*conntrack.Second, conntrack.TCPCloseWait, conntrack.TCPFinWait)
		w.serverFor(syn("10.1.0.2:5000", "10.9.0.1:80"))
		w.serverFor(wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck})
		w.verdict(r.in, r.fin)
		if sent := w.advance(5 * conntrack.Second); len(sent) != r.keepAlives {
			t.Errorf("%s: keep-alives %q, want %d", r.name, sent, r.keepAlives)
		}
	}
}

// A SYN on a conn that timed out begins a new connection also where conns are not
// reused: under conn_reuse_mode 0, and with a template.
func TestSYNOnTimedOutConn(t *testing.T) {
	for name, change := range map[string]func(*Table){
		"conn_reuse_mode 0": func(table *Table) { table.Settings.ConnReuseMode = 0 },
		"persistent": func(table *Table) {
			table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoTCP}).Persist = 300 * conntrack.Second
		},
	} {
		w := newTestbed(t, conntrack.MethodNAT)
		change(w.table)
		w.resetForgotten(5*conntrack.Second, conntrack.TCPEstablished)
		w.serverFor(syn("10.1.0.2:5000", "10.9.0.1:80"))
		w.serverFor(wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck})
		w.advance(10 * conntrack.Second)
		if v := w.verdict(0, syn("10.1.0.2:5000", "10.9.0.1:80")); v != ForwardedMasq {
			t.Errorf("%s: the SYN is %s", name, v)
		}
	}
}

// drop_packet 3 with am_droprate 10 refuses the 1st, 11th and 21st connection, as IPVS
// does (include/net/ip_vs.h, ip_vs_todrop), and no packet of a known one.
func TestDropPacket(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	settings := *w.conns.Settings()
	settings.DropPacket, settings.AMDropRate = conntrack.ModeAlways, 10
	w.conns.SetSettings(&settings)
	var dropped []int
	for i := range 30 {
		if w.verdict(0, syn(fmt.Sprintf("10.1.0.2:%d", 5000+i), "10.9.0.1:80")) == DroppedDefence {
			dropped = append(dropped, i+1)
		}
	}
	if want := []int{1, 11, 21}; !slices.Equal(dropped, want) {
		t.Errorf("dropped connections %v, want %v", dropped, want)
	}
	for i := range 9 {
		f := in(0, wiretest.Packet{Src: fmt.Sprintf("10.1.0.2:%d", 5001+i), Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck})
		if v := w.process(&f); v != ForwardedMasq {
			t.Errorf("a segment of a known connection: %s", v)
		}
	}
}

// secure_tcp: only the server's segments make a connection established.
func TestSecureTCP(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	settings := *w.conns.Settings()
	settings.SecureTCP = conntrack.ModeAlways
	w.conns.SetSettings(&settings)
	ack := wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck}
	reply := func(flags uint8) wiretest.Packet {
		return wiretest.Packet{Src: "10.2.0.11:8080", Dst: "10.1.0.2:5000", TCPFlags: flags}
	}
	for _, s := range []struct {
		port   uint16
		packet wiretest.Packet
		state  string
	}{
		{0, syn("10.1.0.2:5000", "10.9.0.1:80"), "SYN_RECV"},
		{0, ack, "SYN_RECV"},
		{1, reply(wire.TCPSyn | wire.TCPAck), "SYNACK"},
		{0, ack, "SYNACK"},
		{1, reply(wire.TCPAck), "ESTABLISHED"},
	} {
		f := in(s.port, s.packet)
		w.process(&f)
		w.conns.Walk(nil, func(c *conntrack.Snapshot) bool {
			if c.State.String() != s.state {
				t.Errorf("after %s flags %#x: %s, want %s", s.packet.Src, s.packet.TCPFlags, c.State, s.state)
			}
			return true
		})
	}
}
