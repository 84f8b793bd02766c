package e2e

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

var narrowMB = flag.Int("narrow", 4, "how many MB TestNarrowPath sends each way over each narrow link")

// routedTopology has routers between the director and both ends; either
// direction has one narrow link:
//
//	client -3- ra =4= rb -1- director -5- rc =6= rd -2- s1       NAT, tunnel
//	                  rb ----------7------------ rd              the tunnel's replies
//	client -3- ra =4= rb -1- director, s1                        DR, whose server's own link is narrow
//
// Network n is 10.n.0.0/24 and fd00:n::/64, and the VIPs are in network 1.
type routedTopology struct{ *topology }

// family returns the topology with VIPs and servers of a family.
func (j *routedTopology) family(v6 bool) *routedTopology { return &routedTopology{j.withFamily(v6)} }

// rip returns the address of s1.
func (j *routedTopology) rip() string {
	if j.method == "dr" {
		return j.addr(1, 11)
	}
	return j.addr(2, 11)
}

// routes adds routes of both families to a namespace: to the networks in to, by
// host h of network n. Network 0 is the default route.
func (j *routedTopology) routes(ns string, n, h int, to ...int) {
	j.t.Helper()
	for _, v6 := range []bool{false, true} {
		for _, network := range to {
			net, bits := "default", ""
			if network != 0 {
				net, bits = j.withFamily(v6).addr(network, 0), map[bool]string{false: "/24", true: "/64"}[v6]
			}
			j.run(ns, fmt.Sprintf("ip route add %s%s via %s", net, bits, j.withFamily(v6).addr(n, h)))
		}
	}
}

func (j *routedTopology) build(files string) {
	j.add("client", "ra", "rb", "rc", "rd", "director", "s1")
	j.link("client", "n3", "ra", "n3")
	j.link("ra", "n4", "rb", "n4")
	j.link("director", "n5", "rc", "n5")
	j.link("rc", "n6", "rd", "n6")
	j.link("rd", "n7", "rb", "n7")
	if j.method == "dr" {
		j.bridge("lan1", "rb:n1", "director:n1", "s1:n1")
		j.assign("s1", "n1", 1, 11)
		j.routes("s1", 1, 254, 0)
	} else {
		j.link("rd", "n2", "s1", "n2")
		j.bridge("lan1", "rb:n1", "director:n1")
		j.assign("rd", "n2", 2, 254)
		j.assign("s1", "n2", 2, 11)
		j.routes("s1", 2, 254, 0)
	}
	for _, a := range []struct {
		ns   string
		n, h int
	}{
		{"client", 3, 2},
		{"ra", 3, 1},
		{"ra", 4, 1},
		{"rb", 4, 2},
		{"rb", 1, 254},
		{"director", 1, 1},
		{"director", 5, 1},
		{"rc", 5, 254},
		{"rc", 6, 1},
		{"rd", 6, 2},
		{"rd", 7, 1},
		{"rb", 7, 2},
	} {
		j.assign(a.ns, fmt.Sprintf("n%d", a.n), a.n, a.h)
	}
	for _, r := range []string{"ra", "rb", "rc", "rd"} {
		j.run(r, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0")
	}
	j.routes("client", 3, 1, 0)
	j.routes("ra", 4, 2, 0)
	j.routes("rb", 4, 1, 3)
	j.routes("director", 1, 254, 0)
	j.routes("director", 5, 254, 6, 2)
	j.routes("rc", 5, 1, 0)
	j.routes("rc", 6, 2, 2)
	if j.method == "tunnel" {
		j.routes("rd", 7, 2, 0)
		j.routes("rd", 6, 1, 5)
	} else {
		j.routes("rd", 6, 1, 0)
	}
	j.prepare()
	j.nginx("s1", files)
	j.director("director", "n1", "n5")
	for _, v6 := range []bool{false, true} {
		j.family(v6).serve()
	}
}

// prepare configures the server for the method.
func (j *routedTopology) prepare() {
	j.run("s1", "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")
	switch j.method {
	case "dr":
		for _, v6 := range []bool{false, true} {
			j.run("s1", "ip addr add "+j.withFamily(v6).vip()+j.withFamily(v6).prefixLen()+" dev lo")
		}
	case "tunnel":
		rs := []string{uvsBinary, "rs", "--decap", "--port", "0"}
		for _, kind := range j.encapsulations() {
			for _, v6 := range []bool{false, true} {
				rs = append(rs, "--vip", kind.withFamily(v6).vip())
			}
		}
		j.start("s1", rs...)
		eventually(j.t, "the VIPs are on s1", func() bool {
			out, _ := j.tryRun("s1", "ip addr show")
			return strings.Contains(out, rs[len(rs)-1]+"/")
		})
	}
}

// encapsulations returns the topology with every encapsulation of its method,
// each with another VIP.
func (j *routedTopology) encapsulations() (all []*routedTopology) {
	options := []string{""}
	if j.method == "tunnel" {
		options = []string{"", "--tun-type gue --tun-port 6080 --tun-csum", "--tun-type gre --tun-nocsum"}
	}
	for i, o := range options {
		one := *j.topology
		one.tunnel, one.nth = o, i
		all = append(all, &routedTopology{&one})
	}
	return all
}

// serve adds the services of a family and waits until the client reaches them.
func (j *routedTopology) serve() {
	port := "80"
	if j.method == "nat" {
		port = "8080"
	}
	for _, kind := range j.encapsulations() {
		vip := j.url(kind.vip())
		j.ipvsadm("director", fmt.Sprintf(`
			ipvsadm -A -t %[1]s:80 -s rr
			ipvsadm -a -t %[1]s:80 -r %[2]s:%[3]s %[4]s %[5]s`, vip, j.url(j.rip()), port, j.flag(), kind.tunnel))
		eventually(j.t, "the client reaches the server", func() bool {
			out, err := j.tryRun("client", fmt.Sprintf("curl -s -f -g --max-time 1 http://%s/", vip))
			return err == nil && strings.TrimSpace(out) == "s1"
		})
	}
}

// setMTU sets the MTU of a link given by its two sides.
func (j *routedTopology) setMTU(mtu int, ends ...string) {
	for _, end := range ends {
		ns, dev, _ := strings.Cut(end, ":")
		j.run(ns, fmt.Sprintf("ip link set %s mtu %d", dev, mtu))
	}
}

// A link of 1400 bytes is before the director, then another behind it, neither
// at an end. Files of any length arrive in both directions by every method, and
// `uvs paths` names the router that reported the path MTU.
func TestNarrowPath(t *testing.T) {
	needs(t, "nginx", "curl")
	files, sum := randomFile(t, *narrowMB<<20)
	for _, method := range []string{"nat", "dr", "tunnel"} {
		t.Run(method, func(t *testing.T) {
			j := &routedTopology{&topology{network: newNetwork(t), method: method}}
			j.build(files)
			send := func() {
				for _, v6 := range []bool{false, true} {
					for _, kind := range j.family(v6).encapsulations() {
						kind.upload(filepath.Join(files, "big"), sum)
						kind.download(sum)
					}
				}
			}
			j.setMTU(1400, "ra:n4", "rb:n4")
			send()
			if out := j.run("director", uvsBinary+" paths"); strings.Contains(out, "learned") {
				t.Errorf("a link before the director is not on the path to the server:\n%s", out)
			}
			j.setMTU(1500, "ra:n4", "rb:n4")
			for _, ns := range []string{"client", "s1"} {
				j.run(ns, "ip route flush cache; ip -6 route flush cache")
			}
			if method == "dr" {
				j.setMTU(1400, "s1:n1")
			} else {
				j.setMTU(1400, "rc:n6", "rd:n6")
			}
			send()
			out := j.run("director", uvsBinary+" paths")
			for _, v6 := range []bool{false, true} {
				if want := "path MTU 1400 learned from " + j.withFamily(v6).addr(5, 254); method != "dr" &&
					!strings.Contains(out, want) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
			if method == "tunnel" {
				j.checkMinimumMTU(files, sum)
			}
			j.checkNoErrors()
		})
	}
}

// checkMinimumMTU tests a tunnel over IPv6 whose path has the minimum MTU of
// IPv6, so the tunnel's own packets have to be fragmented.
func (j *routedTopology) checkMinimumMTU(files, sum string) {
	j.t.Helper()
	j.setMTU(1280, "rc:n6", "rd:n6")
	k := j.family(true)
	k.upload(filepath.Join(files, "big"), sum)
	k.download(sum)
	for line := range strings.Lines(j.run("director", uvsBinary+" paths")) {
		if f := strings.Fields(line); f[0] == "tcp:"+k.url(k.vip())+":80" &&
			(f[6] == "0" || !strings.Contains(line, "path MTU 1280 learned")) {
			j.t.Errorf("nothing was fragmented for a path of 1280: %s", line)
		}
	}
}

// Routers drop long packets without an error, and mss_clamp still gets files
// through NAT in both directions: with a number, or automatically if the
// director's route has the MTU. Then no packet is too long.
func TestBlackHole(t *testing.T) {
	files, sum := randomFile(t, 1<<20)
	j := &routedTopology{&topology{network: newNetwork(t, "nginx", "curl", "nft"), method: "nat"}}
	j.build(files)
	for _, r := range []string{"rc", "rd"} {
		j.run(r, `nft 'add table inet hole; add chain inet hole out { type filter hook output priority 0; };
			add rule inet hole out icmp type destination-unreachable drop;
			add rule inet hole out icmpv6 type packet-too-big drop'`)
	}
	j.setMTU(1400, "rc:n6", "rd:n6")
	set := func(k *routedTopology, clamp, mtu int) {
		j.run("director", fmt.Sprintf("%s set --service tcp:%s:80 mss_clamp=%d", uvsBinary, k.url(k.vip()), clamp))
		j.run("director", fmt.Sprintf("ip route change %s%s via %s mtu %d", k.addr(2, 0), map[bool]string{
			false: "/24",
			true:  "/64",
		}[k.v6], k.addr(5, 254), mtu))
		eventually(t, fmt.Sprintf("the director knows a route of MTU %d", mtu), func() bool {
			for line := range strings.Lines(j.run("director", uvsBinary+" paths")) {
				if f := strings.Fields(line); f[0] == "tcp:"+k.url(k.vip())+":80" {
					return f[4] == fmt.Sprint(mtu)
				}
			}
			return false
		})
	}
	for _, k := range []*routedTopology{j.family(false), j.family(true)} {
		for clamp, mtu := range map[int]int{1340: 1500, 1: 1400} {
			set(k, clamp, mtu)
			k.upload(filepath.Join(files, "big"), sum)
			k.download(sum)
		}
	}
	if out := j.run("director", uvsBinary+" stats"); strings.Contains(out, "answered_too_big") {
		t.Errorf("packets were too long all the same:\n%s", out)
	}
	for _, k := range []*routedTopology{j.family(false), j.family(true)} {
		set(k, 0, 1500)
		if out, err := j.tryRun("client", fmt.Sprintf("curl -s -f -g --max-time 2 -T %s/big http://%s/upload", files,
			k.url(k.vip()))); err == nil {
			t.Errorf("it was no black hole: %q", out)
		}
	}
}
