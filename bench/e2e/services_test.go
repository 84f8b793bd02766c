package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// serve replies to every connection and datagram in a namespace with the
// namespace's name.
func (e *clientServer) serve(names ...string) {
	e.t.Helper()
	for _, ns := range names {
		var l net.Listener
		var u net.PacketConn
		must(e.t, e.inNetns(ns, func() (err error) {
			if l, err = net.Listen("tcp", ":7"); err == nil {
				u, err = net.ListenPacket("udp", ":7")
			}
			return err
		}))
		e.t.Cleanup(func() { l.Close(); u.Close() })
		go serveName(l, u, ns)
	}
}

func serveName(l net.Listener, u net.PacketConn, ns string) {
	go serveNameUDP(u, ns)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Write([]byte(ns))
	}
}

// serveNameUDP answers every datagram with a name.
func serveNameUDP(u net.PacketConn, name string) {
	buf := make([]byte, 64)
	for {
		_, from, err := u.ReadFrom(buf)
		if err != nil {
			return
		}
		u.WriteTo([]byte(name), from)
	}
}

// dialName connects and returns the name of the server.
func (e *clientServer) dialName() (name string, c net.Conn) {
	e.t.Helper()
	c = e.dial("tcp")
	e.t.Cleanup(func() { c.Close() })
	return e.readName(c), c
}

func (e *clientServer) readName(c net.Conn) string {
	e.t.Helper()
	buf := make([]byte, 16)
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := c.Read(buf)
	must(e.t, err)
	return string(buf[:n])
}

// set runs `uvs set` for the TCP or UDP service.
func (e *clientServer) set(proto, what string) {
	e.t.Helper()
	e.run("director", fmt.Sprintf("%s set --service %s:%s:7 %s", uvsBinary, proto, e.vip(), what))
}

// setWeight sets the weight of the first server.
func (e *clientServer) setWeight(proto string, w int) {
	e.t.Helper()
	e.ipvsadm("director", fmt.Sprintf("ipvsadm -e %s %s:7 -r %s:7 -m -w %d", proto, e.vip(), e.addr(2, 11), w))
}

// The sorry server replies while the service has no server, also with
// persistence, and the next connection goes to a server again. `uvs services`
// lists it.
func TestSorryServer(t *testing.T) {
	e := newClientServer(t, "nat", 2)
	e.tcp.Close()
	e.udp.Close()
	e.serve("s1", "s2")
	service := "tcp:" + e.vip() + ":7"
	second := e.addr(2, 12) + ":7"
	e.ipvsadm("director", fmt.Sprintf("ipvsadm -d -t %s:7 -r %s", e.vip(), second))
	e.run("director", fmt.Sprintf("%s sorry --service %s %s -m", uvsBinary, service, second))
	e.ipvsadm("director", fmt.Sprintf("ipvsadm -E -t %s:7 -s rr -p 300", e.vip()))
	e.setWeight("-t", 0)
	if got, _ := e.dialName(); got != "s2" {
		t.Fatalf("without a server %s answers, want the sorry server", got)
	}
	if list := e.run("director", uvsBinary+" services"); !strings.Contains(list, "sorry") ||
		strings.Count(list, service) != 2 {
		t.Errorf("services:\n%s", list)
	}
	e.setWeight("-t", 1)
	if got, _ := e.dialName(); got != "s1" {
		t.Errorf("with a server again %s answers", got)
	}
	e.setWeight("-t", 0)
	if got, _ := e.dialName(); got != "s1" {
		t.Errorf("a client with a template of a server of weight 0 gets %s, want s1", got)
	}
	e.set("tcp", "expire_quiescent_template=1 no_server=1")
	if got, _ := e.dialName(); got != "s2" {
		t.Errorf("with expire_quiescent_template it gets %s, want s2", got)
	}
	e.run("director", fmt.Sprintf("%s sorry --service %s %s:7 -m", uvsBinary, service, e.addr(2, 11)))
	if got, _ := e.dialName(); got != "s1" {
		t.Errorf("with its server of weight 0 as the sorry server, %s answers, want s1", got)
	}
	e.run("director", fmt.Sprintf("%s sorry --service %s --clear", uvsBinary, service))
	err := e.inNetns("client", func() error {
		_, err := net.DialTimeout("tcp", e.vip()+":7", 5*time.Second)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("without any server: %v, want connection refused by reset", err)
	}
}

// A server marked down gets no new connections. Its connections go on until
// they are reset. It gets new ones when it is up again.
func TestServerDown(t *testing.T) {
	e := newClientServer(t, "nat", 2)
	e.tcp.Close()
	e.udp.Close()
	e.serve("s1", "s2")
	conns := map[string]net.Conn{}
	for range 2 {
		name, c := e.dialName()
		conns[name] = c
	}
	if len(conns) != 2 {
		t.Fatalf("rr over two: %v", conns)
	}
	e.run("director", uvsBinary+" down "+e.addr(2, 11))
	for range 3 {
		if got, _ := e.dialName(); got != "s2" {
			t.Errorf("%s answers, which is down", got)
		}
	}
	if list := e.run("director", uvsBinary+" services"); strings.Count(list, " down ") != 2 { // of TCP and UDP
		t.Errorf("services:\n%s", list)
	}
	if _, err := conns["s1"].Write([]byte("still there")); err != nil {
		t.Errorf("a connection of the server that is down: %v", err)
	}
	e.run("director", uvsBinary+" down --reset "+e.addr(2, 11))
	eventually(t, "the connection is reset", func() bool {
		_, err := conns["s1"].Write([]byte("still there"))
		return err != nil
	})
	e.run("director", uvsBinary+" up "+e.addr(2, 11))
	seen := map[string]bool{}
	for range 2 {
		name, _ := e.dialName()
		seen[name] = true
	}
	if len(seen) != 2 {
		t.Errorf("up again, %v answer", seen)
	}
}

// The output of `uvs save` makes another director the same. It keeps what is
// equal, and changes nothing if a line is wrong.
func TestSaveRestore(t *testing.T) {
	e := newClientServer(t, "nat", 2)
	go echoUDP(e.udp)
	service := "tcp:" + e.vip() + ":7"
	e.run("director", strings.ReplaceAll(strings.Join([]string{
		"UVS set timeout_profile=1 slow_start=5 tftp=off", "UVS set --service " + service +
			" limit_conns=9 timeout_tcp_established=77",
		"UVS sorry --service " + service + " 10.2.0.99:80 -m",
		"UVS down " + e.addr(2, 12), "UVS drain --service fwm:7 10.2.0.11",
		"UVS mark add --dst 10.3.0.0/24 --proto tcp --dport 80,8000:8100 --mark 7",
		"UVS ipvsadm -A -f 7 -s mh -p 60 -b mh-port",
		"UVS ipvsadm -a -f 7 -r 10.2.0.12 -m -w 5 -x 9 -y 3", "UVS ipvsadm -a -f 7 -r 10.2.0.11 -m",
		"UVS ipvsadm -A -u [fd00:9::1]:5060 -s rr -p 30 --pe sip -o",
	}, " && "), "UVS", uvsBinary))
	saved := e.run("director", uvsBinary+" save --commands")
	client := e.dial("udp")
	defer client.Close()
	client.Write([]byte("one"))
	before := e.readName(client)
	e.run("director", uvsBinary+" save --commands > "+e.dir+"/kept && "+uvsBinary+" restore < "+e.dir+"/kept")
	if again := e.run("director", uvsBinary+" save --commands"); again != saved {
		t.Errorf("saved\n%safter restoring it\n%s", saved, again)
	}
	client.Write([]byte("one"))
	if again := e.readName(client); again != before {
		t.Errorf("the connection goes on with %q, not %q", again, before)
	}
	out, err := e.tryRun("director", "(cat "+e.dir+"/kept; echo ipvsadm -a -f 8 -r 10.2.0.1) | "+uvsBinary+" restore")
	if err == nil || !strings.HasPrefix(out, "uvs: nothing changed: standard input:20: no service FWM 8\n") {
		t.Errorf("a service that is not there: %v %s", err, out)
	}
	if again := e.run("director", uvsBinary+" save --commands"); again != saved {
		t.Errorf("a refused line changed\n%sto\n%s", saved, again)
	}
	e.run("director", strings.ReplaceAll("UVS ipvsadm -C && UVS mark delete --all && UVS up "+e.addr(2, 12)+
		" && UVS up --service fwm:7 10.2.0.11 && UVS set timeout_profile=0 slow_start=0 tftp=auto", "UVS", uvsBinary))
	left := e.run("director", uvsBinary+" save --commands")
	if want := "set slow_start=0\nset tftp=auto\nset timeout_profile=0\n"; left != want { // to the defaults
		t.Errorf("an empty director saves\n%swant\n%s", left, want)
	}
	e.run("director", uvsBinary+" restore < "+e.dir+"/kept")
	if again := e.run("director", uvsBinary+" save --commands"); again != saved {
		t.Errorf("saved\n%srestored to an empty director\n%s", saved, again)
	}
}

// A client gets as many connections as the limit, and no more until one has
// ended.
func TestClientLimit(t *testing.T) {
	e := newClientServer(t, "nat", 1)
	e.tcp.Close()
	e.udp.Close()
	e.serve("s1")
	e.set("tcp", "limit_conns=2 timeout_tcp_close=1")
	_, first := e.dialName()
	e.dialName()
	try := func() error {
		return e.inNetns("client", func() error {
			c, err := net.DialTimeout("tcp", e.vip()+":7", 500*time.Millisecond)
			if err == nil {
				e.t.Cleanup(func() { c.Close() })
			}
			return err
		})
	}
	if try() == nil {
		t.Error("a third connection of two got through")
	}
	if out := e.run("director", uvsBinary+" stats"); !strings.Contains(out, "dropped_client_conns") {
		t.Errorf("not counted:\n%s", out)
	}
	if list := e.run("director", uvsBinary+" ipvsadm -Lnc"); strings.Count(list, "\n") != 4 {
		t.Errorf("listed more than two conns:\n%s", list)
	}
	first.(*net.TCPConn).SetLinger(0)
	first.Close()
	eventually(t, "room for one more", func() bool { return try() == nil })
}

// One-packet scheduling: the datagrams of one socket reach both servers
// alternately, no conn stays, and with ops_replies the replies come from the
// VIP.
func TestOnePacketReplies(t *testing.T) {
	needs(t, "ping")
	e := newClientServer(t, "nat", 2)
	e.tcp.Close()
	e.udp.Close()
	e.serve("s1", "s2")
	e.ipvsadm("director", fmt.Sprintf("ipvsadm -E -u %s:7 -s rr -o", e.vip()))
	e.set("udp", "ops_replies=1")
	// So that the host knows the client as a neighbour, as it would a gateway.
	e.run("director", "ping -c 1 -W 5 "+e.addr(1, 2))
	c := e.dial("udp")
	defer c.Close()
	buf := make([]byte, 16)
	eventually(t, "a first reply: the director learned the neighbour from the host", func() bool {
		c.Write([]byte("who"))
		c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, err := c.Read(buf)
		return err == nil
	})
	seen := map[string]int{}
	for range 10 {
		c.Write([]byte("who"))
		seen[e.readName(c)]++
	}
	if seen["s1"] != 5 || seen["s2"] != 5 {
		t.Errorf("answers %v, want 5 of each", seen)
	}
	if list := e.run("director", uvsBinary+" ipvsadm -Lnc"); strings.Contains(list, "UDP") {
		t.Errorf("conns are kept:\n%s", list)
	}
}

// A file of sysctl.d for the kernel's IPVS is taken. What has no counterpart, and what has no
// effect, is named.
func TestImportSysctls(t *testing.T) {
	n := newNetwork(t)
	n.add("director", "client")
	n.link("director", "eth0", "client", "eth0")
	n.director("director", "eth0")
	out := n.run("director", "printf 'net.ipv4.ip_forward=1\nnet.ipv4.vs.conntrack = 1\nnet.ipv4.vs.drop_entry=3\n"+
		"net.ipv4.vs.sync_version=1\n' | "+uvsBinary+" set --import -")
	for _, want := range []string{"no counterpart: line 4: net.ipv4.vs.sync_version=1\n", "no effect: conntrack: "} {
		if !strings.Contains(out, want) || strings.Count(out, "\n") != 2 {
			t.Errorf("printed %q, want %q", out, want)
		}
	}
	n.run("director", uvsBinary+" set net/ipv4/vs/sloppy_tcp=1")
	got := n.run("director", uvsBinary+" get net.ipv4.vs.drop_entry sloppy_tcp conntrack")
	want := []string{"sloppy_tcp", "1", "drop_entry", "3", "conntrack", "1"}
	if words := strings.Fields(got); !slices.Equal(words, want) {
		t.Errorf("settings %q", words)
	}
}
