package api

import (
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"uvs/conntrack"
	"uvs/ctl/config"
)

// ConnFilter selects conns that match all fields that are given; the zero value selects all.
type ConnFilter struct {
	Service *config.ServiceKey
	Server  netip.AddrPort // port 0: any
	Client  netip.Prefix
	State   string // as listed: ESTABLISHED, UDP …
}

// Query returns the filter in a request.
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

// ParseConnFilter parses what Query returns. A server may come without port, and a client
// as an address.
func ParseConnFilter(q url.Values) (f ConnFilter, err error) {
	for name := range q {
		v := q.Get(name)
		switch name {
		case "service":
			var key config.ServiceKey
			key, err = config.ParseServiceKey(v)
			f.Service = &key
		case "server":
			f.Server, err = parseServer(v)
		case "client":
			f.Client, err = parseClient(v)
		case "state":
			f.State, err = parseState(v)
		default:
			err = config.Errorf(syscall.EINVAL, "unknown filter %q; use service, server, client or state", name)
		}
		if err != nil {
			return ConnFilter{}, err
		}
	}
	return f, nil
}

func parseServer(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a.Unmap(), 0), nil
	}
	server, err := netip.ParseAddrPort(s)
	if err != nil {
		return server, config.Errorf(syscall.EINVAL, "server %q is not an address with or without port", s)
	}
	return server, nil
}

func parseClient(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, config.Errorf(syscall.EINVAL, "client %q is neither an address nor a network such as 192.0.2.0/24", s)
	}
	return p.Masked(), nil
}

// parseState checks that a state is one of the listing's.
func parseState(s string) (string, error) {
	s = strings.ToUpper(s)
	for state := range conntrack.NumState {
		if state.String() == s {
			return s, nil
		}
	}
	return "", config.Errorf(syscall.EINVAL, "no connection has state %q", s)
}
