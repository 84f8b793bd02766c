// Package rest is the director's API: HTTP with JSON over a Manager, described by OpenAPI 3.1.
//
//	listen.go, tls.go   where it listens: a unix socket, TCP with mutual TLS
//	access.go           who may read and change, and who made a change
//	server.go           what all requests have in common: limits, the log, errors
//	routes.go           how a route is registered with huma, which generates the description
//	schema.go           the JSON Schema of the types of ctl/config and ctl/api
//	config.go, services.go, servers.go, settings.go, state.go, streams.go   the routes
//
// Bodies are decoded by config.Decode, as files are, and not by huma.
package rest
