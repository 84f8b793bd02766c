package ctl

import (
	"fmt"
	"net/netip"

	"uvs/conntrack"
	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/dataplane/helper/sip"
	"uvs/dataplane/wire"
)

// match is the filter as the connection table takes it. It leaves out entries without a
// server, which only count a client's conns.
func (m *Manager) match(f api.ConnFilter) func(*conntrack.Snapshot) bool {
	service := func(s *conntrack.Snapshot) bool { return ofService(f.Service, s) }
	if f.Service != nil && f.Service.FWMark != 0 {
		ids := m.serverIDs(*f.Service)
		service = func(s *conntrack.Snapshot) bool { return ids[s.ServerID] }
	}
	return func(s *conntrack.Snapshot) bool {
		return s.ServerID != 0 && service(s) && ofServer(f.Server, s) &&
			(!f.Client.IsValid() || f.Client.Contains(s.Client.Netip())) &&
			(f.State == "" || f.State == s.State.String())
	}
}

// serverIDs are the IDs of a service's servers, including removed ones. They identify the
// conns of a mark.
func (m *Manager) serverIDs(service config.ServiceKey) map[uint32]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := map[uint32]bool{}
	for _, v := range m.runtime.Servers {
		if v != nil && v.Service == service {
			ids[v.ID] = true
		}
	}
	return ids
}

func ofService(k *config.ServiceKey, s *conntrack.Snapshot) bool {
	return k == nil || uint8(k.Proto) == s.Proto && wire.AddrFrom(k.Addr) == s.VIP && (k.Port == 0 || k.Port == s.VPort)
}

func ofServer(a netip.AddrPort, s *conntrack.Snapshot) bool {
	return !a.Addr().IsValid() || wire.AddrFrom(a.Addr()) == s.Server && (a.Port() == 0 || a.Port() == s.SPort)
}

// Conns calls visit for each conn that matches the filter, until visit returns an error.
// The workers go on meanwhile.
func (m *Manager) Conns(f api.ConnFilter, visit func(api.ConnStatus) error) error {
	var err error
	m.mu.Lock()
	calls := m.runtime.SIPCalls
	m.mu.Unlock()
	m.conns.Walk(m.match(f), func(s *conntrack.Snapshot) bool {
		c := connStatus(s)
		if s.Template && sip.IsCall(s.Client) {
			nameCall(c, calls, s)
		}
		err = visit(*c)
		return err == nil
	})
	return err
}

// nameCall fills in the SIP call of a template. If the call is no longer known, the client
// is unspecified and the Call-ID is a part of its hash.
func nameCall(c *api.ConnStatus, calls *sip.Calls, s *conntrack.Snapshot) {
	client, id, ok := calls.Name(s.Client)
	if !ok {
		id = fmt.Sprintf("?%x", s.Client[8:])
		if client = (wire.Addr{}); s.VIP.Is4() {
			client = wire.AddrFrom(netip.IPv4Unspecified())
		}
	}
	c.PEName, c.PEData, c.Client = config.EngineSIP, id, addrPort(client, 0)
}

// FlushConns ends the conns that match a filter and returns their number. Later packets of
// their clients are scheduled again, or reset.
func (m *Manager) FlushConns(f api.ConnFilter) int {
	n := m.conns.Flush(m.match(f))
	m.events.emit(api.Event{Kind: "conns_flushed", Count: uint64(n)})
	m.log.Info().Int("conns", n).Str("filter", f.Query().Encode()).Msg("flushed connections")
	return n
}
