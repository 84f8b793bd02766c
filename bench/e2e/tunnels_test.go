package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"uvs/dataplane/wire/wiretest"
)

// tunnelTypes are the options of every encapsulation, and its name in listings.
var tunnelTypes = []struct{ options, info string }{
	{"--tun-type ipip", "ipip"},
	{"--tun-type gue --tun-port 6080 --tun-nocsum", "gue:6080:-c"},
	{"--tun-type gue --tun-port 6080 --tun-csum", "gue:6080:+c"},
	{"--tun-type gue --tun-port 6080 --tun-remcsum", "gue:6080:r+c"},
	{"--tun-type gre --tun-nocsum", "gre:-c"},
	{"--tun-type gre --tun-csum", "gre:+c"},
}

// tunnelTopology is a topology with one encapsulation.
type tunnelTopology struct {
	*topology
	info string
}

// tunnelTopologies returns one topology for each encapsulation and mix of
// families, made from s before it is built. Each has another VIP, so that none
// meets a conn of another.
func (s *topology) tunnelTopologies() (all []tunnelTopology) {
	for _, kind := range tunnelTypes {
		for _, v6 := range []bool{false, true} {
			for _, mixed := range []bool{false, true} {
				one := *s
				one.v6, one.mixed, one.tunnel, one.nth = v6, mixed, kind.options, len(s.more)+1
				s.more = append(s.more, one.vip())
				all = append(all, tunnelTopology{&one, kind.info})
			}
		}
	}
	return all
}

// Every encapsulation, over either family, for VIPs of either. rr spreads
// requests, and files arrive intact in both directions with the kernel's
// default offloads; packets that just fit the client's link do not fit the
// tunnel. No kernel sees a wrong checksum or an RST. Then, with offloads off,
// every frame to a server is checked.
func TestTunnels(t *testing.T) {
	s := &topology{network: newNetwork(t, "nginx", "curl", "tcpdump", "ethtool"), method: "tunnel"}
	offloads, frames := s.tunnelTopologies(), s.tunnelTopologies()
	files, sum := randomFile(t, 5<<20)
	s.build(files)
	for _, one := range offloads {
		one.subtest(t, "offloads", func() {
			before := one.errorCounters()
			one.requests(30)
			one.download(sum)
			one.upload(filepath.Join(files, "big"), sum)
			if after := one.errorCounters(); after != before {
				one.t.Errorf("kernels count\n%s, before it was\n%s", after, before)
			}
		})
	}
	for _, ns := range []string{"client", "s1", "s2"} {
		s.run(ns, "ethtool -K eth0 tx off tso off gso off gro off >/dev/null")
	}
	for _, one := range frames {
		one.subtest(t, "frames", one.checkTunnel)
	}
	s.checkNoErrors()
}

// subtest adds the service, runs the check, and compares how the server and
// conns are listed.
func (s *tunnelTopology) subtest(t *testing.T, about string, check func()) {
	t.Run(fmt.Sprintf("%s/%s/vip-v6=%t/servers-v6=%t", about, s.info, s.v6, s.v6 != s.mixed), func(t *testing.T) {
		s.network = &network{t: t, prefix: s.prefix, dir: s.dir}
		s.serve()
		listed := s.run("director", fmt.Sprintf("%s ipvsadm -L -n --tun-info -t %s:80", uvsBinary, s.url(s.vip())))
		if want := fmt.Sprintf("  -> %-28s Tunnel  %-13s 1 ", s.url(s.rip(0))+":80", s.info); !strings.Contains(listed,
			want) {
			t.Errorf("listing\n%s\nlacks %q", listed, want)
		}
		check()
		conns := s.run("director", uvsBinary+" ipvsadm -L -n -c")
		if want := regexp.MustCompile(fmt.Sprintf(`(?m)^TCP .* %s:\d+ +%s:80 +%s:80$`,
			regexp.QuoteMeta(s.url(s.addr(1, 2))), regexp.QuoteMeta(s.url(s.vip())),
			regexp.QuoteMeta(s.url(s.rip(0))))); !want.MatchString(conns) {
			t.Errorf("no conn matches %s", want)
		}
	})
}

// upload sends a file to the VIP; one of the servers stores it.
func (s *topology) upload(file, sum string) {
	s.t.Helper()
	name := strings.TrimSpace(s.run("client", fmt.Sprintf("curl -s -f -g --max-time 100 -T %s http://%s/upload", file,
		s.url(s.vip()))))
	kept, _ := filepath.Glob(filepath.Join(s.dir, "nginx-"+name, "body", "*"))
	if len(kept) != 1 {
		s.t.Fatalf("%q keeps %d files of one upload", name, len(kept))
	}
	defer os.Remove(kept[0])
	f, err := os.Open(kept[0])
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		s.t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", hash.Sum(nil)); got != sum {
		s.t.Errorf("upload has checksum %s, want %s", got, sum)
	}
}

// errorCounters returns the counters of wrong checksums, malformed segments and
// RSTs of the kernels at the ends.
func (s *topology) errorCounters() string {
	var b strings.Builder
	for _, ns := range []string{"client", "s1", "s2"} {
		out := s.run(ns, `awk '$1 == "Tcp:" || $1 == "Udp:" { if ($2 ~ /[a-z]/) split($0, name)
			else for (i in name) if (name[i] ~ /InErrs|InCsumErrors|OutRsts/)
				print $1 name[i], $i }
			$1 ~ /InCsumErrors/ { print $1, $2 }' /proc/net/snmp /proc/net/snmp6 | sort | tr '\n' ' '`)
		fmt.Fprintf(&b, "%s: %s\n", ns, out)
	}
	return b.String()
}

// checkTunnel makes some requests and checks what the ends see of them. At the
// client it is the same as without a tunnel. Before the servers, every length,
// checksum and outer header is checked.
func (s *tunnelTopology) checkTunnel() {
	s.t.Helper()
	ends := []string{"client", "s1", "s2"}
	stops := map[string]func() []gopacket.Packet{}
	for _, ns := range ends {
		stops[ns] = s.capture(ns, "eth0")
	}
	s.requests(20)
	for i, ns := range ends {
		j := &captureChecker{t: s.t, where: ns, ttl: map[string]uint8{s.vip(): 64, s.addr(1, 2): 63}}
		if ns == "client" {
			j.ttl[s.addr(1, 2)] = 64
		}
		packets := stops[ns]()
		j.check(packets)
		if ns == "client" {
			continue
		}
		outers := s.withFamily(s.v6 != s.mixed)
		for _, p := range packets {
			if tcp, ok := p.TransportLayer().(*layers.TCP); ok && tcp.SrcPort == 80 {
				continue // the reply
			}
			if p.Layer(layers.LayerTypeTCP) == nil {
				continue
			}
			wiretest.Check(s.t, wiretest.Frame(p.Data()))
			if got, want := outerHeader(p), fmt.Sprintf("%s>%s %s", outers.addr(1, 1), s.rip(i-1),
				strings.Replace(s.tunnel, "remcsum", "csum", 1)); got != want {
				s.t.Errorf("%s: tunnel %s, want %s: %s", ns, got, want, p)
			}
		}
	}
}

// outerHeader returns the outer addresses of a tunnel packet, and the options
// that make such a tunnel.
func outerHeader(p gopacket.Packet) string {
	flow := p.NetworkLayer().NetworkFlow()
	text := fmt.Sprintf("%s>%s --tun-type ", flow.Src(), flow.Dst())
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.GRE:
			return text + "gre" + map[bool]string{false: " --tun-nocsum", true: " --tun-csum"}[l.ChecksumPresent]
		case *layers.UDP:
			return text + fmt.Sprintf("gue --tun-port %d", l.DstPort) + map[bool]string{
				true:  " --tun-nocsum",
				false: " --tun-csum",
			}[l.Checksum == 0]
		}
	}
	return text + "ipip"
}
