package compile

import (
	"slices"

	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// NewFIB makes the FIB of the host's network. The port into the host itself, if there is
// one, is the last.
func NewFIB(host *director.HostNet, local *LocalNode) *director.FIB {
	if local == nil {
		return director.NewFIB(host)
	}
	all := *host
	all.Ports = append(slices.Clone(host.Ports), local.Port)
	fib := director.NewFIB(&all)
	fib.Host = director.NextHop{State: director.Resolved, MTU: local.Port.MTU}
	fib.Host.Link.Port = uint16(len(host.Ports))
	fib.Host.Link.Src, fib.Host.Link.Dst = local.Port.MAC, local.HostMAC
	return fib
}

// LocalNode is the port by which frames get into the host's own stack, and the hardware
// address behind it (ctl/localnode).
type LocalNode struct {
	Port    director.Port
	HostMAC wire.MAC
}

// NextHop returns the next hop of a server's frames. A server that is the host itself gets them
// by the port into the host. Frames that are not translated must be for an address of the
// host, which would forward others. For translated frames the service must have a port: the
// guard redirects their replies, and recognises them by that. The host drops frames to its
// loopback addresses that arrive on a device (net/ipv4/route.c, ip_route_input_slow).
func (v *RunningServer) NextHop(fib *director.FIB) director.NextHop {
	addr, vip := wire.AddrFrom(v.Config.Addr), wire.AddrFrom(v.Service.Addr)
	translated := v.method(fib) == config.MethodNAT
	switch {
	case !fib.IsLocal(addr):
		return fib.NextHop(addr)
	case v.Service.FWMark != 0, translated && (v.Service.Port == 0 || v.Config.Addr.IsLoopback()),
		!translated && !fib.IsLocal(vip):
		return director.NextHop{}
	}
	return fib.Host
}

// method returns how frames reach a server. Frames for the host itself are not encapsulated,
// and not translated if the address and port stay the same.
func (v *RunningServer) method(fib *director.FIB) config.Method {
	same := v.Config.Addr == v.Service.Addr && (v.Config.Port == v.Service.Port || v.Service.Port == 0)
	if fib.IsLocal(wire.AddrFrom(v.Config.Addr)) && (v.Config.Method == config.MethodTunnel || same) {
		return config.MethodDR
	}
	return v.Config.Method
}
