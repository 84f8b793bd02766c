// Package sched picks the server of a new connection.
package sched
