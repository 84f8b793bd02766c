//go:build !race

package slab

import (
	"errors"
	"math"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTooLarge asks for more memory than an int can count: an error, not a panic.
func TestTooLarge(t *testing.T) {
	if _, err := New[[8]byte](math.MaxInt / 4); !errors.Is(err, unix.ENOMEM) {
		t.Errorf("error is %v, want ENOMEM", err)
	}
}
