package ctl

import (
	"fmt"
	"testing"

	"github.com/google/gopacket/layers"

	"uvs/ctl/config"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/tunnel"
)

// Frames leave in the tunnel that ipvsadm configured, and a client whose packet is too long
// for it is told the MTU that IPVS was measured to report. After an edit the next packet uses the
// new type, also on old conns.
func TestTunnelTypes(t *testing.T) {
	w := newFixture(t, 1)
	w.must(add("10.9.0.1:80", "rr"), with("10.9.0.1:80", serverAt("10.2.0.1:80", config.MethodTunnel, 1)))
	for _, row := range []struct {
		sentence string
		config.Tunnel
		want string
	}{
		{"IPIP is the zero value", config.Tunnel{}, "IPv4 protocol 4, IPv4 10.1.0.2>10.9.0.1, mtu 1480"},
		{
			"GUE without checksum",
			config.Tunnel{Type: tunnel.GUE, Port: 6080, Checksum: tunnel.NoCsum},
			"IPv4 protocol 17, to port 6080 no checksum 00040000, IPv4 10.1.0.2>10.9.0.1, mtu 1468",
		},
		{
			"GUE with checksum, to another port",
			config.Tunnel{Type: tunnel.GUE, Port: 5555, Checksum: tunnel.Csum},
			"IPv4 protocol 17, to port 5555 00040000, IPv4 10.1.0.2>10.9.0.1, mtu 1468",
		},
		{"remote checksum offload is a full checksum", config.Tunnel{
			Type: tunnel.GUE, Port: 6080,
			Checksum: tunnel.RemCsum,
		}, "IPv4 protocol 17, to port 6080 00040000, IPv4 10.1.0.2>10.9.0.1, mtu 1468"},
		{
			"GRE without checksum",
			config.Tunnel{Type: tunnel.GRE},
			"IPv4 protocol 47, 00000800, IPv4 10.1.0.2>10.9.0.1, mtu 1476",
		},
		{
			"GRE with checksum",
			config.Tunnel{Type: tunnel.GRE, Checksum: tunnel.Csum},
			"IPv4 protocol 47, 80000800, IPv4 10.1.0.2>10.9.0.1, mtu 1472",
		},
	} {
		server := serverAt("10.2.0.1:80", config.MethodTunnel, 1)
		server.Tunnel = row.Tunnel
		w.must(edited("10.9.0.1:80", server))
		got := w.sendThroughTunnel() + fmt.Sprintf(", mtu %d", w.answeredMTU())
		if got != row.want {
			t.Errorf("%s: %s, want %s", row.sentence, got, row.want)
		}
	}
}

// sendThroughTunnel sends a client's packet and describes how it left: the outer header, the
// bytes between the headers, and the inner header.
func (w *fixture) sendThroughTunnel() string {
	w.t.Helper()
	f := wiretest.Frame(w.exchange(0, wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPSyn}))
	wiretest.Check(w.t, f)
	var p, in wire.Packet
	wire.Parse(&f, &p)
	said := fmt.Sprintf("IPv4 protocol %d, ", p.Proto)
	l4 := f.From(p.L4)
	headerLen := 0
	switch p.Proto {
	case wire.ProtoUDP:
		said += fmt.Sprintf("to port %d ", p.DstPort)
		if wire.UDP(l4).Checksum() == 0 {
			said += "no checksum "
		}
		said += fmt.Sprintf("%x, ", l4[8:12])
		headerLen = 12
	case wire.ProtoGRE:
		said += fmt.Sprintf("%x, ", l4[:4])
		headerLen = 4 + int(l4[0]>>7)*4
	}
	wire.ParseIPAt(&f, int(p.L4)+headerLen, &in, wire.Whole)
	return said + fmt.Sprintf("IPv4 %s>%s", in.Src, in.Dst)
}

// answeredMTU returns the MTU that a client is told for a packet that just fits the link.
func (w *fixture) answeredMTU() uint16 {
	w.t.Helper()
	const mtu = 1500
	f := wiretest.Frame(w.exchange(0, wiretest.Packet{
		Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck,
		DF: true, Payload: make([]byte, mtu-wire.IPv4Len-wire.TCPLen),
	}))
	icmp, ok := wiretest.Decode(w.t, f).Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if !ok {
		w.t.Fatalf("no ICMP, but %x", f.Bytes())
	}
	return icmp.Seq // the next-hop MTU, RFC 1191 section 4
}
