// Package sched picks the server of a new connection.
//
// It holds IPVS's fourteen schedulers with IPVS's results: the same server
// order, the same rules for ties, for weight 0 and for overloaded servers, the
// same hash functions and table sizes. A director of ours and a kernel
// director given the same commands place the same clients on the same servers.
//
//	rr wrr                take turns                        turns.go
//	lc wlc sed nq         compare loads                     least.go
//	twos                  compare the loads of two draws    twos.go
//	fo ovf                compare weights                   heaviest.go
//	dh sh mh              look the flow up in a table       hashed.go maglev.go
//	lblc lblcr            keep an address on its servers    locality.go cache.go
//	none                  pick nothing
//
// A Picker is built from the whole server list, aside, and never changes; a
// changed list means a new Picker. What has to survive that (whose turn it is,
// which address lives where) is in a Cursor. Connection counts are not kept
// here: a Server points at the counters of the connection table.
//
// Pick is called by all workers at once. It takes no lock, allocates nothing,
// reads no clock (Flow.Now is the time), and its work is bounded by the length
// of the list or table.
//
// Beyond IPVS there are: Server.Down (never picked), Server.RampStart and
// RampEnd (slow start), Options.Table and Options.Fields.
package sched
