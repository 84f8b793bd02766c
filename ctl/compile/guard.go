package compile

import (
	"net/netip"
	"slices"

	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/cow"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// RulesByService are what the host's stack must not see because of each service. A service
// that was deleted has rules for as long as conns of its servers may exist.
type RulesByService struct {
	byService cow.Map[config.ServiceKey, *guard.ServiceRules]
	all       guard.ServiceSet
}

// CompileRules compiles the rules for the desired state and the servers that run. Services
// that no operation changed keep their rules from before, and so do those whose rules
// turn out the same: the guard sends only rules whose pointer is new.
func (d *Desired) CompileRules(before *RulesByService, host *director.HostNet) *RulesByService {
	rules := &RulesByService{before.byService.Clone(), before.all.Clone()}
	for _, k := range d.changed() {
		var r *guard.ServiceRules
		running := d.rt.byService[k]
		if d.service(k) != nil || running != nil {
			r = d.serviceRules(k, running, host)
		}
		rules.set(k, r)
	}
	return rules
}

// set replaces the rules for a service, unless they are the same; nil: there are none.
func (g *RulesByService) set(k config.ServiceKey, r *guard.ServiceRules) {
	old, ok := g.byService.Get(k)
	if ok && r != nil && sameServiceRules(old, r) {
		return
	}
	g.byService.Delete(k)
	if g.all.Delete(old); r != nil {
		g.byService.Set(k, r)
		g.all.Set(r, struct{}{})
	}
}

// serviceRules returns the rules for one service: frames to it, and from its NAT servers.
// Those include servers that were removed, or were NAT until they were edited, because
// their conns still get replies.
func (d *Desired) serviceRules(
	k config.ServiceKey, running []*RunningServer, host *director.HostNet,
) *guard.ServiceRules {
	r := &guard.ServiceRules{
		VIPs: slices.DeleteFunc(d.vips(k), func(a netip.Addr) bool { return host.IsLocal(wire.AddrFrom(a)) }),
	}
	sources := d.destinations(k)
	addServer := func(v config.ServerKey) {
		sources = append(sources, d.ReplyRanges(k, v)...)
		isService := v.Addr == k.Addr && v.Port == k.Port
		if k.FWMark == 0 && k.Port != 0 && !isService && host.IsLocal(wire.AddrFrom(v.Addr)) && !d.Standby {
			// The host's own replies must come back to be translated. On standby they are
			// those to clients that call the host directly.
			r.LocalServers = append(r.LocalServers, guard.Endpoint{Proto: uint8(k.Proto), Addr: v.Addr, Port: v.Port})
		}
	}
	if svc := d.service(k); svc != nil {
		if k.FWMark == 0 && !d.leavesToHost() {
			r.Destinations = []guard.Endpoint{{Proto: uint8(k.Proto), Addr: k.Addr, Port: k.Port}}
			if takesIKE(k) {
				for _, proto := range ipsec {
					r.Destinations = append(r.Destinations, guard.Endpoint{Proto: proto, Addr: k.Addr})
				}
			}
		}
		for _, v := range svc.AllServers() {
			if v.Method == config.MethodNAT {
				addServer(v.ServerKey)
			}
		}
	}
	for _, v := range running {
		if v.wasNAT {
			addServer(v.key)
		}
	}
	d.addHelperRules(k, running, r)
	r.LocalServers = unique(r.LocalServers)
	r.ReplySources, r.ReplySourceRanges = splitRanges(sources)
	return r
}

func sameServiceRules(a, b *guard.ServiceRules) bool {
	return slices.Equal(a.Destinations, b.Destinations) && slices.Equal(a.VIPs, b.VIPs) &&
		slices.Equal(a.ReplySources, b.ReplySources) && slices.Equal(a.ReplySourceRanges, b.ReplySourceRanges) &&
		slices.Equal(a.LocalServers, b.LocalServers) &&
		slices.Equal(a.HelperMatches, b.HelperMatches) && slices.Equal(a.HelperServers, b.HelperServers)
}

// Flatten returns the guard's rules for all services, for the frames that marks lead to
// services, and for the host's interfaces.
func (g *RulesByService) Flatten(marked []guard.Match, settings *config.Settings, host *director.HostNet) guard.Rules {
	r := guard.Rules{Services: g.all.Clone(), Marked: marked, Tagged: settings.KeepTags}
	for i := range host.Ports {
		if host.Ports[i].VLAN == 0 {
			r.Interfaces = append(r.Interfaces, host.Ports[i].Name)
		}
	}
	for a := range host.HostAddrs {
		r.HostAddrs = append(r.HostAddrs, a.Netip())
	}
	return r
}

// Union returns rules that drop what either drops, on the interfaces and addresses of next.
func Union(old, next guard.Rules) guard.Rules {
	added := next.Services.Without(&old.Services)
	next.Services = old.Services.Clone()
	for service := range added {
		next.Services.Set(service, struct{}{})
	}
	if !slices.Equal(old.Marked, next.Marked) {
		next.OldMarked = old.Marked
	}
	next.Tagged = old.Tagged || next.Tagged
	return next
}

// SameRules reports whether rules for the same interfaces drop the same.
func SameRules(a, b guard.Rules) bool {
	for range a.Services.Without(&b.Services) {
		return false
	}
	return a.Services.Len() == b.Services.Len() &&
		a.Tagged == b.Tagged && slices.Equal(a.Marked, b.Marked) && slices.Equal(a.OldMarked, b.OldMarked)
}

// unique drops duplicates, in place.
func unique[T comparable](list []T) []T {
	seen := make(map[T]bool, len(list))
	return slices.DeleteFunc(list, func(v T) bool {
		duplicate := seen[v]
		seen[v] = true
		return duplicate
	})
}
