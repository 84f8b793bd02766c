package compile

import (
	"net/netip"
	"slices"

	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
)

// Endpoints tells where packets of services go and where replies come from.
type Endpoints struct {
	rules    map[config.ServiceKey][]config.MarkRule // by the key of their mark
	services map[config.ServiceKey]*config.Service
	helpers  map[config.ServiceKey]*helper.Config // of those that have one
}

func NewEndpoints(s *config.State) Endpoints {
	e := Endpoints{rules: map[config.ServiceKey][]config.MarkRule{}, services: map[config.ServiceKey]*config.Service{}, helpers: map[config.ServiceKey]*helper.Config{}}
	for _, r := range s.Marks {
		e.rules[r.Service()] = append(e.rules[r.Service()], r)
	}
	for i := range s.Services {
		svc := &s.Services[i]
		e.services[svc.ServiceKey] = svc
		if h := compileHelper(s, svc); h != nil {
			e.helpers[svc.ServiceKey] = h
		}
	}
	return e
}

// of are the ends of a service, as its clients see them.
func (e Endpoints) of(k config.ServiceKey) []guard.PortRange {
	if k.FWMark == 0 {
		return e.at(single(k.Addr), k)
	}
	var list []guard.PortRange
	for _, r := range e.rules[k] {
		list = spans(r, list, r.DstNet())
	}
	return list
}

// Replies is where the replies of a masqueraded server come from: its own port,
// or as many as packets are sent on to with the port they came to.
func (e Endpoints) Replies(k config.ServiceKey, server config.ServerKey) []guard.PortRange {
	at := single(server.Addr)
	switch {
	case k.FWMark == 0 && k.Port != 0:
		list := e.at(at, k)
		list[0].First, list[0].Last = server.Port, server.Port
		if e.helpers[k] != nil && k.Proto == wire.ProtoTCP {
			list = append(list, guard.PortRange{Net: at, Proto: k.Proto, First: helper.DataPort(server.Port), Last: helper.DataPort(server.Port)})
		}
		return list
	case k.FWMark == 0:
		return e.at(at, k)
	}
	svc := e.services[k]
	own := server.Port != 0 && (svc == nil || svc.Persist == 0)
	list := e.dataPorts(at, k)
	if own {
		for i := range list {
			list[i].First, list[i].Last = helper.DataPort(server.Port), helper.DataPort(server.Port)
		}
	}
	for _, r := range e.rules[k] {
		if own {
			r.DstPorts = []config.PortRange{{First: server.Port, Last: server.Port}}
		}
		list = spans(r, list, at)
	}
	return list
}

// at are the ports of a service of an address, at a net.
func (e Endpoints) at(net netip.Prefix, k config.ServiceKey) []guard.PortRange {
	first, last := k.Port, k.Port
	if k.Port == 0 {
		last = 65535
	}
	list := []guard.PortRange{{Net: net, Proto: k.Proto, First: first, Last: last}}
	if e.ftp(k) {
		list = append(list, guard.PortRange{Net: net, Proto: k.Proto, First: wire.PortFTPData, Last: wire.PortFTPData},
			guard.PortRange{Net: net, Proto: k.Proto, First: wire.PortUnprivileged, Last: 65535})
	}
	if ike(k) {
		for _, proto := range ipsec {
			list = append(list, guard.PortRange{Net: net, Proto: proto, Last: 65535})
		}
	}
	return list
}

var ipsec = []uint8{wire.ProtoESP, wire.ProtoAH}

// ike says whether a service of an address takes IKE, and with it ESP and AH.
func ike(k config.ServiceKey) bool {
	return k.FWMark == 0 && k.Proto == wire.ProtoUDP && (k.Port == wire.PortIKE || k.Port == 0)
}

// ftp says whether a service takes the ports of FTP's data as well.
func (e Endpoints) ftp(k config.ServiceKey) bool {
	svc := e.services[k]
	return k.Port == wire.PortFTP && k.Proto == wire.ProtoTCP && svc != nil && svc.Persist > 0
}

// spans appends the rule's protocols and ports at a net.
func spans(r config.MarkRule, list []guard.PortRange, net netip.Prefix) []guard.PortRange {
	for _, proto := range r.Protos() {
		for _, p := range r.AllDstPorts() {
			list = append(list, guard.PortRange{Net: net, Proto: proto, First: p.First, Last: p.Last})
		}
	}
	return list
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// split sorts out the spans that are one port, or every port, of one address,
// each once.
func split(all []guard.PortRange) (points []guard.Endpoint, spans []guard.PortRange) {
	for _, p := range unique(all) {
		every := p.First == 0 && p.Last == 65535
		if !p.Net.IsSingleIP() || p.First != p.Last && !every {
			spans = append(spans, p)
			continue
		}
		points = append(points, guard.Endpoint{Proto: p.Proto, Addr: p.Net.Addr(), Port: p.First})
	}
	return points, spans
}

// Marked says which frames the host must not see because of marks and of FTP's
// further ports: the first match decides, so rules come in the reverse of the
// order in which the last decides.
func (e Endpoints) Marked(s *config.State) []guard.Match {
	var list []guard.Match
	for i := range s.Services {
		k := s.Services[i].ServiceKey
		if e.ftp(k) {
			for _, p := range e.of(k)[1:] {
				list = append(list, guard.Match{Dst: p.Net, Proto: p.Proto, DstFirst: p.First, DstLast: p.Last, SrcLast: 65535})
			}
		}
		for _, m := range e.helpEnds(k) {
			if m.Proto == wire.ProtoTCP {
				m.DstFirst, m.DstLast = helper.DataPort(m.DstFirst), helper.DataPort(m.DstLast)
				list = append(list, m)
			}
		}
	}
	for _, r := range slices.Backward(s.Marks) {
		list = matches(r, list, e.services[r.Service()] == nil)
	}
	for len(list) > 0 && list[len(list)-1].Pass {
		list = list[:len(list)-1]
	}
	return list
}

func matches(r config.MarkRule, list []guard.Match, pass bool) []guard.Match {
	for _, proto := range r.Protos() {
		for _, d := range r.AllDstPorts() {
			for _, s := range r.AllSrcPorts() {
				list = append(list, guard.Match{
					Interface: r.Interface, Src: r.Src, Dst: r.DstNet(), Proto: proto,
					SrcFirst: s.First, SrcLast: s.Last, DstFirst: d.First, DstLast: d.Last, Pass: pass,
				})
			}
		}
	}
	return list
}

// vips are the addresses that belong to a service alone: its own, or the single
// ones of its mark's rules.
func (e Endpoints) vips(k config.ServiceKey) (list []netip.Addr) {
	if k.FWMark == 0 {
		return []netip.Addr{k.Addr}
	}
	for _, r := range e.rules[k] {
		if r.Dst.IsSingleIP() {
			list = append(list, r.Dst.Addr())
		}
	}
	return list
}
