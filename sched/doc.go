// Package sched picks the server of a new connection.
//
// It has IPVS's fourteen schedulers with IPVS's results. The order of servers, hash
// functions and table sizes are the same, and so are the rules for ties, weight 0 and
// overloaded servers. Given the same commands, uvs and a kernel director send the same
// clients to the same servers.
//
//	rr wrr                round robin                           roundrobin.go
//	lc wlc sed nq         least load                            least.go
//	twos                  lesser load of two random servers     twos.go
//	fo ovf                highest weight                        failover.go
//	dh sh mh              hash of the flow                      hashed.go maglev.go
//	lblc lblcr            same servers for the same address     locality.go cache.go
//	none                  no server
//
// The table schedulers in sched.go lists them all.
//
// A Picker is built from the whole server list by the control plane, and never
// changes; a changed list needs a new Picker. The state that survives the change,
// such as a round-robin position, is in a Cursor. Connection counts are not kept
// here: a Server points to the counters of the connection table.
//
// All workers call Pick concurrently. It takes no lock, does not allocate, and
// reads no clock: Flow.Now is the time. The length of the list or table bounds its
// work.
//
// IPVS has no Server.Down, slow start (Server.SlowStartBegin and SlowStartEnd),
// Options.Table and Options.Fields.
package sched
