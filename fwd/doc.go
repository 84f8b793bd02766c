// Package fwd brings a frame to its server and back.
package fwd
