package lab

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ownPath is our own binary: `uvs rs`, `uvs run` and `uvs ipvsadm` are started
// from it. The path works in every namespace a lab makes.
func ownPath() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find own program: %w", err)
	}
	return path, nil
}

// StartServers starts the built-in test service on every server, as the method
// needs it: behind NAT plain, else holding the VIPs, and taking packets out of
// tunnels. It returns when all of them serve. uvs is the program.
func (l *Lab) StartServers(ctx context.Context, uvs string) error {
	for _, name := range l.ServerNodes() {
		command := []string{uvs, "rs", "--name", name, "--port", strconv.Itoa(int(l.serverHTTPPort()))}
		if l.Method != NAT {
			command = append(command, "--vip", l.VIP(4).String(), "--vip", l.VIP(6).String())
		}
		if l.Method == Tunnel {
			command = append(command, "--decap")
		}
		if _, err := l.StartReady(ctx, name, command...); err != nil {
			return err
		}
	}
	return nil
}

// StartDirector starts `uvs run` on the director and returns when it is ready.
func (l *Lab) StartDirector(ctx context.Context, uvs string, options ...string) (*Process, error) {
	command := []string{uvs, "run", "--socket", l.Socket()}
	for _, name := range l.Interfaces() {
		command = append(command, "--interface", name)
	}
	return l.StartReady(ctx, DirectorNode, append(command, options...)...)
}

// Configure gives the director the plan's services, telling what it issues.
func (l *Lab) Configure(ctx context.Context, uvs string, issued func(command string)) error {
	for _, args := range l.Commands() {
		issued("ipvsadm " + strings.Join(args, " "))
		if _, err := l.Exec(ctx, DirectorNode, append([]string{uvs, "ipvsadm"}, args...)...); err != nil {
			return err
		}
	}
	return nil
}
