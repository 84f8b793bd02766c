package compile

import (
	"net/netip"
	"slices"

	"uvs/ctl/config"
	"uvs/ctl/guard"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// GuardParts is what the host's stack must not see because of each service, also of
// those that are gone but whose servers still have conns.
type GuardParts map[config.ServiceKey]*guard.ServiceRules

// NewGuardParts says what is to be hidden for a state and the servers there are; for
// services the state's operations do not concern it is what it was before.
func NewGuardParts(before GuardParts, s *config.State, l *Runtime, e Endpoints, hops *director.HostNet) GuardParts {
	h := make(GuardParts, len(before))
	add := func(k config.ServiceKey) {
		part := before[k]
		if part == nil || s.Changed(k) {
			if fresh := e.hide(k, s, l.byService[k], hops); part == nil || !same(part, fresh) {
				part = fresh
			}
		}
		h[k] = part
	}
	for k := range e.services {
		add(k)
	}
	for k := range l.byService {
		if e.services[k] == nil {
			add(k)
		}
	}
	return h
}

// hide is what is to be hidden for one service: frames to it, and those of its
// servers, which are removed ones too, or were masqueraded once, for their conns
// are still answered.
func (e Endpoints) hide(k config.ServiceKey, s *config.State, servers []*RunningServer, hops *director.HostNet) *guard.ServiceRules {
	part := &guard.ServiceRules{}
	sources := e.of(k)
	masq := func(v config.ServerKey) {
		sources = append(sources, e.Replies(k, v)...)
		if k.FWMark == 0 && k.Port != 0 && v != (config.ServerKey{Addr: k.Addr, Port: k.Port}) && hops.IsLocal(wire.AddrFrom(v.Addr)) {
			// What the host itself sends from there must come back to be translated.
			part.LocalServers = append(part.LocalServers, guard.Endpoint{Proto: k.Proto, Addr: v.Addr, Port: v.Port})
		}
	}
	if svc := e.services[k]; svc != nil {
		if k.FWMark == 0 {
			part.Destinations = []guard.Endpoint{{Proto: k.Proto, Addr: k.Addr, Port: k.Port}}
			if ike(k) {
				for _, proto := range ipsec {
					part.Destinations = append(part.Destinations, guard.Endpoint{Proto: proto, Addr: k.Addr})
				}
			}
		}
		part.VIPs = slices.DeleteFunc(e.vips(k), func(a netip.Addr) bool { return hops.IsLocal(wire.AddrFrom(a)) })
		for _, v := range s.AllServers(svc) {
			if v.Method == config.MethodMasq {
				masq(v.ServerKey)
			}
		}
	}
	for _, v := range servers {
		if v.masq {
			masq(v.key)
		}
	}
	e.hideHelped(k, s, servers, part)
	part.LocalServers = unique(part.LocalServers)
	part.Sources, part.SourceRanges = split(sources)
	return part
}

// same says whether two parts hide the same.
func same(a, b *guard.ServiceRules) bool {
	return slices.Equal(a.Destinations, b.Destinations) && slices.Equal(a.VIPs, b.VIPs) && slices.Equal(a.Sources, b.Sources) &&
		slices.Equal(a.SourceRanges, b.SourceRanges) && slices.Equal(a.LocalServers, b.LocalServers) &&
		slices.Equal(a.HelperMatches, b.HelperMatches) && slices.Equal(a.HelperServers, b.HelperServers)
}

// Rules are those that hide it, and what marks lead to services.
func (h GuardParts) Rules(marked []guard.Match, settings *config.Settings, hops *director.HostNet) guard.Rules {
	r := guard.Rules{Marked: marked, Tagged: settings.KeepTags}
	for _, part := range h {
		r.Services = append(r.Services, part)
	}
	for i := range hops.Ports {
		if hops.Ports[i].VLAN == 0 {
			r.Interfaces = append(r.Interfaces, hops.Ports[i].Name)
		}
	}
	for a := range hops.HostAddrs {
		r.HostAddrs = append(r.HostAddrs, a.Netip())
	}
	return r
}

// VIPs are the addresses that uvs answers for, each once.
func (h GuardParts) VIPs() (list []netip.Addr) {
	for _, part := range h {
		list = append(list, part.VIPs...)
	}
	return unique(list)
}

// Union is rules that hide what either hides, with b's interfaces and own
// addresses.
func Union(a, b guard.Rules) guard.Rules {
	b.Services = unique(slices.Concat(a.Services, b.Services))
	if !slices.Equal(a.Marked, b.Marked) {
		b.OldMarked = a.Marked
	}
	b.Tagged = a.Tagged || b.Tagged
	return b
}

// SameRules says whether two rules for the same interfaces hide the same.
func SameRules(a, b guard.Rules) bool {
	return len(a.Services) == len(b.Services) && len(unique(slices.Concat(a.Services, b.Services))) == len(a.Services) &&
		a.Tagged == b.Tagged && slices.Equal(a.Marked, b.Marked) && slices.Equal(a.OldMarked, b.OldMarked)
}

// unique drops what is in the list already, in place.
func unique[T comparable](list []T) []T {
	seen := make(map[T]bool, len(list))
	return slices.DeleteFunc(list, func(v T) bool {
		again := seen[v]
		seen[v] = true
		return again
	})
}
