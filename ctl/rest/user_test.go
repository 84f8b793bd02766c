package rest

import (
	"io"
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// dialAs connects to a socket as other users, from a thread that ends then.
func dialAs(t *testing.T, socket string, uids ...int) (list []net.Conn) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and no unlock: the thread ends with the goroutine
		for _, uid := range uids {
			unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), 0)
			conn, err := net.Dial("unix", socket)
			if err != nil {
				t.Error(err)
				return
			}
			list = append(list, conn)
			unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 0, 0)
		}
	}()
	<-done
	return list
}

// A user who has all connections that one may have locks out only that user.
func TestConnectionsOfUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	f := newFixture(t, func(s *Server) { s.Access.Readers = "all" })
	f.listen(t)
	var greedy []int
	for range maxOfUser + 1 {
		greedy = append(greedy, stranger)
	}
	held := dialAs(t, f.socket, greedy...)
	for _, c := range held {
		defer c.Close()
	}
	closed := func(c net.Conn) bool {
		_, err := c.Write([]byte("GET /v1/role HTTP/1.0\r\n\r\n"))
		answer, _ := io.ReadAll(c)
		return err != nil || len(answer) == 0
	}
	if !closed(held[maxOfUser]) {
		t.Errorf("a user has %d connections", maxOfUser+1)
	}
	for _, uid := range []int{stranger + 1, 0} {
		for _, c := range dialAs(t, f.socket, uid) {
			if closed(c) {
				t.Errorf("user %d is locked out", uid)
			}
			c.Close()
		}
	}
	if closed(held[0]) {
		t.Error("the first connection is closed")
	}
	for _, c := range dialAs(t, f.socket, stranger) {
		if closed(c) {
			t.Error("a connection that ended still counts")
		}
		c.Close()
	}
}
