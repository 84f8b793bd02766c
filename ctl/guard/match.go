package guard

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Match is one rule about frames to a service that is more than an address and
// a port. A frame must match all of it.
type Match struct {
	Interface         string       // empty: any
	Src               netip.Prefix // invalid: any
	Dst               netip.Prefix // always valid: it says which family is meant
	Proto             uint8
	SrcFirst, SrcLast uint16 // 0 to 65535: any
	DstFirst, DstLast uint16
	Pass              bool // the frame is the host's, as far as this list goes
}

// PortRange is a range of ports, both ends included, of one protocol at the addresses
// of a net.
type PortRange struct {
	Net         netip.Prefix
	Proto       uint8
	First, Last uint16
}

// Chains whose rules are made anew when Rules change.
const (
	chainMarked    = "marked"
	chainOldMarked = "oldmarked"
	chainRanges    = "ranges"
	chainQuoted    = "quoted"
	chainTagged    = "tagged"
	chainHelper    = "helper"
)

const chainOtherPort = "otherport"

// updateChains queues the rules that make r of what is in the chains now;
// spans and helped say that those are others.
func (g *Guard) updateChains(r Rules, rangesChanged, helpersChanged bool) {
	for _, f := range families {
		service, source, otherPort := g.chain(counterService, f), g.chain(counterSource, f), g.chain(chainOtherPort, f)
		for name, lists := range map[string][2][]Match{
			chainMarked:    {g.rules.Marked, r.Marked},
			chainOldMarked: {g.rules.OldMarked, r.OldMarked},
		} {
			if g.refs != nil && slices.Equal(lists[0], lists[1]) {
				continue
			}
			chain := g.emptyChain(name, f)
			for _, m := range lists[1] {
				g.addMatch(chain, f, m, service)
			}
		}
		if g.refs == nil || g.rules.Tagged != r.Tagged {
			if chain := g.emptyChain(chainTagged, f); r.Tagged {
				g.rule(chain, f).ofFamily().jump(chainGuard)
			}
		}
		if g.refs == nil || helpersChanged {
			g.updateHelper(f, r)
		}
		if g.refs != nil && !rangesChanged && !helpersChanged {
			continue
		}
		sources, quoted := g.emptyChain(chainRanges, f), g.emptyChain(chainQuoted, f)
		for _, rules := range r.Services {
			for _, s := range rules.SourceRanges {
				if f.has(s.Net) {
					g.rule(sources, f).key(l4proto).is(s.Proto).within(f.src, s.Net).ports(srcPort, s.First, s.Last).goTo(source)
					g.rule(quoted, f).key(f.quoteProto).is(s.Proto).within(f.quoteDst, s.Net).ports(f.quotePort, s.First, s.Last).drop(counterError)
				}
			}
		}
		if anyHelper(r.Services) {
			fromHelperServer := func(x *rule) *rule { return x.key(f.src, l4proto).in("helperservers") }
			toControlClient := func(x *rule) *rule { return fromHelperServer(x).key(f.dst).in("controlclients") }
			g.trackSYNs(sources, f, counterSource, toControlClient, f.dst, dstPort)
			g.trackRelated(sources, f, counterSource, fromHelperServer, f.dst, dstPort)
		}
		for _, rules := range r.Services {
			for _, s := range rules.SourceRanges {
				if f.has(s.Net) {
					g.rule(sources, f).key(l4proto).is(s.Proto).within(f.src, s.Net).goTo(otherPort)
				}
			}
		}
	}
}

// anyHelper says whether one of the parts has helped connections.
func anyHelper(services []*ServiceRules) bool {
	return slices.ContainsFunc(services, func(p *ServiceRules) bool { return len(p.HelperMatches)+len(p.HelperServers) > 0 })
}

// anyRange says whether one of the parts has spans.
func anyRange(services []*ServiceRules) bool {
	return slices.ContainsFunc(services, func(p *ServiceRules) bool { return len(p.SourceRanges) > 0 })
}

// addMatch queues the rule of a Match.
func (g *Guard) addMatch(chain *nftables.Chain, f *family, m Match, service *nftables.Chain) {
	if !f.has(m.Dst) {
		return
	}
	r := g.rule(chain, f).match(m)
	if m.Pass {
		r.pass()
		return
	}
	r.goTo(service)
}

// match goes on with packets that match.
func (r *rule) match(m Match) *rule {
	if m.Interface != "" {
		r.key(inInterface).is(interfaceName(m.Interface)...)
	}
	return r.key(l4proto).is(m.Proto).within(r.f.dst, m.Dst).within(r.f.src, m.Src).
		ports(dstPort, m.DstFirst, m.DstLast).ports(srcPort, m.SrcFirst, m.SrcLast)
}

// has says whether a net is of the family.
func (f *family) has(p netip.Prefix) bool { return p.Addr().Is4() == (f == &ipv4) }

// emptyChain queues the emptying of one of the chains above.
func (g *Guard) emptyChain(name string, f *family) *nftables.Chain {
	c := &nftables.Chain{Name: name + f.suffix, Table: g.table}
	g.conn.FlushChain(c)
	return c
}

// chain is one of the family that was made before.
func (g *Guard) chain(name string, f *family) *nftables.Chain {
	return &nftables.Chain{Name: name + f.suffix, Table: g.table}
}

// inInterface is the name of the interface a frame came in by, filled with
// zeroes to IFNAMSIZ (linux/if.h).
var inInterface = meta(expr.MetaKeyIIFNAME, unix.IFNAMSIZ)

func interfaceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b[:unix.IFNAMSIZ-1], name)
	return b
}
