package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// One director at a time locks an interface. A failed lock locks no other
// interface.
func TestLockInterfaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs CAP_NET_ADMIN")
	}
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
	if l, err := net.Listen("unix", "@uvs/interface/"+name("c")); err != nil {
		t.Error(err)
	} else { // anybody may take that name
		defer l.Close()
	}
	if other, err = lockInterfaces([]string{name("c")}); err != nil {
		t.Errorf("a user's abstract name keeps a director off its interface: %v", err)
	}
	other.Close()
	first.Close()
	again, err := lockInterfaces([]string{name("b")})
	if err != nil {
		t.Fatalf("after the end: %v", err)
	}
	again.Close()
}
