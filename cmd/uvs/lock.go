package main

import (
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// interfaceLocks are interfaces held for one director.
type interfaceLocks []io.Closer

func (c interfaceLocks) Close() error {
	for _, held := range c {
		held.Close()
	}
	return nil
}

// lockInterfaces holds interfaces against a second director, which would send every
// frame once more: an abstract unix socket for each, which belongs to the
// network namespace and ends with the process however it ends.
func lockInterfaces(interfaces []string) (interfaceLocks, error) {
	var c interfaceLocks
	for _, name := range interfaces {
		held, err := net.Listen("unix", "@uvs/interface/"+name)
		if err != nil {
			c.Close()
			if errors.Is(err, unix.EADDRINUSE) {
				return nil, fmt.Errorf("interface %s is run by another director; stop that one or leave the interface out", name)
			}
			return nil, fmt.Errorf("claim interface %s: %w", name, err)
		}
		c = append(c, held)
	}
	return c, nil
}
