package compile

import (
	"net/netip"
	"slices"

	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/helper"
)

// helper says how the connections of a service are helped; nil: not at all.
func compileHelper(s *config.State, svc *config.Service) *helper.Config {
	settings := s.SettingsOf(svc.ServiceKey)
	var ports []helper.Port
	for id := range helper.Registry {
		h := &helper.Registry[id]
		if svc.FWMark != 0 || svc.Proto == h.Proto {
			ports = append(ports, helpedPorts(s, svc, helper.ID(id), h.Mode(&settings.Settings))...)
		}
	}
	masq := func(v config.Server) bool { return v.Method == config.MethodMasq }
	if ports == nil || svc.OPS || !slices.ContainsFunc(s.AllServers(svc), masq) {
		return nil
	}
	return &helper.Config{Ports: ports, Settings: settings.Settings}
}

// helpedPorts are the ports of a service whose connections are taken for those of
// a protocol: its own port by itself; if that is asked for, the service's port,
// or every single port that rules give the service's mark.
func helpedPorts(s *config.State, svc *config.Service, id helper.ID, mode uint32) (list []helper.Port) {
	h := &helper.Registry[id]
	add := func(port uint16) {
		p := helper.Port{Helper: id, Port: port}
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	switch {
	case mode == helper.Off:
		return nil
	case svc.FWMark == 0 && (svc.Port == h.Port || svc.Port == 0):
		add(h.Port)
	case svc.FWMark == 0 && mode == helper.On:
		add(svc.Port)
	}
	if svc.FWMark == 0 {
		return list
	}
	for _, r := range s.Marks {
		if r.Service() != svc.ServiceKey || r.Proto != h.Proto && r.Proto != 0 {
			continue
		}
		for _, d := range r.AllDstPorts() {
			switch {
			case d.First <= h.Port && h.Port <= d.Last:
				add(h.Port)
			case d.First == d.Last && mode == helper.On:
				add(d.First)
			}
		}
	}
	return list
}

// helpEnds is where the connections of a helped service go that announce others:
// ports at its address, or at the nets that rules give its mark.
func (e Endpoints) helpEnds(k config.ServiceKey) (list []guard.Match) {
	h := e.helpers[k]
	if h == nil {
		return nil
	}
	at := []netip.Prefix{single(k.Addr)}
	if k.FWMark != 0 {
		at = at[:0]
		for _, r := range e.rules[k] {
			if d := r.DstNet(); !slices.Contains(at, d) {
				at = append(at, d)
			}
		}
	}
	for _, net := range at {
		for _, p := range h.Ports {
			list = append(list, guard.Match{Dst: net, Proto: p.Proto(), DstFirst: p.Port, DstLast: p.Port, SrcLast: 65535})
		}
	}
	return list
}

// dataPorts are the ports below FTP's own, from which data connections come that
// servers open: of the service, at a net.
func (e Endpoints) dataPorts(net netip.Prefix, k config.ServiceKey) (list []guard.PortRange) {
	if h := e.helpers[k]; h != nil {
		for _, p := range h.Ports {
			if helper.Registry[p.Helper].DataPort {
				list = append(list, guard.PortRange{Net: net, Proto: p.Proto(), First: helper.DataPort(p.Port), Last: helper.DataPort(p.Port)})
			}
		}
	}
	return list
}

// hideHelped adds where a service's helped connections go, and which servers
// answer what they announced.
func (e Endpoints) hideHelped(k config.ServiceKey, s *config.State, servers []*RunningServer, part *guard.ServiceRules) {
	h := e.helpers[k]
	if h == nil {
		return
	}
	part.HelperMatches = e.helpEnds(k)
	add := func(server netip.Addr) {
		for _, p := range h.Ports {
			part.HelperServers = append(part.HelperServers, guard.Endpoint{Proto: p.Proto(), Addr: server})
		}
	}
	for _, v := range s.AllServers(e.services[k]) {
		if v.Method == config.MethodMasq {
			add(v.Addr)
		}
	}
	for _, v := range servers {
		if v.masq {
			add(v.key.Addr)
		}
	}
	part.HelperServers = unique(part.HelperServers)
}
