// Package compile makes the desired state (ctl/config) into what runs: the immutable
// table that the workers read (table.go) and the rules that keep the host's stack off
// its packets (guard.go).
//
// What outlives every table, such as IDs, counters and schedulers' cursors, is the
// Runtime (runtime.go). The package publishes no table and installs no rule. But
// Desired.Reconcile gives out IDs, and Desired.Table sets pickers, cursors and timeouts.
package compile
