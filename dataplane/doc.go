// Package dataplane is the loop of the packet path: a Plane of pinned workers, each
// with one link. All workers read one table.
//
//	Link.Recv            lends the frames of a block
//	Worker.processBatch  reads the clock once, loads the table once
//	director.Process     decides
//	Worker.processBatch  counts the verdicts
//	Link.Send            sends the frames with an out port; the next Recv returns the block
//
// A table is published with one atomic store, and the garbage collector frees the
// older one. Publish returns when no worker uses an older table.
package dataplane
