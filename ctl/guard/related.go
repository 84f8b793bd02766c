package guard

import (
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The guard learns of connections that others announce (Rules.Helped) from what
// clients send, for it cannot read what was announced:
//
//	chain helped4 { # for FTP at 192.0.2.9, for example; empty if nothing is helped
//		meta l4proto tcp ip daddr 192.0.2.9 th dport 21 update @askers4 { ip saddr . ip daddr }
//		meta l4proto tcp ip daddr 192.0.2.9 th dport 21 update @listeners4 { ip saddr }
//		meta l4proto tcp th dport 1024-65535 tcp flags & (fin | syn | rst | ack) == syn ip saddr . ip daddr @askers4 goto opened4
//		meta l4proto tcp ip daddr 192.0.2.9 jump asked4
//	}
//	chain opened4 {
//		update @asked4 { ip saddr . meta l4proto . th sport timeout 5m }
//		counter name "service" drop
//	}
//	chain spans4 { # what servers open to a client that spoke, and what they answer
//		meta l4proto tcp th dport 1024-65535 tcp flags & (fin | syn | rst | ack) == syn ip saddr . meta l4proto @helping4 ip daddr @listeners4 goto …
//		ip saddr . meta l4proto @helping4 jump …
//	}
//
// and for both directions, with the client's end as source or destination:
//
//	<client's end> @asked4 <FIN or RST> update @asked4 { … timeout 1m } counter name … drop
//	<client's end> @asked4 <over 200 bytes> update @asked4 { … timeout 2h } counter name … drop
//	<client's end> @asked4 counter name … drop
//
// So a connection is known to the guard until a minute after its end, or for two
// hours after its last text. TFTP's client asks and is answered at the same port:
// its end is known from the request on.
const (
	// controlTimeout is how long a client may take from its last word on a control
	// connection to opening what was announced: as long as it is expected
	// (IPVS's LISTEN, 120 s).
	controlTimeout = 2 * time.Minute
	// relatedTimeout is how long a connection is known that does not send text.
	relatedTimeout = 5 * time.Minute
	dataTimeout    = 2 * time.Hour
	closedTimeout  = time.Minute
	// maxHeaderLen is more than the headers of a segment without text have: 40 bytes of
	// IPv6, 60 of TCP.
	maxHeaderLen = 200
	// maxRelated bounds each of the sets; what does not fit passes to the host.
	maxRelated = 1 << 18
)

// addRelatedSets queues the sets of what clients ask for.
func (g *Guard) addRelatedSets(f *family) error {
	for _, set := range []*nftables.Set{
		{Name: "controlclients", KeyType: f.addr, Timeout: controlTimeout},
		{Name: "controls", KeyType: nftables.MustConcatSetType(f.addr, f.addr), Concatenation: true, Timeout: controlTimeout},
		{Name: "related", KeyType: nftables.MustConcatSetType(f.addr, nftables.TypeInetProto, nftables.TypeInetService), Concatenation: true, Timeout: relatedTimeout},
	} {
		set.Table, set.Dynamic, set.HasTimeout, set.Size = g.table, true, true, maxRelated
		set.Name += f.suffix
		if err := g.conn.AddSet(set, nil); err != nil {
			return err
		}
	}
	return nil
}

// updateHelper queues the rules of chain helped.
func (g *Guard) updateHelper(f *family, r Rules) {
	chain := g.emptyChain(chainHelper, f)
	var all []Match
	for _, service := range r.Services {
		for _, m := range service.HelperMatches {
			if f.has(m.Dst) && !slices.Contains(all, m) {
				all = append(all, m)
			}
		}
	}
	tcp := false
	for _, m := range all {
		matched := func() *rule { return g.rule(chain, f).match(m) }
		switch m.Proto {
		case unix.IPPROTO_TCP:
			matched().key(f.src, f.dst).addTo("controls")
			matched().key(f.src).addTo("controlclients")
			tcp = true
		default:
			matched().key(f.src, l4proto, srcPort).addTo("related")
		}
	}
	if tcp {
		g.trackSYNs(chain, f, counterService, func(x *rule) *rule { return x.key(f.src, f.dst).in("controls") }, f.src, srcPort)
	}
	for _, m := range all {
		toService := func(x *rule) *rule { return x.key(l4proto).is(m.Proto).within(f.dst, m.Dst) }
		g.trackRelated(chain, f, counterService, toService, f.src, srcPort)
	}
}

// trackSYNs queues rules that drop the SYNs among those packets that of lets
// through, and remember the client's end in them, which is addr and port.
func (g *Guard) trackSYNs(chain *nftables.Chain, f *family, counter string, matching func(*rule) *rule, addr, port field) {
	syn := func() *rule {
		return matching(g.rule(chain, f).key(l4proto).is(unix.IPPROTO_TCP).ports(dstPort, firstDataPort, 65535).
			key(tcpFlags).masked([]byte{flagFin | flagSyn | flagRst | flagAck}).is(flagSyn))
	}
	syn().key(addr, l4proto, port).addTo("related")
	syn().drop(counter) // a rule of its own, because a full set ends the first
}

// firstDataPort is the first port that a server or client announces.
const firstDataPort = 1024

// TCP's flags (RFC 9293 section 3.1).
const (
	flagFin = 1
	flagSyn = 2
	flagRst = 4
	flagAck = 16
)

var (
	tcpFlags     = transport(13, 1)
	packetLength = meta(expr.MetaKeyLEN, 4)
)

// trackRelated queues rules that drop the packets of asked connections among those
// that of lets through; addr and port are the client's end in them.
func (g *Guard) trackRelated(chain *nftables.Chain, f *family, counter string, matching func(*rule) *rule, addr, port field) {
	related := func() *rule { return matching(g.rule(chain, f)).key(addr, l4proto, port).in("related") }
	key := func(x *rule) *rule { return x.key(addr, l4proto, port) }
	key(related().key(l4proto).is(unix.IPPROTO_TCP).key(tcpFlags).masked([]byte{flagFin | flagRst}).not(0)).
		update("related", closedTimeout).drop(counter)
	key(related().key(l4proto).is(unix.IPPROTO_TCP).key(packetLength).greater(maxHeaderLen)).
		update("related", dataTimeout).drop(counter)
	key(related().key(l4proto).not(unix.IPPROTO_TCP)).update("related", 0).drop(counter)
	related().drop(counter)
}
