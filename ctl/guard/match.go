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
	chainMarked  = "marked"
	chainLeaving = "leaving"
	chainSpans   = "spans"
	chainQuoted  = "quoted"
	chainTagged  = "tagged"
	chainHelped  = "helped"
)

const chainStray = "stray"

// updateMatches queues the rules that make r of what is in the chains now;
// spans and helped say that those are others.
func (g *Guard) updateMatches(r Rules, spans, helped bool) {
	for _, f := range families {
		service, source, stray := g.chain(counterService, f), g.chain(counterSource, f), g.chain(chainStray, f)
		for name, lists := range map[string][2][]Match{
			chainMarked:  {g.rules.Marked, r.Marked},
			chainLeaving: {g.rules.OldMarked, r.OldMarked},
		} {
			if g.held != nil && slices.Equal(lists[0], lists[1]) {
				continue
			}
			chain := g.emptyChain(name, f)
			for _, m := range lists[1] {
				g.addMatch(chain, f, m, service)
			}
		}
		if g.held == nil || g.rules.Tagged != r.Tagged {
			if chain := g.emptyChain(chainTagged, f); r.Tagged {
				g.rule(chain, f).ofFamily().jump(chainGuard)
			}
		}
		if g.held == nil || helped {
			g.updateHelped(f, r)
		}
		if g.held != nil && !spans && !helped {
			continue
		}
		sources, quoted := g.emptyChain(chainSpans, f), g.emptyChain(chainQuoted, f)
		for _, part := range r.Services {
			for _, s := range part.SourceRanges {
				if f.has(s.Net) {
					g.rule(sources, f).key(l4proto).is(s.Proto).within(f.src, s.Net).ports(srcPort, s.First, s.Last).goTo(source)
					g.rule(quoted, f).key(f.quoteProto).is(s.Proto).within(f.quoteDst, s.Net).ports(f.quotePort, s.First, s.Last).drop(counterError)
				}
			}
		}
		if anyHelped(r.Services) {
			helping := func(x *rule) *rule { return x.key(f.src, l4proto).in("helping") }
			listening := func(x *rule) *rule { return helping(x).key(f.dst).in("listeners") }
			g.followOpening(sources, f, counterSource, listening, f.dst, dstPort)
			g.followAsked(sources, f, counterSource, helping, f.dst, dstPort)
		}
		for _, part := range r.Services {
			for _, s := range part.SourceRanges {
				if f.has(s.Net) {
					g.rule(sources, f).key(l4proto).is(s.Proto).within(f.src, s.Net).goTo(stray)
				}
			}
		}
	}
}

// anyHelped says whether one of the parts has helped connections.
func anyHelped(parts []*ServiceRules) bool {
	return slices.ContainsFunc(parts, func(p *ServiceRules) bool { return len(p.HelperMatches)+len(p.HelperServers) > 0 })
}

// spanned says whether one of the parts has spans.
func spanned(parts []*ServiceRules) bool {
	return slices.ContainsFunc(parts, func(p *ServiceRules) bool { return len(p.SourceRanges) > 0 })
}

// addMatch queues the rule of a Match.
func (g *Guard) addMatch(chain *nftables.Chain, f *family, m Match, service *nftables.Chain) {
	if !f.has(m.Dst) {
		return
	}
	r := g.rule(chain, f).match(m)
	if m.Pass {
		r.leave()
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
