package api

import (
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"uvs/ctl/config"
	"uvs/dataplane/wire"
)

// Probe is a packet of a client that somebody asks about: what would the
// director do with it?
type Probe struct {
	Proto       uint8          `json:"proto"`
	Client      netip.AddrPort `json:"client"`
	Virtual     netip.AddrPort `json:"virtual"`
	InInterface string         `json:"in_interface,omitempty"` // "": the one the client is reached by
}

// protoNumbers are the protocols whose packets can belong to services.
var protoNumbers = map[string]uint8{"tcp": wire.ProtoTCP, "udp": wire.ProtoUDP, "sctp": wire.ProtoSCTP}

// Query is the question as the socket's request carries it.
func (q Probe) Query() url.Values {
	v := url.Values{
		"proto":  {strings.ToLower(config.ProtoName(q.Proto))},
		"client": {q.Client.String()}, "virtual": {q.Virtual.String()},
	}
	if q.InInterface != "" {
		v.Set("in-interface", q.InInterface)
	}
	return v
}

// ParseProbe reads what Query wrote, or people did.
func ParseProbe(v url.Values) (q Probe, err error) {
	known := []string{"proto", "client", "virtual", "in-interface"}
	for name := range v {
		if !slices.Contains(known, name) {
			return q, config.Errorf(syscall.EINVAL, "a packet is not described by %q; by %s", name, strings.Join(known, ", "))
		}
	}
	var ok bool
	if q.Proto, ok = protoNumbers[strings.ToLower(v.Get("proto"))]; !ok {
		return q, config.Errorf(syscall.EINVAL, "protocol %q is not one of %s", v.Get("proto"), strings.Join(slices.Sorted(maps.Keys(protoNumbers)), ", "))
	}
	if q.Client, err = parseHostPort("client", v.Get("client")); err != nil {
		return q, err
	}
	if q.Virtual, err = parseHostPort("virtual address", v.Get("virtual")); err != nil {
		return q, err
	}
	if q.Client.Addr().Is4() != q.Virtual.Addr().Is4() {
		return q, config.Errorf(syscall.EINVAL, "client %s and virtual address %s are of different families", q.Client, q.Virtual)
	}
	q.InInterface = v.Get("in-interface")
	return q, nil
}

// parseHostPort reads one end of a packet: a unicast address and a port.
func parseHostPort(what, s string) (netip.AddrPort, error) {
	end, err := netip.ParseAddrPort(s)
	end = netip.AddrPortFrom(end.Addr().Unmap(), end.Port())
	switch {
	case err != nil:
		return end, config.Errorf(syscall.EINVAL, "%s %q is not ADDRESS:PORT, as 198.51.100.7:4711 or [2001:db8::7]:4711", what, s)
	case !config.Unicast(end.Addr()):
		return end, config.Errorf(syscall.EINVAL, "%s %s is not unicast", what, end)
	case end.Port() == 0:
		return end, config.Errorf(syscall.EINVAL, "%s %s: port 0 is no packet's", what, end)
	}
	return end, nil
}
