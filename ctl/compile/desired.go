package compile

import (
	"cmp"
	"net/netip"
	"slices"

	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
)

// Desired is a desired state and the running side of it, with what compiling it needs
// several times.
type Desired struct {
	*config.State
	rt      *Runtime
	rules   map[config.ServiceKey][]config.MarkRule // by the service of their mark
	helpers map[config.ServiceKey]*helper.Config    // those that helper was asked for
}

// NewDesired prepares for compiling s, which only Reconcile may change afterwards.
func NewDesired(s *config.State, rt *Runtime) *Desired {
	d := &Desired{
		State: s, rt: rt,
		rules: map[config.ServiceKey][]config.MarkRule{}, helpers: map[config.ServiceKey]*helper.Config{},
	}
	for _, r := range s.Marks {
		d.rules[r.Service()] = append(d.rules[r.Service()], r)
	}
	return d
}

// changed returns the keys of the services to compile: those that changed or, if all may have
// changed, all that are configured and then those that only run, by ID.
func (d *Desired) changed() []config.ServiceKey {
	if d.AllChanged() {
		return d.keys()
	}
	return d.Changed()
}

// keys returns the keys of all services: the configured ones in order, then those that only
// run, by ID.
func (d *Desired) keys() (keys []config.ServiceKey) {
	for _, svc := range d.Services {
		keys = append(keys, svc.ServiceKey)
	}
	var others []*RunningService
	for _, services := range []map[config.ServiceKey]*RunningService{d.rt.Services, d.rt.removed} {
		for k, svc := range services {
			if _, err := d.Find(k); err != nil {
				others = append(others, svc)
			}
		}
	}
	slices.SortFunc(others, func(a, b *RunningService) int { return cmp.Compare(a.ID, b.ID) })
	for _, svc := range others {
		keys = append(keys, svc.config.ServiceKey)
	}
	return keys
}

// service returns a service that is configured, or that was removed and is still hidden; nil:
// it is neither.
func (d *Desired) service(k config.ServiceKey) *config.Service {
	if svc, err := d.Find(k); err == nil {
		return svc
	}
	return d.hidden(k)
}

// hidden returns a service that was removed and whose packets are still hidden from the host;
// nil: it is not. They are hidden while their conns wait or go on, and for nets of marks,
// which are the director's to answer, as long as conns may have servers of it.
func (d *Desired) hidden(k config.ServiceKey) *config.Service {
	mode, running := d.Director().RemovedConns, d.rt.removed[k]
	ofNet := func(r config.MarkRule) bool { return !r.Dst.IsSingleIP() }
	if running != nil && (running.waiting || mode == config.RemovedDrop || mode == config.RemovedServe ||
		slices.ContainsFunc(d.rules[k], ofNet)) {
		return &running.config
	}
	return nil
}

// helper returns the help for the connections of a service; nil: there is none.
func (d *Desired) helper(k config.ServiceKey) *helper.Config {
	svc := d.service(k)
	if svc == nil {
		return nil
	}
	if _, known := d.helpers[k]; !known {
		d.helpers[k] = compileHelper(d.State, svc)
	}
	return d.helpers[k]
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
		if d.helper(k) != nil && k.Proto == wire.ProtoTCP {
			port := helper.DataPort(server.Port)
			list = append(list, guard.PortRange{Net: addr, Proto: uint8(k.Proto), First: port, Last: port})
		}
		return list
	case k.FWMark == 0:
		return d.servicePorts(k, addr)
	}
	svc := d.service(k)
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
	if k.Port != wire.PortFTP || k.Proto != wire.ProtoTCP {
		return false
	}
	svc := d.service(k)
	return svc != nil && svc.Persist > 0
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

// Marked returns the frames that the host must not see because of marks and of the ports of
// FTP's data connections. The guard's first match decides, but the last mark rule that
// matches does, so the rules are in reverse order. before is the result for the state that
// the guard's rules are from.
func (d *Desired) Marked(before []guard.Match, rules *RulesByService) (list []guard.Match) {
	concerned := func(k config.ServiceKey) bool { return d.mayBeMarked(k, rules) }
	if !d.AllChanged() && !slices.ContainsFunc(d.Changed(), concerned) {
		return before
	}
	if d.leavesToHost() {
		return nil
	}
	for _, k := range d.keys() {
		if d.service(k) == nil {
			continue
		}
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
		list = ruleMatches(list, r, d.service(r.Service()) == nil)
	}
	for len(list) > 0 && list[len(list)-1].Pass {
		list = list[:len(list)-1]
	}
	return list
}

// leavesToHost reports whether packets to VIPs that the host holds are the host's.
func (d *Desired) leavesToHost() bool { return d.Standby && d.Director().BackupOnly }

// mayBeMarked reports whether Marked depends on a service, now or when it had these rules.
func (d *Desired) mayBeMarked(k config.ServiceKey, rules *RulesByService) bool {
	old, _ := rules.byService.Get(k)
	return k.FWMark != 0 || k.Port == wire.PortFTP || d.helper(k) != nil || old != nil && len(old.HelperMatches) > 0
}

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

// serverAddrs returns the addresses of a service's servers that frames are sent to: those of
// removed ones if their conns go on.
func (d *Desired) serverAddrs(k config.ServiceKey) (list []netip.Addr) {
	if svc, err := d.Find(k); err == nil {
		for _, server := range svc.AllServers() {
			list = append(list, server.Addr)
		}
	}
	if d.Director().RemovedConns == config.RemovedServe {
		for _, v := range d.rt.byService[k] {
			list = append(list, v.key.Addr)
		}
	}
	return list
}
