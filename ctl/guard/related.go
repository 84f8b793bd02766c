package guard

import (
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// A helper's connections (ServiceRules.HelperMatches) announce data connections.
// The guard cannot read the announcements, so it learns of data connections from
// the packets that clients send, as netfilter does with RELATED:
//
//	chain helper4 { # an example for FTP at 192.0.2.9; empty without helpers
//		meta l4proto tcp ip daddr 192.0.2.9 th dport 21 update @controls4 { ip saddr . ip daddr }
//		meta l4proto tcp ip daddr 192.0.2.9 th dport 21 update @controlclients4 { ip saddr }
//		<SYN+ACK> ip daddr 192.0.2.9 th dport 20 ip saddr . ip daddr @controls4 update @related4 { … }
//		<the same> counter name "service" drop
//		<SYN to port 1024-65535> ip saddr . ip daddr @controls4 update @related4 { … . th sport }
//		<the same> counter name "service" drop
//		meta l4proto tcp ip daddr 192.0.2.9 <track the client's endpoint, as below>
//	}
//	chain ranges4 { # what servers open to a client with a control connection, and what they reply
//		<SYN to port 1024-65535> … @helperservers4 ip daddr @controlclients4 update @related4 { … }
//		<the same> counter name "source" drop
//		<SYN+ACK from port 1024-65535> … ip daddr . meta l4proto . th dport != @direct4 update @related4 { … }
//		<the same> counter name "source" drop
//		ip saddr . meta l4proto @helperservers4 <track the client's endpoint, as below>
//	}
//
// The rules that track are the same for both directions. The client's endpoint is
// the source in one and the destination in the other:
//
//	<client's endpoint> @related4 <FIN or RST> update @related4 { … timeout 1m } counter name … drop
//	<client's endpoint> @related4 <over 200 bytes> update @related4 { … timeout 2h } counter name … drop
//	<client's endpoint> @related4 counter name … drop
//
// uvs gets a frame before the guard does. On another processor the answer to a SYN may
// reach the guard before the SYN. So a SYN+ACK, too, begins a data connection, unless it
// answers a SYN that passed to the host. Those of clients with a control connection are
// in @direct4.
//
// So the guard remembers a connection for one minute after its FIN or RST, and
// for two hours after its last payload. A TFTP server replies to the port that
// the request came from, so the guard knows that endpoint from the request on.
const (
	// controlTimeout is how long after the last packet on the control
	// connection a client may open the data connection. It is how long IPVS
	// keeps an expectation (state LISTEN, 120 s).
	controlTimeout = 2 * time.Minute
	// relatedTimeout is how long the guard remembers a connection without
	// payload.
	relatedTimeout = 5 * time.Minute
	dataTimeout    = 2 * time.Hour
	closedTimeout  = time.Minute
	// maxHeaderLen is more bytes than any segment without payload has: 40 of
	// IPv6, 60 of TCP.
	maxHeaderLen = 200
	// maxRelated bounds each of the sets. A connection that does not fit passes
	// to the host.
	maxRelated = 1 << 18
)

// addRelatedSets queues the sets of control connections and of the connections
// related to them.
func (g *Guard) addRelatedSets(f *family) error {
	endpoint := nftables.MustConcatSetType(f.addr, nftables.TypeInetProto, nftables.TypeInetService)
	for _, set := range []*nftables.Set{
		{Name: "controlclients", KeyType: f.addr, Timeout: controlTimeout},
		{
			Name: "controls", KeyType: nftables.MustConcatSetType(f.addr, f.addr), Concatenation: true,
			Timeout: controlTimeout,
		},
		{Name: "related", KeyType: endpoint, Concatenation: true, Timeout: relatedTimeout},
		{Name: "direct", KeyType: endpoint, Concatenation: true, Timeout: closedTimeout},
	} {
		set.Table, set.Dynamic, set.HasTimeout, set.Size = g.table, true, true, maxRelated
		set.Name += f.suffix
		if err := g.conn.AddSet(set, nil); err != nil {
			return err
		}
	}
	return nil
}

// updateHelper queues the rules of chain helper.
func (g *Guard) updateHelper(f *family, r Rules) {
	chain := g.emptyChain(chainHelper, f)
	var all []Match
	for service := range r.Services.All() {
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
			m.DstFirst, m.DstLast = m.DstFirst-1, m.DstLast-1 // helper.DataPort
			g.track(counterService, func() *rule {
				return matched().handshake(wire.TCPSyn|wire.TCPAck).key(f.src, f.dst).in("controls")
			}, f.src, srcPort)
			tcp = true
		default:
			matched().key(f.src, l4proto, srcPort).addTo("related")
		}
	}
	if tcp {
		g.track(counterService, func() *rule {
			return g.rule(chain, f).handshake(wire.TCPSyn).ports(dstPort, firstDataPort, 65535).
				key(f.src, f.dst).in("controls")
		}, f.src, srcPort)
	}
	for _, m := range all {
		toService := func(x *rule) *rule { return x.key(l4proto).is(m.Proto).within(f.dst, m.Dst) }
		g.trackRelated(chain, f, counterService, toService, f.src, srcPort)
	}
}

// track queues rules that drop the matching packets and store the client's endpoint,
// which is in the fields addr and port.
func (g *Guard) track(counter string, matching func() *rule, addr, port field) {
	matching().key(addr, l4proto, port).addTo("related")
	matching().drop(counter) // a rule by itself, because a full set ends the first
}

// handshake continues for a TCP segment that has these of FIN, SYN, RST and ACK.
func (r *rule) handshake(flags byte) *rule {
	return r.key(l4proto).is(unix.IPPROTO_TCP).
		key(tcpFlags).masked([]byte{wire.TCPFin | wire.TCPSyn | wire.TCPRst | wire.TCPAck}).is(flags)
}

// firstDataPort is the first port that a server or client announces.
const firstDataPort = 1024

var (
	tcpFlags     = transport(13, 1)
	packetLength = meta(expr.MetaKeyLEN, 4)
)

// trackRelated queues rules that drop the packets of related connections among
// the matching ones. The client's endpoint is in the fields addr and port.
func (g *Guard) trackRelated(chain *nftables.Chain, f *family, counter string, matching func(*rule) *rule,
	addr, port field,
) {
	related := func() *rule { return matching(g.rule(chain, f)).key(addr, l4proto, port).in("related") }
	key := func(x *rule) *rule { return x.key(addr, l4proto, port) }
	key(related().key(l4proto).is(unix.IPPROTO_TCP).key(tcpFlags).masked([]byte{wire.TCPFin | wire.TCPRst}).not(0)).
		update("related", closedTimeout).drop(counter)
	key(related().key(l4proto).is(unix.IPPROTO_TCP).key(packetLength).greater(maxHeaderLen)).
		update("related", dataTimeout).drop(counter)
	key(related().key(l4proto).not(unix.IPPROTO_TCP)).update("related", 0).drop(counter)
	related().drop(counter)
}
