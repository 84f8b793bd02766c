package compile

import (
	"slices"

	"uvs/conntrack"
	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// NewFIB are the routes of the host's network. The port into the host itself, if it is
// open, is the last.
func NewFIB(hops *director.HostNet, local *LocalNode) *director.FIB {
	if local == nil {
		return director.NewFIB(hops)
	}
	all := *hops
	all.Ports = append(slices.Clone(hops.Ports), local.Port)
	fib := director.NewFIB(&all)
	fib.Host = director.NextHop{State: director.Resolved, MTU: local.Port.MTU}
	fib.Host.Link.Port = uint16(len(hops.Ports))
	fib.Host.Link.Src, fib.Host.Link.Dst = local.Port.MAC, local.HostMAC
	return fib
}

// LocalNode is a way for frames into the host's own stack: a port of the director
// beyond those of Hops, and the hardware address behind it (ctl/localnode).
type LocalNode struct {
	Port    director.Port
	HostMAC wire.MAC
}

// NextHop is how frames leave for a server. One that is the host itself gets them
// by the door: as they are only if they are to an address of the host
// (reference 5.1.2), since it would have to forward others; or translated, and
// then the guard hands its answers to the door. Only answers from one port are
// told from all else the host sends.
func (v *RunningServer) NextHop(ways *director.FIB) director.NextHop {
	addr, vip := wire.AddrFrom(v.Config.Addr), wire.AddrFrom(v.Service.Addr)
	translated := v.method(ways) == conntrack.MethodMasq
	switch {
	case !ways.IsLocal(addr):
		return ways.NextHop(addr)
	case v.Service.FWMark != 0, translated && v.Service.Port == 0, !translated && !ways.IsLocal(vip):
		return director.NextHop{}
	}
	return ways.Host
}

// method is how frames are changed for a server. For the host itself nothing is
// wrapped, and nothing translated to what it is already.
func (v *RunningServer) method(ways *director.FIB) conntrack.Method {
	same := v.Config.Addr == v.Service.Addr && (v.Config.Port == v.Service.Port || v.Service.Port == 0)
	if ways.IsLocal(wire.AddrFrom(v.Config.Addr)) && (v.Config.Method == config.MethodTunnel || same) {
		return conntrack.MethodRoute
	}
	return conntrack.Method(v.Config.Method)
}
