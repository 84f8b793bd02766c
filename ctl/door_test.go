package ctl

import (
	"net/netip"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// Which servers get their frames by the door, and as what.
func TestWayToTheHostItself(t *testing.T) {
	hops := *deskHops
	hops.HostAddrs = map[wire.Addr]int{wire.AddrFrom(netip.MustParseAddr("10.1.0.1")): 2, wire.AddrFrom(netip.MustParseAddr("10.9.0.1")): 1}
	outer := wire.MAC{2, 0, 0, 0, 9, 1}
	m := &Manager{hops: &hops, localNode: &LocalNode{Port: director.Port{Name: "uvs-1", MAC: wire.MAC{2, 0, 0, 0, 9, 2}, MTU: 65535}, HostMAC: outer}}
	m.learn(&hops)
	open := m.ways
	m.localNode = nil
	m.learn(&hops)
	shut := m.ways
	rows := []struct {
		sentence        string
		ways            *director.FIB
		service, server string
		method          Method
		reach           director.HopState
		port            uint16
		as              conntrack.Method
	}{
		{"DR to an own address, the VIP on the host", open, "10.9.0.1:80", "10.1.0.1:80", MethodRoute, director.Resolved, 2, conntrack.MethodRoute},
		{"a tunnel to it is not wrapped", open, "10.9.0.1:80", "10.1.0.1:80", MethodTunnel, director.Resolved, 2, conntrack.MethodRoute},
		{"NAT to the VIP itself is not translated", open, "10.9.0.1:80", "10.9.0.1:80", MethodMasq, director.Resolved, 2, conntrack.MethodRoute},
		{"NAT to another port is", open, "10.9.0.1:80", "10.9.0.1:8080", MethodMasq, director.Resolved, 2, conntrack.MethodMasq},
		{"NAT for a VIP that is not the host's", open, "10.9.0.2:80", "10.1.0.1:8080", MethodMasq, director.Resolved, 2, conntrack.MethodMasq},
		{"DR for a VIP that is not the host's has none", open, "10.9.0.2:80", "10.1.0.1:80", MethodRoute, director.NoRoute, 0, conntrack.MethodRoute},
		{"nothing has one without a door", shut, "10.9.0.1:80", "10.1.0.1:80", MethodRoute, director.NoRoute, 0, conntrack.MethodRoute},
		{"a server elsewhere is as ever", open, "10.9.0.1:80", "10.2.0.11:80", MethodMasq, director.Resolved, 1, conntrack.MethodMasq},
	}
	for _, r := range rows {
		v := &liveServer{service: key(wire.ProtoTCP, r.service), last: serverAt(r.server, r.method, 1)}
		way, as := v.way(r.ways), v.method(r.ways)
		if way.State != r.reach || way.State == director.Resolved && way.Link.Port != r.port || as != r.as {
			t.Errorf("%s: reach %d port %d method %d, want %d, %d, %d", r.sentence, way.State, way.Link.Port, as, r.reach, r.port, r.as)
		}
		if way.Link.Port == 2 && (way.Link.Dst != outer || way.MTU != 65535) {
			t.Errorf("%s: to %s, MTU %d", r.sentence, way.Link.Dst, way.MTU)
		}
	}
}
