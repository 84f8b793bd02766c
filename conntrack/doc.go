// Package conntrack remembers which server a flow got, how far its connection
// has come, and when to forget it. It knows nothing of rules, sockets or clocks:
// time is an argument, and what is to be remembered is told by the director.
//
// # The parts
//
// All workers share one Table. A worker uses it through its Local, in turns: Begin,
// then any number of Lookup, Insert, Step and Expire, then End. Other goroutines
// list and flush (Walk, Flush), without stopping workers. There is no lock on
// any packet's way, only atomic operations.
//
//   - The slab (conn.go) has a Conn of 96 bytes for each connection or template,
//     in memory mapped outside the Go heap and free of pointers. What packets
//     change is one word (life), so that state, deadline and packet count move
//     together, and a packet and the end of its conn cannot both win.
//   - The index (index.go) is cache lines of seven tagged slots over the hash of
//     protocol and client's end, which stand in packets of both directions: one
//     slot serves both. A conn whose home line is full stands in one of eight
//     others, and the home line counts what is away in each, so that a lookup
//     goes only where something is. When the table is full 3 of 100 are away.
//   - Memory that nobody can read any more is told by epochs (party.go). Each
//     worker keeps its own free conns and trades chunks with a common store
//     (memory.go).
//   - Each worker has a timer wheel (wheel.go) of the conns it inserted, which
//     only it touches. Packets store deadlines; a conn whose slot comes up
//     early is put where its deadline now belongs. A deadline that moves back, or
//     the end of a conn, is told to the wheel's worker through its inbox, a stack
//     linked through a word of each conn. End does all upkeep within a budget.
//   - States and timeouts (state.go, machine.go, settings.go) are IPVS's.
//   - An expectation is an entry that waits for a port: it is found when no conn is,
//     and SetPort puts a conn in its place. It hangs on the conn that announced it
//     (Control), and the two keep each other alive.
//   - A conn that a helper looks at may have a session (sessions.go), the number of what
//     the helper remembers of it, which one worker at a time claims.
//   - When the table is full (evict.go), conns go in this order: half-open ones and
//     datagrams nobody answered, closing ones, those idle for longest.
//
// # Memory order
//
// Go's atomic operations are sequentially consistent: all of them appear in one
// order that every goroutine agrees on, and what a goroutine wrote before one is
// seen by those that see the one. Four arguments rest on this.
//
// What a reader of the index sees is whole. The plain fields of a Conn are
// written before its slot is stored by compare-and-swap, and are read only after
// that slot was loaded; nobody writes them again before the conn is reused.
//
// A conn is reused only when no turn that could have found it is open. Begin
// stores the epoch in the worker's word before the first slot is loaded; End
// clears it after the last. The epoch moves from e to e+1 only if every word was
// seen to be clear or e. Let G be the epoch at the moment a turn stores its
// word: at most one move, G to G+1, can have looked at the word before, and
// every later one finds there something older than the epoch and fails. So while
// the turn is open the epoch is at most G+1. What this turn can have found was
// still in the index after its Begin, hence is retired with a stamp of at least
// G, and is reused when the epoch is two past the stamp, G+2 at least: when the
// turn is over. A worker without an open turn holds up nothing.
//
// A flow has one conn. Inserting workers put their conns in as tentative and look
// for rivals afterwards: either the looks of both come after both conns are
// in, or the look of the later one does; so one of the two never gets past the
// other's conn. The rest is in index.insert. Its compare-and-swaps cannot hit a
// later stay of the same conn in the same slot, because a conn that was taken
// out is not put in again before the turns that saw it are over.
//
// A session is one conn's. See sessions.
//
// A conn is retired once. Who ends it is the one whose swap clears its live bit.
// It takes the conn out of the index, then marks it unlinked in the word that
// counts its children; who brings that word to "unlinked, no children" (it, or
// the last child) mails the conn to its worker. The worker clears the conn's mail
// word before it looks at the conn, so nothing that happened before a mail was
// refused is overlooked; and it retires the conn only if it can claim the mail
// word, so a retired conn is on no stack and cannot be put on one.
//
// The race detector does not look at mapped memory; under it the slab is on the
// heap (dataplane/slab), so that the tests check these arguments.
//
// # Figures
//
// Medians on 2 cores of an AMD EPYC (Zen 4, 32 MiB L3), Go 1.26, random clients;
// where two are given, of a quiet hour and of a busy one:
//
//	BenchmarkLookup           1M conns   batches of 64    70-80 ns   one by one  176 ns
//	                         10M conns   batches of 64    77-94 ns   one by one  202-224 ns
//	BenchmarkLookupWorkers    1M conns   one worker       69-74 ns   two          35-44 ns
//	BenchmarkInsertExpire     1M conns   389-414 ns for lookup, insert, step and expiry: 2.4M/s
//	BenchmarkDueAtOnce        5M due     240-490 ns each (with and without huge pages), in turns of 60-125 us
//	BenchmarkMemory          10M conns   115 bytes each, everything included;
//	                                     collector and heap as with 10
//	BenchmarkRivals           1M conns   table 76 ns, Go map 466 ns, xsync.Map 562 ns, sync.Map 858 ns
package conntrack
