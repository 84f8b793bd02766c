package e2e

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
)

// localnode makes a director that is one of its own two servers, at a port and
// by a method. The VIP is an address on its loopback. s1 is the other server,
// by DR.
func localnode(t *testing.T, v6 bool, mode, files string) *topology {
	t.Helper()
	s := &topology{network: newNetwork(t), method: "dr", v6: v6}
	s.add("client", "director", "s1")
	s.bridge("lan1", "client", "director", "s1")
	s.assign("client", "eth0", 1, 2)
	s.assign("director", "eth0", 1, 1)
	s.assign("s1", "eth0", 1, 11)
	s.prepareServer("s1")
	s.run("director", "ip addr add "+s.vip()+s.prefixLen()+" dev lo")
	s.run("director", "sysctl -qw net.ipv4.conf.all.rp_filter=1") // the strictest setting
	s.nginx("s1", files)
	s.nginx("director", files)
	// The host queues packets until it knows a neighbour, but the director's
	// frames are not queued. So a host that connects to the server directly may
	// get the director's reply first.
	s.run("director", "ip neigh replace "+s.addr(1, 2)+" dev eth0 lladdr "+s.macOf("client").String())
	s.directorWith("director", []string{"--localnode"}, "eth0")
	s.ipvsadm("director", fmt.Sprintf(`
		ipvsadm -A -t %[1]s:80 -s rr
		ipvsadm -a -t %[1]s:80 -r %[2]s:80 -g
		ipvsadm -a -t %[1]s:80 -r %[3]s:%[4]s`,
		s.url(s.vip()), s.url(s.addr(1, 11)), s.url(s.addr(1, 1)), mode))
	eventually(t, "the next hop to s1 is resolved", func() bool {
		return !strings.Contains(s.run("director", "curl -s --unix-socket "+s.socket()+" http://uvs/v1/services"),
			"unresolved")
	})
	return s
}

// rr spreads requests over a remote server and the director's own. Other ports
// of the host are unaffected: nginx's second port is reachable on the VIP, and
// both are on the director's own address.
func TestLocalnode(t *testing.T) {
	needs(t, "nginx", "curl")
	files, sum := bigFile(t)
	for _, v6 := range []bool{false, true} {
		for name, mode := range map[string]string{"dr": "80 -g", "tunnel": "80 -i", "nat": "8080 -m"} {
			t.Run(fmt.Sprintf("%s/v6=%t", name, v6), func(t *testing.T) {
				s := localnode(t, v6, mode, files)
				got := map[string]int{}
				host := strings.NewReplacer("[", `\[`, "]", `\]`).Replace(s.url(s.vip())) // brackets are curl's ranges
				for _, name := range strings.Fields(s.run("client", "curl -s -f --http1.0 --max-time 60 'http://"+host+
					"/?[1-100]'")) {
					got[name]++
				}
				if got["s1"] != 50 || got["director"] != 50 {
					t.Errorf("100 requests were answered by %v; rr wants 50 each of s1 and director", got)
				}
				for _, end := range []string{
					s.url(s.vip()) + ":8080", s.url(s.addr(1, 1)) + ":80",
					s.url(s.addr(1, 1)) + ":8080",
				} {
					if name := strings.TrimSpace(s.run("client", "curl -s -f -g --max-time 10 http://"+end+
						"/")); name != "director" {
						t.Errorf("http://%s/ was answered by %q, want the director's own nginx", end, name)
					}
				}
				s.ipvsadm("director", fmt.Sprintf("ipvsadm -d -t %s:80 -r %s:80", s.url(s.vip()), s.url(s.addr(1, 11))))
				s.download(sum)
				s.checkNoErrors()
				if name == "dr" && !v6 { // ldirectord's fallback
					s.ipvsadm("director", fmt.Sprintf(`
						ipvsadm -a -t %[1]s:80 -r 127.0.0.1:80 -g
						ipvsadm -d -t %[1]s:80 -r %[2]s:80`, s.vip(), s.addr(1, 1)))
					s.download(sum)
				}
			})
		}
	}
}

// Datagrams of 8 KiB reach the host as a server, and its replies reach the
// client translated, every fragment of them.
func TestLocalnodeFragments(t *testing.T) {
	needs(t, "nginx", "curl")
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%t", v6), func(t *testing.T) {
			s := localnode(t, v6, "8080 -m", t.TempDir())
			own := s.url(s.addr(1, 1)) + ":2050"
			var server net.PacketConn
			must(t, s.inNetns("director", func() (err error) {
				server, err = net.ListenPacket("udp", own)
				return err
			}))
			defer server.Close()
			go echoUDP(server)
			s.ipvsadm("director", fmt.Sprintf(`
				ipvsadm -A -u %[1]s:2049 -s rr
				ipvsadm -a -u %[1]s:2049 -r %[2]s -m`, s.url(s.vip()), own))
			var c net.Conn
			must(t, s.inNetns("client", func() (err error) {
				c, err = net.Dial("udp", s.url(s.vip())+":2049")
				return err
			}))
			defer c.Close()
			for range 100 {
				must(t, requestReply(c, c.Write, nfsBlock))
			}
			s.checkNoErrors()
		})
	}
}

// A killed director leaves nothing of the LocalNode device, and without
// --localnode there is none.
func TestLocalnodeLeavesNothing(t *testing.T) {
	s := &topology{network: newNetwork(t, "nft"), method: "dr"}
	s.add("director", "client")
	s.link("director", "eth0", "client", "eth0")
	devices := func() bool { return strings.Contains(s.run("director", "ip link"), "uvs-") }
	run := s.director("director", "eth0")
	if devices() {
		t.Error("there is a device without --localnode")
	}
	run.Process.Signal(syscall.SIGTERM)
	run.Wait()
	run = s.directorWith("director", []string{"--localnode"}, "eth0")
	if !devices() {
		t.Error("there is no device with --localnode")
	}
	run.Process.Kill()
	run.Wait()
	eventually(t, "the device is gone", func() bool { return !devices() })
	eventually(t, "no rules are left", func() bool {
		tables, err := s.tryRun("director", "nft list ruleset")
		return err == nil && strings.TrimSpace(tables) == ""
	})
}
