package director

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// A passive data connection: only the client, only once, and only with a SYN reaches
// the announced port of its own server. Text passes in both directions.
func TestFTPPassive(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.addFTP("10.9.0.1", "10.2.0.11:21")
	c := w.login("10.1.0.2:5000", "10.9.0.1:21")
	c.exchange(1, "220 ready\r\n")
	data := c.announcePassive(43293)
	w.equal(data, "10.9.0.1:43293")
	w.equal(fmt.Sprint(w.connsAt(43293)), "[10.1.0.2:0>10.9.0.1:43293>10.2.0.11:43293 LISTEN]")
	for _, row := range []struct{ name, got, want string }{
		{"another client", w.forwarded(0, "10.1.0.3:6000", data, wire.TCPSyn), "refused_no_service"},
		{"not a SYN", w.forwarded(0, "10.1.0.2:6000", data, ackFlag), "refused_no_service"},
		{"another port", w.forwarded(0, "10.1.0.2:6000", "10.9.0.1:43294", wire.TCPSyn), "refused_no_service"},
		{"the client", w.forwarded(0, "10.1.0.2:6000", data, wire.TCPSyn), "10.1.0.2:6000>10.2.0.11:43293"},
		{"the client's SYN again", w.forwarded(0, "10.1.0.2:6000", data, wire.TCPSyn), "10.1.0.2:6000>10.2.0.11:43293"},
		{
			"its answer", w.forwarded(1, "10.2.0.11:43293", "10.1.0.2:6000", wire.TCPSyn|ackFlag),
			"10.9.0.1:43293>10.1.0.2:6000",
		},
		{"a second one of the client", w.forwarded(0, "10.1.0.2:6001", data, wire.TCPSyn), "refused_no_service"},
		{"data", w.forwarded(1, "10.2.0.11:43293", "10.1.0.2:6000", ackFlag), "10.9.0.1:43293>10.1.0.2:6000"},
	} {
		if row.got != row.want {
			t.Errorf("%s: %s, want %s", row.name, row.got, row.want)
		}
	}
	w.equal(fmt.Sprint(w.connsAt(43293)), "[10.1.0.2:6000>10.9.0.1:43293>10.2.0.11:43293 ESTABLISHED]")
	// The reply has become shorter by one byte: "10,2,0,11" to "10,9,0,1".
	w.equal(c.exchange(0, "LIST\r\n")+c.exchange(1, "150 here\r\n")+c.exchange(1, "226 done\r\n"),
		"LIST\r\n150 here\r\n226 done\r\n")
}

// An active data connection: only the control connection's server, and only once,
// reaches the announced port. It may call from any port, and appears to come from the
// VIP's port below that of the control connection.
func TestFTPActive(t *testing.T) {
	for _, sport := range []string{"20", "40000"} {
		w := newTestbed(t, conntrack.MethodNAT)
		w.addFTP("10.9.0.1", "10.2.0.11:21", "10.2.0.12:21")
		c := w.login("10.1.0.2:5000", "10.9.0.1:21")
		rip := netip.MustParseAddrPort(c.server).Addr().String()
		w.equal(c.exchange(0, "PORT 10,1,0,2,19,137\r\n"), "PORT 10,1,0,2,19,137\r\n")
		w.equal(fmt.Sprint(w.connsAt(20)), "[10.1.0.2:5001>10.9.0.1:20>"+rip+":20 LISTEN]")
		other := map[string]string{"10.2.0.11": "10.2.0.12", "10.2.0.12": "10.2.0.11"}[rip]
		for _, row := range []struct{ name, got, want string }{
			{"another server", w.forwarded(1, other+":20", "10.1.0.2:5001", wire.TCPSyn), "not_ours"},
			{"not a SYN", w.forwarded(1, rip+":"+sport, "10.1.0.2:5001", ackFlag), "not_ours"},
			{"to another port", w.forwarded(1, rip+":"+sport, "10.1.0.2:5002", wire.TCPSyn), "not_ours"},
			{
				"the client, who should wait", w.forwarded(0, "10.1.0.2:5001", "10.9.0.1:20", wire.TCPSyn),
				"refused_no_service",
			},
			{"the server", w.forwarded(1, rip+":"+sport, "10.1.0.2:5001", wire.TCPSyn), "10.9.0.1:20>10.1.0.2:5001"},
			{
				"the server's SYN again", w.forwarded(1, rip+":"+sport, "10.1.0.2:5001", wire.TCPSyn),
				"10.9.0.1:20>10.1.0.2:5001",
			},
			{"the server from elsewhere", w.forwarded(1, rip+":40001", "10.1.0.2:5001", wire.TCPSyn), "not_ours"},
			{
				"the client's answer", w.forwarded(0, "10.1.0.2:5001", "10.9.0.1:20", wire.TCPSyn|ackFlag),
				"10.1.0.2:5001>" + rip + ":" + sport,
			},
			{"data", w.forwarded(1, rip+":"+sport, "10.1.0.2:5001", ackFlag), "10.9.0.1:20>10.1.0.2:5001"},
		} {
			if row.got != row.want {
				t.Errorf("from port %s: %s: %s, want %s", sport, row.name, row.got, row.want)
			}
		}
		w.equal(fmt.Sprint(w.connsAt(20)), "[10.1.0.2:5001>10.9.0.1:20>"+rip+":"+sport+" ESTABLISHED]")

		// The client announces the same port again while the old connection closes.
		w.forwarded(1, rip+":"+sport, "10.1.0.2:5001", wire.TCPFin|ackFlag)
		w.forwarded(0, "10.1.0.2:5001", "10.9.0.1:20", wire.TCPFin|ackFlag)
		c.exchange(0, "PORT 10,1,0,2,19,137\r\n")
		w.equal(w.forwarded(1, rip+":40002", "10.1.0.2:5001", wire.TCPSyn), "10.9.0.1:20>10.1.0.2:5001")
		w.equal(w.forwarded(0, "10.1.0.2:5001", "10.9.0.1:20", wire.TCPSyn|ackFlag), "10.1.0.2:5001>"+rip+":40002")
	}
}

// Two servers announce the same port to two control connections of one client: the
// second is announced at another port, and each is reached at its own. The same holds
// for the port of a service.
func TestFTPPortsCollide(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.addFTP("10.9.0.1", "10.2.0.11:21", "10.2.0.12:21")
	a, b := w.login("10.1.0.2:5000", "10.9.0.1:21"), w.login("10.1.0.2:5001", "10.9.0.1:21")
	if a.server == b.server {
		t.Fatal("both are with one server")
	}
	ripA, ripB := netip.MustParseAddrPort(a.server).Addr().String(), netip.MustParseAddrPort(b.server).Addr().String()
	first, second, third := a.announcePassive(50000), b.announcePassive(50000), ""
	if first == second {
		t.Fatalf("both are announced at %s", first)
	}
	w.equal(w.forwarded(0, "10.1.0.2:6000", second, wire.TCPSyn), "10.1.0.2:6000>"+ripB+":50000")
	w.equal(w.forwarded(0, "10.1.0.2:6000", first, wire.TCPSyn), "10.1.0.2:6000>"+ripA+":50000")
	w.equal(w.forwarded(1, ripB+":50000", "10.1.0.2:6000", wire.TCPSyn|ackFlag), second+">10.1.0.2:6000")
	w.table.Services.Set(Endpoint{addr("10.9.0.1"), 8080, wire.ProtoTCP},
		w.table.serviceAt(Endpoint{addr("10.9.0.1"), 21, wire.ProtoTCP}))
	if third = a.announcePassive(8080); strings.HasSuffix(third, ":8080") {
		t.Error("the port of a service is announced")
	}
	w.equal(w.forwarded(0, "10.1.0.2:6000", third, wire.TCPSyn), "10.1.0.2:6000>"+ripA+":8080")

	// A control connection has at most one announced port that has not been called.
	old, next := a.announcePassive(50002), a.announcePassive(50003)
	w.equal(w.forwarded(0, "10.1.0.2:6001", old, wire.TCPSyn), "refused_no_service")
	w.equal(w.forwarded(0, "10.1.0.2:6001", next, wire.TCPSyn), "10.1.0.2:6001>"+ripA+":50003")
}

// A client's port was used a moment ago with another server's port of the same number:
// it reaches the server that announced last.
func TestFTPPortReused(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.addFTP("10.9.0.1", "10.2.0.11:21", "10.2.0.12:21")
	a, b := w.login("10.1.0.2:5000", "10.9.0.1:21"), w.login("10.1.0.2:5001", "10.9.0.1:21")
	ripA, ripB := netip.MustParseAddrPort(a.server).Addr().String(), netip.MustParseAddrPort(b.server).Addr().String()
	data := a.announcePassive(50000)
	w.equal(w.forwarded(0, "10.1.0.2:6000", data, wire.TCPSyn), "10.1.0.2:6000>"+ripA+":50000")
	w.forwarded(1, ripA+":50000", "10.1.0.2:6000", wire.TCPSyn|ackFlag)
	w.forwarded(0, "10.1.0.2:6000", data, ackFlag)
	w.forwarded(1, ripA+":50000", "10.1.0.2:6000", wire.TCPFin|ackFlag)
	w.forwarded(0, "10.1.0.2:6000", data, wire.TCPFin|ackFlag)
	w.equal(w.forwarded(0, "10.1.0.2:6000", data, wire.TCPSyn), "refused_no_service") // nothing listens there now
	w.equal(b.announcePassive(50000), data)
	w.equal(w.forwarded(0, "10.1.0.2:6000", data, wire.TCPSyn), "10.1.0.2:6000>"+ripB+":50000")
	if a.exchange(0, "NOOP\r\n") != "NOOP\r\n" {
		t.Error("the end of its transfer ended the control connection")
	}
}

// An announcement expires soon. A control connection outlives its timeout during a
// transfer, and its numbers are right afterwards.
func TestFTPTimes(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.addFTP("10.9.0.1", "10.2.0.11:21")
	c := w.login("10.1.0.2:5000", "10.9.0.1:21")
	data := c.announcePassive(43293)
	w.now += 119 * conntrack.Second
	w.equal(w.forwarded(0, "10.1.0.2:6000", data, wire.TCPSyn), "10.1.0.2:6000>10.2.0.11:43293")
	w.forwarded(1, "10.2.0.11:43293", "10.1.0.2:6000", wire.TCPSyn|ackFlag)
	for range 72 {
		w.now += 100 * conntrack.Second
		w.equal(w.forwarded(1, "10.2.0.11:43293", "10.1.0.2:6000", ackFlag), data+">10.1.0.2:6000")
	}
	w.equal(c.exchange(1, "226 done\r\n"), "226 done\r\n")
	data = c.announcePassive(43294)
	w.now += 121 * conntrack.Second
	w.originated()
	w.equal(w.forwarded(0, "10.1.0.2:6001", data, wire.TCPSyn), "refused_no_service")
	w.equal(c.exchange(0, "QUIT\r\n"), "QUIT\r\n")
}

// Control connections continue without help if there is no room for a session, and only
// one worker at a time uses a session.
func TestFTPSessions(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.addFTP("10.9.0.1", "10.2.0.11:21")
	var all []*controlConn
	for i := range testbedSessions + 1 {
		all = append(all, w.login(fmt.Sprintf("10.1.0.2:%d", 5000+i), "10.9.0.1:21"))
	}
	for _, c := range all {
		c.exchange(1, "220 ready\r\n")
	}
	last := all[testbedSessions]
	last.exchange(0, "PASV\r\n")
	w.equal(last.exchange(1, "227 =10,2,0,11,4,0\r\n"), "227 =10,2,0,11,4,0\r\n")
	if s := w.conns.Stats(); s.Sessions != testbedSessions || s.NoSession == 0 {
		t.Errorf("%d sessions, %d times none was free", s.Sessions, s.NoSession)
	}
	w.forwarded(0, all[0].client, all[0].vip, wire.TCPRst)
	w.now += 11 * conntrack.Second
	w.originated()
	w.equal(last.announcePassive(1024), "10.9.0.1:1024")

	query := []conntrack.Query{{
		Proto: wire.ProtoTCP, Dir: conntrack.DirIn, Client: addr("10.1.0.2"), ClientPort: 5001,
		Peer: addr("10.9.0.1"), PeerPort: 21,
	}}
	worker := w.conns.Worker(0)
	worker.Begin(w.now)
	worker.Lookup(query)
	session, _ := worker.LockSession(query[0].Ref)
	if session == 0 {
		t.Fatal("no session")
	}
	if _, v := all[1].transmit(0, "NOOP\r\n"); v != DroppedHelperBusy {
		t.Errorf("while another worker has locked the session: %s", v)
	}
	worker.UnlockSession(query[0].Ref, session)
	w.equal(all[1].exchange(0, "NOOP\r\n"), "NOOP\r\n")
}

// A server with weight 0 keeps its sessions: the client's SYN+ACK to the server does
// not begin a connection.
func TestFTPQuiescedServer(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.addFTP("10.9.0.1", "10.2.0.11:21")
	c := w.login("10.1.0.2:5000", "10.9.0.1:21")
	for i := range w.lastID {
		w.table.server(i + 1).Weight = 0
	}
	w.table.Settings.RescheduleRemoved = true
	c.exchange(0, "PORT 10,1,0,2,19,137\r\n")
	w.equal(w.forwarded(1, "10.2.0.11:40001", "10.1.0.2:5001", wire.TCPSyn), "10.9.0.1:20>10.1.0.2:5001")
	w.equal(w.forwarded(0, "10.1.0.2:5001", "10.9.0.1:20", wire.TCPSyn|ackFlag), "10.1.0.2:5001>10.2.0.11:40001")
	w.equal(w.forwarded(0, "10.1.0.2:6000", c.announcePassive(43293), wire.TCPSyn), "10.1.0.2:6000>10.2.0.11:43293")
}

// After its server is removed, no announced connection reaches it.
func TestFTPServerRemoved(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.addFTP("10.9.0.1", "10.2.0.11:21")
	c := w.login("10.1.0.2:5000", "10.9.0.1:21")
	data := c.announcePassive(43293)
	w.remove("10.2.0.11")
	w.equal(w.forwarded(0, "10.1.0.2:6000", data, wire.TCPSyn), "refused_no_service")
	if _, v := c.transmit(0, "NOOP\r\n"); v != RefusedNoConn {
		t.Errorf("a command to a server that is gone: %s", v)
	}
	if n := w.conns.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// FTP without NAT stays untouched: direct routing, and connections that a server opens
// to other hosts.
func TestFTPUntouched(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.addFTP("10.9.0.1", "10.2.0.11:21")
	for i := range w.lastID {
		if w.table.server(i+1).Port == 21 {
			w.table.server(i + 1).Method = conntrack.MethodDR
		}
	}
	for _, row := range []struct {
		port     uint16
		src, dst string
		flags    uint8
		text     string
		want     Verdict
	}{
		{0, "10.1.0.2:5000", "10.9.0.1:21", wire.TCPSyn, "", ForwardedRoute},
		{0, "10.1.0.2:5000", "10.9.0.1:21", ackFlag, "PORT 10,1,0,77,19,137\r\n", ForwardedRoute},
		{1, "10.2.0.11:40000", "10.1.0.2:21", ackFlag, "PORT 10,2,0,11,19,137\r\n", NotOurs},
	} {
		f := in(row.port, wiretest.Packet{Src: row.src, Dst: row.dst, TCPFlags: row.flags, Payload: []byte(row.text)})
		if v := w.process(&f); v != row.want || !strings.HasSuffix(string(f.Bytes()), row.text) {
			t.Errorf("%s>%s %q: %s", row.src, row.dst, row.text, v)
		}
	}
	if n := w.conns.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions", n)
	}
}

// A control connection with data connections of both kinds, and TFTP requests, allocate
// nothing.
func TestHelperDoesNotAllocate(t *testing.T) {
	const runs = 40
	w := newTestbed(t, conntrack.MethodNAT)
	w.addFTP("10.9.0.1", "10.2.0.11:21")
	c := w.login("10.1.0.2:5000", "10.9.0.1:21")
	var batches [runs + 1][]wire.Frame // AllocsPerRun warms up once
	for i := range batches {
		say := func(from int, text string) {
			p := wiretest.Packet{
				Src: c.client, Dst: c.vip, TCPFlags: wire.TCPAck, Seq: c.seq[0], Ack: c.arrived[1],
				Payload: []byte(text),
			}
			if from == 1 {
				p.Src, p.Dst, p.Seq, p.Ack = c.server, c.client, c.seq[1], c.arrived[0]
			}
			c.seq[from] += uint32(len(text))
			batches[i] = append(batches[i], in(uint16(from), p))
		}
		say(0, "PASV\r\n")
		say(1, fmt.Sprintf("227 Entering Passive Mode (10,2,0,11,200,%d)\r\n", 100+i))
		c.arrived[1] += uint32(len(fmt.Sprintf("227 Entering Passive Mode (10,9,0,1,200,%d)\r\n", 100+i)))
		data := in(0, wiretest.Packet{
			Src: "10.1.0.2:6000", Dst: fmt.Sprintf("10.9.0.1:%d", 200<<8+100+i),
			TCPFlags: wire.TCPSyn,
		})
		batches[i] = append(batches[i], data)
		say(0, fmt.Sprintf("PORT 10,1,0,2,19,%d\r\n", 100+i))
		c.arrived[0] = c.seq[0]
		batches[i] = append(batches[i],
			in(1, wiretest.Packet{
				Src: "10.2.0.11:20", Dst: fmt.Sprintf("10.1.0.2:%d", 19<<8+100+i),
				TCPFlags: wire.TCPSyn,
			}),
			in(0, wiretest.Packet{
				Src: fmt.Sprintf("10.1.0.2:%d", 7000+i), Dst: "10.9.0.1:69", Proto: wire.ProtoUDP,
				Payload: []byte("\x00\x01f\x00octet\x00"),
			}),
			in(1, wiretest.Packet{
				Src: "10.2.0.11:40000", Dst: fmt.Sprintf("10.1.0.2:%d", 7000+i),
				Proto: wire.ProtoUDP,
			}))
		say(0, "NO") // held back: the line is incomplete
		say(0, "OP\r\n")
	}
	i, bad := 0, ""
	if allocs := testing.AllocsPerRun(runs, func() {
		for j := range batches[i] { // one by one: later frames match expectations of earlier ones
			w.dir.Process(w.now, w.table, batches[i][j:j+1], w.verdicts[:1])
			if v := w.verdicts[0]; v != ForwardedMasq && v != ReturnedMasq && v != AnsweredHelper {
				bad = v.String()
			}
		}
		i++
	}); allocs != 0 {
		t.Errorf("%v allocations for each round", allocs)
	}
	if bad != "" {
		t.Errorf("a frame was %s", bad)
	}
}

// An ICMP error about a reply that the helper has renumbered quotes to the server the
// number that it sent.
func TestFTPErrorQuotes(t *testing.T) {
	for _, length := range []int{28, 1000} { // the RFC 792 minimum, and all of it
		w := newTestbed(t, conntrack.MethodNAT)
		w.addFTP("10.9.0.1", "10.2.0.11:21")
		c := w.login("10.1.0.2:5000", "10.9.0.1:21")
		c.announcePassive(43293) // one byte shorter for the client
		sent, received := c.seq[1], c.arrived[1]
		if sent == received {
			t.Fatal("nothing was renumbered")
		}
		reply := in(1, wiretest.Packet{
			Src: c.server, Dst: c.client, TCPFlags: wire.TCPAck, Seq: sent,
			Ack: c.arrived[0], Payload: []byte("200 ok\r\n"),
		})
		if v := w.process(&reply); v != ReturnedMasq {
			t.Fatal(v)
		}
		f := in(0, wiretest.Packet{
			Src: "10.1.0.254", Dst: "10.9.0.1", Proto: wire.ProtoICMP, ICMPType: 3,
			ICMPCode: 4, ICMPRest: 1400, Payload: wiretest.Quote(reply, length),
		})
		if v := w.process(&f); v != ICMPErrorToServer {
			t.Fatal(v)
		}
		wiretest.Check(t, f)
		quoted := wire.TCP(f.Bytes()[14+20+8+20:])
		if got := quoted.Seq(); got != sent {
			t.Errorf("quoting %d bytes the server is told of %d, it sent %d and the client knows it as %d", length,
				got, sent, received)
		}
	}
}
