package lab

import (
	"context"
	"strconv"
	"strings"
)

// Start starts the servers and the director, and configures the services.
func (l *Lab) Start(ctx context.Context, uvs string, issued func(command string)) error {
	if err := l.StartServers(ctx, uvs); err != nil {
		return err
	}
	if _, err := l.StartDirector(ctx, uvs); err != nil {
		return err
	}
	return l.Configure(ctx, uvs, issued)
}

// StartServers starts the built-in test service on every server. For the
// methods other than NAT the servers hold the VIPs, and for tunnels they
// decapsulate. It returns when all servers are ready. uvs is the path of the
// program.
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

// Configure configures the plan's services on the director. It calls issued
// with each command.
func (l *Lab) Configure(ctx context.Context, uvs string, issued func(command string)) error {
	for _, args := range l.Commands() {
		issued("ipvsadm " + strings.Join(args, " "))
		if _, err := l.Exec(ctx, DirectorNode, append([]string{uvs, "ipvsadm"}, args...)...); err != nil {
			return err
		}
	}
	return nil
}
