package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// State is what the operator wants, as plain data: every service with its
// servers, and the settings. The manager owns the only live copy; a table is
// compiled from it.
type State struct {
	Services []Service  // in order of adding
	Marks    []MarkRule // in order: the last that matches decides
	Settings Values     // those of the director that were set
	// ServiceSettings are those of single services.
	ServiceSettings map[ServiceKey]Values
	// Sorry are the sorry servers: what a service falls back on while none of its
	// servers takes a new connection.
	Sorry map[ServiceKey]Server

	director *Settings    // Settings over the defaults; nil: the defaults
	ended    []ServiceKey // see Deleted
	// touched are the services an operation changed since the state was cloned;
	// all says that any may be concerned.
	touched map[ServiceKey]bool
	all     bool
}

// Touch marks services as concerned, though no operation changed them; without
// services, all of them.
func (s *State) Touch(services ...ServiceKey) {
	s.all = s.all || len(services) == 0
	for _, k := range services {
		s.touched[k] = true
	}
}

// AllChanged says whether any service may be another than when the state was cloned.
func (s *State) AllChanged() bool { return s.all }

// Deleted are the services deleted since the state was cloned: one added again
// under the same key is another one.
func (s *State) Deleted() []ServiceKey { return s.ended }

// Changed says whether a service may be another than when the state was cloned.
func (s *State) Changed(key ServiceKey) bool { return s.all || s.touched[key] }

// Timeouts are the three idle times of `ipvsadm --set`, in seconds.
type Timeouts struct {
	TCP    uint32 `json:"tcp"`
	TCPFin uint32 `json:"tcp_fin"`
	UDP    uint32 `json:"udp"`
}

// ServiceKey is what makes a service one: a mark with its family, or protocol,
// address and port. Addr is unmapped; it is invalid for a mark.
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

// ServerKey is what makes a server one within its service.
type ServerKey struct {
	Addr netip.Addr `json:"addr"`
	Port uint16     `json:"port"`
}

// Server is a real server of a service.
type Server struct {
	ServerKey
	Method Method `json:"method"`
	Weight int32  `json:"weight"`
	Upper  uint32 `json:"upper,omitempty"` // u-threshold; 0: none
	Lower  uint32 `json:"lower,omitempty"` // l-threshold
	Tunnel Tunnel `json:"tunnel,omitzero"` // MethodTunnel only
	// Down: it gets no new connection, whatever the scheduler and its weight.
	Down bool `json:"down,omitempty"`
}

// Method is how a frame reaches its server; values as in the kernel's
// IP_VS_CONN_F_FWD_MASK.
type Method uint8

const (
	MethodMasq   Method = 0
	MethodLocal  Method = 1
	MethodTunnel Method = 2
	MethodRoute  Method = 3
)

func (m Method) String() string {
	switch m {
	case MethodMasq:
		return "Masq"
	case MethodLocal:
		return "Local"
	case MethodTunnel:
		return "Tunnel"
	case MethodRoute:
		return "Route"
	}
	return fmt.Sprintf("Method(%d)", uint8(m))
}

// Tunnel is how MethodTunnel encapsulates; the zero value is IPIP.
type Tunnel struct {
	Type  tunnel.Type `json:"type"`
	Port  uint16      `json:"port,omitempty"` // UDP destination port, if the type is in UDP
	Flags uint16      `json:"flags,omitempty"`
}

// ProtoName is how listings call a protocol: TCP, UDP, SCTP, or its number.
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

// ParseServiceKey reads a service as people write it for our own verbs:
// tcp:192.0.2.1:80, udp:[2001:db8::1]:53, sctp:192.0.2.1:2905, or the mark 7 of
// IPv4 as fwm:7, of IPv6 as fwm6:7.
func ParseServiceKey(s string) (ServiceKey, error) {
	name, end, _ := strings.Cut(s, ":")
	if v6 := strings.EqualFold(name, "fwm6"); v6 || strings.EqualFold(name, "fwm") {
		mark, err := strconv.ParseUint(end, 0, 32)
		if err != nil || mark == 0 {
			return ServiceKey{}, Errorf(syscall.EINVAL, "%q names no mark; write fwm:1 to fwm:4294967295", s)
		}
		return ServiceKey{FWMark: uint32(mark), IPv6: v6}, nil
	}
	proto, ok := map[string]uint8{"tcp": wire.ProtoTCP, "udp": wire.ProtoUDP, "sctp": wire.ProtoSCTP}[strings.ToLower(name)]
	ap, err := netip.ParseAddrPort(end)
	if !ok || err != nil {
		return ServiceKey{}, Errorf(syscall.EINVAL, "%q is not a service; write tcp:192.0.2.1:80, udp:[2001:db8::1]:53 or fwm:1", s)
	}
	addr := ap.Addr().Unmap()
	return ServiceKey{Proto: proto, Addr: addr, Port: ap.Port(), IPv6: addr.Is6()}, nil
}

// Text is the key as ParseServiceKey reads it.
func (k ServiceKey) Text() string {
	switch {
	case k.FWMark != 0 && k.IPv6:
		return fmt.Sprintf("fwm6:%d", k.FWMark)
	case k.FWMark != 0:
		return fmt.Sprintf("fwm:%d", k.FWMark)
	}
	return fmt.Sprintf("%s:%s", strings.ToLower(ProtoName(k.Proto)), netip.AddrPortFrom(k.Addr, k.Port))
}
