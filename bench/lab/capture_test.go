package lab

import (
	"io"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// A capture counts what the demo says does not happen: a flow opened twice, an
// RST, an ICMP error. Here the servers' own kernels cause them on purpose.
func TestCaptureNoticesSecondCopies(t *testing.T) {
	l := testLab(t, Plan{Name: "tcapture", Method: DR, Servers: 1})
	for _, family := range []int{4, 6} {
		atServer, err := l.Capture("rs1")
		if err != nil {
			t.Fatal(err)
		}
		atClient, err := l.Capture("client1")
		if err != nil {
			t.Fatal(err)
		}
		if err := connect(l, "client1", "rs1", hostPort(l.RIP(family, 0), 7)); err != nil {
			t.Errorf("connect: %v", err)
		}
		if c, err := l.Dial(t.Context(), "client1", "tcp", 20001, hostPort(l.RIP(family, 0), 9)); err == nil {
			c.Close()
			t.Error("connected to a closed port")
		}
		u, err := l.Dial(t.Context(), "client1", "udp", 20002, hostPort(l.RIP(family, 0), 9))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(u, "one")
		io.WriteString(u, "two")
		io.WriteString(u, "two") // a pending ICMP error may replace the first attempt to send
		u.Close()

		for _, c := range []*Capture{atServer, atClient} {
			if err := c.Stop(); err != nil {
				t.Error(err)
			}
		}
		client := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(l.CIP(family, 0), port) }
		server := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(l.RIP(family, 0), port) }
		if n := atServer.opens[flow{unix.IPPROTO_TCP, client(20001), server(9)}]; n != 1 {
			t.Errorf("IPv%d: %d SYNs seen for the closed port, want 1", family, n)
		}
		if n := atServer.opens[flow{unix.IPPROTO_UDP, client(20002), server(9)}]; n < 2 {
			t.Errorf("IPv%d: %d datagrams of one flow seen, want 2 or 3", family, n)
		}
		synAcks := 0
		for f, n := range atClient.opens {
			if f.proto == unix.IPPROTO_TCP && f.src == server(7) {
				synAcks += n
			}
		}
		if synAcks != 1 {
			t.Errorf("IPv%d: %d SYN-ACKs seen at the client, want 1", family, synAcks)
		}
		if atServer.resets != 0 || atClient.resets != 1 {
			t.Errorf("IPv%d: %d RST at server and %d at client, want 0 and 1", family, atServer.resets, atClient.resets)
		}
		if atServer.icmp != 0 || atClient.icmp == 0 ||
			!strings.Contains(atClient.firstICMP, l.RIP(family, 0).String()) {
			t.Errorf("IPv%d: %d ICMP errors at server, %d at client (%s); want 0, some, from the server",
				family, atServer.icmp, atClient.icmp, atClient.firstICMP)
		}
	}
}

// The packet inside a tunnel counts. Hostile packets count as nothing and break
// nothing.
func TestCountLooksIntoTunnels(t *testing.T) {
	syn := []byte{
		// IPv4: 40 bytes, TCP, 10.1.0.101 -> 10.1.0.100
		0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 101, 10, 1, 0, 100,
		// TCP: 1000 -> 80, SYN
		3, 232, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, wire.TCPSyn, 0, 0, 0, 0, 0, 0,
	}
	outer4 := []byte{0x45, 0, 0, 60, 0, 0, 0, 0, 64, unix.IPPROTO_IPIP, 0, 0, 10, 1, 0, 1, 10, 2, 0, 11}
	outer6 := make([]byte, 40)
	outer6[0], outer6[6] = 0x60, unix.IPPROTO_IPIP
	want := flow{unix.IPPROTO_TCP, netip.MustParseAddrPort("10.1.0.101:1000"), netip.MustParseAddrPort("10.1.0.100:80")}
	for what, packet := range map[string][]byte{
		"plain": syn, "in IPv4": append(outer4[:20:20], syn...), "in IPv6": append(outer6[:40:40], syn...),
	} {
		c := &Capture{opens: map[flow]int{}}
		c.count(packet)
		if c.opens[want] != 1 || len(c.opens) != 1 {
			t.Errorf("%s: counted %v, want one of %v", what, c.opens, want)
		}
		for cut := range packet {
			c := &Capture{opens: map[flow]int{}}
			c.count(packet[:cut])
			if len(c.opens) != 0 {
				t.Errorf("%s, cut to %d bytes: counted %v", what, cut, c.opens)
			}
		}
	}
}
