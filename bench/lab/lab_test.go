package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// needNamespaces skips a test where network namespaces cannot be made.
func needNamespaces(t *testing.T) {
	t.Helper()
	if err := restoringNetns(func() error { return unix.Unshare(unix.CLONE_NEWNET) }); err != nil {
		t.Skipf("cannot make a network namespace (%v); needs CAP_SYS_ADMIN and CAP_NET_ADMIN", err)
	}
}

// testLab makes a lab and removes it when the test ends.
func testLab(t *testing.T, p Plan) *Lab {
	t.Helper()
	needNamespaces(t)
	l, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		checkRemoved(t, l)
	})
	return l
}

// checkRemoved fails the test if anything of a lab is left.
func checkRemoved(t *testing.T, l *Lab) {
	t.Helper()
	left, _ := filepath.Glob(l.netnsPath("*"))
	if _, err := os.Stat(l.dir()); err == nil {
		left = append(left, l.dir())
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// connect fetches a line over TCP on one node from a listener on another.
func connect(l *Lab, from, at, address string) error {
	var listener net.Listener
	err := l.Do(at, func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		return err
	}
	defer listener.Close()
	go func() {
		if c, err := listener.Accept(); err == nil {
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := l.Dial(ctx, from, "tcp", 0, address)
	if err != nil {
		return err
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	if err == nil && string(got) != "hello" {
		err = fmt.Errorf("received %q, want hello", got)
	}
	return err
}

// In every layout, with the director's kernel as a plain router, clients reach
// servers and servers reach clients, in both families.
func TestEveryLayoutConnects(t *testing.T) {
	needNamespaces(t)
	for _, p := range []Plan{
		{Name: "tnat2", Method: NAT, Arms: 2, Forward: true},
		{Name: "tnat1", Method: NAT, Arms: 1, Forward: true},
		{Name: "tdr1", Method: DR, Arms: 1},
		{Name: "tdr2", Method: DR, Arms: 2},
		{Name: "ttun1", Method: Tunnel, Arms: 1},
		{Name: "ttun2", Method: Tunnel, Arms: 2, MTU: 9000, NoOffloads: true},
		{Name: "tloss", Method: NAT, Forward: true, LossFree: true, VIPOnDirector: true},
	} {
		t.Run(p.Name, func(t *testing.T) {
			p.Clients, p.Servers = 2, 2
			l := testLab(t, p)
			for _, family := range []int{4, 6} {
				for what, pair := range map[string][3]string{
					"client1 to rs2":  {"client1", "rs2", l.RIP(family, 1).String()},
					"rs1 to client2":  {"rs1", "client2", l.CIP(family, 1).String()},
					"director to rs1": {DirectorNode, "rs1", l.RIP(family, 0).String()},
				} {
					if err := connect(l, pair[0], pair[1], net.JoinHostPort(pair[2], "7")); err != nil {
						t.Errorf("%s over IPv%d: %v", what, family, err)
					}
				}
			}
		})
	}
}
