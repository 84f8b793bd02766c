// Package e2e proves the director from the outside: namespaces made with plain
// `ip` commands, nginx and curl at the ends, services configured with ipvsadm
// lines as the HOWTO prints them, and captures judged frame by frame. It has
// tests and benchmarks only.
package e2e
