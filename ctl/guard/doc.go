// Package guard keeps the host's own network stack off the frames that uvs
// handles.
//
// An AF_PACKET socket is given a copy of a frame; the host still gets the
// original, and would answer it (RST, ICMP), or forward it a second time. The
// guard drops the original at nftables' netdev ingress hook. The kernel runs
// that hook after the taps of sockets bound to ETH_P_ALL (net/core/dev.c,
// __netif_receive_skb_core), so uvs still sees every frame. XDP would run before
// the taps and is no way to do this.
//
// # Shape
//
// One table for each Guard, named uvs-<random>. Services come and go as set
// elements, and what is more than an address and a port (Match, Span) as rules of
// chains that are emptied and filled again. Every change, however large, is one
// transaction that packets see either not at all or whole. This is what
// `nft list table netdev uvs-…` shows, with fields named instead of the offsets
// that nft prints, and for IPv4 only; sets and chains exist again with a 6:
//
//	table netdev uvs-3f9c01d2 { # progname uvs
//		flags owner
//
//		counter vip { packets 0 bytes 0 } # also: service source error fragment
//
//		set vips4 { type ipv4_addr }                                # ServiceRules.VIPs
//		set locals4 { type ipv4_addr }                              # Rules.HostAddrs
//		set services4 { type ipv4_addr . inet_proto . inet_service } # ServiceRules.Destinations
//		set anyservices4 { type ipv4_addr . inet_proto }             # those of port 0
//		set sources4 { type ipv4_addr . inet_proto . inet_service }  # ServiceRules.Sources
//		set anysources4 { type ipv4_addr . inet_proto }              # those of port 0
//		set errors4 { type icmp_type; elements = { 3, 4, 11, 12 } }
//		set speakers4 { type ipv4_addr . inet_proto }               # ServiceRules.Sources, whatever the port
//		set fragments4 { # and passing4
//			type ipv4_addr . ipv4_addr . mark
//			size 65536
//			flags dynamic,timeout
//			timeout 30s
//		}
//
//		chain eth0 { # one for each interface
//			type filter hook ingress device "eth0" priority -1000; policy accept;
//			ether type ip jump guard4
//			ether type 8021q vlan id 0 meta protocol ip jump guard4
//			jump tagged4                                            # Rules.Tagged
//			# … and the same for ip6
//		}
//
//		chain guard4 {
//			jump helped4                                            # ServiceRules.HelperMatches; see related.go
//			ip daddr @vips4 counter name "vip" drop
//			ip daddr . meta l4proto @anyservices4 counter name "service" drop
//			ip daddr . meta l4proto . th dport @services4 goto service4
//			jump marked4                                            # Rules.Marked
//			jump leaving4                                           # Rules.OldMarked
//			ip frag-off & 0x1fff != 0x0 ip saddr . ip daddr . ip id @fragments4 counter name "fragment" drop
//			meta pkttype != host return
//			ip daddr @locals4 return
//			ip saddr . meta l4proto @anysources4 counter name "source" drop
//			ip saddr . meta l4proto . th sport @sources4 goto source4
//			jump spans4                                             # ServiceRules.SourceRanges
//			ip saddr . meta l4proto @speakers4 goto stray4
//			icmp type @errors4 <quoted packet is IHL 5> <its daddr . proto> @anysources4 counter name "error" drop
//			icmp type @errors4 <quoted packet is IHL 5> <its daddr . proto . dport> @sources4 counter name "error" drop
//			icmp type @errors4 <quoted packet is IHL 5> jump quoted4 # ServiceRules.SourceRanges
//		}
//
//		chain marked4 { # for example; likewise leaving4, spans4 and quoted4
//			meta l4proto tcp ip daddr 192.0.2.9 return
//			iifname "eth0" meta l4proto tcp ip daddr & 255.255.255.0 == 192.0.2.0 th dport 8000-8100 goto service4
//		}
//
//		chain stray4 { # spans4 ends here, too, for the nets of its rules
//			ip frag-off & 0x1fff == 0x0 ip frag-off & 0x2000 != 0x0 update @passing4 { ip saddr . ip daddr . ip id }
//			ip saddr . ip daddr . ip id @passing4 return
//			ip frag-off & 0x1fff != 0x0 counter name "fragment" drop
//		}
//
//		chain service4 { # and source4
//			ip frag-off & 0x2000 != 0x0 update @fragments4 { ip saddr . ip daddr . ip id }
//			counter name "service" drop
//		}
//	}
//
// RedirectReplies shows what joins this when the host itself is a server.
//
// # What else holds
//
// Fragments: only the first has ports. It leaves its identification behind for
// the later ones, both if it is dropped and, where it comes from a server, if it
// passes. A later fragment that arrives before the first is dropped if it comes
// from an address of ServiceRules.Sources and is not for the host; uvs holds it, and
// routes it on if its first turns out to be the host's. To a service at an
// address of the host it passes: the host can only keep it for the rest, and
// forgets it in silence, as no ICMP is sent for want of fragments if the first is
// missing (ip_expire in net/ipv4/ip_fragment.c, ip6frag_expire_frag_queue in
// include/net/ipv6_frag.h). Of what Rules.Marked match, such a fragment is
// forwarded by a host that routes.
//
// The hook runs before the host's connection tracking puts fragments together
// (nf_defrag, at prerouting), so it sees them one by one whether that is active or
// not; but a datagram some of whose fragments the host has got and uvs has routed
// on the others, by the rule above, is complete for neither of them then.
//
// VLAN: tagged frames pass, for they are those of VLAN interfaces on top of this
// one, which have a chain of their own where uvs runs on them. The kernel has
// taken the outer tag off before the hook, and the host throws away what is of a
// VLAN without an interface. A tag of VLAN 0, priority only, does not count.
// Rules.Tagged has frames with one tag judged like untagged ones, and so kept
// from VLAN interfaces too; with two they are not IP at the hook, and pass.
//
// An ICMP error quotes a packet whose header is taken to be the plain one:
// twenty bytes, or IPv6 without extension headers. Others pass to the host.
//
// ARP, and IPv6 neighbour discovery that is not addressed to a VIP, is never
// touched.
package guard
