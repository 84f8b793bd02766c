package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// userNSEnv marks a process that RunUnprivileged started in a user namespace.
const userNSEnv = "UVS_LAB_USERNS"

// Privileged returns nil if this process may make network namespaces, or else
// the reason.
func Privileged() error {
	err := make(chan error)
	go func() { // the thread ends with the goroutine, and the namespace with the thread
		runtime.LockOSThread()
		err <- unix.Unshare(unix.CLONE_NEWNET)
	}()
	return <-err
}

// RunUnprivileged runs this program again with the same arguments, as root in
// new user, network and mount namespaces, and returns its exit status. That
// process must call SetUpUserNamespace. No other process sees what it makes,
// and all of it goes with it.
func RunUnprivileged() (status int, err error) {
	if os.Getenv(userNSEnv) != "" {
		return 0, errors.New("no privilege even in a user namespace")
	}
	path, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(path, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), userNSEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGTERM,
	}
	// Pdeathsig is sent when this thread ends, not when the process does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("make user namespace: %w", err)
	}
	go func() {
		for range signals {
			cmd.Process.Signal(syscall.SIGTERM)
		}
	}()
	err = cmd.Wait()
	close(signals)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(1, exit.ExitCode()), nil // -1: ended by a signal
	}
	return 0, err
}

// SetUpUserNamespace mounts a new /run in a process started by RunUnprivileged.
// In any other process it does nothing.
func SetUpUserNamespace() error {
	if os.Getenv(userNSEnv) == "" {
		return nil
	}
	return mountRun()
}

// mountRun mounts a new /run in a mount namespace that is ours alone.
func mountRun() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("uvs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a new /run: %w", err)
	}
	return nil
}
