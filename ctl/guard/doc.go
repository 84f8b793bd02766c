// Package guard keeps the host's own network stack off the frames that uvs
// handles.
//
// An AF_PACKET socket receives a copy of a frame. The host still receives the
// original, and would answer it (RST, ICMP) or forward it a second time. The
// guard drops the original at nftables' netdev ingress hook. The kernel runs
// that hook after the taps of sockets bound to ETH_P_ALL (net/core/dev.c,
// __netif_receive_skb_core), so uvs still sees every frame. Rejected: XDP, which
// runs before the taps.
//
// # Table
//
// Each Guard has one table, named uvs-<random>. A service's addresses and ports
// are set elements. Conditions that are more than an address and a port (Match,
// PortRange) are rules in chains that Apply flushes and fills again. Every
// change, however large, is one transaction: a packet sees either none of it or
// all of it. `nft list table netdev uvs-…` shows the following, except that nft
// prints offsets for the quoted packet's fields. Only IPv4 is shown; for IPv6,
// each set and chain exists again with the suffix 6:
//
//	table netdev uvs-3f9c01d2 { # progname uvs
//		flags owner
//
//		counter vip { packets 0 bytes 0 } # also: service source error fragment
//
//		set vips4 { type ipv4_addr }                                 # ServiceRules.VIPs
//		set locals4 { type ipv4_addr }                               # Rules.HostAddrs
//		set services4 { type ipv4_addr . inet_proto . inet_service } # ServiceRules.Destinations
//		set anyservices4 { type ipv4_addr . inet_proto }             # those of port 0
//		set sources4 { type ipv4_addr . inet_proto . inet_service }  # ServiceRules.ReplySources
//		set anysources4 { type ipv4_addr . inet_proto }              # those of port 0
//		set errors4 { type icmp_type; elements = { 3, 4, 11, 12 } }
//		set sourceaddrs4 { type ipv4_addr . inet_proto }             # ServiceRules.ReplySources, whatever the port
//		set dropfragments4 { # and passfragments4
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
//			jump helper4                                            # ServiceRules.HelperMatches; see related.go
//			ip daddr @vips4 counter name "vip" drop
//			ip daddr . meta l4proto @anyservices4 counter name "service" drop
//			ip daddr . meta l4proto . th dport @services4 goto service4
//			jump marked4                                            # Rules.Marked
//			jump oldmarked4                                         # Rules.OldMarked
//			ip frag-off & 0x1fff != 0x0 ip saddr . ip daddr . ip id @dropfragments4 counter name "fragment" drop
//			meta pkttype != host return
//			<SYN> ip saddr @controlclients4 update @direct4 { … } # see related.go
//			ip daddr @locals4 return
//			ip saddr . meta l4proto @anysources4 counter name "source" drop
//			ip saddr . meta l4proto . th sport @sources4 goto source4
//			jump ranges4                                            # ServiceRules.ReplySourceRanges
//			ip saddr . meta l4proto @sourceaddrs4 goto otherport4
//			icmp type @errors4 <quoted IHL is 5> <its daddr . proto> @anysources4 counter name "error" drop
//			icmp type @errors4 <quoted IHL is 5> <its daddr . proto . dport> @sources4 counter name "error" drop
//			icmp type @errors4 <quoted IHL is 5> jump quoted4 # ServiceRules.ReplySourceRanges
//		}
//
//		chain marked4 { # an example; oldmarked4, ranges4 and quoted4 look the same
//			meta l4proto tcp ip daddr 192.0.2.9 return
//			iifname "eth0" meta l4proto tcp ip daddr & 255.255.255.0 == 192.0.2.0 th dport 8000-8100 goto service4
//		}
//
//		chain otherport4 { # ranges4 ends here, too, for the nets of its rules
//			ip frag-off & 0x1fff == 0x0 ip frag-off & 0x2000 != 0x0 update @passfragments4 { … }
//			ip saddr . ip daddr . ip id @passfragments4 return
//			ip frag-off & 0x1fff != 0x0 counter name "fragment" drop
//		}
//
//		chain service4 { # and source4
//			ip frag-off & 0x2000 != 0x0 update @dropfragments4 { ip saddr . ip daddr . ip id }
//			counter name "service" drop
//		}
//	}
//
// Guard.RedirectReplies shows what it adds when the host itself is a server.
//
// # Fragments
//
// Only the first fragment of a datagram has ports. The guard stores its
// identification for the later ones when it drops the first. If the first comes
// from a server's address, the guard stores it when the first passes, too.
//
// A later fragment may arrive before the first. The guard drops it if it comes
// from an address of ServiceRules.ReplySources and is not for the host. uvs queues it,
// and routes it on if its first turns out to be the host's. A fragment to a
// service at an address of the host passes. The host can only keep it until the
// others come, and then discards it without a message. Linux sends no ICMP error
// when the first fragment is missing (ip_expire in net/ipv4/ip_fragment.c,
// ip6frag_expire_frag_queue in include/net/ipv6_frag.h). If only Rules.Marked would
// match the fragment, a host that routes forwards it.
//
// The hook runs before the host's connection tracking reassembles datagrams
// (nf_defrag, at prerouting), so the guard sees single fragments in either case.
// One datagram is lost by this: if the host got some of its fragments and uvs
// routed on the others, neither has all of them.
//
// # Other frames
//
// VLAN: tagged frames pass. They belong to the VLAN interfaces on top of this
// one, which have their own chain if uvs runs on them. The kernel takes the
// outer tag off before the hook, and drops frames of a VLAN without an
// interface. A tag with VLAN 0, which carries a priority only, does not count.
// Rules.Tagged applies the rules to frames with one tag as well, so VLAN
// interfaces do not get them. A frame with two tags is not IP at the hook, and
// passes.
//
// ICMP errors: the rules expect a plain header on the quoted packet, which is
// twenty bytes of IPv4 or IPv6 without extension headers. Other errors pass.
//
// ARP always passes, and so does IPv6 neighbour discovery that is not addressed
// to a VIP.
package guard
