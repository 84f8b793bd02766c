package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAddressSpace starts uvs, linked as make build does, with less address space than
// Go can begin with. It prints one line.
func TestAddressSpace(t *testing.T) {
	if testing.Short() {
		t.Skip("links uvs")
	}
	uvs := filepath.Join(t.TempDir(), "uvs")
	build := exec.Command("go", "build", "-ldflags", "-E uvs_entry", "-o", uvs, "uvs/cmd/uvs")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, mib := range []int{100, 500, 800, 1000, 1400, 1700, 2047} {
		command := fmt.Sprintf("ulimit -v %d; exec %s version", mib<<10, uvs)
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || string(out) != tooLittleAddressSpace {
			t.Errorf("with %d MiB: %v\n%s", mib, err, out)
		}
	}
	out, err := exec.Command("sh", "-c", "ulimit -v 2097152; exec "+uvs+" version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "uvs ") {
		t.Errorf("with 2 GiB: %v\n%s", err, out)
	}
}
