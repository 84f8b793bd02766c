package config

import (
	"net/netip"
	"strings"
	"syscall"

	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
	"uvs/sched"
)

// checkedService returns the service of an operation, if there can be such a service.
func checkedService(svc Service) (Service, error) {
	switch {
	case svc.FWMark != 0 && svc.ServiceKey != ServiceKey{FWMark: svc.FWMark, IPv6: svc.IPv6}:
		return svc, fieldErrorf("mark", syscall.EINVAL, "service %s: a mark has no address", svc.ServiceKey)
	case svc.FWMark != 0:
	case !svc.Proto.Served():
		return svc, fieldErrorf("protocol", syscall.EINVAL, "service protocol %s is not TCP, UDP or SCTP", svc.Proto)
	case checkAddr("service", svc.Addr) != nil:
		return svc, checkAddr("service", svc.Addr)
	case svc.IPv6:
		return svc, fieldErrorf("ipv6", syscall.EINVAL, "service %s: only a mark has ipv6", svc.ServiceKey)
	case svc.Port == 0 && svc.Persist == 0:
		return svc, fieldErrorf("port", syscall.EINVAL, "service %s: port 0 needs persistence", svc.ServiceKey)
	case svc.OPS && svc.Proto != wire.ProtoUDP:
		return svc, fieldErrorf("one_packet", syscall.EINVAL,
			"service %s: one-packet scheduling is only for UDP", svc.ServiceKey)
	}
	switch {
	case svc.Persist > maxTimeout:
		return svc, fieldErrorf("persistent", syscall.EINVAL,
			"persistence of %s is longer than %s", svc.Persist, Seconds(maxTimeout))
	case svc.PE != "" && svc.PE != EngineSIP:
		return svc, fieldErrorf("persistence_engine", syscall.ENOENT,
			"persistence engine %q is not known; there is %s", svc.PE, EngineSIP)
	case svc.PE != "" && svc.FWMark == 0 && svc.Proto != wire.ProtoUDP:
		return svc, fieldErrorf("persistence_engine", syscall.EINVAL,
			"service %s: persistence engine %s is only for UDP", svc.ServiceKey, svc.PE)
	case svc.Netmask.version == 4 && svc.Is6():
		return svc, fieldErrorf("netmask", syscall.EINVAL,
			"netmask %s: for IPv6 it is a prefix length, 1 to 128", svc.Netmask)
	case svc.Netmask.version == 6 && !svc.Is6():
		return svc, fieldErrorf("netmask", syscall.EINVAL,
			"netmask %s: for IPv4 it is a mask such as 255.255.255.0", svc.Netmask)
	case !sched.Known(svc.Scheduler):
		return svc, fieldErrorf("scheduler", syscall.ENOENT,
			"scheduler %q is not known; there are %s", svc.Scheduler, strings.Join(sched.Names(), ", "))
	}
	return svc, nil
}

// EngineSIP is the persistence engine that keeps each SIP call on one server.
const EngineSIP = "sip"

// Place gives a server the port that it has in a service. As in IPVS, only NAT changes ports:
// other servers have the service's, except those of a mark.
func (s *Server) Place(of ServiceKey) {
	if s.Method != MethodNAT && of.FWMark == 0 {
		s.Port = of.Port
	}
}

// CheckEdited refuses an edited server that would be another one, because of its new method.
func (s *Server) CheckEdited(of ServiceKey) error {
	placed := *s
	if placed.Place(of); placed.ServerKey != s.ServerKey {
		return fieldErrorf("method", syscall.EINVAL, "server %s with method %s would be server %s; add that one",
			s.ServerKey, s.Method, placed.ServerKey)
	}
	return nil
}

// checkServer checks that a server can belong to svc, and places it.
func checkServer(svc *Service, server *Server) error {
	server.Place(svc.ServiceKey)
	switch {
	case checkAddr("server", server.Addr) != nil:
		return checkAddr("server", server.Addr)
	case server.Addr.Is6() != svc.Is6() && server.Method != MethodTunnel:
		return fieldErrorf("address", syscall.EINVAL,
			"server %s is of another family than service %s, which only tunnels can join",
			server.Addr, svc.ServiceKey)
	case server.Method != MethodNAT && server.Method != MethodTunnel && server.Method != MethodDR:
		return fieldErrorf("method", syscall.EINVAL, "forwarding method %s cannot be asked for", server.Method)
	case server.Weight < 0:
		return fieldErrorf("weight", syscall.ERANGE, "weight %d is negative", server.Weight)
	case server.Lower > server.Upper:
		return fieldErrorf("lower_threshold", syscall.ERANGE,
			"lower threshold %d is above the upper one, %d", server.Lower, server.Upper)
	}
	return checkTunnel(server)
}

// checkTunnel reports what is wrong with a server's tunnel options. It also refuses
// what ipvsadm refuses before it asks the director.
func checkTunnel(server *Server) error {
	t := server.Tunnel
	switch {
	case server.Method != MethodTunnel && t != Tunnel{}:
		return fieldErrorf("tunnel", syscall.EINVAL,
			"server %s: a tunnel type is given, but forwarding method %s is no tunnel",
			server.ServerKey, server.Method)
	case !t.Type.Known():
		return fieldErrorf("tunnel", syscall.EINVAL,
			"server %s: %s is not %s", server.ServerKey, t.Type, tunnel.OneOf())
	}
	switch e := t.Type.Encapsulation(); {
	case e.Port != 0 && t.Port == 0:
		return fieldErrorf("tunnel", syscall.EINVAL, "server %s: a %s tunnel needs a UDP port, which is usually %d",
			server.ServerKey, t.Type, e.Port)
	case e.Port == 0 && t.Port != 0:
		return fieldErrorf("tunnel", syscall.EINVAL, "server %s: a %s tunnel has no port, but %d is given",
			server.ServerKey, t.Type, t.Port)
	case uint16(t.Checksum) > e.MaxFlags:
		return fieldErrorf("tunnel", syscall.EINVAL, "server %s: the checksum of a %s tunnel is %s; it can be %s",
			server.ServerKey, t.Type, t.Checksum, strings.Join(ChecksumNames[:e.MaxFlags+1], ", "))
	}
	return nil
}

func (s *State) checkScheduler(svc *Service) error { return checkScheduler(svc, s.SettingsOf(svc)) }

// checkScheduler checks that the scheduler takes the service's flags, settings and servers.
func checkScheduler(svc *Service, settings *Settings) error {
	list := make([]sched.Server, len(svc.Servers))
	for i := range svc.Servers {
		v := &svc.Servers[i]
		list[i] = sched.Server{ID: uint32(i), Addr: wire.AddrFrom(v.Addr), Port: v.Port, Weight: v.Weight}
	}
	options := settings.SchedOptions(svc.Scheduler)
	if _, err := sched.New(svc.Scheduler, sched.Flags(svc.SchedFlags), list, options); err != nil {
		return Errorf(syscall.EINVAL, "service %s: %v", svc.ServiceKey, err)
	}
	return nil
}

// checkAddr checks the address of a service or a server. Frames have no zones: two addresses
// that differ only in their zones would be one.
func checkAddr(of string, a netip.Addr) error {
	switch {
	case a.Zone() != "":
		return fieldErrorf("address", syscall.EINVAL, "%s address %s has a zone; write %s", of, a, a.WithZone(""))
	case !Unicast(a):
		return fieldErrorf("address", syscall.EINVAL, "%s address %s is not unicast", of, a)
	}
	return nil
}

// Unicast reports whether an address can be that of a single host.
func Unicast(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
