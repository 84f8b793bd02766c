// Package conntrack is the connection table: which server a flow got, the state of its
// connection, and when it expires. It knows no services, sockets or clocks: time is an
// argument, and the director tells it what to keep.
//
// All workers share one Table. Each uses it through its Worker, in batches: Begin, then
// any number of Lookup, Insert, Step and Expire, then End. Other goroutines list and
// flush (Walk, Flush) without stopping workers. No packet waits for a lock. A packet of a
// helped TCP connection is dropped if another worker holds its session (Worker.LockSession).
//
// # One lookup
//
// See the diagram at the top of index.go.
//
// # The life of a conn
//
//	free        in a worker's memory, or in the common store of chunks
//	  | Insert  takes a credit (room for one conn), fills the conn
//	tentative   in the index, but lookups skip it
//	  | settle  no rival of the same flow won (else the conn is retired at once)
//	settled     found, stepped, listed, counted; in the wheel of its worker
//	  | end     one compare-and-swap clears its live bit: timeout, Expire, Flush,
//	  |         drop_entry or eviction
//	ended       lookups that found it may still read it
//	  | unlink  taken out of the counts and the index
//	unlinked    waits until it has no children
//	  | notify  queued to its worker, which takes it out of the wheel
//	retired     in limbo, with the epoch of this moment
//	  | reclaim after a grace period: two epochs later
//	free
//
// # The parts
//
//	table.go                        Table, its configuration and memory
//	conn.go                         Conn and its state word, which packets change
//	index.go                        from a hash to a conn
//	worker.go, lookup.go, insert.go,
//	step.go, upkeep.go              a Worker's methods, by when they are called
//	end.go                          how a conn ends, its parent and children, the inbox
//	epoch.go, memory.go             epoch-based reclamation, the store of free conns
//	wheel.go                        the timer wheel of a worker
//	state.go, machine.go,
//	settings.go                     IPVS's states, transitions and timeouts
//	sessions.go                     sessions: what a helper keeps about a conn
//	evict.go, defence.go            a full table; IPVS's drop_entry and drop_packet
//	walk.go, stats.go               listing, flushing, statistics
//
// An expectation is a conn that waits for a port. It is found only if no other conn is,
// and SetPort replaces it by a conn. It is a child of the conn that announced it
// (Control): a child keeps its parent alive.
//
// # Memory order
//
// Go's atomic operations are sequentially consistent: there is one order of all of them
// on which every goroutine agrees. What a goroutine wrote before an atomic store is
// visible to every goroutine that loads the stored value. Five arguments rest on this.
//
// A reader of the index sees complete conns. The plain fields of a Conn are written
// before a compare-and-swap stores its slot, and are read only after that slot was
// loaded. They are not written again before the conn is reused.
//
// A conn is reused only when no open batch can have found it. Epochs tell when that is
// so. Begin stores the table's epoch in the worker's word before it loads the first slot;
// End clears the word after the last. The epoch moves from e to e+1 only if every
// worker's word was seen to be clear or e. Let G be the epoch when a batch stores its
// word. The move from G to G+1 may not have seen the word yet, or may have seen it equal
// to G. Every move after that one finds a value below the epoch, and fails. So the epoch
// is at most G+1 while the batch is open. What the batch can have found was still in the
// index after its Begin. So it is retired in epoch G or later, and reused in epoch G+2 or
// later: when the batch is over. A worker without an open batch delays nothing.
//
// A flow has one conn. Inserting workers put in tentative conns and search for rivals
// afterwards. So of two rivals at least one worker finds the other's conn. The rest is
// at index.insert. Its compare-and-swaps have no ABA problem, because a removed conn is
// inserted again only after the batches that saw it are over.
//
// A session belongs to one conn. See the type sessions.
//
// A conn is retired exactly once. The goroutine whose compare-and-swap clears the live
// bit owns its removal. It takes the conn out of the index and then marks it unlinked in
// the word that counts its children. Whoever makes that word "unlinked, no children", the
// owner or the last child, queues the conn to its worker (notify). notify refuses when
// the conn is queued already. The worker clears the conn's inbox link before it looks at
// the conn, so it misses nothing that happened before a refusal. It retires the conn only
// if it can set the link again. So a retired conn is in no inbox, and cannot be put into
// one.
//
// The race detector does not look at mapped memory. When it runs, the slab is on the heap
// (dataplane/slab), so that the tests check these arguments.
//
// # Measurements
//
// Medians on 2 cores of an AMD EPYC (Zen 4, 32 MiB L3), Go 1.26, random clients. Where
// there are two, the first is of a quiet hour and the second of a busy one:
//
//	BenchmarkLookup           1M conns   batches of 64    70-80 ns   one by one  176 ns
//	                         10M conns   batches of 64    77-94 ns   one by one  202-224 ns
//	BenchmarkLookupWorkers    1M conns   one worker       69-74 ns   two          35-44 ns
//	BenchmarkInsertExpire     1M conns   389-414 ns for lookup, insert, step and expiry: 2.4M/s
//	BenchmarkDueAtOnce        5M due     240-490 ns each (with and without huge pages), in batches of 60-125 us
//	BenchmarkMemory          10M conns   115 bytes each, everything included;
//	                                     collector and heap as with 10
//	BenchmarkRivals           1M conns   table 76 ns, Go map 466 ns, xsync.Map 562 ns, sync.Map 858 ns
package conntrack
