package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// netnsID identifies a namespace: device and inode of its file in nsfs.
type netnsID struct{ dev, ino uint64 }

func statNetns(path string) (netnsID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return netnsID{}, err
	}
	return netnsID{uint64(st.Dev), st.Ino}, nil
}

// stopProcesses ends every process whose network namespace is one of those
// named. Since the namespace identifies them, no list of processes is needed,
// and no reused process id can hit a foreign process. A process that ignores
// SIGTERM for the grace time gets SIGKILL.
func stopProcesses(paths []string, grace time.Duration) error {
	spaces := map[netnsID]bool{}
	for _, path := range paths {
		if id, err := statNetns(path); err == nil {
			spaces[id] = true
		}
	}
	kill := time.Now().Add(grace)
	for sig := unix.SIGTERM; ; {
		procs, err := processesIn(spaces)
		if err != nil || len(procs) == 0 {
			return err
		}
		if time.Now().After(kill) {
			if sig == unix.SIGKILL {
				closeAll(procs)
				return fmt.Errorf("%d processes survive SIGKILL", len(procs))
			}
			sig, kill = unix.SIGKILL, time.Now().Add(grace)
		}
		for _, fd := range procs {
			unix.PidfdSendSignal(fd, sig, nil, 0) // an error means it has ended
		}
		waitEnded(procs, kill)
		closeAll(procs)
	}
}

// processesIn returns a pidfd of every process in one of the namespaces, except
// this one.
func processesIn(spaces map[netnsID]bool) (pidfds []int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for processes: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !inNetns(pid, spaces) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			closeAll(pidfds)
			return nil, fmt.Errorf("open process %d: %w", pid, err)
		}
		// Check again: the pidfd can no longer change its process. If another
		// process got the id in between, this shows it.
		if !inNetns(pid, spaces) {
			unix.Close(fd)
			continue
		}
		pidfds = append(pidfds, fd)
	}
	return pidfds, nil
}

func inNetns(pid int, spaces map[netnsID]bool) bool {
	id, err := statNetns(filepath.Join("/proc", strconv.Itoa(pid), "ns/net"))
	return err == nil && spaces[id]
}

// waitEnded waits until all processes have ended, or until the deadline.
func waitEnded(pidfds []int, deadline time.Time) {
	for _, fd := range pidfds {
		left := max(0, time.Until(deadline).Milliseconds())
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left))
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
