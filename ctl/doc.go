// Package ctl is the operator's side of the director.
//
// The desired state is plain data (state.go). An operation (api.go) is applied
// to a copy of it by a pure function (change.go); what a running director adds
// to it, IDs, counters, cursors, stands beside it (live.go); compile.go makes
// both into the immutable table the workers read. The Manager (manager.go) is
// the only one to change and publish. Others reach it through a unix socket
// (socket.go, client.go), and see it through status.go.
package ctl
