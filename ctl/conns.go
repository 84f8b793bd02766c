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

// match returns the filter as the connection table takes it. It leaves out entries without a
// server, which only count a client's conns.
func (m *Manager) match(f api.ConnFilter) func(*conntrack.Snapshot) bool {
	servers := m.servers(f.Service)
	return func(s *conntrack.Snapshot) bool {
		server, ok := servers[s.ServerID]
		return s.ServerID != 0 && (ok || f.Service == nil) &&
			(!f.Server.Addr().IsValid() || wire.AddrFrom(f.Server.Addr()) == s.Server) &&
			(f.Server.Port() == 0 || f.Server.Port() == s.SPort || f.Server.Port() == server.Port) &&
			(!f.Client.IsValid() || f.Client.Contains(s.Client.Netip())) &&
			(f.State == "" || f.State == s.State.String())
	}
}

// servers returns the servers of a service or of all, including removed ones, by their ID. The
// port of one may differ from that of its conns, which keep the port their packets came to.
func (m *Manager) servers(of *config.ServiceKey) map[uint32]config.ServerKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := map[uint32]config.ServerKey{}
	servers := m.runtime.Servers
	if of != nil {
		servers = m.runtime.ServersOf(*of)
	}
	for _, v := range servers {
		if v != nil {
			list[v.ID] = v.Config.ServerKey
		}
	}
	return list
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

// CountConns counts the conns that match a filter. Expectations are not connections.
func (m *Manager) CountConns(f api.ConnFilter) (n api.ConnCount) {
	clients := map[wire.Addr]bool{}
	m.conns.Walk(m.match(f), func(s *conntrack.Snapshot) bool {
		switch {
		case s.Template:
			n.Templates++
		case s.CarriesData():
			n.Live++
			n.Oldest = max(n.Oldest, uint32(s.Age/conntrack.Second))
			clients[s.Client] = true
		case !s.NoClientPort && !s.NoServerPort:
			n.Closing++
		}
		return true
	})
	n.Clients = len(clients)
	return n
}

// countLosers counts the conns of servers that steps remove. losers are the indexes of those
// steps by server ID.
func (m *Manager) countLosers(steps []api.Step, losers map[uint32]int) {
	if len(losers) == 0 {
		return
	}
	clients := map[int]map[wire.Addr]bool{}
	m.conns.Walk(func(*conntrack.Snapshot) bool { return true }, func(s *conntrack.Snapshot) bool {
		if i, ok := losers[s.ServerID]; ok && s.CarriesData() {
			steps[i].Conns++
			if clients[i] == nil {
				clients[i] = map[wire.Addr]bool{}
			}
			clients[i][s.Client] = true
		}
		return true
	})
	for i, seen := range clients {
		steps[i].Clients = len(seen)
	}
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
	m.mu.Lock()
	m.emit(api.Event{Kind: "conns_flushed", Count: uint64(n)})
	m.mu.Unlock()
	m.log.Info().Int("conns", n).Str("filter", f.Query().Encode()).Msg("flushed connections")
	return n
}
