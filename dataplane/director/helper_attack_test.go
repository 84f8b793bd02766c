package director

import (
	"fmt"
	"strings"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// A port that is not the client's own is not expected, and the server does not learn of
// it. If bounces are allowed, the server reaches the other host, which sees the VIP.
func TestFTPBounce(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	svc := w.addFTP("10.9.0.1", "10.2.0.11:21")
	c := w.login("10.1.0.2:5000", "10.9.0.1:21")
	if got := c.exchange(0, "PORT 10,1,0,77,19,137\r\n"); strings.Contains(got, "10,1,0,77") {
		t.Errorf("the server is told %q", got)
	}
	w.equal(fmt.Sprint(w.connsAt(20)), "[]")
	svc.Helper.Settings.FTPBounce = true
	w.equal(c.exchange(0, "PORT 10,1,0,77,19,137\r\n"), "PORT 10,1,0,77,19,137\r\n")
	w.table.FIB.Neighbours[NeighbourKey{0, addr("10.1.0.77")}] = wiretest.ClientMAC
	w.equal(w.forwarded(1, "10.2.0.11:20", "10.1.0.77:5001", wire.TCPSyn), "10.9.0.1:20>10.1.0.77:5001")
}

// No reply exposes another service of the server to the client, such as SSH.
func TestFTPPrivilegedPort(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.addFTP("10.9.0.1", "10.2.0.11:21")
	c := w.login("10.1.0.2:5000", "10.9.0.1:21")
	c.exchange(0, "PASV\r\n")
	if got := c.exchange(1, "227 =10,2,0,11,0,22\r\n"); got[:4] != "425 " {
		t.Errorf("the client is told %q", got)
	}
	w.equal(fmt.Sprint(w.connsAt(22)), "[]")
}

// A command that the helper did not see whole, or that did not reach the server, does
// not pass in its place later.
func TestFTPBounceDisguised(t *testing.T) {
	const bounce = "PORT 10,1,0,77,19,137\r\n"
	w := newTestbed(t, conntrack.MethodNAT)
	w.addFTP("10.9.0.1", "10.2.0.11:21")
	c := w.login("10.1.0.2:5000", "10.9.0.1:21")
	f := in(0, wiretest.Packet{
		Src: c.client, Dst: c.vip, TCPFlags: wire.TCPAck, Seq: c.seq[0], Ack: c.arrived[1], TTL: 1,
		Payload: []byte(strings.Repeat("x", len(bounce)-2) + "\r\n"),
	})
	if v := w.process(&f); v != AnsweredTTLExceeded {
		t.Errorf("a segment at its last hop: %s", v)
	}
	if got, _ := c.transmit(0, bounce); strings.Contains(got, "10,1,0,77") {
		t.Errorf("the server is told %q", got)
	}
	fragments := fragmentsOf(0, 7, 24, wiretest.Packet{
		Src: "10.1.0.2:5001", Dst: c.vip, TCPFlags: wire.TCPSyn,
		Payload: []byte(bounce),
	})
	for i := range fragments {
		if v := w.process(&fragments[i]); v != DroppedHelperFragment && v != DroppedFragment {
			t.Errorf("fragment %d of a connection without a session: %s", i, v)
		}
	}
}
