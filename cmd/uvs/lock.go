package main

import (
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// interfaceLocks are locked interfaces.
type interfaceLocks []io.Closer

func (c interfaceLocks) Close() {
	for _, lock := range c {
		lock.Close()
	}
}

// lockInterfaces locks interfaces against a second director, which would send
// every frame again. Each lock is an abstract unix socket, which belongs to the
// network namespace. The kernel frees it when the process ends in any way.
func lockInterfaces(interfaces []string) (interfaceLocks, error) {
	var c interfaceLocks
	for _, name := range interfaces {
		lock, err := net.Listen("unix", "@uvs/interface/"+name)
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
