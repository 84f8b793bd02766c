package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// neighbourCounts are what the director and the ends counted so far.
type neighbourCounts struct{ held, lost, retransmitted int }

func (s *topology) neighbourCounts(ends ...string) (c neighbourCounts) {
	s.t.Helper()
	for line := range strings.Lines(s.run("director", uvsBinary+" stats --all")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, _ := strconv.Atoi(value)
		switch name {
		case "held_no_neighbour":
			c.held += n
		case "dropped_no_neighbour", "unresolved_stopped", "unresolved_expired", "unresolved_displaced":
			c.lost += n
		}
	}
	for _, ns := range ends {
		out := s.run(ns, "awk '/^Tcp:/ { n = $13 } END { print n }' /proc/net/snmp")
		n, err := strconv.Atoi(strings.TrimSpace(out))
		must(s.t, err)
		c.retransmitted += n
	}
	return c
}

// Clients on the director's link, whom its host does not know or has forgotten, call
// masqueraded servers directly, through the director's host as a router. The first packets to
// servers come right after those were added or forgotten. None of these packets is lost, and
// no end has to send one again.
func TestUnknownNeighbours(t *testing.T) {
	needs(t, "nginx", "curl")
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%t", v6), func(t *testing.T) {
			s := &topology{network: newNetwork(t), method: "nat", v6: v6}
			s.build(t.TempDir())
			s.add("client2")
			s.link("client2", "eth0", "lan1", "client2")
			s.run("lan1", "ip link set client2 master br0")
			s.assign("client2", "eth0", 1, 3)
			s.run("director", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
			servers := map[bool]string{false: "10.2.0.0/24", true: "fd00:2::/64"}[v6]
			for _, ns := range []string{"client", "client2"} {
				s.run(ns, "ip route add "+servers+" via "+s.addr(1, 1))
			}
			ends := []string{"client", "client2", "s1", "s2"}
			before := s.neighbourCounts(ends...)
			forget := func(dev string) { s.run("director", "ip neigh flush dev "+dev+" && ip -6 neigh flush dev "+dev) }
			get := func(ns, url, from string) {
				t.Helper()
				if out := s.run(ns, "curl -s -f -g --max-time 30 http://"+url+"/"); strings.TrimSpace(out) != from {
					t.Errorf("%s from %s: %q, want %s", url, ns, out, from)
				}
			}
			direct := s.url(s.rip(0)) + ":8080"
			get("client", direct, "s1")
			forget("eth0")
			get("client", direct, "s1")
			get("client2", direct, "s1")

			s.ipvsadm("director", fmt.Sprintf("ipvsadm -A -t %s:81 -s rr", s.url(s.vip())))
			forget("eth1")
			s.ipvsadm("director", fmt.Sprintf("ipvsadm -a -t %s:81 -r %s:8080 -m", s.url(s.vip()), s.url(s.rip(1))))
			get("client", s.url(s.vip())+":81", "s2")
			forget("eth1")
			get("client2", s.url(s.vip())+":81", "s2")

			s.ipvsadm("director", "ipvsadm -C")
			forget("eth0")
			get("client", direct, "s1") // its replies are still hidden from the host
			after := s.neighbourCounts(ends...)
			if after.held == before.held || after.lost != 0 || after.retransmitted != before.retransmitted {
				t.Errorf("before %+v, after %+v", before, after)
			}
		})
	}
}

// While the director's host forgets all neighbours again and again, a file arrives whole from
// a service and directly from a server.
func TestNeighboursForgottenInTransfer(t *testing.T) {
	needs(t, "nginx", "curl")
	files, sum := randomFile(t, 20<<20)
	s := &topology{network: newNetwork(t), method: "nat"}
	s.build(files)
	s.run("director", "sysctl -qw net.ipv4.ip_forward=1")
	s.run("client", "ip route add 10.2.0.0/24 via 10.1.0.1")
	for _, host := range []string{s.vip(), s.rip(0) + ":8080"} {
		got := make(chan string)
		go func() {
			url := "http://" + host + "/files/big"
			out, _ := s.tryRun("client", "curl -s -f --limit-rate 20M --max-time 100 "+url+" | sha256sum")
			got <- out
		}()
		for done := false; !done; {
			s.tryRun("director", "ip neigh flush all") // fails if they return while it works
			eventually(t, "a neighbour is back, or the file has arrived", func() bool {
				select {
				case out := <-got:
					if done = true; !strings.HasPrefix(out, sum) {
						t.Errorf("from %s: checksum %s, want %s", host, out, sum)
					}
				default:
				}
				return done || strings.Contains(s.run("director", "ip neigh"), "REACHABLE")
			})
		}
	}
}

// A server that is not there is reported to clients as unreachable, as a router does, and not
// only when they give up.
func TestServerWithoutNeighbour(t *testing.T) {
	needs(t, "nginx", "curl")
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%t", v6), func(t *testing.T) {
			s := &topology{network: newNetwork(t), method: "nat", v6: v6}
			s.build(t.TempDir())
			s.ipvsadm("director", fmt.Sprintf(`
				ipvsadm -A -t %[1]s:81 -s rr
				ipvsadm -a -t %[1]s:81 -r %[2]s:8080 -m`, s.url(s.vip()), s.url(s.addr(2, 99))))
			out, err := s.tryRun("client", fmt.Sprintf("curl -sS -g --max-time 60 http://%s:81/ 2>&1", s.url(s.vip())))
			if exitCode(err) != 7 {
				t.Errorf("%v, want a refused connection: %s", err, out)
			}
			if c := s.neighbourCounts(); c.held == 0 || c.lost == 0 {
				t.Errorf("the director counted %+v", c)
			}
		})
	}
}

// Replies of a one-packet service reach clients on the link that the host does not know.
func TestOnePacketRepliesToUnknownNeighbours(t *testing.T) {
	needs(t, "nginx", "curl")
	s := &topology{network: newNetwork(t), method: "nat"}
	s.build(t.TempDir())
	s.start("s1", uvsBinary, "rs", "--name", "s1", "--port", "0", "--info-port", "53")
	s.ipvsadm("director", `
		set ops_replies=1
		ipvsadm -A -u 10.1.0.100:53 -s rr --ops
		ipvsadm -a -u 10.1.0.100:53 -r 10.2.0.11:53 -m`)
	eventually(t, "the server listens", func() bool {
		out, _ := s.tryRun("s1", "cat /proc/net/udp /proc/net/udp6")
		return strings.Contains(out, ":0035 ")
	})
	for range 5 {
		s.run("director", "ip neigh flush all")
		out, err := s.tryRun("client",
			"timeout 20 bash -c 'exec 3<>/dev/udp/10.1.0.100/53; echo who >&3; dd bs=1000 count=1 status=none <&3'")
		if err != nil || !strings.Contains(out, "s1") {
			t.Fatalf("%v: %q", err, out)
		}
	}
	if c := s.neighbourCounts(); c.held == 0 || c.lost != 0 {
		t.Errorf("the director counted %+v", c)
	}
}
