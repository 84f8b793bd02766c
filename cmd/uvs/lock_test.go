package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// An interface is one director's at a time; a refused claim holds nothing.
func TestClaim(t *testing.T) {
	name := func(s string) string { return fmt.Sprintf("test-%d-%s", os.Getpid(), s) }
	first, err := claim([]string{name("a"), name("b")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim([]string{name("c"), name("b")}); err == nil || !strings.Contains(err.Error(), name("b")+" is run by another director") {
		t.Errorf("second claim: %v", err)
	}
	other, err := claim([]string{name("c")})
	if err != nil {
		t.Fatalf("after the refusal: %v", err)
	}
	other.Close()
	first.Close()
	again, err := claim([]string{name("b")})
	if err != nil {
		t.Fatalf("after the end: %v", err)
	}
	again.Close()
}
