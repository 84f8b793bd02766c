package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// topology is one LAN, for DR and tunnels, or for NAT a network on each side of
// the director:
//
//	client --- lan1 --- eth0 director eth1 --- lan2 --- s1, s2      two arms (NAT)
//	client, director eth0, s1, s2 ------------- lan1               one arm (DR, tunnel)
//
// lan1 is 10.1.0.0/24 and fd00:1::/64, lan2 is 10.2.0.0/24 and fd00:2::/64. The
// client is host .2, the director .1, the servers .11 and .12, and the VIP .100
// of lan1.
type topology struct {
	*network
	method string // nat, dr, tunnel
	v6     bool   // family of the VIP
	onHost bool   // the VIP is configured on the director's loopback
	mixed  bool   // the servers have the other family
	tunnel string // further options of the servers, such as --tun-type
	nth    int    // the VIP is .100 plus this

	more []string // further VIPs that the servers hold (tunnel)
}

func (s *topology) flag() string {
	return map[string]string{"nat": "-m", "dr": "-g", "tunnel": "-i"}[s.method]
}

// addr returns the address of host h of network n.
func (s *topology) addr(n, h int) string {
	if s.v6 {
		return fmt.Sprintf("fd00:%d::%d", n, h)
	}
	return fmt.Sprintf("10.%d.0.%d", n, h)
}

func (s *topology) vip() string { return s.addr(1, 100+s.nth) }

// rip returns the address of server i, counted from 0, to which the director
// sends.
func (s *topology) rip(i int) string { return s.withFamily(s.v6 != s.mixed).addr(s.serverNet(), 11+i) }

// withFamily returns the topology with the VIP of a family.
func (s *topology) withFamily(v6 bool) *topology {
	other := *s
	other.v6 = v6
	return &other
}

// url returns an address in the form that ipvsadm and curl take.
func (s *topology) url(addr string) string {
	if strings.Contains(addr, ":") {
		return "[" + addr + "]"
	}
	return addr
}

func (s *topology) prefixLen() string {
	if s.v6 {
		return "/128"
	}
	return "/32"
}

// assign gives host h of network n its addresses of both families.
func (s *topology) assign(ns, dev string, n, h int) {
	for _, addr := range []string{s.withFamily(false).addr(n, h) + "/24", s.withFamily(true).addr(n, h) + "/64 nodad"} {
		s.run(ns, fmt.Sprintf("ip addr add %s dev %s", addr, dev))
	}
}

// serverNet returns the number of the servers' network.
func (s *topology) serverNet() int {
	if s.method == "nat" {
		return 2
	}
	return 1
}

// build makes the namespaces, the servers and the director with its services.
func (s *topology) build(files string) {
	s.add("client", "director", "s1", "s2")
	if s.method == "nat" {
		s.bridge("lan1", "client", "director:eth0")
		s.bridge("lan2", "director:eth1", "s1", "s2")
		s.assign("director", "eth1", 2, 1)
	} else {
		s.bridge("lan1", "client", "director:eth0", "s1", "s2")
	}
	s.assign("client", "eth0", 1, 2)
	s.assign("director", "eth0", 1, 1)
	for i, ns := range []string{"s1", "s2"} {
		s.assign(ns, "eth0", s.serverNet(), 11+i)
		s.prepareServer(ns)
		s.nginx(ns, files)
	}
	if s.onHost {
		s.run("director", "ip addr add "+s.vip()+s.prefixLen()+" dev lo")
	}
	interfaces := []string{"eth0"}
	if s.method == "nat" {
		interfaces = append(interfaces, "eth1")
	}
	s.director("director", interfaces...)
	s.serve()
}

// serve adds the services to the director.
func (s *topology) serve() {
	port := "80"
	if s.method == "nat" {
		port = "8080"
	}
	s.ipvsadm("director", fmt.Sprintf(`
		ipvsadm -A -t %[1]s:80 -s rr
		ipvsadm -a -t %[1]s:80 -r %[2]s:%[4]s %[5]s %[6]s
		ipvsadm -a -t %[1]s:80 -r %[3]s:%[4]s %[5]s %[6]s`,
		s.url(s.vip()), s.url(s.rip(0)), s.url(s.rip(1)), port, s.flag(), s.tunnel))
}

// prepareServer configures a real server for the method.
func (s *topology) prepareServer(ns string) {
	if s.method == "nat" {
		s.run(ns, "ip route add default via "+s.addr(2, 1))
		return
	}
	s.run(ns, "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")
	if s.method == "dr" {
		s.run(ns, "ip addr add "+s.vip()+s.prefixLen()+" dev lo")
		return
	}
	rs := []string{uvsBinary, "rs", "--decap", "--port", "0"}
	for _, vip := range append(s.more, s.vip()) {
		rs = append(rs, "--vip", vip)
	}
	s.start(ns, rs...)
	eventually(s.t, "the VIP is on "+ns, func() bool {
		out, _ := s.tryRun(ns, "ip addr show")
		return strings.Contains(out, s.vip()+"/")
	})
}

// bigFile makes 100 MB of random bytes, for all topologies of a test.
func bigFile(t testing.TB) (dir, sum string) { return randomFile(t, 100<<20) }

// randomFile makes a file "big" in a directory that every user may read.
func randomFile(t testing.TB, size int) (dir, sum string) {
	dir = t.TempDir()
	os.Chmod(dir, 0o755)
	os.Chmod(filepath.Dir(dir), 0o755)
	b := make([]byte, size)
	rand.Read(b)
	if err := os.WriteFile(filepath.Join(dir, "big"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, fmt.Sprintf("%x", sha256.Sum256(b))
}

// Every method, family and place of the VIP: rr spreads a thousand requests
// evenly, and 100 MB arrive intact, with the kernel's default offloads.
func TestMethods(t *testing.T) {
	needs(t, "nginx", "curl")
	files, sum := bigFile(t)
	for _, method := range []string{"nat", "dr", "tunnel"} {
		for _, v6 := range []bool{false, true} {
			for _, onHost := range []bool{false, true} {
				name := fmt.Sprintf("%s/v6=%t/vip-on-director=%t", method, v6, onHost)
				t.Run(name, func(t *testing.T) {
					s := &topology{
						network: newNetwork(t), method: method, v6: v6,
						onHost: onHost,
					}
					s.build(files)
					s.requests(1000)
					s.download(sum)
					s.checkNoErrors()
				})
			}
		}
	}
}

// requests makes n requests, each over a new connection, and counts the servers
// that replied. rr spreads new conns. A client that reuses a port soon may get
// its old conn, and with it the old server, if the director does not see the
// end of connections (DR, tunnel; conn_reuse_mode as in IPVS).
func (s *topology) requests(n int) {
	s.t.Helper()
	before := s.conns()
	host := strings.NewReplacer("[", `\[`, "]", `\]`).Replace(s.url(s.vip())) // brackets are curl's ranges
	out := s.run("client", fmt.Sprintf("curl -s -f --http1.0 --max-time 60 'http://%s/?[1-%d]'", host, n))
	got := map[string]int{}
	for _, name := range strings.Fields(out) {
		got[name]++
	}
	conns := s.conns()
	for i := range conns {
		conns[i] -= before[i]
	}
	again := n - conns[0] - conns[1]
	if got["s1"]+got["s2"] != n || max(got["s1"]-conns[0], got["s2"]-conns[1]) > again {
		s.t.Errorf("%d requests were answered by %v, with %v new conns", n, got, conns)
	}
	if d := conns[0] - conns[1]; d < -1 || d > 1 || again < 0 || again > n/20 {
		s.t.Errorf("%d requests made %v new conns at s1 and s2; rr wants them even", n, conns)
	}
}

// conns returns how many conns s1 and s2 have got.
func (s *topology) conns() (made [2]int) {
	s.t.Helper()
	for line := range strings.Lines(s.run("director", fmt.Sprintf("%s ipvsadm -L -n --stats -X -t %s:80", uvsBinary,
		s.url(s.vip())))) {
		f := strings.Fields(line)
		for i := range made {
			if len(f) > 2 && f[0] == "->" && strings.HasPrefix(f[1], s.url(s.rip(i))+":") {
				made[i], _ = strconv.Atoi(f[2])
			}
		}
	}
	return made
}

func (s *topology) download(sum string) {
	s.t.Helper()
	out := s.run("client", fmt.Sprintf("curl -s -f -g --max-time 100 http://%s/files/big | sha256sum", s.url(s.vip())))
	if got := strings.Fields(out)[0]; got != sum {
		s.t.Errorf("download has checksum %s, want %s", got, sum)
	}
}

// checkNoErrors checks that the director dropped and refused nothing.
func (s *topology) checkNoErrors() {
	s.t.Helper()
	out := s.run("director", uvsBinary+" stats")
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "dropped_") || strings.HasPrefix(line, "refused_") {
			s.t.Errorf("counter %s", line)
		}
	}
}
