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

// match makes the filter's question to the connection table. Entries that only
// count a client's conns have no server and are nobody's business.
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

// serverIDs are the IDs of a service's servers, removed ones too: what a mark's
// conns have in common.
func (m *Manager) serverIDs(of config.ServiceKey) map[uint32]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := map[uint32]bool{}
	for _, v := range m.runtime.Servers {
		if v != nil && v.Service == of {
			ids[v.ID] = true
		}
	}
	return ids
}

func ofService(k *config.ServiceKey, s *conntrack.Snapshot) bool {
	return k == nil || k.Proto == s.Proto && wire.AddrFrom(k.Addr) == s.VIP && (k.Port == 0 || k.Port == s.VPort)
}

func ofServer(a netip.AddrPort, s *conntrack.Snapshot) bool {
	return !a.Addr().IsValid() || wire.AddrFrom(a.Addr()) == s.Server && (a.Port() == 0 || a.Port() == s.SPort)
}

// Conns shows the conns of a filter to visit until it returns an error. The
// workers go on meanwhile.
func (m *Manager) Conns(f api.ConnFilter, visit func(api.ConnStatus) error) error {
	var err error
	m.mu.Lock()
	calls := m.runtime.SIPCalls
	m.mu.Unlock()
	m.conns.Walk(m.match(f), func(s *conntrack.Snapshot) bool {
		c := status(s)
		if s.Template && sip.IsCall(s.Client) {
			nameCall(c, calls, s)
		}
		err = visit(*c)
		return err == nil
	})
	return err
}

// nameCall says which call a template is of. The client is none, and the Call-ID
// a part of its hash, if the call is not remembered.
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

// FlushConns ends the conns of a filter and says how many. What their clients
// send afterwards begins anew, or is reset.
func (m *Manager) FlushConns(f api.ConnFilter) int {
	n := m.conns.Flush(m.match(f))
	m.events.emit(api.Event{Kind: "conns_flushed", Count: uint64(n)})
	m.log.Info().Int("conns", n).Str("filter", f.Query().Encode()).Msg("flushed connections")
	return n
}
