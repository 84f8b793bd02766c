package ctl

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/gopacket/layers"

	"uvs/dataplane/director"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

func TestTunnelSource(t *testing.T) {
	const vip4, vip6 = "10.9.0.1", "2001:db8::1"
	for _, row := range []struct {
		sentence          string
		way, server, want string
		local             []string
	}{
		{"the address of the way there", "10.1.0.1", "10.2.0.1", "10.1.0.1", []string{"10.1.0.1", "10.0.0.1"}},
		{"a way without address: another of the host", "", "10.2.0.1", "10.0.0.1", []string{"127.0.0.1", "10.5.0.1", "10.0.0.1", "2001:db8::7"}},
		{"never a VIP of the host", vip4, "10.2.0.1", "10.5.0.1", []string{vip4, "10.5.0.1"}},
		{"a host without any: the dummy address", "", "10.2.0.1", "192.0.0.8", []string{"127.0.0.1", vip4, "::1", "2001:db8::7"}},
		{"IPv6: another of the host", "", "2001:db8::2", "2001:db8::7", []string{"::1", vip6, "fe80::1", "10.5.0.1", "2001:db8::7"}},
		{"IPv6: link-local if the way has nothing else", "fe80::1", "2001:db8::2", "fe80::1", []string{"::1", "fe80::1", "fe80::2"}},
	} {
		addr := func(s string) (a wire.Addr) {
			if s != "" {
				a = wire.AddrFrom(netip.MustParseAddr(s))
			}
			return a
		}
		hops := &director.HostNet{HostAddrs: map[wire.Addr]int{}}
		for _, s := range row.local {
			hops.HostAddrs[addr(s)] = 1
		}
		table := &director.Table{
			VIPs: map[wire.Addr]director.VIP{addr(vip4): {}, addr(vip6): {}},
			FIB:  &director.FIB{HostNet: hops},
		}
		if got := tunnelSource(director.NextHop{Source: addr(row.way)}, addr(row.server), table); got != addr(row.want) {
			t.Errorf("%s: %v, want %s", row.sentence, got, row.want)
		}
	}
}

// What ipvsadm asks for is what leaves, and what is told to a client whose packet
// is too long for it (the MTUs are those measured of IPVS). A server edited to
// another type is reached by that from the next packet on, also on old conns.
func TestTunnelTypes(t *testing.T) {
	w := newWorld(t, 1)
	w.must(add("10.9.0.1:80", "rr"), with("10.9.0.1:80", serverAt("10.2.0.1:80", MethodTunnel, 1)))
	for _, row := range []struct {
		sentence string
		Tunnel
		want string
	}{
		{"IPIP is the zero value", Tunnel{}, "IPv4 protocol 4, IPv4 10.1.0.2>10.9.0.1, mtu 1480"},
		{"GUE without checksum", Tunnel{TunnelGUE, 6080, TunnelNoCsum}, "IPv4 protocol 17, to port 6080 no checksum 00040000, IPv4 10.1.0.2>10.9.0.1, mtu 1468"},
		{"GUE with checksum, to another port", Tunnel{TunnelGUE, 5555, TunnelCsum}, "IPv4 protocol 17, to port 5555 00040000, IPv4 10.1.0.2>10.9.0.1, mtu 1468"},
		{"remote checksum offload is a full checksum", Tunnel{TunnelGUE, 6080, TunnelRemCsum}, "IPv4 protocol 17, to port 6080 00040000, IPv4 10.1.0.2>10.9.0.1, mtu 1468"},
		{"GRE without checksum", Tunnel{Type: TunnelGRE}, "IPv4 protocol 47, 00000800, IPv4 10.1.0.2>10.9.0.1, mtu 1476"},
		{"GRE with checksum", Tunnel{Type: TunnelGRE, Flags: TunnelCsum}, "IPv4 protocol 47, 80000800, IPv4 10.1.0.2>10.9.0.1, mtu 1472"},
	} {
		server := serverAt("10.2.0.1:80", MethodTunnel, 1)
		server.Tunnel = row.Tunnel
		w.must(edited("10.9.0.1:80", server))
		got := w.tunnelled() + fmt.Sprintf(", mtu %d", w.toldMTU())
		if got != row.want {
			t.Errorf("%s: %s, want %s", row.sentence, got, row.want)
		}
	}
}

// tunnelled sends a client's packet and says how it left: the outer header, what
// is between it and the inner one, and that.
func (w *world) tunnelled() string {
	w.t.Helper()
	f := wiretest.Frame(w.exchange(0, wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPSyn}))
	wiretest.Check(w.t, f)
	var p, in wire.Packet
	wire.Parse(&f, &p)
	said := fmt.Sprintf("IPv4 protocol %d, ", p.Proto)
	l4 := f.From(p.L4)
	shim := 0
	switch p.Proto {
	case wire.ProtoUDP:
		said += fmt.Sprintf("to port %d ", p.DstPort)
		if wire.UDP(l4).Checksum() == 0 {
			said += "no checksum "
		}
		said += fmt.Sprintf("%x, ", l4[8:12])
		shim = 12
	case wire.ProtoGRE:
		said += fmt.Sprintf("%x, ", l4[:4])
		shim = 4 + int(l4[0]>>7)*4
	}
	wire.ParseIPAt(&f, int(p.L4)+shim, &in, wire.Whole)
	return said + fmt.Sprintf("IPv4 %s>%s", in.Src, in.Dst)
}

// toldMTU is what a client hears of a packet that just fits the link.
func (w *world) toldMTU() uint16 {
	w.t.Helper()
	const mtu = 1500
	f := wiretest.Frame(w.exchange(0, wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", TCPFlags: wire.TCPAck, DF: true, Payload: make([]byte, mtu-wire.IPv4Len-wire.TCPLen)}))
	icmp, ok := wiretest.Decode(w.t, f).Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if !ok {
		w.t.Fatalf("no ICMP, but %x", f.Bytes())
	}
	return icmp.Seq // the next-hop MTU, RFC 1191 section 4
}
