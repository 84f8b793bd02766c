package director

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/gopacket/layers"

	"uvs/conntrack"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// addFTP adds a round-robin FTP service at a VIP, port 21. Servers are written as
// address and port.
func (w *testbed) addFTP(vip string, servers ...string) *Service {
	w.t.Helper()
	if w.table.Sessions == nil {
		w.table.Sessions = helper.NewSessions(1)
	}
	config := &helper.Config{Ports: []helper.Port{{Helper: helper.FTP, Port: 21}, {Helper: helper.TFTP, Port: 69}}}
	svc := &Service{ID: uint32(100 + w.table.Services.Len()), Port: 21, Helper: config}
	for _, endpoint := range servers {
		end := netip.MustParseAddrPort(endpoint)
		s := w.addServer(svc, Server{
			Addr: wire.AddrFrom(end.Addr()), Port: end.Port(), Method: conntrack.MethodNAT, Helper: config,
		})
		svc.Servers = append(svc.Servers, s.ID)
	}
	w.roundRobin(svc)
	for _, p := range config.Ports {
		end := *svc
		end.Port = p.Port
		w.table.Services.Set(Endpoint{addr(vip), p.Port, p.Proto()}, &end)
	}
	return w.table.serviceAt(Endpoint{addr(vip), 21, wire.ProtoTCP})
}

// controlConn is a control connection, with the sequence numbers that each end sends
// and those at which text has arrived.
type controlConn struct {
	*testbed
	client, vip, server string // endpoints
	seq                 [2]uint32
	arrived             [2]uint32
}

// login opens a control connection.
func (w *testbed) login(client, vip string) *controlConn {
	w.t.Helper()
	c := &controlConn{testbed: w, client: client, vip: vip, seq: [2]uint32{1000, 500000}}
	f := in(0, wiretest.Packet{Src: client, Dst: vip, TCPFlags: wire.TCPSyn, Seq: c.seq[0]})
	if v := w.process(&f); v != ForwardedMasq {
		w.t.Fatalf("SYN of %s: %s", client, v)
	}
	var p wire.Packet
	wire.Parse(&f, &p)
	c.server = netip.AddrPortFrom(p.Dst.Netip(), p.DstPort).String()
	c.seq[0]++
	f = in(1, wiretest.Packet{
		Src: c.server, Dst: client, TCPFlags: wire.TCPSyn | wire.TCPAck, Seq: c.seq[1],
		Ack: c.seq[0],
	})
	w.process(&f)
	c.seq[1]++
	c.arrived = [2]uint32{c.seq[0], c.seq[1]}
	c.exchange(0, "")
	return c
}

// exchange sends a segment from the client (0) or the server (1) and returns the text
// that arrives. It acknowledges what its sender has received.
func (c *controlConn) exchange(from int, text string) string {
	c.t.Helper()
	got, v := c.transmit(from, text)
	if want := [2]Verdict{ForwardedMasq, ReturnedMasq}[from]; v != want {
		c.t.Fatalf("%q: %s, want %s", text, v, want)
	}
	c.seq[from] += uint32(len(text))
	return got
}

func (c *controlConn) transmit(from int, text string) (string, Verdict) {
	c.t.Helper()
	p := wiretest.Packet{
		Src: c.client, Dst: c.vip, TCPFlags: wire.TCPAck | wire.TCPPsh, Seq: c.seq[0],
		Ack: c.arrived[1], Payload: []byte(text),
	}
	if from == 1 {
		p.Src, p.Dst, p.Seq, p.Ack = c.server, c.client, c.seq[1], c.arrived[0]
	}
	f := in(uint16(from), p)
	v := c.process(&f)
	if f.Out == wire.NoPort {
		return "", v
	}
	wiretest.Check(c.t, f)
	t, _ := wiretest.Decode(c.t, f).Layer(layers.LayerTypeTCP).(*layers.TCP)
	if v == ForwardedMasq || v == ReturnedMasq {
		if t.Seq != c.arrived[from] {
			c.t.Errorf("%q arrives at %d, want %d", text, t.Seq, c.arrived[from])
		}
		c.arrived[from] = t.Seq + uint32(len(t.Payload))
	}
	return string(t.Payload), v
}

// announcePassive lets the server announce a port, and returns what the client is told.
func (c *controlConn) announcePassive(port int) string {
	c.t.Helper()
	c.exchange(0, "PASV\r\n")
	rip := netip.MustParseAddrPort(c.server).Addr()
	text := c.exchange(1, fmt.Sprintf("227 Entering Passive Mode (%s,%d,%d)\r\n",
		strings.ReplaceAll(rip.String(), ".", ","), port>>8, port&255))
	var a, b, d, e, hi, lo int
	const format = "227 Entering Passive Mode (%d,%d,%d,%d,%d,%d)"
	if _, err := fmt.Sscanf(text, format, &a, &b, &d, &e, &hi, &lo); err != nil {
		c.t.Fatalf("%q: %v", text, err)
	}
	return fmt.Sprintf("%d.%d.%d.%d:%d", a, b, d, e, hi<<8|lo)
}

// forwarded returns the endpoints with which a segment that came in by a port leaves,
// or its verdict.
func (w *testbed) forwarded(port uint16, src, dst string, flags uint8) string {
	w.t.Helper()
	return w.translated(port, wiretest.Packet{Src: src, Dst: dst, TCPFlags: flags})
}

// translated is forwarded for any packet.
func (w *testbed) translated(port uint16, sent wiretest.Packet) string {
	w.t.Helper()
	f := in(port, sent)
	v := w.process(&f)
	if v != ForwardedMasq && v != ReturnedMasq {
		return v.String()
	}
	wiretest.Check(w.t, f)
	var p wire.Packet
	wire.Parse(&f, &p)
	return fmt.Sprintf("%s>%s", netip.AddrPortFrom(p.Src.Netip(), p.SrcPort),
		netip.AddrPortFrom(p.Dst.Netip(), p.DstPort))
}

// connsAt lists the conns to a VIP's port, as client>VIP>server state.
func (w *testbed) connsAt(vport uint16) (list []string) {
	w.conns.Walk(nil, func(s *conntrack.Snapshot) bool {
		if s.VPort == vport && !s.Template {
			list = append(list, fmt.Sprintf("%s>%s>%s %s", netip.AddrPortFrom(s.Client.Netip(), s.ClientPort),
				netip.AddrPortFrom(s.VIP.Netip(), s.VPort), netip.AddrPortFrom(s.Server.Netip(), s.SPort), s.State))
		}
		return true
	})
	return list
}

func (w *testbed) equal(got, want string) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("got  %s\nwant %s", got, want)
	}
}

const ackFlag = wire.TCPAck
