package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dialFrom connects from a port of the client that may have other connections.
func (e *clientServer) dialFrom(port int, to string) (c net.Conn, err error) {
	d := net.Dialer{
		LocalAddr: &net.TCPAddr{Port: port}, Timeout: 5 * time.Second,
		Control: func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		},
	}
	must(e.t, e.inNetns("client", func() error { c, err = d.Dial("tcp", to); return nil }))
	if err == nil {
		e.t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// Two services share a server and its port. A client port that has a connection to one
// is refused by the other at once, and the first connection goes on. When that is
// closed, the port can connect to the other service, and to the server itself.
func TestClashingConns(t *testing.T) {
	const port = 31000
	needs(t, "ping")
	e := newClientServer(t, "nat", 1)
	rip := e.addr(e.serverNet(), 11) + ":7"
	e.run("director", "sysctl -qw net.ipv4.ip_forward=1")
	e.run("client", fmt.Sprintf("ip route replace %s via %s", e.addr(e.serverNet(), 11), e.addr(1, 1)))
	e.run("client", "ping -c 1 -W 2 "+e.addr(1, 1))
	e.ipvsadm("director", fmt.Sprintf("ipvsadm -A -t %s:8 -s rr\nipvsadm -a -t %s:8 -r %s -m", e.vip(), e.vip(), rip))

	first, err := e.dialFrom(port, e.vip()+":7")
	must(t, err)
	server, err := e.tcp.Accept()
	must(t, err)
	for _, to := range []string{e.vip() + ":8", rip} {
		if _, err := e.dialFrom(port, to); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a second connection, to %s: %v, want %v", to, err, syscall.ECONNREFUSED)
		}
	}
	first.Write([]byte("x"))
	server.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Errorf("the first connection: %v", err)
	}
	server.Write([]byte("y"))
	if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
		t.Errorf("the first connection: %v", err)
	}

	for _, to := range []string{rip, e.vip() + ":8"} {
		first.Close()
		io.Copy(io.Discard, server)
		server.Close()
		eventually(t, "the last FIN and its ACK have passed the director", func() bool {
			first, err = e.dialFrom(port, to)
			return !errors.Is(err, syscall.ECONNREFUSED)
		})
		must(t, err)
		server, err = e.tcp.Accept()
		must(t, err)
	}
	server.Close()
}

// A client sends from one port to 300 ports of a service, and gets an answer from each.
func TestOneClientPort(t *testing.T) {
	needs(t)
	const firstPort, ports = 10000, 300
	for _, method := range []string{"nat", "dr"} {
		t.Run(method, func(t *testing.T) {
			e := newClientServer(t, method, 1)
			e.run("director", fmt.Sprintf("%s mark add --dst %s --proto udp --dport %d:%d --mark 1", uvsBinary, e.vip(),
				firstPort, firstPort+ports-1))
			e.ipvsadm("director", fmt.Sprintf("ipvsadm -A -f 1 -s rr\nipvsadm -a -f 1 -r %s:0 %s",
				e.addr(e.serverNet(), 11), e.flag()))
			host := map[string]string{"dr": e.vip()}[method] // replies come from there
			must(t, e.inNetns("s1", func() error {
				for port := range ports {
					s, err := net.ListenPacket("udp", fmt.Sprintf("%s:%d", host, firstPort+port))
					if err != nil {
						return err
					}
					t.Cleanup(func() { s.Close() })
					go echoUDP(s)
				}
				return nil
			}))
			var c net.PacketConn
			must(t, e.inNetns("client", func() (err error) { c, err = net.ListenPacket("udp4", ":31000"); return err }))
			defer c.Close()
			for round := range 2 {
				for port := firstPort; port < firstPort+ports; port++ {
					to := &net.UDPAddr{IP: net.ParseIP(e.vip()), Port: port}
					if _, err := c.WriteTo([]byte("x"), to); err != nil {
						t.Fatal(err)
					}
					c.SetReadDeadline(time.Now().Add(5 * time.Second))
					if _, from, err := c.ReadFrom(make([]byte, 9)); err != nil || from.String() != to.String() {
						t.Fatalf("round %d: port %d is answered by %v: %v", round, port, from, err)
					}
				}
			}
		})
	}
}
