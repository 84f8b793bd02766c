package privsep

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// sandboxTest is the environment variable that makes this test binary a process to be sandboxed.
const sandboxTest = "UVS_TEST_SANDBOX"

func TestMain(m *testing.M) {
	if what := os.Getenv(sandboxTest); what != "" {
		if err := sandboxed(what, os.Getenv("UVS_TEST_DIR")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// sandboxed is what the process does.
func sandboxed(what, dir string) error {
	if what == "connect" {
		_, err := Connect()
		return err
	}
	if what == "privileged" {
		if err := DropPrivileged(unix.CAP_NET_RAW); err != nil {
			return err
		}
		return show("")
	}
	state, err := os.Open(dir)
	if err != nil {
		return err
	}
	user := -1
	if what == "user" {
		user = 64738
	}
	if user >= 0 {
		if err := state.Chown(user, -1); err != nil {
			return err
		}
	}
	s, err := Drop(user, 64739, state)
	if err != nil {
		return err
	}
	if what == "forbidden" {
		return unix.Unshare(unix.CLONE_NEWUSER)
	}
	file := fmt.Sprintf("/proc/self/fd/%d/file", state.Fd())
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if s.Landlock {
		_, err := os.ReadFile(filepath.Join(dir, "..", "outside"))
		fmt.Println("outside:", err)
	}
	return show(s.String())
}

// show prints what the kernel says of each thread.
func show(sandbox string) error {
	fmt.Println("sandbox:", sandbox)
	threads, err := os.ReadDir("/proc/self/task")
	for _, thread := range threads {
		text, err := os.ReadFile("/proc/self/task/" + thread.Name() + "/status")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			name, _, _ := strings.Cut(line, ":")
			switch name {
			case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp":
				fmt.Println(strings.Join(strings.Fields(line), " "))
			}
		}
	}
	return err
}

// seccompMode is what /proc/PID/status shows of a process with a filter, if there can be one.
func seccompMode() string {
	if _, err := arch.GetInfo(runtime.GOARCH); err != nil || !seccomp.Supported() {
		return "0"
	}
	return "2"
}

func runSandboxed(t *testing.T, what, dir string) (output string, status *os.ProcessState) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), sandboxTest+"="+what, "UVS_TEST_DIR="+dir)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState
}

// Every thread of the unprivileged process has another user, no capability, no way to get one, and
// a list of system calls. It can write in the state directory and read nothing beside it.
func TestDrop(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := stateDir(t)
	out, status := runSandboxed(t, "user", dir)
	if !status.Success() {
		t.Fatalf("%v: %s", status, out)
	}
	t.Log(out)
	for _, want := range []string{
		"Uid: 64738 64738 64738 64738", "Gid: 64739 64739 64739 64739", "Groups:", "NoNewPrivs: 1",
		"Seccomp: " + seccompMode(), "CapInh: 0000000000000000", "CapPrm: 0000000000000000", "CapEff: 0000000000000000",
		"CapBnd: 0000000000000000", "CapAmb: 0000000000000000",
	} {
		name, _, _ := strings.Cut(want, ":")
		if n, all := strings.Count(out, want+"\n"), strings.Count(out, name+":"); n != all || n == 0 {
			t.Errorf("%d of %d threads have %q", n, all, want)
		}
	}
	if strings.Contains(out, "outside:") && !strings.Contains(out, "permission denied") {
		t.Error("it reads files beside the state directory")
	}
}

// A system call that is not of the list ends the process.
func TestForbiddenCall(t *testing.T) {
	if seccompMode() == "0" {
		t.Skip("no filter of system calls on this machine")
	}
	_, status := runSandboxed(t, "forbidden", stateDir(t))
	if status.Sys().(syscall.WaitStatus).Signal() != unix.SIGSYS {
		t.Errorf("the process ended with %v, want SIGSYS", status)
	}
}

// The privileged process keeps its user and the capabilities that it names, and can get no others.
func TestDropPrivileged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	out, status := runSandboxed(t, "privileged", "")
	for _, want := range []string{
		"Uid: 0 0 0 0", "CapPrm: 0000000000002000", "CapEff: 0000000000002000", "CapBnd: 0000000000002000",
		"CapInh: 0000000000000000", "NoNewPrivs: 1", "Seccomp: " + seccompMode(),
	} {
		name, _, _ := strings.Cut(want, ":")
		if n, all := strings.Count(out, want+"\n"), strings.Count(out, name+":"); n != all || n == 0 {
			t.Errorf("%v: %d of %d threads have %q", status, n, all, want)
		}
	}
}

// stateDir makes a directory with a file beside it that everyone may read.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "..", "outside"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
