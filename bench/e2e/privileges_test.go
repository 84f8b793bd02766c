package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// children returns the processes that a process has started, on any of its threads.
func children(t testing.TB, pid int) (list []int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	must(t, err)
	for _, file := range files {
		text, _ := os.ReadFile(file) // the thread may be gone
		for word := range strings.FieldsSeq(string(text)) {
			child, err := strconv.Atoi(word)
			must(t, err)
			list = append(list, child)
		}
	}
	return list
}

// status returns members of /proc/PID/status.
func status(t testing.TB, pid int, names ...string) (values string) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for _, name := range names {
		_, rest, _ := strings.Cut(string(text), name+":")
		line, _, _ := strings.Cut(rest, "\n")
		values += strings.Join(strings.Fields(line), " ") + ";"
	}
	return values
}

// The process that handles frames and commands has no capability and another user. The one with
// privileges has few. Binary, configuration and state may lie where only root can go. Each process
// ends with the other, and a new director starts at once.
func TestPrivileges(t *testing.T) {
	needs(t, "nft")
	c := newConfigured(t)
	secret := filepath.Join(c.dir, "secret")
	must(t, os.Mkdir(secret, 0o700))
	binary, err := os.ReadFile(uvsBinary)
	must(t, err)
	own := filepath.Join(secret, "uvs")
	must(t, os.WriteFile(own, binary, 0o700))
	c.file, c.state = filepath.Join(secret, "uvs.yaml"), filepath.Join(secret, "state")
	c.write(1)
	up := func() (child int) {
		t.Helper()
		c.cmd = c.directorOf("director", own, []string{"--config", c.file})
		list := children(t, c.cmd.Process.Pid)
		if len(list) != 1 {
			t.Fatalf("the director has the processes %v", list)
		}
		return list[0]
	}
	child := up()
	if got := status(t, child, "CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp"); got !=
		strings.Repeat("0000000000000000;", 5)+"1;2;" {
		t.Errorf("the unprivileged process: %s", got)
	}
	if user := status(t, child, "Uid", "Gid", "Groups"); user != "64738 64738 64738 64738;64738 64738 64738 64738;;" {
		t.Errorf("the unprivileged process has the users and groups %s", user)
	}
	kept := fmt.Sprintf("%016x;", 1<<unix.CAP_NET_ADMIN|1<<unix.CAP_NET_RAW|1<<unix.CAP_DAC_READ_SEARCH)
	if got := status(t, c.cmd.Process.Pid, "CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"); got !=
		strings.Repeat(kept, 3)+"1;2;" {
		t.Errorf("the privileged process: %s, want %s", got, kept)
	}
	out := c.run("director", uvsBinary+" status")
	if !strings.Contains(out, fmt.Sprintf("pid         %d\n", c.cmd.Process.Pid)) ||
		!strings.Contains(out, "user 64738") {
		t.Errorf("status:\n%s", out)
	}
	c.write(7)
	must(t, c.cmd.Process.Signal(syscall.SIGHUP))
	eventually(t, "the file is read again", func() bool { return strings.Contains(c.listing(), "-w 7") })
	c.run("client", "curl -s --max-time 5 http://"+c.vip()+"/")
	c.run("director", uvsBinary+" server edit "+c.vip()+":80/tcp "+c.rip(0)+":80 --weight 9 || "+
		uvsBinary+" ipvsadm -e -t "+c.vip()+":80 -r "+c.rip(0)+":80 -m -w 9")

	must(t, unix.Kill(child, unix.SIGKILL))
	if err := c.cmd.Wait(); err == nil || c.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("after the unprivileged process was killed: %v", err)
	}
	child = up()
	if !strings.Contains(c.listing(), "-w 9") {
		t.Errorf("the state is lost: %s", c.listing())
	}
	c.down(syscall.SIGKILL)
	up() // at once: it waits for the end of the other process
	if err := unix.Kill(child, 0); err == nil && status(t, child, "State") != "Z (zombie);" {
		t.Error("the unprivileged process outlived the other")
	}
	if out := c.run("director", "nft list tables"); strings.Count(out, "uvs-") != 1 {
		t.Errorf("tables of nftables:\n%s", out)
	}
	c.down(syscall.SIGTERM)
}
