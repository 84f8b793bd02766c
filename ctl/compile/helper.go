package compile

import (
	"net/netip"
	"slices"

	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/helper"
)

// compileHelper returns the help for the connections of a service; nil: there is none.
func compileHelper(s *config.State, svc *config.Service) *helper.Config {
	settings := s.SettingsOf(svc)
	var ports []helper.Port
	for id := range helper.Registry {
		h := &helper.Registry[id]
		if svc.FWMark != 0 || uint8(svc.Proto) == h.Proto {
			ports = append(ports, helpedPorts(s, svc, helper.ID(id), h.Mode(&settings.Settings))...)
		}
	}
	nat := func(v config.Server) bool { return v.Method == config.MethodNAT }
	if ports == nil || svc.OPS || !slices.ContainsFunc(svc.AllServers(), nat) {
		return nil
	}
	return &helper.Config{Ports: ports, Settings: settings.Settings}
}

// helpedPorts returns the ports of a service at which connections get a helper: with auto
// its well-known port; with on also the service's port, or for a mark each single port in
// its rules.
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
		if r.Service() != svc.ServiceKey || uint8(r.Proto) != h.Proto && r.Proto != 0 {
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

// helperMatches returns the connections of a service that announce others: those to the helped
// ports of its address, or of the nets that rules give its mark.
func (d *Desired) helperMatches(k config.ServiceKey) (list []guard.Match) {
	h := d.helper(k)
	if h == nil {
		return nil
	}
	nets := []netip.Prefix{hostPrefix(k.Addr)}
	if k.FWMark != 0 {
		nets = nil
		for _, r := range d.rules[k] {
			if dst := r.DstNet(); !slices.Contains(nets, dst) {
				nets = append(nets, dst)
			}
		}
	}
	for _, net := range nets {
		for _, p := range h.Ports {
			m := guard.Match{Dst: net, Proto: p.Proto(), DstFirst: p.Port, DstLast: p.Port, SrcLast: 65535}
			list = append(list, m)
		}
	}
	return list
}

// dataRanges returns the ports at a net from which servers open data connections of FTP.
func (d *Desired) dataRanges(k config.ServiceKey, net netip.Prefix) (list []guard.PortRange) {
	if h := d.helper(k); h != nil {
		for _, p := range h.Ports {
			if helper.Registry[p.Helper].DataPort {
				port := helper.DataPort(p.Port)
				list = append(list, guard.PortRange{Net: net, Proto: p.Proto(), First: port, Last: port})
			}
		}
	}
	return list
}

// addHelperRules adds a service's connections that announce others, and the servers that
// reply to the announced ones.
func (d *Desired) addHelperRules(k config.ServiceKey, running []*RunningServer, rules *guard.ServiceRules) {
	h := d.helper(k)
	if h == nil {
		return
	}
	rules.HelperMatches = d.helperMatches(k)
	add := func(server netip.Addr) {
		for _, p := range h.Ports {
			rules.HelperServers = append(rules.HelperServers, guard.Endpoint{Proto: p.Proto(), Addr: server})
		}
	}
	for _, v := range d.service(k).AllServers() {
		if v.Method == config.MethodNAT {
			add(v.Addr)
		}
	}
	for _, v := range running {
		if v.wasNAT {
			add(v.key.Addr)
		}
	}
	rules.HelperServers = unique(rules.HelperServers)
}
