package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// recipe is a recipe of docs/recipes.md: the rules, the service, and what a
// client requests.
type recipe struct {
	name     string
	rules    string // for uvs mark import, or for uvs mark add if without "iptables"
	service  string
	requests []string // network and port
	others   []string // the same, not part of the service
}

var recipes = []recipe{
	{
		"http and https", `
		#!/bin/sh
		iptables -t mangle -A PREROUTING -i eth0 -p tcp -s 0.0.0.0/0 -d VIP/32 --dport 80 -j MARK --set-mark 1
		iptables -t mangle -A PREROUTING -i eth0 -p tcp -s 0.0.0.0/0 -d VIP/32 --dport 443 -j MARK --set-mark 1`,
		"-f 1 -s rr -p 600",
		[]string{"tcp 80", "tcp 443"},
		[]string{"tcp 81"},
	},
	{
		"RealNetworks", `
		/sbin/iptables -t mangle -A INPUT -d VIP/32 -p tcp -m multiport --dports 554,7070,8080 -j MARK --set-mark 0x1
		/sbin/iptables -t mangle -A INPUT -d VIP/32 -p udp --dport 6970:7170 -j MARK --set-mark 0x1`,
		"-f 1 -s rr -p 600",
		[]string{"tcp 554", "tcp 7070", "tcp 8080", "udp 6970", "udp 7170"},
		[]string{"tcp 555", "udp 6969"},
	},
	{
		"a J2EE server's port range", `--dst VIP --proto tcp --dport 80,1023:61000 --mark 1`,
		"-f 1 -s rr -p 600",
		[]string{"tcp 80", "tcp 1023", "tcp 7005", "tcp 61000"},
		[]string{"tcp 61001"},
	},
	{
		"NFS", `--dst VIP --proto tcp --dport 111,2049,4001:4002 --mark 1
		--dst VIP --proto udp --dport 111,2049,4001:4002 --mark 1`,
		"-f 1 -s rr -p 600",
		[]string{"udp 111", "tcp 111", "tcp 2049", "udp 2049", "udp 4001", "tcp 4002"},
		[]string{"udp 4003"},
	},
	{
		"DNS", `--dst VIP --proto udp --dport 53 --mark 1
		--dst VIP --proto tcp --dport 53 --mark 1`,
		"-f 1 -s rr -p 600",
		[]string{"udp 53", "tcp 53"},
		nil,
	},
}

// Each recipe by NAT and direct routing, and two of them by every method and
// family. All ports of the recipe lead one client to one server, as the
// template says, and no other port does.
func TestRecipes(t *testing.T) {
	needs(t)
	for _, how := range []struct {
		method  string
		v6      bool
		recipes []recipe
	}{
		{"nat", false, recipes},
		{"dr", false, recipes},
		{"tunnel", false, recipes[:2]},
		{"nat", true, recipes[:2]},
		{"dr", true, recipes[:2]},
		{"tunnel", true, recipes[:2]},
	} {
		for _, r := range how.recipes {
			t.Run(fmt.Sprintf("%s/ipv6=%t/%s", how.method, how.v6, r.name), func(t *testing.T) {
				rules, service, group := r.rules, r.service, "0.0.0.1:0"
				if how.v6 {
					rules = strings.NewReplacer("iptables", "ip6tables", "/32", "/128", "0.0.0.0/0",
						"::/0").Replace(rules)
					service, group = strings.Replace(service, "-f 1", "-f 1 -6", 1), "[0:1::]:0"
				}
				m := newMarkTopology(t, how.method, how.v6, append(r.requests, r.others...)...)
				m.marks(strings.ReplaceAll(rules, "VIP", m.vip()))
				m.useService(service)
				first := ""
				for _, what := range r.requests {
					network, port, _ := strings.Cut(what, " ")
					name := m.request(network, net.JoinHostPort(m.vip(), port))
					if first == "" {
						first = name
					}
					if name == "" || name != first {
						t.Errorf("%s was answered by %q, the first request by %q", what, name, first)
					}
				}
				for _, what := range r.others {
					network, port, _ := strings.Cut(what, " ")
					if name := m.request(network, net.JoinHostPort(m.vip(), port)); name != "" {
						t.Errorf("%s was answered by %s", what, name)
					}
				}
				m.template(group, first)
			})
		}
	}
}

// A net of VIPs that is routed to the director, and all addresses with a rule
// that names none: replies come from the address that the client sent to.
func TestMarkedNets(t *testing.T) {
	needs(t)
	for _, r := range []struct{ sentence, rule string }{
		{"a net of VIPs", "--dst 203.0.113.0/24 --proto tcp --mark 1"},
		{"a transparent service", "--proto tcp --dport 80 --in-interface eth0 --mark 1"},
		{"a net that contains the clients too", "--dst 0.0.0.0/0 --proto tcp --dport 1:1000 --mark 1"},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			m := newMarkTopology(t, "nat", false, "tcp 80", "tcp 8080")
			m.run("client", "ip route add 203.0.113.0/24 via "+m.addr(1, 1))
			m.run("client", "ip route add "+m.addr(2, 0)+"/24 via "+m.addr(1, 1))
			m.marks(r.rule)
			m.useService("-f 1 -s rr")
			got := map[string]int{}
			for i := range 10 {
				got[m.request("tcp", fmt.Sprintf("203.0.113.%d:80", i+1))]++
			}
			if got["s1"] != 5 || got["s2"] != 5 {
				t.Errorf("ten addresses were answered by %v; rr wants five each", got)
			}
			// The host still routes what the rule does not match.
			m.run("director", "sysctl -qw net.ipv4.ip_forward=1")
			if name := m.request("tcp", m.addr(2, 12)+":8080"); name != "s2" {
				t.Errorf("s2 itself was answered by %q", name)
			}
			var c net.Conn
			must(t, m.inNetns("director", func() (err error) {
				c, err = net.Dial("tcp", m.addr(2, 11)+":80")
				return err
			}))
			c.Close()
		})
	}
}

// The service is deleted and added while its rules stay, and the rules while
// the service stays.
func TestMarksComeAndGo(t *testing.T) {
	m := newMarkTopology(t, "nat", false, "tcp 80")
	vip := m.vip() + ":80"
	rule := "--dst " + m.vip() + " --proto tcp --dport 80 --mark 1"
	m.marks(rule)
	if name := m.request("tcp", vip); name != "" {
		t.Errorf("a mark without a service: %s answered", name)
	}
	m.useService("-f 1 -s rr")
	if m.request("tcp", vip) == "" {
		t.Error("a mark with a service: no reply")
	}
	saved := m.run("director", uvsBinary+" ipvsadm -Sn")
	if want := "-A -f 1 -s rr\n-a -f 1 -r 10.2.0.11:0 -m -w 1\n-a -f 1 -r 10.2.0.12:0 -m -w 1\n"; saved != want {
		t.Errorf("saved\n%s, want\n%s", saved, want)
	}
	m.run("director", uvsBinary+" mark delete "+rule)
	if name := m.request("tcp", vip); name != "" {
		t.Errorf("a service without rules: %s answered", name)
	}
	if out, err := m.tryRun("director", "echo 'iptables -A FORWARD -j MARK --set-mark 1' | "+uvsBinary+
		" mark import"); err == nil || strings.Count(out, "\n") != 1 {
		t.Errorf("a wrong script: %v, %s", err, out)
	}
	if out := m.run("director", uvsBinary+" mark list"); out != "" {
		t.Errorf("rules left: %s", out)
	}
	const script = "*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n*mangle\n:web - [0:0]\n" +
		"-A PREROUTING -d 10.1.0.100/32 -j web\n-A FORWARD -p tcp -j TCPMSS --clamp-mss-to-pmtu\n" +
		"-A web -p tcp -m tcp --dport 7 -j MARK --set-xmark 0x1/0xffffffff\nCOMMIT\n"
	out := m.run("director", uvsBinary+" mark import <<'END'\n"+script+"END")
	if !strings.Contains(out, " 2 skipped ") {
		t.Errorf("a script of iptables-save: %s", out)
	}
	if out := m.run("director", uvsBinary+" mark list"); out != "--dst 10.1.0.100 --proto tcp --dport 7 --mark 1\n" {
		t.Errorf("its rules: %s", out)
	}
}

// markTopology has servers that reply with their names on some ports.
type markTopology struct{ *topology }

func newMarkTopology(t *testing.T, method string, v6 bool, ports ...string) *markTopology {
	s := &topology{network: newNetwork(t), method: method, v6: v6}
	s.add("client", "director", "s1", "s2")
	interfaces := []string{"eth0"}
	if method == "nat" {
		s.bridge("lan1", "client", "director:eth0")
		s.bridge("lan2", "director:eth1", "s1", "s2")
		s.assign("director", "eth1", 2, 1)
		interfaces = append(interfaces, "eth1")
	} else {
		s.bridge("lan1", "client", "director", "s1", "s2")
	}
	s.assign("client", "eth0", 1, 2)
	s.assign("director", "eth0", 1, 1)
	m := &markTopology{s}
	for i, ns := range []string{"s1", "s2"} {
		s.assign(ns, "eth0", s.serverNet(), 11+i)
		s.prepareServer(ns)
		for _, what := range ports {
			network, port, _ := strings.Cut(what, " ")
			m.listen(ns, network, ":"+port)
		}
	}
	s.director("director", interfaces...)
	return m
}

// listen replies to every connection or datagram with the name of its
// namespace.
func (m *markTopology) listen(ns, network, addr string) {
	m.t.Helper()
	if network == "udp" {
		// One socket for each address, because replies must come from the
		// address that the client sent to.
		hosts := []string{m.addr(m.serverNet(), map[string]int{"s1": 11, "s2": 12}[ns])}
		if m.method != "nat" {
			hosts = append(hosts, m.vip())
		}
		for _, host := range hosts {
			var c net.PacketConn
			eventually(m.t, ns+" has the address "+host, func() bool { // a new IPv6 address takes time
				return m.inNetns(ns, func() (err error) {
					c, err = net.ListenPacket("udp", net.JoinHostPort(host, addr[1:]))
					return err
				}) == nil
			})
			m.t.Cleanup(func() { c.Close() })
			go serveNameUDP(c, ns)
		}
		return
	}
	var l net.Listener
	must(m.t, m.inNetns(ns, func() (err error) { l, err = net.Listen("tcp", addr); return err }))
	m.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, ns)
			c.Close()
		}
	}()
}

// marks adds mark rules: lines of iptables, or of `uvs mark add`.
func (m *markTopology) marks(rules string) {
	m.t.Helper()
	if strings.Contains(rules, "tables") {
		m.run("director", uvsBinary+" mark import <<'END'\n"+rules+"\nEND")
		return
	}
	for line := range strings.Lines(rules) {
		m.run("director", uvsBinary+" mark add "+line)
	}
}

// useService adds a service with both servers, which keep the packets' ports.
func (m *markTopology) useService(service string) {
	m.t.Helper()
	m.run("director", uvsBinary+" ipvsadm -A "+service)
	name, _, _ := strings.Cut(service, " -s")
	for i := range 2 {
		m.run("director", fmt.Sprintf("%s ipvsadm -a %s -r %s %s", uvsBinary, name,
			m.addr(m.serverNet(), 11+i), m.flag()))
	}
}

// request returns the name of the server that replies, or "". It repeats a
// datagram, because the first may be dropped before the server's hardware
// address is known.
func (m *markTopology) request(network, addr string) string {
	m.t.Helper()
	var c net.Conn
	if m.inNetns("client", func() (err error) {
		c, err = net.DialTimeout(network, addr, 5*time.Second)
		return err
	}) != nil {
		return ""
	}
	defer c.Close()
	buf := make([]byte, 64)
	for range 5 {
		if network == "udp" {
			io.WriteString(c, "who?")
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		n, err := c.Read(buf)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return string(buf[:n])
		}
	}
	return ""
}

// template checks that the client has a template for the group at the server.
func (m *markTopology) template(group, server string) {
	m.t.Helper()
	out := m.run("director", uvsBinary+" ipvsadm -Lnc")
	want := fmt.Sprintf("%s:0 %s %s:0", m.url(m.addr(1, 2)), group,
		m.url(m.addr(m.serverNet(), map[string]int{"s1": 11, "s2": 12}[server])))
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); f[0] == "IP" && strings.Join(f[3:], " ") == want {
			return
		}
	}
	m.t.Errorf("no template %s in\n%s", want, out)
}
