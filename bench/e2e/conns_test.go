package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// clientServer is a client and one server, with sockets of this process in both
// namespaces. The director between them runs one TCP and one UDP service on
// port 7.
type clientServer struct {
	*topology
	tcp net.Listener
	udp net.PacketConn
}

// newClientServer makes a topology with the first servers of s1 and s2, and
// opens sockets on s1. options are added to the director's command line.
func newClientServer(t testing.TB, method string, servers int, options ...string) *clientServer {
	return newClientServerOn(&topology{network: newNetwork(t), method: method}, servers, options...)
}

func newClientServerOn(s *topology, servers int, options ...string) *clientServer {
	e, t := &clientServer{topology: s}, s.t
	names := []string{"s1", "s2"}[:servers]
	s.add(append([]string{"client", "director"}, names...)...)
	interfaces := []string{"eth0"}
	if s.method == "nat" {
		s.bridge("lan1", "client", "director:eth0")
		s.bridge("lan2", append([]string{"director:eth1"}, names...)...)
		s.assign("director", "eth1", 2, 1)
		interfaces = append(interfaces, "eth1")
	} else {
		s.bridge("lan1", append([]string{"client", "director"}, names...)...)
	}
	s.assign("client", "eth0", 1, 2)
	s.assign("director", "eth0", 1, 1)
	for i, ns := range names {
		s.assign(ns, "eth0", s.serverNet(), 11+i)
		s.prepareServer(ns)
	}
	s.directorWith("director", options, interfaces...)
	for _, proto := range []string{"-t", "-u"} {
		s.ipvsadm("director", fmt.Sprintf("ipvsadm -A %s %s:7 -s rr", proto, s.url(s.vip())))
		for i := range names {
			s.ipvsadm("director", fmt.Sprintf("ipvsadm -a %s %s:7 -r %s:7 %s", proto, s.url(s.vip()),
				s.url(s.addr(s.serverNet(), 11+i)), s.flag()))
		}
	}
	must(t, s.inNetns("s1", func() (err error) {
		if e.tcp, err = net.Listen("tcp", ":7"); err == nil {
			e.udp, err = net.ListenPacket("udp", ":7")
		}
		return err
	}))
	t.Cleanup(func() { e.tcp.Close(); e.udp.Close() })
	return e
}

// dial connects to the VIP from the client.
func (e *clientServer) dial(network string) (c net.Conn) {
	e.t.Helper()
	must(e.t, e.inNetns("client", func() (err error) { c, err = net.Dial(network, e.url(e.vip())+":7"); return err }))
	return c
}

// connect opens a TCP connection and returns both of its ends.
func (e *clientServer) connect() (client, server *net.TCPConn) {
	e.t.Helper()
	c := e.dial("tcp")
	s, err := e.tcp.Accept()
	must(e.t, err)
	e.t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// listedConn returns the state and the countdown of a client's port in `ipvsadm
// -Lnc`.
func (e *clientServer) listedConn(local net.Addr) (state string, left time.Duration) {
	e.t.Helper()
	for _, line := range strings.Split(e.run("director", uvsBinary+" ipvsadm -Lnc"), "\n") {
		f := strings.Fields(line)
		if len(f) == 6 && f[3] == local.String() {
			var min, sec int
			if _, err := fmt.Sscanf(f[1], "%d:%d", &min, &sec); err != nil {
				e.t.Fatalf("countdown %q: %v", f[1], err)
			}
			return f[2], time.Duration(min)*time.Minute + time.Duration(sec)*time.Second
		}
	}
	return "", 0
}

// expectState waits for a conn's state. Its countdown must be at most the
// state's timeout, and at most half a minute less.
func (e *clientServer) expectState(c net.Conn, want string, timeout time.Duration) {
	e.t.Helper()
	var state string
	var left time.Duration
	eventually(e.t, "state "+want, func() bool {
		state, left = e.listedConn(c.LocalAddr())
		return state == want
	})
	if left > timeout || left < timeout-30*time.Second {
		e.t.Errorf("state %s counts down from %v, want at most %v", want, left, timeout)
	}
}

// `-Lnc` lists the states of real connections as IPVS does.
func TestConnStates(t *testing.T) {
	needs(t)
	rows := []struct {
		sentence, method string
		act              func(client, server *net.TCPConn)
		state            string
		timeout          time.Duration
	}{
		{"connected", "nat", func(_, _ *net.TCPConn) {}, "ESTABLISHED", 15 * time.Minute},
		{"the client ends its half", "nat", func(c, _ *net.TCPConn) { c.CloseWrite() }, "CLOSE_WAIT", time.Minute},
		{"the server ends its half", "nat", func(_, s *net.TCPConn) { s.CloseWrite() }, "FIN_WAIT", 2 * time.Minute},
		{
			"both ended, the client first", "nat",
			func(c, s *net.TCPConn) { c.CloseWrite(); io.Copy(io.Discard, s); s.Close() }, "TIME_WAIT",
			2 * time.Minute,
		},
		{
			"both ended, the server first", "nat",
			func(c, s *net.TCPConn) { s.CloseWrite(); io.Copy(io.Discard, c); c.Close() }, "TIME_WAIT",
			2 * time.Minute,
		},
		{"the client resets", "nat", func(c, _ *net.TCPConn) { c.SetLinger(0); c.Close() }, "CLOSE", 10 * time.Second},
		{"the server resets", "nat", func(_, s *net.TCPConn) { s.SetLinger(0); s.Close() }, "CLOSE", 10 * time.Second},
		{"connected, replies past the director", "dr", func(_, _ *net.TCPConn) {}, "ESTABLISHED", 15 * time.Minute},
		{
			"the client ends its half, replies past the director", "dr", func(c, _ *net.TCPConn) { c.CloseWrite() },
			"FIN_WAIT", 2 * time.Minute,
		},
		{
			"the client resets, replies past the director", "dr", func(c, _ *net.TCPConn) { c.SetLinger(0); c.Close() },
			"CLOSE", 10 * time.Second,
		},
	}
	scenes := map[string]*clientServer{}
	for _, method := range []string{"nat", "dr"} {
		t.Run(method, func(t *testing.T) {
			scenes[method] = newClientServer(t, method, 1)
			for _, r := range rows {
				if r.method == method {
					t.Run(r.sentence, func(t *testing.T) {
						e := *scenes[method]
						e.t = t
						c, s := e.connect()
						c.Write([]byte("hello"))
						s.Read(make([]byte, 16))
						r.act(c, s)
						e.expectState(c, r.state, r.timeout)
					})
				}
			}
		})
	}
}

// Both ends of an idle connection whose entry was dropped are reset at once,
// although neither sends anything. With direct routing, the client's end is.
func TestForgottenConnIsReset(t *testing.T) {
	needs(t)
	for _, method := range []string{"nat", "dr"} {
		t.Run(method, func(t *testing.T) {
			e := newClientServer(t, method, 1)
			e.run("director", uvsBinary+" set --service tcp:"+e.vip()+":7 timeout_tcp_established=1")
			client, server := e.connect()
			ends := map[string]net.Conn{"client": client}
			if method == "nat" {
				ends["server"] = server
			}
			for name, c := range ends {
				c.SetDeadline(time.Now().Add(20 * time.Second))
				if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "reset") {
					t.Errorf("the %s's read: %v, want connection reset", name, err)
				}
			}
		})
	}
}

// tcpState is the kernel's state of a socket.
func tcpState(c *net.TCPConn) (state uint8) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			state = info.State
		}
	})
	return state
}

// An end that has closed its side and waits for the other is reset too. With direct
// routing the server's FIN and the answers to the client do not pass the director.
func TestForgottenHalfClosedConnIsReset(t *testing.T) {
	needs(t)
	for name, r := range map[string]struct {
		method string
		close  func(client, server *net.TCPConn)
		reset  string // who learns of it
	}{
		"nat, the client closed": {"nat", func(c, _ *net.TCPConn) { c.CloseWrite() }, "both"},
		"nat, the server closed": {"nat", func(_, s *net.TCPConn) { s.CloseWrite() }, "both"},
		"dr, the client closed":  {"dr", func(c, _ *net.TCPConn) { c.CloseWrite() }, "client"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newClientServer(t, r.method, 1)
			e.run("director", uvsBinary+" set timeout_tcp_close_wait=1 timeout_tcp_fin_wait=1")
			client, server := e.connect()
			r.close(client, server)
			for _, c := range map[string][]*net.TCPConn{"both": {client, server}, "client": {client}}[r.reset] {
				eventually(t, "the connection is reset", func() bool { return tcpState(c) == unix.BPF_TCP_CLOSE })
			}
		})
	}
}

// With reset_forgotten 0 an end learns of the loss when it sends next.
func TestForgottenSilently(t *testing.T) {
	e := newClientServer(t, "nat", 1)
	e.run("director", uvsBinary+" set reset_forgotten=0 timeout_tcp_established=1")
	c, _ := e.connect()
	c.Write([]byte("hello"))
	eventually(t, "the entry is gone", func() bool { state, _ := e.listedConn(c.LocalAddr()); return state == "" })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	c.Write([]byte("anybody there?"))
	if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("read after the entry expired: %v, want connection reset", err)
	}
}

// The entry of a UDP flow of 500 packets a second expires when the flow has
// ended.
func TestUDPEntryDiesOnTime(t *testing.T) {
	e := newClientServer(t, "nat", 1)
	e.run("director", uvsBinary+" ipvsadm --set 0 0 2")
	go echoUDP(e.udp)
	c := e.dial("udp")
	defer c.Close()
	buf := make([]byte, 64)
	for range 1000 {
		c.Write(buf)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	if state, left := e.listedConn(c.LocalAddr()); state != "UDP" || left > 2*time.Second {
		t.Fatalf("after the burst: %s %v", state, left)
	}
	eventually(t, "the entry is gone", func() bool { state, _ := e.listedConn(c.LocalAddr()); return state == "" })
}

// Removing a server under load loses no packet of new flows: a UDP flow
// continues at the other server, and new connections succeed.
func TestServerRemovedUnderLoad(t *testing.T) {
	e := newClientServer(t, "nat", 2)
	var tcp2 net.Listener
	var udp2 net.PacketConn
	must(t, e.inNetns("s2", func() (err error) {
		if tcp2, err = net.Listen("tcp", ":7"); err == nil {
			udp2, err = net.ListenPacket("udp", ":7")
		}
		return err
	}))
	defer tcp2.Close()
	defer udp2.Close()
	go echoUDP(e.udp)
	go echoUDP(udp2)
	for _, l := range []net.Listener{e.tcp, tcp2} {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Write([]byte("x"))
				c.Close()
			}
		}()
	}
	flows := make([]net.Conn, 8)
	for i := range flows {
		flows[i] = e.dial("udp")
		defer flows[i].Close()
	}
	buf := make([]byte, 16)
	round := func(when string) {
		t.Helper()
		for _, c := range flows {
			c.SetDeadline(time.Now().Add(5 * time.Second))
			c.Write(buf)
			if _, err := c.Read(buf); err != nil {
				t.Fatalf("%s: datagram lost: %v", when, err)
			}
		}
		c := e.dial("tcp")
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(buf); err != nil {
			t.Errorf("%s: connection failed: %v", when, err)
		}
		c.Close()
	}
	for i := range 300 {
		switch i {
		case 100:
			for _, proto := range []string{"-t", "-u"} {
				e.ipvsadm("director", fmt.Sprintf("ipvsadm -d %s %s:7 -r %s:7", proto, e.vip(), e.addr(2, 11)))
			}
		case 200:
			for _, proto := range []string{"-t", "-u"} {
				e.ipvsadm("director", fmt.Sprintf("ipvsadm -a %s %s:7 -r %s:7 -m", proto, e.vip(), e.addr(2, 11)))
			}
		}
		round(fmt.Sprintf("round %d", i))
	}
	// A busy machine lets segments be late, so that kernels send them again.
	for name, n := range e.counters() {
		if n > 0 && (strings.HasPrefix(name, "dropped_") || strings.Contains(name, "_drop_") ||
			strings.HasSuffix(name, "_ring_full")) {
			t.Errorf("counter %s %d; the client sent %d segments again", name, n, e.retransmitted("client"))
		}
	}
}

// retransmitted returns how many TCP segments a namespace has retransmitted
// (RetransSegs of RFC 4022, the thirteenth word of the Tcp line).
func (n *network) retransmitted(ns string) (segments int) {
	n.t.Helper()
	_, err := fmt.Sscan(n.run(ns, "awk '/^Tcp: [0-9]/ {print $13}' /proc/net/snmp"), &segments)
	must(n.t, err)
	return segments
}
