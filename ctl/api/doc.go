// Package api is what a command needs to talk to a running director: the types of
// requests and responses beyond those of ctl/config, and a Client for its socket. It links
// neither the director nor its rings or its guard.
package api
