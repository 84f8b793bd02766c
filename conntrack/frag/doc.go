// Package frag tracks fragmented datagrams without reassembling them. Only the
// first fragment of a datagram has ports. What the director decides about it
// becomes a Flow, which the later fragments follow, each by itself. Fragments
// that come before their first wait as copies in a Queue.
//
//	first    Table.Begin ... the director decides ... Table.Finish
//	later    Table.Follow ─┬─ a flow: goes where the first went
//	                       └─ NoFlow: Queue.Push, and Queue.Pop after Finish
//
// The fragments of a datagram may reach different workers. So all workers share
// the flows, and each looks up from time to time (Queue.Next, Table.Decided)
// what it has queued.
//
// Queues also keep packets that wait for something else (Use).
//
// Memory is fixed (Memory), and nothing is allocated after New.
package frag
