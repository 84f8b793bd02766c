package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// removedTopologies are the kinds of services that are deleted in the tests of this file.
var removedTopologies = []struct {
	method           string
	v6, onHost, mark bool
}{
	{method: "nat"},
	{method: "nat", v6: true, onHost: true},
	{method: "nat", mark: true},
	{method: "dr", onHost: true},
	{method: "dr", v6: true, mark: true},
}

// eachRemoved runs f with an echo server of a protocol at s1 behind each kind of service,
// which is the VIP's only one. add and remove are the lines of ipvsadm that add the
// service, its server, and remove each.
func eachRemoved(t *testing.T, proto string, f func(e *clientServer, add, remove [2]string)) {
	t.Helper()
	needs(t)
	for _, r := range removedTopologies {
		name := fmt.Sprintf("%s/v6=%t/vip-on-director=%t/mark=%t", r.method, r.v6, r.onHost, r.mark)
		t.Run(name, func(t *testing.T) {
			s := &topology{network: newNetwork(t), method: r.method, v6: r.v6, onHost: r.onHost}
			e := newClientServerOn(s, 1)
			if r.onHost {
				s.run("director", "ip addr add "+s.vip()+s.prefixLen()+" dev lo")
			}
			s.ipvsadm("director", "ipvsadm -C")
			service := "-" + proto[:1] + " " + s.url(s.vip()) + ":7"
			if r.mark {
				s.run("director", uvsBinary+" mark add --dst "+s.vip()+" --proto "+proto+" --dport 7 --mark 7")
				if service = "-f 7"; r.v6 {
					service += " -6"
				}
			}
			server := " -r " + s.url(s.rip(0)) + ":7"
			add := [2]string{"-A " + service + " -s rr", "-a " + service + server + " " + s.flag()}
			s.ipvsadm("director", "ipvsadm "+add[0]+"\nipvsadm "+add[1])
			if s.method == "dr" { // datagrams must come from the VIP
				e.udp.Close()
				must(t, e.inNetns("s1", func() (err error) {
					e.udp, err = net.ListenPacket("udp", s.url(s.vip())+":7")
					return err
				}))
			}
			go echoTCP(e.tcp)
			go echoUDP(e.udp)
			f(e, add, [2]string{"-D " + service, "-d " + service + server})
		})
	}
}

func echoTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go io.Copy(c, c)
	}
}

// talk sends a byte on each connection and returns what the reads gave, with their number.
func talk(conns []net.Conn, patience time.Duration) map[string]int {
	results := make(chan string)
	for _, c := range conns {
		go func() {
			c.SetDeadline(time.Now().Add(patience))
			c.Write([]byte("x"))
			_, err := c.Read(make([]byte, 1))
			switch {
			case err == nil:
				results <- "answered"
			case errors.Is(err, syscall.ECONNRESET):
				results <- "reset"
			case errors.Is(err, syscall.ECONNREFUSED):
				results <- "refused"
			default:
				results <- err.Error()
			}
		}()
	}
	got := map[string]int{}
	for range conns {
		got[<-results]++
	}
	return got
}

func (e *clientServer) dialMany(network string, n int) []net.Conn {
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = e.dial(network)
		e.t.Cleanup(func() { conns[i].Close() })
	}
	return conns
}

// A manager deletes and adds the same again while a thousand clients talk: none of them
// notices more than a pause.
func TestDeletedAndAddedAgain(t *testing.T) {
	eachRemoved(t, "tcp", func(e *clientServer, add, remove [2]string) {
		conns := e.dialMany("tcp", 1000)
		restore := func(lines ...string) {
			e.run("director", fmt.Sprintf("printf -- '%s\\n' | %s ipvsadm -R", strings.Join(lines, `\n`), uvsBinary))
		}
		for _, r := range [][2][]string{
			{{remove[1]}, {add[1]}},
			{{remove[0], add[0]}, {add[1]}},
			{{"-C"}, {add[0], add[1]}},
			{{remove[0]}, {strings.Replace(add[0], "rr", "wlc", 1), add[1], strings.Replace(add[0], "-A", "-E", 1)}},
		} {
			restore(r[0]...)
			results := make(chan map[string]int)
			go func() { results <- talk(conns, 10*time.Second) }()
			time.Sleep(300 * time.Millisecond)
			restore(r[1]...)
			if got := <-results; got["answered"] != len(conns) {
				e.t.Errorf("%q and 0.3 s later %q: %v, want all answered", r[0], r[1], got)
			}
		}
	})
}

// The last service of a VIP is deleted: its connections are reset when the grace is over,
// and new ones are refused at once, as beside another service.
func TestLastServiceDeleted(t *testing.T) {
	eachRemoved(t, "tcp", func(e *clientServer, add, remove [2]string) {
		conns := e.dialMany("tcp", 100)
		e.ipvsadm("director", "ipvsadm "+remove[0])
		results := make(chan map[string]int)
		go func() { results <- talk(conns, 10*time.Second) }()
		start := time.Now()
		refused := func() {
			e.t.Helper()
			err := e.inNetns("client", func() error {
				_, err := net.DialTimeout("tcp", e.url(e.vip())+":7", 5*time.Second)
				return err
			})
			if !errors.Is(err, syscall.ECONNREFUSED) {
				e.t.Errorf("a new connection: %v, want it refused", err)
			}
		}
		refused()
		if d := time.Since(start); d > time.Second {
			e.t.Errorf("it was refused after %v", d)
		}
		got := <-results
		if d := time.Since(start); got["reset"] != len(conns) || d < 1500*time.Millisecond || d > 4*time.Second {
			e.t.Errorf("%v after %v, want all reset after 2 s", got, d)
		}
		refused()
		if list := e.run("director", uvsBinary+" ipvsadm -Lnc"); strings.Contains(list, "ESTABLISHED") {
			e.t.Errorf("conns are left:\n%s", list)
		}
	})
}

// The last service of a VIP is deleted, and it is of UDP: all flows are refused with their
// next datagram, before the grace is over and after it, until the service is back.
func TestLastServiceOfUDPDeleted(t *testing.T) {
	eachRemoved(t, "udp", func(e *clientServer, add, remove [2]string) {
		flows := e.dialMany("udp", 20)
		expect := func(when, want string) {
			e.t.Helper()
			flows = append(flows, e.dialMany("udp", 1)...)
			if got := talk(flows, 10*time.Second); got[want] != len(flows) {
				e.t.Errorf("%s: %v, want all %s", when, got, want)
			}
		}
		expect("at first", "answered")
		start := time.Now()
		e.ipvsadm("director", "ipvsadm "+remove[0])
		expect("the service is deleted", "refused")
		if list := e.run("director", uvsBinary+" ipvsadm -Lnc"); strings.Contains(list, "UDP") {
			e.t.Errorf("conns are left:\n%s", list)
		}
		time.Sleep(time.Until(start.Add(2500 * time.Millisecond)))
		expect("the grace is over", "refused")
		e.ipvsadm("director", "ipvsadm "+add[0]+"\nipvsadm "+add[1])
		expect("the service is back", "answered")
	})
}

// With removed_conns=serve old scripts work that clear the table and wait for the
// connections to end.
func TestClearAndWait(t *testing.T) {
	eachRemoved(t, "tcp", func(e *clientServer, add, remove [2]string) {
		e.run("director", uvsBinary+" set removed_conns=serve")
		conns := e.dialMany("tcp", 10)
		e.ipvsadm("director", "ipvsadm -C")
		time.Sleep(2500 * time.Millisecond)
		if got := talk(conns, 5*time.Second); got["answered"] != len(conns) {
			e.t.Errorf("%v, want all answered", got)
		}
		for _, c := range conns {
			c.Close()
		}
		eventually(e.t, "no connection is established", func() bool {
			return !strings.Contains(e.run("director", uvsBinary+" ipvsadm -Lnc"), "ESTABLISHED")
		})
	})
}
