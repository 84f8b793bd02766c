package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// One director at a time locks an interface. A failed lock locks no other
// interface.
func TestLockInterfaces(t *testing.T) {
	name := func(s string) string { return fmt.Sprintf("test-%d-%s", os.Getpid(), s) }
	first, err := lockInterfaces([]string{name("a"), name("b")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockInterfaces([]string{name("c"), name("b")}); err == nil ||
		!strings.Contains(err.Error(), name("b")+" is run by another director") {
		t.Errorf("second lock: %v", err)
	}
	other, err := lockInterfaces([]string{name("c")})
	if err != nil {
		t.Fatalf("after the refusal: %v", err)
	}
	other.Close()
	first.Close()
	again, err := lockInterfaces([]string{name("b")})
	if err != nil {
		t.Fatalf("after the end: %v", err)
	}
	again.Close()
}
