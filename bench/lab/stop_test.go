package lab

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Closing a lab ends the processes in it, also one that ignores SIGTERM and
// whose parent has ended. It does not touch processes elsewhere.
func TestCloseEndsProcessesInTheLabOnly(t *testing.T) {
	l := testLab(t, Plan{Name: "tsweep", Method: NAT, Servers: 1})
	stranger := exec.Command("sleep", "60")
	if err := stranger.Start(); err != nil {
		t.Skip(err)
	}
	defer stranger.Wait()
	defer stranger.Process.Kill()

	inside, err := l.start("rs1", l.environ(), []string{"sleep", "60"})
	if err != nil {
		t.Fatal(err)
	}
	stubborn := exec.Command("sh", "-c", "trap '' TERM; (sleep 60; :) & echo $!; wait")
	out, err := stubborn.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.StartCmd("client1", stubborn); err != nil {
		t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() { // it prints when its trap is set
		t.Fatal("the stubborn shell printed nothing")
	}
	spaces := []string{l.netnsPath("rs1"), l.netnsPath("client1")}
	if err := stopProcesses(spaces, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	<-inside.done
	if err := stubborn.Wait(); err == nil || stubborn.ProcessState.Sys().(syscall.WaitStatus).
		Signal() != syscall.SIGKILL {
		t.Errorf("who ignores SIGTERM ended with %v, want SIGKILL", err)
	}
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a process outside the lab: %v, want it alive", err)
	}
}

// crashEnv makes TestMain a process that makes a lab and waits to be killed.
const crashEnv = "UVS_LAB_TEST_CRASH"

func TestMain(m *testing.M) {
	if name := os.Getenv(crashEnv); name != "" {
		l, err := New(Plan{Name: name, Method: Tunnel})
		if err == nil {
			_, err = l.start("rs1", l.environ(), []string{"sleep", "60"})
		}
		fmt.Println("made", err)
		select {}
	}
	var err error
	if programDir, err = os.MkdirTemp("", "uvs-lab"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(programDir)
	os.Exit(code)
}

// Remove finds all of a lab, whenever its maker is killed.
func TestRemoveAfterKillAtAnyMoment(t *testing.T) {
	needNamespaces(t)
	const name = "tcrash"
	l := &Lab{Plan{Name: name}}
	for nodes := 0; nodes <= 8; nodes++ { // 7 nodes; the eighth round waits for the end
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+name)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if nodes == 8 {
			if s := bufio.NewScanner(out); !s.Scan() || s.Text() != "made <nil>" {
				t.Errorf("making the lab: %q", s.Text())
			}
		} else {
			deadline := time.Now().Add(10 * time.Second)
			for ; time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
				if made, _ := filepath.Glob(l.netnsPath("*")); len(made) >= nodes {
					break
				}
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		if err := Remove(name); err != nil {
			t.Fatalf("killed with %d nodes made: %v", nodes, err)
		}
		checkRemoved(t, l)
		if names, err := List(); err != nil || len(names) > 0 && names[0] == name {
			t.Errorf("List: %v, %v", names, err)
		}
	}
}

// The first `ip netns add` on a host makes the directory of the names a mount.
// A lab that was there before can still be removed.
func TestRemoveAfterFirstIPNetnsAdd(t *testing.T) {
	needNamespaces(t)
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("needs the program ip")
	}
	runtime.LockOSThread() // and no unlock: the thread and its mounts end with the test
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := mountRun(); err != nil {
		t.Fatal(err)
	}
	testLab(t, Plan{Name: "tmount", Method: NAT})
	if out, err := exec.Command(ip, "netns", "add", "other").CombinedOutput(); err != nil {
		t.Fatalf("ip netns add: %v: %s", err, out)
	}
}
