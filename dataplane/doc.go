// Package dataplane is the loop that carries frames.
package dataplane
