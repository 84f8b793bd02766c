package compile

import (
	"net/netip"
	"testing"

	"github.com/gaissmai/bart"

	"uvs/conntrack"
	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// Which servers get their frames by the port into the host, and by which method.
func TestWayToTheHostItself(t *testing.T) {
	routes := new(bart.Table[director.Route])
	routes.Insert(netip.MustParsePrefix("10.2.0.0/24"), director.Route{Port: 1})
	hops := director.HostNet{
		Ports:      []director.Port{{Name: "eth0"}, {Name: "eth1"}},
		Routes:     routes,
		Neighbours: map[director.NeighbourKey]wire.MAC{{Port: 1, Addr: wire.AddrFrom(netip.MustParseAddr("10.2.0.11"))}: {2, 0, 0, 0, 1, 0x11}},
	}
	hops.HostAddrs = map[wire.Addr]int{wire.AddrFrom(netip.MustParseAddr("10.1.0.1")): 2, wire.AddrFrom(netip.MustParseAddr("10.9.0.1")): 1}
	outer := wire.MAC{2, 0, 0, 0, 9, 1}
	open := NewFIB(&hops, &LocalNode{Port: director.Port{Name: "uvs-1", MAC: wire.MAC{2, 0, 0, 0, 9, 2}, MTU: 65535}, HostMAC: outer})
	shut := NewFIB(&hops, nil)
	rows := []struct {
		sentence        string
		ways            *director.FIB
		service, server string
		method          config.Method
		reach           director.HopState
		port            uint16
		as              conntrack.Method
	}{
		{"DR to an own address, the VIP on the host", open, "10.9.0.1:80", "10.1.0.1:80", config.MethodRoute, director.Resolved, 2, conntrack.MethodRoute},
		{"a tunnel to it is not wrapped", open, "10.9.0.1:80", "10.1.0.1:80", config.MethodTunnel, director.Resolved, 2, conntrack.MethodRoute},
		{"NAT to the VIP itself is not translated", open, "10.9.0.1:80", "10.9.0.1:80", config.MethodMasq, director.Resolved, 2, conntrack.MethodRoute},
		{"NAT to another port is", open, "10.9.0.1:80", "10.9.0.1:8080", config.MethodMasq, director.Resolved, 2, conntrack.MethodMasq},
		{"NAT for a VIP that is not the host's", open, "10.9.0.2:80", "10.1.0.1:8080", config.MethodMasq, director.Resolved, 2, conntrack.MethodMasq},
		{"DR for a VIP that is not the host's has none", open, "10.9.0.2:80", "10.1.0.1:80", config.MethodRoute, director.NoRoute, 0, conntrack.MethodRoute},
		{"nothing has one without a port into the host", shut, "10.9.0.1:80", "10.1.0.1:80", config.MethodRoute, director.NoRoute, 0, conntrack.MethodRoute},
		{"another server is not affected", open, "10.9.0.1:80", "10.2.0.11:80", config.MethodMasq, director.Resolved, 1, conntrack.MethodMasq},
	}
	for _, r := range rows {
		vip, rip := netip.MustParseAddrPort(r.service), netip.MustParseAddrPort(r.server)
		v := &RunningServer{
			Service: config.ServiceKey{Proto: wire.ProtoTCP, Addr: vip.Addr(), Port: vip.Port()},
			Config:  config.Server{ServerKey: config.ServerKey{Addr: rip.Addr(), Port: rip.Port()}, Method: r.method},
		}
		way, as := v.NextHop(r.ways), v.method(r.ways)
		if way.State != r.reach || way.State == director.Resolved && way.Link.Port != r.port || as != r.as {
			t.Errorf("%s: reach %d port %d method %d, want %d, %d, %d", r.sentence, way.State, way.Link.Port, as, r.reach, r.port, r.as)
		}
		if way.Link.Port == 2 && (way.Link.Dst != outer || way.MTU != 65535) {
			t.Errorf("%s: to %s, MTU %d", r.sentence, way.Link.Dst, way.MTU)
		}
	}
}
