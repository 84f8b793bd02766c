package guard

import (
	"errors"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

// Names of the counters.
const (
	counterVIP      = "vip"
	counterService  = "service"
	counterSource   = "source"
	counterError    = "error"
	counterFragment = "fragment"
)

// priority puts the chains before all others at ingress. The earliest customary
// priority there is nft's "filter - 500".
const priority = -1000

// maxFragments bounds the fragmented datagrams in a set. It is the number of
// IPv4 identifications.
const maxFragments = 1 << 16

// family has what differs between the IPv4 and the IPv6 chains. Offsets are
// those of RFC 791 and RFC 8200. The packet that an ICMP error quotes starts
// after the eight bytes of the ICMP header (RFC 792, RFC 4443).
type family struct {
	suffix    string // of the names of its sets and chains
	etherType []byte
	addr      nftables.SetDatatype
	src, dst  field

	// ICMP errors that uvs translates, and the packet they quote. Its header is
	// plain if quoteStart under quoteMask is quotePlain.
	icmp                                        uint8
	errors                                      []byte
	quoteStart, quoteProto, quoteDst, quotePort field
	quoteMask, quotePlain                       byte

	// Fragments: the two bytes of offset and flags, their masks, and how long
	// the host keeps a fragment until the others come.
	fragmentID, fragmentOffset field
	laterMask, moreMask        []byte
	fragmentTimeout            time.Duration
}

var ipv4 = family{
	suffix: "4", etherType: []byte{0x08, 0x00}, addr: nftables.TypeIPAddr,
	src: network(12, 4), dst: network(16, 4),

	icmp:       unix.IPPROTO_ICMP,
	errors:     []byte{3, 4, 11, 12},                               // RFC 792: unreachable, quench, exceeded, parameter
	quoteStart: transport(8, 1), quoteMask: 0xff, quotePlain: 0x45, // version 4, five words
	quoteProto: transport(8+9, 1), quoteDst: transport(8+16, 4), quotePort: transport(8+20+2, 2),

	fragmentID: network(4, 2), fragmentOffset: network(6, 2),
	laterMask: []byte{0x1f, 0xff}, moreMask: []byte{0x20, 0},
	fragmentTimeout: 30 * time.Second, // IP_FRAG_TIME, include/net/ip.h
}

var ipv6 = family{
	suffix: "6", etherType: []byte{0x86, 0xdd}, addr: nftables.TypeIP6Addr,
	src: network(8, 16), dst: network(24, 16),

	icmp:       unix.IPPROTO_ICMPV6,
	errors:     []byte{1, 2, 3, 4, 100, 101},                       // every error of RFC 4443 section 2.1
	quoteStart: transport(8, 1), quoteMask: 0xf0, quotePlain: 0x60, // version 6
	quoteProto: transport(8+6, 1), quoteDst: transport(8+24, 16), quotePort: transport(8+40+2, 2),

	fragmentID: fragmentHeader(4, 4), fragmentOffset: fragmentHeader(2, 2),
	laterMask: []byte{0xff, 0xf8}, moreMask: []byte{0, 1},
	fragmentTimeout: 60 * time.Second, // IPV6_FRAG_TIMEOUT, include/net/ipv6.h
}

var families = []*family{&ipv4, &ipv6}

// chainGuard holds the rules for all frames of a family.
const chainGuard = "guard"

// addStaticRules queues all parts of the table that never change.
func (g *Guard) addStaticRules() error {
	for _, name := range []string{counterVIP, counterService, counterSource, counterError, counterFragment} {
		g.conn.AddObj(&nftables.CounterObj{Table: g.table, Name: name})
	}
	g.sets = map[string]*nftables.Set{}
	for _, f := range families {
		if err := g.addSets(f); err != nil {
			return err
		}
		g.addChains(f)
	}
	return nil
}

// addSets queues the sets of one family.
func (g *Guard) addSets(f *family) error {
	err := g.addEndpointSets(f, map[string]int{
		"vips": 1, "locals": 1, "anyservices": 2, "anysources": 2, "sourceaddrs": 2, "helperservers": 2,
		"services": 3, "sources": 3,
	})
	if err != nil {
		return err
	}
	icmpErrors := &nftables.Set{Table: g.table, Name: "errors" + f.suffix, KeyType: nftables.TypeICMPType}
	if f.icmp == unix.IPPROTO_ICMPV6 {
		icmpErrors.KeyType = nftables.TypeICMP6Type
	}
	var types []nftables.SetElement
	for _, t := range f.errors {
		types = append(types, nftables.SetElement{Key: []byte{t}})
	}
	if err := g.conn.AddSet(icmpErrors, types); err != nil {
		return err
	}
	return errors.Join(g.addFragmentSet(f, "dropfragments"), g.addRelatedSets(f), g.addFragmentSet(f, "passfragments"))
}

// addEndpointSets queues sets, each with as many fields of an endpoint: address,
// protocol and port. It stores them for Apply.
func (g *Guard) addEndpointSets(f *family, fields map[string]int) error {
	endpoint := []nftables.SetDatatype{f.addr, nftables.TypeInetProto, nftables.TypeInetService}
	for name, n := range fields {
		set := &nftables.Set{Table: g.table, Name: name + f.suffix, KeyType: f.addr}
		if n > 1 {
			set.KeyType, set.Concatenation = nftables.MustConcatSetType(endpoint[:n]...), true
		}
		if err := g.conn.AddSet(set, nil); err != nil {
			return err
		}
		g.sets[set.Name] = set
	}
	return nil
}

// addFragmentSet queues a set for the identifications of first fragments.
func (g *Guard) addFragmentSet(f *family, name string) error {
	return g.conn.AddSet(&nftables.Set{
		Table: g.table, Name: name + f.suffix, Concatenation: true,
		KeyType: nftables.MustConcatSetType(f.addr, f.addr, nftables.TypeMark),
		Dynamic: true, HasTimeout: true, Timeout: f.fragmentTimeout, Size: maxFragments,
	}, nil)
}

// addChains queues the rules of one family. The package comment shows them.
func (g *Guard) addChains(f *family) {
	service := g.addDropChain(f, counterService)
	source := g.addDropChain(f, counterSource)
	for _, name := range []string{chainMarked, chainOldMarked, chainRanges, chainQuoted, chainTagged, chainHelper} {
		g.addChain(name + f.suffix)
	}
	otherPort := g.addOtherPortChain(f)
	guard := g.addChain(chainGuard + f.suffix)

	g.rule(guard, f).jump(chainHelper)
	g.rule(guard, f).key(f.dst).in("vips").drop(counterVIP)
	g.rule(guard, f).key(f.dst, l4proto).in("anyservices").drop(counterService)
	g.rule(guard, f).key(f.dst, l4proto, dstPort).in("services").goTo(service)
	g.rule(guard, f).jump(chainMarked)
	g.rule(guard, f).jump(chainOldMarked)
	g.rule(guard, f).key(f.fragmentOffset).masked(f.laterMask).not(0, 0).
		key(f.src, f.dst, f.fragmentID).in("dropfragments").drop(counterFragment)

	// The host forwards only frames that are addressed to it.
	g.rule(guard, f).key(packetType).not(unix.PACKET_HOST).pass()
	g.rule(guard, f).handshake(wire.TCPSyn).key(f.src).in("controlclients").
		key(f.src, l4proto, srcPort).addTo("direct")
	g.rule(guard, f).key(f.dst).in("locals").pass()
	g.rule(guard, f).key(f.src, l4proto).in("anysources").drop(counterSource)
	g.rule(guard, f).key(f.src, l4proto, srcPort).in("sources").goTo(source)
	g.rule(guard, f).jump(chainRanges)
	g.rule(guard, f).key(f.src, l4proto).in("sourceaddrs").goTo(otherPort)

	g.rule(guard, f).quote().key(f.quoteDst, f.quoteProto).in("anysources").drop(counterError)
	g.rule(guard, f).quote().key(f.quoteDst, f.quoteProto, f.quotePort).in("sources").drop(counterError)
	g.rule(guard, f).quote().jump(chainQuoted)
}

// addDropChain queues the chain for packets that a rule matched by port. It
// stores the identification of a first fragment for the later ones, and counts
// and drops every packet. These are two rules, because a full set ends the rule
// that updates it.
func (g *Guard) addDropChain(f *family, counter string) *nftables.Chain {
	c := g.addChain(counter + f.suffix)
	g.rule(c, f).key(f.fragmentOffset).masked(f.moreMask).not(0, 0).
		key(f.src, f.dst, f.fragmentID).addTo("dropfragments")
	g.rule(c, f).drop(counter)
	return c
}

// addOtherPortChain queues the chain for packets from a server's address that
// have another port than the server's, or no port. The first fragment of a
// datagram lets the later ones pass with it. The guard drops a later fragment
// whose first it has not seen; if the first turns out to be the host's, uvs
// routes it on.
func (g *Guard) addOtherPortChain(f *family) *nftables.Chain {
	c := g.addChain(chainOtherPort + f.suffix)
	g.rule(c, f).key(f.fragmentOffset).masked(f.laterMask).is(0, 0).key(f.fragmentOffset).masked(f.moreMask).not(0, 0).
		key(f.src, f.dst, f.fragmentID).addTo("passfragments")
	g.rule(c, f).key(f.src, f.dst, f.fragmentID).in("passfragments").pass()
	g.rule(c, f).key(f.fragmentOffset).masked(f.laterMask).not(0, 0).drop(counterFragment)
	return c
}

func (g *Guard) addChain(name string) *nftables.Chain {
	return g.conn.AddChain(&nftables.Chain{Name: name, Table: g.table})
}

// ingressChain returns the chain that the frames of one interface enter first.
func (g *Guard) ingressChain(name string) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return &nftables.Chain{
		Name: name, Table: g.table, Device: name,
		Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
		Priority: nftables.ChainPriorityRef(priority), Policy: &accept,
	}
}

// addInterface queues the chain of an interface.
func (g *Guard) addInterface(name string) {
	c := g.conn.AddChain(g.ingressChain(name))
	for _, f := range families {
		g.rule(c, f).key(etherType).is(f.etherType...).jump(chainGuard)
		g.rule(c, f).key(etherType).is(tagType...).key(vlan).masked(vlanMask).is(0, 0).ofFamily().jump(chainGuard)
		g.rule(c, f).jump(chainTagged)
	}
	if g.redirects {
		g.addEgress(name)
	}
}

// deleteInterface queues the deletion of an interface's chain.
func (g *Guard) deleteInterface(name string) {
	g.conn.DelChain(g.ingressChain(name))
	if g.redirects {
		g.conn.DelChain(g.egressChain(name))
	}
}

// interfaces lists the interfaces that have chains. It asks the kernel, because
// kernels before 6.16 delete a chain together with its interface.
func (g *Guard) interfaces() ([]string, error) {
	chains, err := g.conn.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range chains {
		if c.Table.Name == g.table.Name && c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookIngress {
			names = append(names, c.Name)
		}
	}
	return names, nil
}
