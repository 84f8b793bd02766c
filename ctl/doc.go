// Package ctl is the operator's side of the director.
//
// The desired state is plain data (ctl/config), which is compiled into an immutable table
// for the workers and into rules for the host (ctl/compile). The Manager (manager.go) is
// the only one to change the state and to publish tables. Commands reach it through the API
// (ctl/rest; their side is ctl/api). status.go lists what there is, and
// explain.go plays a packet through the director without changing anything.
package ctl
