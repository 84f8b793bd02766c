// Package e2e tests the director from the outside. It makes namespaces with
// plain `ip` commands, runs nginx, curl and other programs at the ends, and
// configures services with ipvsadm lines as the HOWTO has them. It checks
// captures frame by frame. The package has tests and benchmarks only.
package e2e
