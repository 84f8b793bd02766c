package ctl

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"uvs/conntrack"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// ConnFilter says which conns are meant; the zero value means all. Every field
// that is given must hold.
type ConnFilter struct {
	Service *ServiceKey
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
			var key ServiceKey
			key, err = ParseServiceKey(v)
			f.Service = &key
		case "server":
			f.Server, err = parseEnd(v)
		case "client":
			f.Client, err = parseNet(v)
		case "state":
			f.State, err = parseState(v)
		default:
			err = refuse(syscall.EINVAL, "connections cannot be chosen by %q; by service, server, client or state", name)
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
		return end, refuse(syscall.EINVAL, "server %q is not an address with or without port", s)
	}
	return end, nil
}

func parseNet(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, refuse(syscall.EINVAL, "client %q is neither an address nor a network such as 192.0.2.0/24", s)
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
	return "", refuse(syscall.EINVAL, "state %q is none a connection can have", s)
}

// match makes the filter's question to the connection table. Entries that only
// count a client's conns have no server and are nobody's business.
func (m *Manager) match(f ConnFilter) func(*conntrack.Snapshot) bool {
	service := f.service
	if f.Service != nil && f.Service.FWMark != 0 {
		ids := m.serverIDs(*f.Service)
		service = func(s *conntrack.Snapshot) bool { return ids[s.ServerID] }
	}
	return func(s *conntrack.Snapshot) bool {
		return s.ServerID != 0 && service(s) && f.server(s) &&
			(!f.Client.IsValid() || f.Client.Contains(s.Client.Netip())) &&
			(f.State == "" || f.State == s.State.String())
	}
}

// serverIDs are the IDs of a service's servers, removed ones too: what a mark's
// conns have in common.
func (m *Manager) serverIDs(of ServiceKey) map[uint32]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := map[uint32]bool{}
	for _, v := range m.live.servers {
		if v != nil && v.service == of {
			ids[v.id] = true
		}
	}
	return ids
}

func (f ConnFilter) service(s *conntrack.Snapshot) bool {
	k := f.Service
	return k == nil || k.Proto == s.Proto && wire.AddrFrom(k.Addr) == s.VIP && (k.Port == 0 || k.Port == s.VPort)
}

func (f ConnFilter) server(s *conntrack.Snapshot) bool {
	a := f.Server
	return !a.Addr().IsValid() || wire.AddrFrom(a.Addr()) == s.Server && (a.Port() == 0 || a.Port() == s.SPort)
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

// Conns shows the conns of a filter to visit until it returns an error. The
// workers go on meanwhile.
func (m *Manager) Conns(f ConnFilter, visit func(ConnStatus) error) error {
	var err error
	m.mu.Lock()
	calls := m.live.calls
	m.mu.Unlock()
	m.conns.Walk(m.match(f), func(s *conntrack.Snapshot) bool {
		c := status(s)
		if s.Template && director.IsCall(s.Client) {
			c.nameCall(calls, s)
		}
		err = visit(*c)
		return err == nil
	})
	return err
}

// nameCall says which call a template is of. The client is none, and the Call-ID
// a part of its hash, if the call is not remembered.
func (c *ConnStatus) nameCall(calls *director.SIPCalls, s *conntrack.Snapshot) {
	client, id, ok := calls.Name(s.Client)
	if !ok {
		id = fmt.Sprintf("?%x", s.Client[8:])
		if client = (wire.Addr{}); s.VIP.Is4() {
			client = wire.AddrFrom(netip.IPv4Unspecified())
		}
	}
	c.PEName, c.PEData, c.Client = engineSIP, id, addrPort(client, 0)
}

// FlushConns ends the conns of a filter and says how many. What their clients
// send afterwards begins anew, or is reset.
func (m *Manager) FlushConns(f ConnFilter) int {
	n := m.conns.Flush(m.match(f))
	m.events.emit(Event{Kind: "conns_flushed", Count: uint64(n)})
	m.log.Info().Int("conns", n).Str("filter", f.Query().Encode()).Msg("flushed connections")
	return n
}
