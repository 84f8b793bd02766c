package guard

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"uvs/ctl/nettest"
)

// segment makes a TCP segment with a payload.
func segment(src string, sport uint16, dst string, dport uint16, flags string, payload int) []byte {
	t := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Window: 100}
	for _, f := range flags {
		switch f {
		case 'S':
			t.SYN = true
		case 'A':
			t.ACK = true
		case 'F':
			t.FIN = true
		case 'R':
			t.RST = true
		}
	}
	return ipTo(src, dst, layers.IPProtocolTCP, t, gopacket.Payload(make([]byte, payload)))
}

// TestRelatedConnections checks which packets the guard drops after a client
// has sent on a control connection. These are the client's SYNs to other ports
// of the same address, and then both directions of those connections, and no
// others. The peer is client and server at once:
//
//	client 10.7.0.2, server 10.7.0.3, on p0 ── h0 10.7.0.1, host with VIP 10.7.0.9
func TestRelatedConnections(t *testing.T) {
	for _, row := range [][4]string{
		{"10.7.0.2", "10.7.0.9", "10.7.0.3", "10.7.0.99"},
		{"fd07::2", "fd07::9", "fd07::3", "fd07::99"},
	} {
		client, vip, server, mark := row[0], row[1], row[2], row[3]
		host, peer := newTestHost(t), newTestHost(t)
		nettest.Join(host.Namespace, "h0", peer.Namespace, "p0")
		tap := peer.Tap("p0")
		to := host.Link("h0").Attrs().HardwareAddr
		g := host.guard()
		vipAddr := netip.MustParseAddr(vip)
		whole := netip.PrefixFrom(vipAddr, vipAddr.BitLen())
		rules := Rules{
			Interfaces: []string{"h0"},
			Services: setOf(&ServiceRules{VIPs: addrs(mark)}, &ServiceRules{
				HelperMatches: []Match{
					{Dst: whole, Proto: unix.IPPROTO_TCP, DstFirst: 21, DstLast: 21, SrcLast: 65535},
					{Dst: whole, Proto: unix.IPPROTO_UDP, DstFirst: 69, DstLast: 69, SrcLast: 65535},
				},
				HelperServers: []Endpoint{
					{Proto: unix.IPPROTO_TCP, Addr: netip.MustParseAddr(server)},
					{Proto: unix.IPPROTO_UDP, Addr: netip.MustParseAddr(server)},
				},
			}),
		}
		host.Must(g.Apply(rules))
		send := func(ip []byte) {
			_, err := tap.WriteTo(frame(net.HardwareAddr(to), ip), anywhere)
			peer.Must(err)
		}
		dropped := func(ip []byte) (service, source uint64) {
			before, err := g.Dropped()
			host.Must(err)
			send(ip)
			send(udp(client, 1, mark, 1)) // always dropped, after the packet before it
			var now Dropped
			until(t, "the frame behind it is dropped", func() bool {
				now, err = g.Dropped()
				host.Must(err)
				return now.VIP > before.VIP
			})
			return now.Service - before.Service, now.Source - before.Source
		}
		for _, step := range []struct {
			name            string
			ip              []byte
			service, source uint64
		}{
			{"a stranger opens a port", segment(client, 5001, vip, 40000, "S", 0), 0, 0},
			{"the client sends on the control connection", segment(client, 5000, vip, 21, "A", 6), 0, 0},
			{"the server sends to a port that has opened nothing", segment(server, 40000, client, 5001, "A", 0), 0, 0},
			{"the client opens a port of the server itself", segment(client, 5006, server, 40000, "S", 0), 0, 0},
			{"the server answers directly", segment(server, 40000, client, 5006, "SA", 0), 0, 0},
			{
				"the client opens a port that the host may forward",
				segment(client, 5011, mark[:len(mark)-1]+"8", 80, "S", 0), 0, 0,
			},
			{"the server answers that", segment(server, 40000, client, 5011, "SA", 0), 0, 0},
			{"an answer overtakes the client's SYN", segment(server, 40000, client, 5007, "SA", 0), 0, 1},
			{"the SYN that it overtook", segment(client, 5007, vip, 40000, "S", 0), 1, 0},
			{"the server goes on after that", segment(server, 40000, client, 5007, "A", 0), 0, 1},
			{"the server answers from a port below 1024", segment(server, 443, client, 5008, "SA", 0), 0, 0},
			{"the client opens a port", segment(client, 5001, vip, 40000, "S", 0), 1, 0},
			{"the server answers", segment(server, 40000, client, 5001, "SA", 0), 0, 1},
			{"the client goes on", segment(client, 5001, vip, 40000, "A", 0), 1, 0},
			{"the server sends much", segment(server, 40000, client, 5001, "A", 1000), 0, 1},
			{"the client sends much", segment(client, 5001, vip, 40000, "A", 1000), 1, 0},
			{"the client ends", segment(client, 5001, vip, 40000, "FA", 0), 1, 0},
			{"the server ends", segment(server, 40000, client, 5001, "FA", 0), 0, 1},
			{"another end of the client's", segment(server, 40000, client, 5002, "A", 0), 0, 0},
			{"another server", segment("10.7.0.4", 40000, "10.7.0.2", 5001, "A", 0), 0, 0},
			{"the client goes on with something older", segment(client, 5003, vip, 40000, "A", 0), 0, 0},
			{"the client opens a port below 1024", segment(client, 5003, vip, 443, "S", 0), 0, 0},
			{"the client opens another address", segment(client, 5003, mark[:len(mark)-1]+"8", 40000, "S", 0), 0, 0},
			{"another client opens a port", segment(server, 5003, vip, 40000, "S", 0), 0, 0},
			{"the server opens a port of the client's", segment(server, 45678, client, 5004, "S", 0), 0, 1},
			{"the client answers", segment(client, 5004, vip, 20, "SA", 0), 1, 0},
			{"the server goes on", segment(server, 45678, client, 5004, "A", 0), 0, 1},
			{"an answer overtakes the server's SYN", segment(client, 5009, vip, 20, "SA", 0), 1, 0},
			{"the server goes on after that", segment(server, 45678, client, 5009, "A", 0), 0, 1},
			{"an answer to another port", segment(client, 5010, vip, 22, "SA", 0), 0, 0},
			{"the server opens a port below 1024", segment(server, 45678, client, 113, "S", 0), 0, 0},
			{
				"the server opens a port of a host without a control connection",
				segment(server, 45678, mark[:len(mark)-1]+"8", 5004, "S", 0), 0, 0,
			},
			{
				"another host opens a port of the client's",
				segment(mark[:len(mark)-1]+"8", 45678, client, 5005, "S", 0),
				0, 0,
			},
			{"a server's datagram without a request", udp(server, 40000, client, 6000), 0, 0},
			{"a TFTP request", udp(client, 6000, vip, 69), 1, 0},
			{"its answer", udp(server, 40000, client, 6000), 0, 1},
			{"the client's acknowledgement", udp(client, 6000, vip, 40000), 1, 0},
			{"another end of the client's datagram", udp(client, 6001, vip, 40000), 0, 0},
		} {
			if service, source := dropped(step.ip); service != step.service || source != step.source {
				t.Errorf("%s: %s: %d dropped to the service and %d from a server, want %d and %d", vip, step.name,
					service, source, step.service, step.source)
			}
		}
		host.Must(g.Apply(Rules{Interfaces: []string{"h0"}, Services: setOf(&ServiceRules{VIPs: addrs(mark)})}))
		if service, source := dropped(segment(client, 5001, vip, 40000, "A", 0)); service+source != 0 {
			t.Errorf("%s: still dropped without a helper", vip)
		}
	}
}
