package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Do calls f on a thread in a node's network namespace. Sockets that f opens,
// netlink requests that it makes, programs that it starts and /proc/sys/net
// belong to the node, as long as f stays in its goroutine.
func (l *Lab) Do(node string, f func() error) error {
	ns, err := l.openNetns(node)
	if err != nil {
		return err
	}
	defer ns.Close()
	return restoringNetns(func() error {
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter namespace of %s: %w", node, err)
		}
		return f()
	})
}

// doLink calls f in a node's network namespace, with one of the links there.
func (l *Lab) doLink(node, name string, f func(netlink.Link) error) error {
	return l.Do(node, func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return f(link)
	})
}

// restoringNetns calls f, which may change the network namespace of its thread,
// and restores the namespace. A thread whose namespace cannot be restored stays
// locked, and so ends with its goroutine.
func restoringNetns(f func() error) error {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		return fmt.Errorf("find own network namespace: %w", err)
	}
	defer own.Close()
	defer func() {
		if netns.Set(own) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// Enter replaces this process by a command on a node. It returns only if that
// fails. It also finds our own program, wherever it is.
func (l *Lab) Enter(node string, command ...string) error {
	if self, err := os.Executable(); err == nil {
		os.Setenv("PATH", os.Getenv("PATH")+":"+filepath.Dir(self))
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	return l.Do(node, func() error {
		// exec keeps the calling thread, and with it its namespace.
		return fmt.Errorf("run %s: %w", path, syscall.Exec(path, command, l.environ()))
	})
}

// environ returns our environment with the socket of the lab's director. It
// lacks NOTIFY_SOCKET, so that our programs do not report to our service
// manager.
func (l *Lab) environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "NOTIFY_SOCKET=") })
	return append(env, "UVS_SOCKET="+l.Socket())
}

// StartCmd starts a command on a node.
func (l *Lab) StartCmd(node string, cmd *exec.Cmd) error {
	if cmd.Env == nil {
		cmd.Env = l.environ()
	}
	return l.Do(node, cmd.Start)
}

// Exec runs a command on a node and returns its output. The error of a command
// that fails contains its output.
func (l *Lab) Exec(ctx context.Context, node string, command ...string) (string, error) {
	var out strings.Builder
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := l.StartCmd(node, cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", node, strings.Join(command, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), err
}

// Process is a program in the background on a node.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait, valid when done is closed
}

// start starts a program in the background on a node and appends its output to
// LogPath. The program has a new process group, so that a ^C for us does not
// reach it.
func (l *Lab) start(node string, env, command []string) (*Process, error) {
	log, err := os.OpenFile(l.LogPath(node), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", command[0], node, err)
	}
	defer log.Close()
	p := &Process{cmd: exec.Command(command[0], command[1:]...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := l.StartCmd(node, p.cmd); err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", command[0], node, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// StartReady starts a program that reports READY=1 to its service manager
// (sd_notify(3)) and waits for that.
func (l *Lab) StartReady(ctx context.Context, node string, command ...string) (*Process, error) {
	path := filepath.Join(l.dir(), node+".notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", command[0], node, err)
	}
	defer os.Remove(path)
	defer notify.Close()
	p, err := l.start(node, append(l.environ(), "NOTIFY_SOCKET="+path), command)
	if err != nil {
		return nil, err
	}
	ready := make(chan error, 1)
	go func() { ready <- readReady(notify) }()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case err = <-ready:
	case <-p.done:
		err = fmt.Errorf("it ended (%w) before it was ready", p.exit())
	case <-ctx.Done():
		err = fmt.Errorf("it is not ready: %w", ctx.Err())
	}
	if err != nil {
		p.Stop()
		return nil, fmt.Errorf("start %s on %s: %w: %s", strings.Join(command, " "), node, err, l.lastLog(node, 5))
	}
	return p, nil
}

// readyTimeout bounds how long a program may take to be ready, and stopTimeout
// how long to end after SIGTERM.
const (
	readyTimeout = 10 * time.Second
	stopTimeout  = 5 * time.Second
)

// readReady returns once READY=1 was received.
func readReady(notify *net.UnixConn) error {
	buf := make([]byte, 4096)
	for {
		n, err := notify.Read(buf)
		if err != nil {
			return err
		}
		if slices.Contains(strings.Split(string(buf[:n]), "\n"), "READY=1") {
			return nil
		}
	}
}

// Stop ends the program with SIGTERM, or SIGKILL after stopTimeout. It returns
// how the program exited: nil is exit status 0.
func (p *Process) Stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM) // an error means it has ended
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.cmd.Process.Kill()
		<-p.done
	}
	return p.err
}

// exit returns how the program ended, never nil.
func (p *Process) exit() error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

// lastLog returns the last lines of a node's log.
func (l *Lab) lastLog(node string, n int) string {
	text, _ := os.ReadFile(l.LogPath(node))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
