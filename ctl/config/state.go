package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// State is what the operator wants, as plain data: services with their servers, mark
// rules and settings.
type State struct {
	Services []Service  // in order of adding
	Marks    []MarkRule // in order: the last that matches decides
	Settings Values     // the director's settings that the operator set
	// ServiceSettings are those of single services.
	ServiceSettings map[ServiceKey]Values
	// Sorry are the sorry servers: a service uses its own while none of its servers takes
	// a new connection.
	Sorry map[ServiceKey]Server

	director *Settings    // Settings over the defaults; nil: the defaults
	deleted  []ServiceKey // see Deleted
	// changed are the services that operations changed since Clone; allChanged means all.
	changed    map[ServiceKey]bool
	allChanged bool
}

// Touch makes Changed true for services or, if none are given, for all.
func (s *State) Touch(services ...ServiceKey) {
	s.allChanged = s.allChanged || len(services) == 0
	for _, k := range services {
		s.changed[k] = true
	}
}

// AllChanged reports whether all services may have changed since Clone.
func (s *State) AllChanged() bool { return s.allChanged }

// Changed reports whether a service may have changed since Clone.
func (s *State) Changed(key ServiceKey) bool { return s.allChanged || s.changed[key] }

// Deleted are the services deleted since Clone. One that was added again under the same
// key is a new one.
func (s *State) Deleted() []ServiceKey { return s.deleted }

// Timeouts are the three timeouts of `ipvsadm --set`, in seconds.
type Timeouts struct {
	TCP    uint32 `json:"tcp"`
	TCPFin uint32 `json:"tcp_fin"`
	UDP    uint32 `json:"udp"`
}

// ServiceKey identifies a service: by a mark and its family, or by protocol, address and
// port. Addr is never an IPv4-mapped address; it is invalid for a mark.
type ServiceKey struct {
	FWMark uint32     `json:"fwmark,omitempty"`
	IPv6   bool       `json:"ipv6,omitempty"` // family of a mark, else Addr's
	Proto  uint8      `json:"proto,omitempty"`
	Addr   netip.Addr `json:"addr"`
	Port   uint16     `json:"port"`
}

// Service is a virtual service and its servers.
type Service struct {
	ServiceKey
	Scheduler  string   `json:"scheduler"`
	SchedFlags uint32   `json:"sched_flags,omitempty"` // sched.Flag1…
	Persist    uint32   `json:"persist,omitempty"`     // seconds; 0: not persistent
	Netmask    uint32   `json:"netmask,omitempty"`     // v4: mask, host order; v6: prefix length
	PE         string   `json:"pe,omitempty"`          // persistence engine
	OPS        bool     `json:"ops,omitempty"`         // one-packet scheduling
	Servers    []Server `json:"servers"`               // newest first, as IPVS keeps them
}

// ServerKey identifies a server in its service. The sorry server has a key of its own, so
// it can also be one of the servers.
type ServerKey struct {
	Addr  netip.Addr `json:"addr"`
	Port  uint16     `json:"port"`
	Sorry bool       `json:"-"`
}

// Server is a real server of a service.
type Server struct {
	ServerKey
	Method Method `json:"method"`
	Weight int32  `json:"weight"`
	Upper  uint32 `json:"upper,omitempty"` // u-threshold; 0: none
	Lower  uint32 `json:"lower,omitempty"` // l-threshold
	Tunnel Tunnel `json:"tunnel,omitzero"` // MethodTunnel only
	// Down: it gets no new connections, whatever its weight.
	Down bool `json:"down,omitempty"`
}

// Method is how a frame reaches its server.
type Method = conntrack.Method

// The methods that IPVS lists.
const (
	MethodMasq   = conntrack.MethodMasq
	MethodLocal  = conntrack.MethodLocal
	MethodTunnel = conntrack.MethodTunnel
	MethodRoute  = conntrack.MethodRoute
)

// Tunnel is how MethodTunnel encapsulates; the zero value is IPIP.
type Tunnel struct {
	Type  tunnel.Type `json:"type"`
	Port  uint16      `json:"port,omitempty"` // UDP destination port, if the type is in UDP
	Flags uint16      `json:"flags,omitempty"`
}

// ProtoName is the name of a protocol in listings, or its number.
func ProtoName(proto uint8) string {
	switch proto {
	case 0:
		return "IP"
	case wire.ProtoTCP:
		return "TCP"
	case wire.ProtoUDP:
		return "UDP"
	case wire.ProtoSCTP:
		return "SCTP"
	case wire.ProtoESP:
		return "ESP"
	case wire.ProtoAH:
		return "AH"
	}
	return fmt.Sprint(proto)
}

func (k ServiceKey) String() string {
	switch {
	case k.FWMark != 0 && k.IPv6:
		return fmt.Sprintf("FWM %d IPv6", k.FWMark)
	case k.FWMark != 0:
		return fmt.Sprintf("FWM %d", k.FWMark)
	}
	return fmt.Sprintf("%s %s", ProtoName(k.Proto), netip.AddrPortFrom(k.Addr, k.Port))
}

func (k ServerKey) String() string { return netip.AddrPortFrom(k.Addr, k.Port).String() }

// ServiceProto is the number of a protocol that services can have: tcp, udp or sctp.
func ServiceProto(name string) (proto uint8, ok bool) {
	protos := map[string]uint8{"tcp": wire.ProtoTCP, "udp": wire.ProtoUDP, "sctp": wire.ProtoSCTP}
	proto, ok = protos[strings.ToLower(name)]
	return proto, ok
}

// ParseServiceKey parses a service as the options of uvs name it: tcp:192.0.2.1:80,
// udp:[2001:db8::1]:53, sctp:192.0.2.1:2905, or mark 7 as fwm:7 for IPv4 and fwm6:7 for IPv6.
func ParseServiceKey(s string) (ServiceKey, error) {
	name, value, _ := strings.Cut(s, ":")
	if v6 := strings.EqualFold(name, "fwm6"); v6 || strings.EqualFold(name, "fwm") {
		mark, err := strconv.ParseUint(value, 0, 32)
		if err != nil || mark == 0 {
			return ServiceKey{}, Errorf(syscall.EINVAL, "%q names no mark; write fwm:1 to fwm:4294967295", s)
		}
		return ServiceKey{FWMark: uint32(mark), IPv6: v6}, nil
	}
	proto, ok := ServiceProto(name)
	ap, err := netip.ParseAddrPort(value)
	if !ok || err != nil {
		return ServiceKey{}, Errorf(syscall.EINVAL,
			"%q is not a service; write tcp:192.0.2.1:80, udp:[2001:db8::1]:53 or fwm:1", s)
	}
	addr := ap.Addr().Unmap()
	return ServiceKey{Proto: proto, Addr: addr, Port: ap.Port(), IPv6: addr.Is6()}, nil
}

// Text is the key as ParseServiceKey parses it.
func (k ServiceKey) Text() string {
	switch {
	case k.FWMark != 0 && k.IPv6:
		return fmt.Sprintf("fwm6:%d", k.FWMark)
	case k.FWMark != 0:
		return fmt.Sprintf("fwm:%d", k.FWMark)
	}
	return fmt.Sprintf("%s:%s", strings.ToLower(ProtoName(k.Proto)), netip.AddrPortFrom(k.Addr, k.Port))
}
