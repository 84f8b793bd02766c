package ctl

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"uvs/conntrack"
	"uvs/ctl/guard"
	"uvs/dataplane/director"
	"uvs/dataplane/helper/ftp"
	"uvs/dataplane/wire"
)

// Values of the settings ftp and tftp, and the words for them.
const (
	helpOff = iota
	helpOn
	helpAuto
)

var helpWords = []string{"off", "on", "auto"}

// protocol is one that a helper knows.
type protocol struct {
	setting   string
	transport uint8
	port      uint16 // its own
}

var helped = []protocol{{tuneFTP, wire.ProtoTCP, wire.PortFTP}, {tuneTFTP, wire.ProtoUDP, wire.PortTFTP}}

// helper says how the connections of a service are helped; nil: not at all.
func (s *State) helper(svc *Service) *director.Helper {
	tuning := s.tuning(svc.ServiceKey)
	var ports []director.HelpedPort
	for _, p := range helped {
		if svc.FWMark != 0 || svc.Proto == p.transport {
			ports = append(ports, s.helpedPorts(svc, p, tuning.value(p.setting))...)
		}
	}
	masq := func(v Server) bool { return v.Method == MethodMasq }
	if ports == nil || svc.OPS || !slices.ContainsFunc(s.reals(svc), masq) {
		return nil
	}
	return &director.Helper{
		Ports:        ports,
		ThirdParty:   tuning.value(tuneBounce) != 0,
		LeaveAddress: tuning.value(tuneLeave) != 0,
	}
}

// helpedPorts are the ports of a service whose connections are taken for those of
// a protocol: its own port by itself; if that is asked for, the service's port,
// or every single port that rules give the service's mark.
func (s *State) helpedPorts(svc *Service, p protocol, help uint32) (list []director.HelpedPort) {
	add := func(port uint16) {
		h := director.HelpedPort{Proto: p.transport, Port: port}
		if !slices.Contains(list, h) {
			list = append(list, h)
		}
	}
	switch {
	case help == helpOff:
		return nil
	case svc.FWMark == 0 && (svc.Port == p.port || svc.Port == 0):
		add(p.port)
	case svc.FWMark == 0 && help == helpOn:
		add(svc.Port)
	}
	if svc.FWMark == 0 {
		return list
	}
	for _, r := range s.Marks {
		if r.key() != svc.ServiceKey || r.Proto != p.transport && r.Proto != 0 {
			continue
		}
		for _, d := range r.dstPorts() {
			switch {
			case d.First <= p.port && p.port <= d.Last:
				add(p.port)
			case d.First == d.Last && help == helpOn:
				add(d.First)
			}
		}
	}
	return list
}

// checkHelp refuses what asks for a helper in vain.
func checkHelp(svc *Service, own Tuning) error {
	for _, p := range helped {
		if own[p.setting] != helpOn {
			continue
		}
		switch {
		case svc.FWMark == 0 && svc.Proto != p.transport:
			return refuse(syscall.EINVAL, "service %s: %s is a protocol of %s", svc.ServiceKey, p.setting, ProtoName(p.transport))
		case svc.OPS:
			return refuse(syscall.EINVAL, "service %s: one-packet scheduling keeps no connections that %s could announce others in", svc.ServiceKey, p.setting)
		}
	}
	return nil
}

// helpEnds is where the connections of a helped service go that announce others:
// ports at its address, or at the nets that rules give its mark.
func (e ends) helpEnds(k ServiceKey) (list []guard.Match) {
	h := e.helpers[k]
	if h == nil {
		return nil
	}
	at := []netip.Prefix{single(k.Addr)}
	if k.FWMark != 0 {
		at = at[:0]
		for _, r := range e.rules[k] {
			if d := r.dst(); !slices.Contains(at, d) {
				at = append(at, d)
			}
		}
	}
	for _, net := range at {
		for _, p := range h.Ports {
			list = append(list, guard.Match{Dst: net, Proto: p.Proto, DstFirst: p.Port, DstLast: p.Port, SrcLast: 65535})
		}
	}
	return list
}

// dataPorts are the ports below FTP's own, from which data connections come that
// servers open: of the service, at a net.
func (e ends) dataPorts(net netip.Prefix, k ServiceKey) (list []guard.PortRange) {
	if h := e.helpers[k]; h != nil {
		for _, p := range h.Ports {
			if p.Proto == wire.ProtoTCP {
				list = append(list, guard.PortRange{Net: net, Proto: p.Proto, First: dataPort(p.Port), Last: dataPort(p.Port)})
			}
		}
	}
	return list
}

// dataPort is the port data connections come from that belong to a control
// connection (RFC 959 section 5.2), as director.ExpectActive has it.
func dataPort(control uint16) uint16 { return max(control-1, 1) }

// hideHelped adds where a service's helped connections go, and which servers
// answer what they announced.
func (e ends) hideHelped(k ServiceKey, s *State, servers []*liveServer, part *guard.ServiceRules) {
	h := e.helpers[k]
	if h == nil {
		return
	}
	part.HelperMatches = e.helpEnds(k)
	add := func(server netip.Addr) {
		for _, p := range h.Ports {
			part.HelperServers = append(part.HelperServers, guard.Endpoint{Proto: p.Proto, Addr: server})
		}
	}
	for _, v := range s.reals(e.services[k]) {
		if v.Method == MethodMasq {
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

// noteNames are the counters of what helpers came across, by the bits of ftp.Note.
var noteNames = [ftp.NumNote]string{
	"ftp_passive", "ftp_active", "ftp_bounce", "ftp_foreign", "ftp_refused", "ftp_unasked", "ftp_unreadable", "ftp_tls",
}

// HelperCounters are what helpers came across, and the connections that went
// without for want of room.
func (m *Manager) HelperCounters() []Counter {
	m.mu.Lock()
	sessions := m.live.sessions
	m.mu.Unlock()
	if sessions == nil {
		return nil
	}
	var list []Counter
	for bit, n := range sessions.Counts() {
		list = append(list, Counter{Name: noteNames[bit], Value: n})
	}
	stats := m.conns.Stats()
	return append(list, Counter{"ftp_sessions", uint64(stats.Sessions)}, Counter{"ftp_no_session", stats.NoSession})
}

// FTPWarning says what is missing of a service that looks like FTP's but whose
// data connections would not find their server; "": nothing.
func (s *Service) FTPWarning() string {
	passing := slices.IndexFunc(s.Servers, func(v Server) bool { return v.Method != MethodMasq })
	if s.Proto != wire.ProtoTCP || s.Port != wire.PortFTP || s.Persist > 0 || passing < 0 {
		return ""
	}
	return fmt.Sprintf("service %s is not persistent: FTP's data connections will not find the server of their control connection by method %s; add -p, or use NAT (-m)",
		s.ServiceKey, s.Servers[passing].Method)
}

// helper says for people how connections like the one asked about are helped.
func (r *rehearsal) helper() string {
	server := r.chosen()
	if server == nil || server.Method != conntrack.MethodMasq || r.running == nil || r.running.Helper == nil {
		return ""
	}
	for _, p := range helped {
		if p.transport == r.question.Proto && slices.Contains(r.running.Helper.Ports, director.HelpedPort{Proto: p.transport, Port: r.question.Virtual.Port()}) {
			return p.setting + ": the connections it announces reach the same server"
		}
	}
	return ""
}
