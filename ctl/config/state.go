package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"uvs/dataplane/cow"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// State is what the operator wants, as plain data: services with their servers, mark
// rules and settings.
type State struct {
	Services []*Service // in order of adding; a Service in it is never written to
	Marks    []MarkRule // in order: the last that matches decides
	Settings Values     // the director's settings that the operator set
	// Standby: another director serves the VIPs. It is no part of what is saved and restored.
	Standby bool
	// Revision counts the changes. The services that a change concerns get it.
	Revision uint64

	byKey cow.Map[ServiceKey, *Service] // Services
	// admin are the admin states that are not up. Services and servers come and go beside them.
	admin    map[AdminScope]Admin
	director *Settings    // Settings over the defaults; nil: the defaults
	deleted  []ServiceKey // see Deleted
	// changed are the services that operations changed since Clone, each once, in the
	// order of their first change; allChanged means all.
	changed    []ServiceKey
	isChanged  map[ServiceKey]bool
	allChanged bool
}

// TouchAll makes AllChanged true.
func (s *State) TouchAll() { s.allChanged = true }

// Touch adds services to Changed.
func (s *State) Touch(services ...ServiceKey) {
	for _, k := range services {
		if !s.isChanged[k] {
			s.isChanged[k] = true
			s.changed = append(s.changed, k)
		}
	}
}

// AllChanged reports whether all services may have changed since Clone.
func (s *State) AllChanged() bool { return s.allChanged }

// Changed are the services that may have changed since Clone, if not all may have.
func (s *State) Changed() []ServiceKey { return s.changed }

// Deleted returns the services deleted since Clone. One that was added again under the same
// key is a new one.
func (s *State) Deleted() []ServiceKey { return s.deleted }

// Timeouts are the three timeouts of `ipvsadm --set`, in seconds.
type Timeouts struct {
	TCP    uint32 `json:"tcp"`
	TCPFin uint32 `json:"tcp_fin"`
	UDP    uint32 `json:"udp"`
}

// ServiceKey identifies a service: by address, port and protocol, or by a mark and its
// family.
type ServiceKey struct {
	// Addr is never an IPv4-mapped address. It is invalid for a mark.

	Addr   netip.Addr `json:"address,omitzero"`  // the virtual IP address
	Port   uint16     `json:"port,omitzero"`     // 0: all that no other service of the address has
	Proto  Proto      `json:"protocol,omitzero"` // tcp, udp or sctp
	FWMark uint32     `json:"mark,omitzero"`     // of packets, instead of an address, a port and a protocol
	IPv6   bool       `json:"ipv6,omitzero"`     // the mark is one of IPv6 packets
}

// Shard makes a ServiceKey a cow.Key.
func (k ServiceKey) Shard() uint8 {
	addr := wire.AddrFrom(k.Addr)
	return addr.ShardWith(k.Port ^ uint16(k.FWMark) ^ uint16(k.FWMark>>16))
}

// Service is a virtual service and its servers.
type Service struct {
	ServiceKey
	Scheduler  string     `json:"scheduler,omitzero"`          // what chooses a server for a new connection
	SchedFlags SchedFlags `json:"scheduler_flags,omitzero"`    // of sh and mh: fallback, port
	Persist    Seconds    `json:"persistent,omitzero"`         // how long a client keeps its server; 0s: not
	Netmask    Netmask    `json:"netmask,omitzero"`            // the part of client addresses that persistence looks at
	PE         string     `json:"persistence_engine,omitzero"` // sip: each SIP call keeps its server
	OPS        bool       `json:"one_packet,omitzero"`         // each UDP packet is scheduled on its own
	Settings   Values     `json:"settings,omitempty"`          // of its own; the others are the director's
	Sorry      *Server    `json:"sorry,omitzero"`              // used while no other takes a new connection
	Servers    []Server   `json:"servers,omitempty"`           // newest first, as IPVS keeps them

	Revision uint64 `json:"-"` // of the state that last changed it
}

// AllServers returns the servers of a service and, last, its sorry server.
func (s *Service) AllServers() []Server {
	if s.Sorry == nil {
		return s.Servers
	}
	return append(slices.Clip(s.Servers), *s.Sorry)
}

// ServerKey identifies a server in its service. Sorry distinguishes the sorry server from
// one of the same address and port.
type ServerKey struct {
	Addr  netip.Addr `json:"address"` // of the server
	Port  uint16     `json:"port"`    // of the server; the service's unless it is given
	Sorry bool       `json:"-"`
}

// Server is a real server of a service.
type Server struct {
	ServerKey
	Method Method `json:"method"`                   // how packets reach the server: nat, dr or tunnel
	Weight int32  `json:"weight"`                   // its part of new connections; 0: it gets none
	Upper  uint32 `json:"upper_threshold,omitzero"` // connections from which on it gets no new ones; 0: any number
	Lower  uint32 `json:"lower_threshold,omitzero"` // connections below which it gets new ones again
	Tunnel Tunnel `json:"tunnel,omitzero"`          // only with method tunnel
	// Admin is what the operator decided about the server. Only operations on a whole service or
	// configuration can set it here.
	Admin Admin `json:"admin"`

	withoutPort bool // decoded without a port, before TakePort
}

// TakePort gives a server that was decoded without a port its service's.
func (s *Server) TakePort(of ServiceKey) {
	if s != nil && s.withoutPort {
		s.withoutPort, s.Port = false, of.Port
	}
}

// EffectiveWeight returns the weight by which the server gets new connections.
func (s *Server) EffectiveWeight() int32 {
	if s.Admin == AdminDrain {
		return 0
	}
	return s.Weight
}

// Tunnel is how the method tunnel encapsulates; the zero value is IPIP.
type Tunnel struct {
	Type     tunnel.Type `json:"type"`              // ipip if not given
	Port     uint16      `json:"port,omitzero"`     // UDP destination port, if the type is in UDP
	Checksum Checksum    `json:"checksum,omitzero"` // of the outer header, if the type has one
}

// Is6 reports whether the service's clients use IPv6.
func (k ServiceKey) Is6() bool { return k.IPv6 || k.Addr.Is6() }

func (k ServiceKey) String() string {
	switch {
	case k.FWMark != 0 && k.IPv6:
		return fmt.Sprintf("FWM %d IPv6", k.FWMark)
	case k.FWMark != 0:
		return fmt.Sprintf("FWM %d", k.FWMark)
	}
	return fmt.Sprintf("%s %s", k.Proto, netip.AddrPortFrom(k.Addr, k.Port))
}

func (k ServerKey) String() string { return netip.AddrPortFrom(k.Addr, k.Port).String() }

// ParseServiceKey parses a service as the options of uvs name it, such as tcp:192.0.2.1:80
// or udp:[2001:db8::1]:53. Mark 7 is fwm:7 for IPv4 and fwm6:7 for IPv6.
func ParseServiceKey(s string) (ServiceKey, error) {
	name, value, _ := strings.Cut(s, ":")
	if v6 := strings.EqualFold(name, "fwm6"); v6 || strings.EqualFold(name, "fwm") {
		mark, err := strconv.ParseUint(value, 0, 32)
		if err != nil || mark == 0 {
			return ServiceKey{}, Errorf(syscall.EINVAL, "%q names no mark; write fwm:1 to fwm:4294967295", s)
		}
		return ServiceKey{FWMark: uint32(mark), IPv6: v6}, nil
	}
	proto, unknown := ParseProto(name)
	ap, err := netip.ParseAddrPort(value)
	if unknown != nil || !proto.Served() || err != nil {
		return ServiceKey{}, Errorf(syscall.EINVAL,
			"%q is not a service; write tcp:192.0.2.1:80, udp:[2001:db8::1]:53 or fwm:1", s)
	}
	return ServiceKey{Proto: proto, Addr: ap.Addr().Unmap(), Port: ap.Port()}, nil
}

// Text returns the key as ParseServiceKey parses it.
func (k ServiceKey) Text() string {
	switch {
	case k.FWMark != 0 && k.IPv6:
		return fmt.Sprintf("fwm6:%d", k.FWMark)
	case k.FWMark != 0:
		return fmt.Sprintf("fwm:%d", k.FWMark)
	}
	return k.Proto.Word() + ":" + netip.AddrPortFrom(k.Addr, k.Port).String()
}
