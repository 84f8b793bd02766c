// Package dataplane is the loop that carries frames: a Plane of pinned workers,
// each with a link of its own, all reading one table.
//
//	Link.Recv         lends the frames of a block
//	Worker.turn       reads the clock once, loads the table once
//	director.Process  decides
//	Worker.turn       counts the verdicts
//	Link.Send         sends what has a way out; the next Recv gives the block back
//
// A table is published with one atomic store; the garbage collector is its
// grace period. Publish returns when no worker uses an older table any more.
package dataplane
