package guard

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// Match is a rule for frames to a service that is more than an address and a
// port. A frame must meet every condition.
type Match struct {
	Interface         string       // empty: any
	Src               netip.Prefix // invalid: any
	Dst               netip.Prefix // always valid, because it also selects the family
	Proto             uint8
	SrcFirst, SrcLast uint16 // 0 to 65535: any
	DstFirst, DstLast uint16
	Pass              bool // the frame passes as far as this list decides
}

// PortRange is the ports First to Last, both included, of one protocol at the
// addresses of a net.
type PortRange struct {
	Net         netip.Prefix
	Proto       uint8
	First, Last uint16
}

// Chains that Apply flushes and fills again.
const (
	chainMarked    = "marked"
	chainOldMarked = "oldmarked"
	chainRanges    = "ranges"
	chainQuoted    = "quoted"
	chainTagged    = "tagged"
	chainHelper    = "helper"
)

const chainOtherPort = "otherport"

// updateChains queues the rules of r for every chain whose rules differ from
// those in force. The rules of some services have changed.
func (g *Guard) updateChains(r Rules, changed []*ServiceRules) {
	rangesChanged, helpersChanged := anyRange(changed), anyHelper(changed)
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
				switch {
				case !f.has(m.Dst):
				case m.Pass:
					g.rule(chain, f).match(m).pass()
				default:
					g.rule(chain, f).match(m).goTo(service)
				}
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
		for rules := range r.Services.All() {
			for _, s := range rules.ReplySourceRanges {
				if f.has(s.Net) {
					g.rule(sources, f).key(l4proto).is(s.Proto).within(f.src, s.Net).ports(srcPort, s.First, s.Last).
						goTo(source)
					g.rule(quoted, f).key(f.quoteProto).is(s.Proto).within(f.quoteDst, s.Net).
						ports(f.quotePort, s.First, s.Last).drop(counterError)
				}
			}
		}
		if anyHelper(without(&r.Services, new(ServiceSet))) {
			fromHelperServer := func(x *rule) *rule { return x.key(f.src, l4proto).in("helperservers") }
			toControlClient := func(flags byte) *rule {
				return fromHelperServer(g.rule(sources, f).handshake(flags)).key(f.dst).in("controlclients")
			}
			g.track(counterSource, func() *rule {
				return toControlClient(wire.TCPSyn).ports(dstPort, firstDataPort, 65535)
			}, f.dst, dstPort)
			g.track(counterSource, func() *rule {
				return toControlClient(wire.TCPSyn|wire.TCPAck).ports(srcPort, firstDataPort, 65535).
					key(f.dst, l4proto, dstPort).notIn("direct")
			}, f.dst, dstPort)
			g.trackRelated(sources, f, counterSource, fromHelperServer, f.dst, dstPort)
		}
		for rules := range r.Services.All() {
			for _, s := range rules.ReplySourceRanges {
				if f.has(s.Net) {
					g.rule(sources, f).key(l4proto).is(s.Proto).within(f.src, s.Net).goTo(otherPort)
				}
			}
		}
	}
}

// anyHelper reports whether one of the services has helper connections.
func anyHelper(services []*ServiceRules) bool {
	return slices.ContainsFunc(services,
		func(p *ServiceRules) bool { return len(p.HelperMatches)+len(p.HelperServers) > 0 })
}

// anyRange reports whether one of the services has source ranges.
func anyRange(services []*ServiceRules) bool {
	return slices.ContainsFunc(services, func(p *ServiceRules) bool { return len(p.ReplySourceRanges) > 0 })
}

// match continues the rule for packets that m matches.
func (r *rule) match(m Match) *rule {
	if m.Interface != "" {
		r.key(inInterface).is(interfaceName(m.Interface)...)
	}
	return r.key(l4proto).is(m.Proto).within(r.f.dst, m.Dst).within(r.f.src, m.Src).
		ports(dstPort, m.DstFirst, m.DstLast).ports(srcPort, m.SrcFirst, m.SrcLast)
}

// has reports whether a net is of the family.
func (f *family) has(p netip.Prefix) bool { return p.Addr().Is4() == (f == &ipv4) }

// emptyChain queues the flush of one of the chains above.
func (g *Guard) emptyChain(name string, f *family) *nftables.Chain {
	c := g.chain(name, f)
	g.conn.FlushChain(c)
	return c
}

// chain returns a chain of the family that exists already.
func (g *Guard) chain(name string, f *family) *nftables.Chain {
	return &nftables.Chain{Name: name + f.suffix, Table: g.table}
}

// inInterface is the name of the interface a frame arrived on, padded with
// zeros to IFNAMSIZ (linux/if.h).
var inInterface = meta(expr.MetaKeyIIFNAME, unix.IFNAMSIZ)

func interfaceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b[:unix.IFNAMSIZ-1], name)
	return b
}
