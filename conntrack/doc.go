// Package conntrack remembers which server a flow got.
package conntrack
