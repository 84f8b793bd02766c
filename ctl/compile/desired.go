package compile

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
)

// Desired is a desired state with indexes that compiling it needs several times.
type Desired struct {
	*config.State
	services map[config.ServiceKey]*config.Service
	rules    map[config.ServiceKey][]config.MarkRule // by the service of their mark
	helpers  map[config.ServiceKey]*helper.Config    // only services that have one
	// kept: removed services whose servers conns still name. hidden: those of kept that
	// the guard still hides; services has them too.
	kept   []*RunningService
	hidden []*config.Service
}

// NewDesired indexes s, which must not change afterwards.
func NewDesired(s *config.State) *Desired {
	d := &Desired{
		State: s, services: make(map[config.ServiceKey]*config.Service, len(s.Services)),
		rules: map[config.ServiceKey][]config.MarkRule{}, helpers: map[config.ServiceKey]*helper.Config{},
	}
	for _, r := range s.Marks {
		d.rules[r.Service()] = append(d.rules[r.Service()], r)
	}
	for i := range s.Services {
		svc := &s.Services[i]
		d.services[svc.ServiceKey] = svc
		if h := compileHelper(s, svc); h != nil {
			d.helpers[svc.ServiceKey] = h
		}
	}
	return d
}

// KeepRemoved adds the removed services that rt keeps, after Reconcile. A removed service
// stays hidden while its conns wait or go on. A mark with a net stays hidden as long as it
// is kept, because the director answers for the net.
func (d *Desired) KeepRemoved(rt *Runtime) {
	mode := d.Director().RemovedConns
	byID := func(a, b *RunningService) int { return cmp.Compare(a.ID, b.ID) }
	for _, running := range slices.SortedFunc(maps.Values(rt.removed), byID) {
		key := running.config.ServiceKey
		d.kept = append(d.kept, running)
		ofNet := func(r config.MarkRule) bool { return !r.Dst.IsSingleIP() }
		if running.waiting || mode == config.RemovedDrop || mode == config.RemovedServe ||
			slices.ContainsFunc(d.rules[key], ofNet) {
			d.hidden = append(d.hidden, &running.config)
			d.services[key] = &running.config
			if h := compileHelper(d.State, &running.config); h != nil {
				d.helpers[key] = h
			}
		}
	}
}

// destinations returns where clients send the packets of a service.
func (d *Desired) destinations(k config.ServiceKey) (list []guard.PortRange) {
	if k.FWMark == 0 {
		return d.servicePorts(k, hostPrefix(k.Addr))
	}
	for _, r := range d.rules[k] {
		list = ruleRanges(list, r, r.DstNet())
	}
	return list
}

// ReplyRanges returns where the replies of a NAT server come from: its port or, if packets
// keep the port they came to, all ports that the service takes.
func (d *Desired) ReplyRanges(k config.ServiceKey, server config.ServerKey) []guard.PortRange {
	addr := hostPrefix(server.Addr)
	switch {
	case k.FWMark == 0 && k.Port != 0:
		list := d.servicePorts(k, addr)
		list[0].First, list[0].Last = server.Port, server.Port
		if d.helpers[k] != nil && k.Proto == wire.ProtoTCP {
			port := helper.DataPort(server.Port)
			list = append(list, guard.PortRange{Net: addr, Proto: uint8(k.Proto), First: port, Last: port})
		}
		return list
	case k.FWMark == 0:
		return d.servicePorts(k, addr)
	}
	svc := d.services[k]
	translated := server.Port != 0 && (svc == nil || svc.Persist == 0)
	list := d.dataRanges(k, addr)
	if translated {
		for i := range list {
			list[i].First, list[i].Last = helper.DataPort(server.Port), helper.DataPort(server.Port)
		}
	}
	for _, r := range d.rules[k] {
		if translated {
			r.DstPorts = []config.PortRange{{First: server.Port, Last: server.Port}}
		}
		list = ruleRanges(list, r, addr)
	}
	return list
}

// servicePorts returns the protocols and ports that a service of an address takes, at a net.
func (d *Desired) servicePorts(k config.ServiceKey, net netip.Prefix) []guard.PortRange {
	first, last := k.Port, k.Port
	if k.Port == 0 {
		last = 65535
	}
	list := []guard.PortRange{{Net: net, Proto: uint8(k.Proto), First: first, Last: last}}
	if d.takesFTPData(k) {
		list = append(list,
			guard.PortRange{Net: net, Proto: wire.ProtoTCP, First: wire.PortFTPData, Last: wire.PortFTPData},
			guard.PortRange{Net: net, Proto: wire.ProtoTCP, First: wire.PortUnprivileged, Last: 65535})
	}
	if takesIKE(k) {
		for _, proto := range ipsec {
			list = append(list, guard.PortRange{Net: net, Proto: proto, Last: 65535})
		}
	}
	return list
}

var ipsec = []uint8{wire.ProtoESP, wire.ProtoAH}

// takesIKE reports whether a service of an address takes IKE, and with it ESP and AH
// (net/netfilter/ipvs/ip_vs_proto_ah_esp.c).
func takesIKE(k config.ServiceKey) bool {
	return k.FWMark == 0 && k.Proto == wire.ProtoUDP && (k.Port == wire.PortIKE || k.Port == 0)
}

// takesFTPData reports whether a service takes the ports of FTP's data connections too: a
// persistent one of FTP's port (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_service_find).
func (d *Desired) takesFTPData(k config.ServiceKey) bool {
	svc := d.services[k]
	return k.Port == wire.PortFTP && k.Proto == wire.ProtoTCP && svc != nil && svc.Persist > 0
}

// ruleRanges appends the protocols and ports that a rule matches, at a net.
func ruleRanges(list []guard.PortRange, r config.MarkRule, net netip.Prefix) []guard.PortRange {
	for _, proto := range r.Protos() {
		for _, p := range r.AllDstPorts() {
			list = append(list, guard.PortRange{Net: net, Proto: proto, First: p.First, Last: p.Last})
		}
	}
	return list
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// splitRanges separates ranges that are one port, or all ports, of one address from
// the others, and drops duplicates.
func splitRanges(all []guard.PortRange) (endpoints []guard.Endpoint, ranges []guard.PortRange) {
	for _, p := range unique(all) {
		allPorts := p.First == 0 && p.Last == 65535
		if !p.Net.IsSingleIP() || p.First != p.Last && !allPorts {
			ranges = append(ranges, p)
			continue
		}
		endpoints = append(endpoints, guard.Endpoint{Proto: p.Proto, Addr: p.Net.Addr(), Port: p.First})
	}
	return endpoints, ranges
}

// Marked returns the frames that the host must not see because of marks and of the ports
// of FTP's data connections. The guard's first match decides, but the last mark rule that
// matches does, so the rules are in reverse order.
func (d *Desired) Marked() (list []guard.Match) {
	if d.leavesToHost() {
		return nil
	}
	keys := make([]config.ServiceKey, 0, len(d.services))
	for i := range d.Services {
		keys = append(keys, d.Services[i].ServiceKey)
	}
	for _, svc := range d.hidden {
		keys = append(keys, svc.ServiceKey)
	}
	for _, k := range keys {
		if d.takesFTPData(k) {
			for _, p := range d.destinations(k)[1:] {
				m := guard.Match{Dst: p.Net, Proto: p.Proto, DstFirst: p.First, DstLast: p.Last, SrcLast: 65535}
				list = append(list, m)
			}
		}
		for _, m := range d.helperMatches(k) {
			if m.Proto == wire.ProtoTCP {
				m.DstFirst, m.DstLast = helper.DataPort(m.DstFirst), helper.DataPort(m.DstLast)
				list = append(list, m)
			}
		}
	}
	for _, r := range slices.Backward(d.Marks) {
		list = ruleMatches(list, r, d.services[r.Service()] == nil)
	}
	for len(list) > 0 && list[len(list)-1].Pass {
		list = list[:len(list)-1]
	}
	return list
}

// leavesToHost reports whether packets to VIPs that the host holds are the host's.
func (d *Desired) leavesToHost() bool { return d.Standby && d.Director().BackupOnly }

func ruleMatches(list []guard.Match, r config.MarkRule, pass bool) []guard.Match {
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

// vips returns the addresses of a service: its own, or the single addresses that the rules
// of its mark match.
func (d *Desired) vips(k config.ServiceKey) (list []netip.Addr) {
	if k.FWMark == 0 {
		return []netip.Addr{k.Addr}
	}
	for _, r := range d.rules[k] {
		if r.Dst.IsSingleIP() {
			list = append(list, r.Dst.Addr())
		}
	}
	return list
}

// ServerAddrs returns the addresses of all servers, sorted, each once: with the removed ones
// of rt if their conns go on.
func (d *Desired) ServerAddrs(rt *Runtime) (list []netip.Addr) {
	for id := range rt.index {
		if d.Director().RemovedConns == config.RemovedServe {
			list = append(list, id.server.Addr)
		}
	}
	for i := range d.Services {
		for _, server := range d.AllServers(&d.Services[i]) {
			list = append(list, server.Addr)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}
