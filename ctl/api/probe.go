package api

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"uvs/ctl/config"
)

// Probe is a client's packet to simulate.
type Probe struct {
	Proto       config.Proto   `json:"proto"`
	Client      netip.AddrPort `json:"client"`
	Virtual     netip.AddrPort `json:"virtual"`
	InInterface string         `json:"in_interface,omitzero"` // "": that of the route to the client
}

// Query returns the probe in a request.
func (p Probe) Query() url.Values {
	v := url.Values{
		"proto":  {p.Proto.Word()},
		"client": {p.Client.String()}, "virtual": {p.Virtual.String()},
	}
	if p.InInterface != "" {
		v.Set("in-interface", p.InInterface)
	}
	return v
}

// ParseProbe parses what Query returns.
func ParseProbe(v url.Values) (p Probe, err error) {
	known := []string{"proto", "client", "virtual", "in-interface"}
	for name := range v {
		if !slices.Contains(known, name) {
			return p, config.Errorf(syscall.EINVAL, "unknown parameter %q; use %s", name, strings.Join(known, ", "))
		}
	}
	if p.Proto, err = config.ParseProto(v.Get("proto")); err == nil && !p.Proto.Served() {
		err = config.Errorf(syscall.EINVAL, "protocol %s cannot have services; use tcp, udp or sctp",
			p.Proto.Word())
	}
	if err != nil {
		return p, err
	}
	if p.Client, err = parseHostPort("client", v.Get("client")); err != nil {
		return p, err
	}
	if p.Virtual, err = parseHostPort("virtual address", v.Get("virtual")); err != nil {
		return p, err
	}
	if p.Client.Addr().Is4() != p.Virtual.Addr().Is4() {
		return p, config.Errorf(syscall.EINVAL, "client %s and virtual address %s are of different families",
			p.Client, p.Virtual)
	}
	p.InInterface = v.Get("in-interface")
	return p, nil
}

// parseHostPort parses a unicast address and a port.
func parseHostPort(what, s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	switch {
	case err != nil:
		return a, config.Errorf(syscall.EINVAL,
			"%s %q is not ADDRESS:PORT, as 198.51.100.7:4711 or [2001:db8::7]:4711", what, s)
	case !config.Unicast(a.Addr()):
		return a, config.Errorf(syscall.EINVAL, "%s %s is not unicast", what, a)
	case a.Port() == 0:
		return a, config.Errorf(syscall.EINVAL, "%s %s: a packet cannot have port 0", what, a)
	}
	return a, nil
}
