// Package routes watches the host's interfaces, addresses, routes and
// neighbours through rtnetlink. It publishes them as an immutable
// director.HostNet, which it replaces whenever one of them changes.
//
//	kernel ── rtnetlink events ──► host (host.go): the kernel's state, in its terms
//	                                 │ hostNet
//	                                 ▼
//	                               *director.HostNet ──► publish, HostNet
//	                                 │ targets (resolve.go)
//	kernel ◄── NTF_USE ────────────┘        neighbours to resolve now
//
// An event only says that a table changed. The Watcher then reads the table
// from the kernel again, once for a burst of events. Neighbour events are the
// exception: they come all the time and seldom change anything, so the Watcher
// takes the neighbour from the event itself. It reads everything again when the
// kernel had to drop events.
//
// # Routes
//
// The Watcher follows the main table. Of several routes to a prefix it takes
// the one with the lowest metric, and of several next hops the first that is
// not dead. Blackhole, unreachable and prohibit routes, and routes with an
// encapsulation, are routes that cannot be used. It does not follow routes for
// a TOS, other tables, and therefore policy rules.
//
// # Neighbours
//
// The kernel resolves neighbours. The Watcher marks an entry as in use (NTF_USE).
// The kernel treats it as for its own packets: it solicits, confirms an old
// entry before it trusts it, and gives up. No permanent entry is left behind.
//
// uvs sends frames without the kernel's stack, so the kernel sees no use of the
// next hops and their entries go stale. The Watcher applies the rule of RFC
// 4861 section 7.3.3, as the kernel does to a next hop under steady traffic. It
// uses an entry as soon as it turns STALE, which makes the kernel probe it
// (DELAY, PROBE) while frames still go to the old address. Without a reply the
// entry turns FAILED and cannot be used any more. The Watcher solicits a
// missing or FAILED entry once a second for as long as it is needed.
//
// A port needs no address for that: the kernel solicits with the address of
// another interface, or with none. In two cases it cannot, and this package
// solicits from a packet socket (probe.go). One is IPv4 if no interface has an
// IPv4 address, not even lo: without a local table every address looks like a
// broadcast to the kernel (net/ipv4/arp.c). The other is IPv6 if the port has
// no link-local address (disabled, or addrgenmode none; net/ipv6/ndisc.c).
//
// An address without any route may be on the link of any port. The Watcher
// looks for it on all ports until one has it.
//
// The Watcher keeps servers (KeepResolved) and gateways resolved. Directors name
// other next hops when a packet waits for them (Resolve): it solicits these for
// as long as the packet waits. A change of neighbours is published at once.
package routes
