package ctl

import (
	"slices"

	"uvs/conntrack"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// LocalNode is a way for frames into the host's own stack: a port of the director
// beyond those of Hops, and the hardware address behind it (ctl/localnode).
type LocalNode struct {
	Port    director.Port
	HostMAC wire.MAC
}

// SetLocalNode gives the host's own servers a way. It is for before FirstTable.
func (m *Manager) SetLocalNode(d LocalNode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.localNode = &d
	m.learn(m.hops)
}

// learn makes the ways of the host's hops. The door is the last port.
func (m *Manager) learn(hops *director.HostNet) {
	m.hops = hops
	if m.localNode == nil {
		m.ways = director.NewFIB(hops)
		return
	}
	all := *hops
	all.Ports = append(slices.Clone(hops.Ports), m.localNode.Port)
	m.ways = director.NewFIB(&all)
	m.ways.Host = director.NextHop{State: director.Resolved, MTU: m.localNode.Port.MTU}
	m.ways.Host.Link.Port = uint16(len(hops.Ports))
	m.ways.Host.Link.Src, m.ways.Host.Link.Dst = m.localNode.Port.MAC, m.localNode.HostMAC
}

// way is how frames leave for a server. One that is the host itself gets them
// by the door: as they are only if they are to an address of the host
// (reference 5.1.2), since it would have to forward others; or translated, and
// then the guard hands its answers to the door. Only answers from one port are
// told from all else the host sends.
func (v *liveServer) way(ways *director.FIB) director.NextHop {
	addr, vip := wire.AddrFrom(v.last.Addr), wire.AddrFrom(v.service.Addr)
	translated := v.method(ways) == conntrack.MethodMasq
	switch {
	case !ways.IsLocal(addr):
		return ways.NextHop(addr)
	case v.service.FWMark != 0, translated && v.service.Port == 0, !translated && !ways.IsLocal(vip):
		return director.NextHop{}
	}
	return ways.Host
}

// method is how frames are changed for a server. For the host itself nothing is
// wrapped, and nothing translated to what it is already.
func (v *liveServer) method(ways *director.FIB) conntrack.Method {
	same := v.last.Addr == v.service.Addr && (v.last.Port == v.service.Port || v.service.Port == 0)
	if ways.IsLocal(wire.AddrFrom(v.last.Addr)) && (v.last.Method == MethodTunnel || same) {
		return conntrack.MethodRoute
	}
	return conntrack.Method(v.last.Method)
}

// hostText says how frames reach the host's own stack, or why they do not.
func hostText(way director.NextHop) string {
	if way.State == director.NoRoute {
		return "the director's own host: it gets packets with uvs run --localnode, but for no mark, unless by NAT only if the host holds the service's address, and by NAT only for one port"
	}
	return "the host's own stack"
}
