package compile

import (
	"net/netip"
	"testing"

	"github.com/gaissmai/bart"

	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// Which servers get their frames by the port into the host, and by which method.
func TestNextHopOfTheHostItself(t *testing.T) {
	addr := func(s string) wire.Addr { return wire.AddrFrom(netip.MustParseAddr(s)) }
	routes := new(bart.Table[director.Route])
	routes.Insert(netip.MustParsePrefix("10.2.0.0/24"), director.Route{Port: 1})
	host := director.HostNet{
		Ports:      []director.Port{{Name: "eth0"}, {Name: "eth1"}},
		Routes:     routes,
		Neighbours: map[director.NeighbourKey]wire.MAC{{Port: 1, Addr: addr("10.2.0.11")}: {2, 0, 0, 0, 1, 0x11}},
		HostAddrs:  map[wire.Addr]int{addr("10.1.0.1"): 2, addr("10.9.0.1"): 1, addr("127.0.0.1"): 1},
	}
	hostMAC := wire.MAC{2, 0, 0, 0, 9, 1}
	port := director.Port{Name: "uvs-1", MAC: wire.MAC{2, 0, 0, 0, 9, 2}, MTU: 65535}
	withPort := NewFIB(&host, &LocalNode{Port: port, HostMAC: hostMAC})
	without := NewFIB(&host, nil)
	rows := []struct {
		sentence        string
		fib             *director.FIB
		service, server string
		method          config.Method
		state           director.HopState
		port            uint16
		want            config.Method
	}{
		{
			"DR to an own address, the VIP on the host", withPort, "10.9.0.1:80", "10.1.0.1:80", config.MethodDR,
			director.Resolved, 2, config.MethodDR,
		},
		{
			"a tunnel to it is not encapsulated", withPort, "10.9.0.1:80", "10.1.0.1:80", config.MethodTunnel,
			director.Resolved, 2, config.MethodDR,
		},
		{
			"NAT to the VIP itself is not translated", withPort, "10.9.0.1:80", "10.9.0.1:80", config.MethodNAT,
			director.Resolved, 2, config.MethodDR,
		},
		{
			"NAT to another port is", withPort, "10.9.0.1:80", "10.9.0.1:8080", config.MethodNAT, director.Resolved, 2,
			config.MethodNAT,
		},
		{
			"NAT for a VIP that is not the host's", withPort, "10.9.0.2:80", "10.1.0.1:8080", config.MethodNAT,
			director.Resolved, 2, config.MethodNAT,
		},
		{
			"DR for a VIP that is not the host's has none", withPort, "10.9.0.2:80", "10.1.0.1:80", config.MethodDR,
			director.NoRoute, 0, config.MethodDR,
		},
		{
			"nothing has one without a port into the host", without, "10.9.0.1:80", "10.1.0.1:80", config.MethodDR,
			director.NoRoute, 0, config.MethodDR,
		},
		{
			"DR to a loopback address", withPort, "10.9.0.1:80", "127.0.0.1:80", config.MethodDR,
			director.Resolved, 2, config.MethodDR,
		},
		{
			"NAT to one has none", withPort, "10.9.0.1:80", "127.0.0.1:8080", config.MethodNAT, director.NoRoute, 0,
			config.MethodNAT,
		},
		{
			"another server is not affected", withPort, "10.9.0.1:80", "10.2.0.11:80", config.MethodNAT,
			director.Resolved, 1, config.MethodNAT,
		},
	}
	for _, r := range rows {
		vip, rip := netip.MustParseAddrPort(r.service), netip.MustParseAddrPort(r.server)
		v := &RunningServer{
			Service: config.ServiceKey{Proto: wire.ProtoTCP, Addr: vip.Addr(), Port: vip.Port()},
			Config:  config.Server{ServerKey: config.ServerKey{Addr: rip.Addr(), Port: rip.Port()}, Method: r.method},
		}
		hop, method := v.NextHop(r.fib), v.method(r.fib)
		if hop.State != r.state || hop.State == director.Resolved && hop.Link.Port != r.port ||
			method != r.want {
			t.Errorf("%s: state %d port %d method %s, want %d, %d, %s",
				r.sentence, hop.State, hop.Link.Port, method, r.state, r.port, r.want)
		}
		if hop.Link.Port == 2 && (hop.Link.Dst != hostMAC || hop.MTU != 65535) {
			t.Errorf("%s: to %s, MTU %d", r.sentence, hop.Link.Dst, hop.MTU)
		}
	}
}
