package director

import (
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// TFTP: the server answers from another port, which the client then calls. No other
// client may call it, and only requests announce anything.
func TestTFTP(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.addFTP("10.9.0.1", "10.2.0.11:0", "10.2.0.12:0")
	datagram := func(port uint16, src, dst, text string) string {
		t.Helper()
		return w.translated(port, wiretest.Packet{Src: src, Dst: dst, Proto: wire.ProtoUDP, Payload: []byte(text)})
	}
	w.equal(datagram(0, "10.1.0.2:6000", "10.9.0.1:69", "\x00\x03\x00\x01data"), "10.1.0.2:6000>10.2.0.11:69")
	w.equal(datagram(1, "10.2.0.11:40000", "10.1.0.2:6000", "\x00\x04\x00\x01"), "not_ours")
	w.equal(datagram(0, "10.1.0.2:6001", "10.9.0.1:69", "\x00\x01file\x00octet\x00"), "10.1.0.2:6001>10.2.0.12:69")
	w.equal(datagram(0, "10.1.0.2:6001", "10.9.0.1:69", "\x00\x01file\x00octet\x00"), "10.1.0.2:6001>10.2.0.12:69")
	for _, row := range [][5]string{
		{"another server", "1", "10.2.0.11:40000", "10.1.0.2:6001", "not_ours"},
		{"another port of the client", "1", "10.2.0.12:40000", "10.1.0.2:6002", "not_ours"},
		{"the client before it was answered", "0", "10.1.0.2:6001", "10.9.0.1:40000", "refused_no_service"},
		{"the answer", "1", "10.2.0.12:40000", "10.1.0.2:6001", "10.9.0.1:40000>10.1.0.2:6001"},
		{"the next block", "1", "10.2.0.12:40000", "10.1.0.2:6001", "10.9.0.1:40000>10.1.0.2:6001"},
		{"an answer from a second port", "1", "10.2.0.12:40001", "10.1.0.2:6001", "not_ours"},
		{"the client's acknowledgement", "0", "10.1.0.2:6001", "10.9.0.1:40000", "10.1.0.2:6001>10.2.0.12:40000"},
		{"another client's", "0", "10.1.0.3:6001", "10.9.0.1:40000", "refused_no_service"},
	} {
		if got := datagram(uint16(row[1][0]-'0'), row[2], row[3], "\x00\x04\x00\x01"); got != row[4] {
			t.Errorf("%s: %s, want %s", row[0], got, row[4])
		}
	}
}

// ESP that follows a flow of UDP port 500 is not TFTP's, though its service may be helped.
func TestTFTPIgnoresESP(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	svc := *w.addFTP("10.9.0.1", "10.2.0.11:0")
	svc.Port, svc.Helper = 500, &helper.Config{Ports: []helper.Port{{Helper: helper.TFTP, Port: 500}}}
	w.table.Services.Set(Endpoint{addr("10.9.0.1"), 500, wire.ProtoUDP}, &svc)
	for _, p := range []wiretest.Packet{
		{Src: "10.1.0.2:500", Dst: "10.9.0.1:500", Proto: wire.ProtoUDP},
		{
			Src: "10.1.0.2", Dst: "10.9.0.1", Proto: wire.ProtoESP,
			Payload: []byte("\x00\x00\x00\x01\x00\x00\x00\x01\x00\x01"),
		},
	} {
		if v := w.verdict(0, p); v != ForwardedMasq {
			t.Errorf("protocol %d: %s", p.Proto, v)
		}
	}
	if n := w.conns.Stats().InUse; n != 1 {
		t.Errorf("%d entries, want no expectation", n)
	}
}
