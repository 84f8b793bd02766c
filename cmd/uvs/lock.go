package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"uvs/ctl/guard"
)

// interfaceLocks are locked interfaces.
type interfaceLocks []*os.File

func (c interfaceLocks) Close() {
	for _, lock := range c {
		lock.Close()
	}
}

// lockWait is how long a director waits for the end of another that was just killed.
const lockWait = 2 * time.Second

// lockInterfaces locks interfaces against a second director, which would send
// every frame again. The kernel frees the locks when the processes end in any way.
func lockInterfaces(interfaces []string) (interfaceLocks, error) {
	var c interfaceLocks
	deadline := time.Now().Add(lockWait)
	for _, name := range interfaces {
		lock, err := guard.LockInterface(name)
		for errors.Is(err, unix.EADDRINUSE) && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
			lock, err = guard.LockInterface(name)
		}
		if err != nil {
			c.Close()
			if errors.Is(err, unix.EADDRINUSE) {
				return nil, fmt.Errorf("interface %s is run by another director; "+
					"stop that one or leave the interface out", name)
			}
			return nil, fmt.Errorf("lock interface %s: %w", name, err)
		}
		c = append(c, lock)
	}
	return c, nil
}
