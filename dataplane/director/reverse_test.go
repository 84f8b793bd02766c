package director

import (
	"fmt"
	"net/netip"
	"testing"

	"uvs/conntrack"
)

// What a server sends is taken from the port that it is behind, with or without a conn, and
// by reverse_path also from others.
func TestReversePath(t *testing.T) {
	for _, method := range []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel} {
		for _, ipv6 := range []bool{false, true} {
			client, vip, server := "10.1.0.2:5000", "10.9.0.1:80", "10.2.0.11:8080"
			if ipv6 {
				client, vip, server = "[fd00:1::2]:5000", "[fd00:9::1]:80", "[fd00:2::11]:8080"
			}
			from := server
			if method != conntrack.MethodNAT {
				from = vip
			}
			t.Run(fmt.Sprint(method, ipv6), func(t *testing.T) {
				for mode, want := range []Verdict{
					ReversePathOff: ReturnedAsIs, ReversePathStrict: DroppedReversePath, ReversePathLoose: ReturnedAsIs,
				} {
					if method == conntrack.MethodNAT && want == ReturnedAsIs {
						want = ReturnedMasq
					}
					w := newTestbed(t, method)
					w.table.Settings.ReversePath = ReversePath(mode)
					for i := range w.table.FIB.Ports { // replies are the director's own work
						w.table.FIB.Ports[i].Forwards4, w.table.FIB.Ports[i].Forwards6 = false, false
					}
					w.verdict(0, syn(client, vip))
					if v := w.verdict(0, datagram(from, "10.1.0.2:5000")); !ipv6 && v == PassedUnchanged {
						t.Errorf("mode %d: routed on from the clients' side, without a conn", mode)
					}
					reply := syn(from, client)
					if v := w.verdict(0, reply); v != want {
						t.Errorf("mode %d: a reply from the clients' side is %s, want %s", mode, v, want)
					}
					if v := w.verdict(1, reply); v == DroppedReversePath {
						t.Errorf("mode %d: a reply from the server's side is %s", mode, v)
					}
				}
			})
		}
	}
}

// What is routed on unchanged follows the host: the port that it comes by must forward.
func TestPassedOnlyIfHostForwards(t *testing.T) {
	for _, r := range []struct {
		name     string
		from, to string
		port     uint16
		forwards bool
		want     Verdict
	}{
		{"forwarding", "10.2.0.11:8080", "192.0.2.7:5000", 1, true, PassedUnchanged},
		{"not forwarding", "10.2.0.11:8080", "192.0.2.7:5000", 1, false, DroppedNotForwarding},
		{"not forwarding, IPv6", "[fd00:2::11]:8080", "[fd00:1::7]:5000", 1, false, DroppedNotForwarding},
		{"forged by a client", "10.2.0.11:8080", "10.2.0.12:7777", 0, true, DroppedReversePath},
		{"forged by a client, IPv6", "[fd00:2::11]:8080", "[fd00:2::12]:7777", 0, true, DroppedReversePath},
	} {
		t.Run(r.name, func(t *testing.T) {
			w := newTestbed(t, conntrack.MethodNAT)
			p := &w.table.FIB.Ports[r.port]
			p.Forwards4, p.Forwards6 = r.forwards, r.forwards
			if v := w.verdict(r.port, datagram(r.from, r.to)); v != r.want {
				t.Errorf("%s, want %s", v, r.want)
			}
		})
	}
}

// Each next hop of a multipath route leads to the addresses behind it.
func TestReversePathMultipath(t *testing.T) {
	h := testHostNet()
	h.Routes.Insert(netip.MustParsePrefix("10.3.0.0/16"),
		Route{Port: 0, Via: netip.MustParseAddr("10.1.0.254"), Ports: 2})
	fib := NewFIB(h)
	for port := range uint16(3) {
		if got := fib.isBehind(addr("10.3.0.1"), port, ReversePathStrict); got != (port < 2) {
			t.Errorf("port %d: %t", port, got)
		}
	}
}
