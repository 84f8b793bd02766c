// Package config is the desired state of a director as plain data: services with their
// servers, mark rules and settings (state.go, marks.go, settings.go).
//
// An operation (op.go) is applied whole or not at all (change.go). The package knows no
// director and no host: the API, the commands and the manager share it.
package config
