package ctl

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A live director's socket is not taken; a dead one's is; a file is left alone.
func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "uvs.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v; want 0600", info.Mode(), err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "in use by a live director") {
		t.Errorf("second director: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if l, err = Listen(path); err != nil {
		t.Fatalf("leftover socket: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("over a file: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("the file is gone")
	}
}

// Without a director the error names the socket.
func TestDialNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "uvs.sock")
	if _, err := Dial(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
}
