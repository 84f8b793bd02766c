package ctl

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"uvs/ctl/guard"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// ends tells where packets of services go and where replies come from.
type ends struct {
	rules    map[ServiceKey][]MarkRule // by the key of their mark
	services map[ServiceKey]*Service
	helpers  map[ServiceKey]*director.Helper // of those that have one
}

func newEnds(s *State) ends {
	e := ends{rules: map[ServiceKey][]MarkRule{}, services: map[ServiceKey]*Service{}, helpers: map[ServiceKey]*director.Helper{}}
	for _, r := range s.Marks {
		e.rules[r.key()] = append(e.rules[r.key()], r)
	}
	for i := range s.Services {
		svc := &s.Services[i]
		e.services[svc.ServiceKey] = svc
		if h := s.helper(svc); h != nil {
			e.helpers[svc.ServiceKey] = h
		}
	}
	return e
}

// key is that of the rule's mark.
func (r MarkRule) key() ServiceKey { return ServiceKey{FWMark: r.Mark, IPv6: r.IPv6} }

// of are the ends of a service, as its clients see them.
func (e ends) of(k ServiceKey) []guard.PortRange {
	if k.FWMark == 0 {
		return e.at(single(k.Addr), k)
	}
	var list []guard.PortRange
	for _, r := range e.rules[k] {
		list = r.spans(list, r.dst())
	}
	return list
}

// replies is where the replies of a masqueraded server come from: its own port,
// or as many as packets are sent on to with the port they came to.
func (e ends) replies(k ServiceKey, server ServerKey) []guard.PortRange {
	at := single(server.Addr)
	switch {
	case k.FWMark == 0 && k.Port != 0:
		list := e.at(at, k)
		list[0].First, list[0].Last = server.Port, server.Port
		if e.helpers[k] != nil && k.Proto == wire.ProtoTCP {
			list = append(list, guard.PortRange{Net: at, Proto: k.Proto, First: dataPort(server.Port), Last: dataPort(server.Port)})
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
			list[i].First, list[i].Last = dataPort(server.Port), dataPort(server.Port)
		}
	}
	for _, r := range e.rules[k] {
		if own {
			r.DstPorts = []PortRange{{First: server.Port, Last: server.Port}}
		}
		list = r.spans(list, at)
	}
	return list
}

// at are the ports of a service of an address, at a net.
func (e ends) at(net netip.Prefix, k ServiceKey) []guard.PortRange {
	first, last := k.Port, k.Port
	if k.Port == 0 {
		last = 65535
	}
	list := []guard.PortRange{{Net: net, Proto: k.Proto, First: first, Last: last}}
	if e.ftp(k) {
		list = append(list, guard.PortRange{Net: net, Proto: k.Proto, First: wire.PortFTPData, Last: wire.PortFTPData},
			guard.PortRange{Net: net, Proto: k.Proto, First: wire.PortUnprivileged, Last: 65535})
	}
	if k.ike() {
		for _, proto := range ipsec {
			list = append(list, guard.PortRange{Net: net, Proto: proto, Last: 65535})
		}
	}
	return list
}

var ipsec = []uint8{wire.ProtoESP, wire.ProtoAH}

// ike says whether a service of an address takes IKE, and with it ESP and AH.
func (k ServiceKey) ike() bool {
	return k.FWMark == 0 && k.Proto == wire.ProtoUDP && (k.Port == wire.PortIKE || k.Port == 0)
}

// ftp says whether a service takes the ports of FTP's data as well.
func (e ends) ftp(k ServiceKey) bool {
	svc := e.services[k]
	return k.Port == wire.PortFTP && k.Proto == wire.ProtoTCP && svc != nil && svc.Persist > 0
}

// spans appends the rule's protocols and ports at a net.
func (r MarkRule) spans(list []guard.PortRange, net netip.Prefix) []guard.PortRange {
	for _, proto := range r.protos() {
		for _, p := range r.dstPorts() {
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

// marked says which frames the host must not see because of marks and of FTP's
// further ports: the first match decides, so rules come in the reverse of the
// order in which the last decides.
func (e ends) marked(s *State) []guard.Match {
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
				m.DstFirst, m.DstLast = dataPort(m.DstFirst), dataPort(m.DstLast)
				list = append(list, m)
			}
		}
	}
	for _, r := range slices.Backward(s.Marks) {
		list = r.matches(list, e.services[r.key()] == nil)
	}
	for len(list) > 0 && list[len(list)-1].Pass {
		list = list[:len(list)-1]
	}
	return list
}

func (r MarkRule) matches(list []guard.Match, pass bool) []guard.Match {
	for _, proto := range r.protos() {
		for _, d := range r.dstPorts() {
			for _, s := range r.srcPorts() {
				list = append(list, guard.Match{
					Interface: r.Interface, Src: r.Src, Dst: r.dst(), Proto: proto,
					SrcFirst: s.First, SrcLast: s.Last, DstFirst: d.First, DstLast: d.Last, Pass: pass,
				})
			}
		}
	}
	return list
}

// vips are the addresses that belong to a service alone: its own, or the single
// ones of its mark's rules.
func (e ends) vips(k ServiceKey) (list []netip.Addr) {
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

// compileMarks makes the director's rules; nil if none leads to one of services.
func compileMarks(s *State, services map[director.MarkKey]*director.Service, ways *director.FIB) *director.Marks {
	m := &director.Marks{Services: services, Nets: new(bart.Lite)}
	used := false
	for _, r := range s.Marks {
		in, ok := portOf(ways, r.Interface)
		if !ok {
			continue // comes back with the interface
		}
		m.Rules = append(m.Rules, director.MarkRule{
			Src: r.src(), Dst: r.dst(), Proto: r.Proto, In: in, Mark: r.Mark,
			SrcPorts: r.SrcPorts, DstPorts: r.DstPorts,
		})
		if m.Services[director.MarkKey{Mark: r.Mark, IPv6: r.IPv6}] != nil {
			m.Nets.Insert(r.dst())
			used = true
		}
	}
	if !used {
		return nil
	}
	return m
}

// portOf finds an interface's port; an empty name is any.
func portOf(ways *director.FIB, name string) (uint16, bool) {
	if name == "" {
		return wire.NoPort, true
	}
	i := slices.IndexFunc(ways.Ports, func(p director.Port) bool { return p.Name == name })
	return uint16(i), i >= 0
}

// markGroup is the address that stands for a mark in templates: the mark as an
// IPv4 address, for IPv6 in the first four bytes, as IPVS lists it.
func markGroup(k ServiceKey) (a wire.Addr) {
	if k.FWMark == 0 {
		return a
	}
	if !k.IPv6 {
		a[10], a[11] = 0xff, 0xff
		binary.BigEndian.PutUint32(a[12:], k.FWMark)
		return a
	}
	binary.BigEndian.PutUint32(a[:], k.FWMark)
	return a
}
