// Package routes knows the ways out of the host: its interfaces, addresses, routes
// and neighbours, as an immutable director.HostNet that is replaced whenever one of
// them changes.
//
//	kernel ── rtnetlink events ──► host (host.go): what the kernel says, plain
//	                                 │ build
//	                                 ▼
//	                               *director.HostNet ──► publish, Hops(), Wait()
//	                                 │ targets (resolve.go)
//	kernel ◄── NTF_USE ────────────┘        who must be resolved now
//
// Events ring a bell; what they say is read anew from the kernel, and a burst of
// them leads to one reading. Neighbour events alone are taken by their word,
// because they come all the time and seldom mean anything new. When the kernel
// had to drop events everything is read again.
//
// # Routes
//
// The main table is followed: of several routes to a prefix the one with the
// lowest metric, of several next hops the first that is alive. Blackhole,
// unreachable and prohibit routes, and those that wrap packets, are routes that
// cannot be used. Routes for a TOS, other tables, and so policy rules, are not
// followed.
//
// # Neighbours
//
// Hardware addresses are found out by the kernel. It is told that an entry is
// used (NTF_USE), and does what it does for its own packets: ask, ask again
// before believing in an old answer, give up. Nothing permanent is left behind.
//
// uvs sends past the kernel, so to the kernel its next hops look idle and their
// entries go stale. The rule is RFC 4861 section 7.3.3, as the kernel applies it
// to a next hop under steady traffic: an entry that turns STALE is used at once,
// which makes the kernel probe it (DELAY, PROBE) while frames still go to the
// old address; if no answer comes it turns FAILED and is no way any more. An
// entry that is missing or FAILED is asked for once a second for as long as it
// is needed.
//
// A port needs no address for that: the kernel asks with the address of another
// interface, or none. It cannot ask in two cases, where this package asks from a
// packet socket (probe.go): IPv4, when no interface has an IPv4 address, not even
// lo (without a local table every address looks like a broadcast to the kernel,
// net/ipv4/arp.c); IPv6, when the port has no link-local address (disabled, or
// addrgenmode none; net/ipv6/ndisc.c).
//
// An address without any route counts as being on the link of every port, and is
// looked for on all of them until one has it.
package routes
