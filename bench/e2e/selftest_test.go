package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The network of the kernel's own test of IPVS (tools/testing/selftests/net,
// netfilter/ipvs.sh), with our VIP. The server has a second interface on the
// client's bridge, by which it replies; with NAT it has none.
//
//	client br0 10.0.0.2 --- 10.0.0.1 veth10 director veth12 172.16.0.1 --- 172.16.0.2 veth21 server
//	             +------------------------- 10.0.0.3 veth20 -----------------------------------+
//
// The director holds the VIP on its loopback, and does not route in the tunnel
// test. `uvs rs --decap` replaces the tunl0 of the kernel's test.
func TestAsKernelSelftest(t *testing.T) {
	needs(t, "socat")
	const vip = "203.0.113.110"
	for _, method := range []struct{ name, flag string }{{"dr", "-g"}, {"nat", "-m"}, {"tunnel", "-i"}} {
		t.Run(method.name, func(t *testing.T) {
			n := newNetwork(t)
			n.add("client", "director", "server")
			n.link("client", "veth01", "director", "veth10")
			n.link("client", "veth02", "server", "veth20")
			n.link("director", "veth12", "server", "veth21")
			n.run("client", `ip link add br0 type bridge &&
				ip link set veth01 master br0 && ip link set veth02 master br0 &&
				ip link set br0 up && ip addr add 10.0.0.2/24 dev br0 && ip route add `+vip+` via 10.0.0.1`)
			n.run("director", `ip addr add 10.0.0.1/24 dev veth10 && ip addr add 172.16.0.1/24 dev veth12 &&
				ip addr add `+vip+`/32 dev lo`)
			n.run("server", `ip addr add 172.16.0.2/24 dev veth21 && ip addr add 10.0.0.3/24 dev veth20`)
			n.run("director", "sysctl -qw net.ipv4.ip_forward="+map[bool]string{
				false: "1",
				true:  "0",
			}[method.name == "tunnel"])
			switch method.name {
			case "nat":
				n.run("server", "ip link del veth20 && ip route add default via 172.16.0.1")
			default:
				n.run("server", "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 "+
					"net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.veth21.rp_filter=0")
				if method.name == "dr" {
					n.run("server", "ip addr add "+vip+"/32 dev lo")
					break
				}
				n.start("server", uvsBinary, "rs", "--decap", "--port", "0", "--vip", vip)
				eventually(t, "the server holds the VIP",
					func() bool { return strings.Contains(n.run("server", "ip addr show dev lo"), vip) })
			}
			n.director("director", "veth10", "veth12")
			n.ipvsadm("director", fmt.Sprintf(`
				ipvsadm -A -t %[1]s:8080 -s rr
				ipvsadm -a %[2]s -t %[1]s:8080 -r 172.16.0.2:8080`, vip, method.flag))
			eventually(t, "the server is reached", func() bool {
				return !strings.Contains(n.run("director", uvsBinary+" services"), "unresolved")
			})

			sent, received := filepath.Join(n.dir, "sent"), filepath.Join(n.dir, "received")
			random := make([]byte, 32)
			rand.Read(random)
			if err := os.WriteFile(sent, random, 0o644); err != nil {
				t.Fatal(err)
			}
			server := n.start("server", "sh", "-c", "exec socat -u -4 TCP-LISTEN:8080,reuseaddr STDOUT >"+received)
			eventually(t, "socat listens", func() bool { // 1F90 is port 8080, 0A is LISTEN
				return strings.Contains(n.run("server", "cat /proc/net/tcp"), ":1F90 00000000:0000 0A")
			})
			n.run("client", fmt.Sprintf("timeout 20 socat -u -4 STDIN TCP:%s:8080 <%s", vip, sent))
			if err := server.Wait(); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(received); !bytes.Equal(got, random) {
				t.Errorf("received %x, %v; sent %x", got, err, random)
			}
		})
	}
}
