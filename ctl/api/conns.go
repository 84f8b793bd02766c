package api

import (
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"uvs/conntrack"
	"uvs/ctl/config"
)

// ConnFilter says which conns are meant; the zero value means all. Every field
// that is given must hold.
type ConnFilter struct {
	Service *config.ServiceKey
	Server  netip.AddrPort // port 0: any
	Client  netip.Prefix
	State   string // as listed: ESTABLISHED, UDP …
}

// Query is the filter as the socket's requests carry it.
func (f ConnFilter) Query() url.Values {
	q := url.Values{}
	if f.Service != nil {
		q.Set("service", f.Service.Text())
	}
	if f.Server.Addr().IsValid() {
		q.Set("server", f.Server.String())
	}
	if f.Client.IsValid() {
		q.Set("client", f.Client.String())
	}
	if f.State != "" {
		q.Set("state", f.State)
	}
	return q
}

// ParseConnFilter reads what Query wrote. A server may be given without port, a
// client as an address.
func ParseConnFilter(q url.Values) (f ConnFilter, err error) {
	for name := range q {
		v := q.Get(name)
		switch name {
		case "service":
			var key config.ServiceKey
			key, err = config.ParseServiceKey(v)
			f.Service = &key
		case "server":
			f.Server, err = parseEnd(v)
		case "client":
			f.Client, err = parseNet(v)
		case "state":
			f.State, err = parseState(v)
		default:
			err = config.Errorf(syscall.EINVAL, "connections cannot be chosen by %q; by service, server, client or state", name)
		}
		if err != nil {
			return ConnFilter{}, err
		}
	}
	return f, nil
}

func parseEnd(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a.Unmap(), 0), nil
	}
	end, err := netip.ParseAddrPort(s)
	if err != nil {
		return end, config.Errorf(syscall.EINVAL, "server %q is not an address with or without port", s)
	}
	return end, nil
}

func parseNet(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, config.Errorf(syscall.EINVAL, "client %q is neither an address nor a network such as 192.0.2.0/24", s)
	}
	return p.Masked(), nil
}

// parseState accepts the names that listings show.
func parseState(s string) (string, error) {
	s = strings.ToUpper(s)
	for state := range conntrack.NumState {
		if state.String() == s {
			return s, nil
		}
	}
	return "", config.Errorf(syscall.EINVAL, "state %q is none a connection can have", s)
}
