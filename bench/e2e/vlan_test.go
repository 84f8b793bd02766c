package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"uvs/dataplane/ring"
	"uvs/dataplane/wire"
)

// vlanSwitch joins interface p0 of a namespace, a trunk, to p1 and so on, each
// in another VLAN, as a switch does. The kernel need not support VLANs. The
// rings take only frames to the interface's own address, so p0 has the address
// of all hosts in VLANs, and the others that of the host on the trunk.
func (n *network) vlanSwitch(ns string, vlans ...uint16) {
	n.t.Helper()
	space, err := os.Open("/var/run/netns/" + n.prefix + ns)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { space.Close() })
	c := ring.Config{Blocks: 2}
	for i := range len(vlans) + 1 {
		c.Interfaces = append(c.Interfaces, ring.Interface{Name: fmt.Sprintf("p%d", i), Netns: int(space.Fd())})
	}
	link, err := ring.Open(c)
	if err != nil {
		n.t.Fatal(err)
	}
	done := make(chan struct{})
	n.t.Cleanup(func() { link.Close(); <-done })
	go func() {
		defer close(done)
		frames := make([]wire.Frame, 32)
		for {
			k, err := link.Recv(frames)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			for i := range frames[:k] {
				switchFrame(&frames[i], vlans)
			}
			link.Send(frames[:k])
		}
	}()
}

// switchFrame sends a frame through the switch.
func switchFrame(f *wire.Frame, vlans []uint16) {
	if f.In > 0 {
		f.Out = 0
		wire.PushVLAN(f, wire.EtherTypeVLAN, vlans[f.In-1])
		return
	}
	vlan, _, ok := wire.VLAN(f)
	if i := slices.Index(vlans, vlan); ok && i >= 0 {
		f.Out = uint16(i + 1)
		wire.PopVLAN(f)
	}
}

// Clients and servers are in VLANs of one trunk for which the director's host
// has no devices. Its VIP and its own addresses are reachable there, servers
// too, and files arrive intact with the kernel's default offloads.
func TestVLANsOfATrunk(t *testing.T) {
	needs(t, "nginx", "curl", "ping")
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	os.Chmod(filepath.Dir(dir), 0o755)
	if err := os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte("0123456789abcdef"), 1<<20),
		0o644); err != nil {
		t.Fatal(err)
	}
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%t", v6), func(t *testing.T) {
			s := &topology{network: newNetwork(t), method: "nat", v6: v6}
			s.add("client", "director", "s1", "s2", "switch")
			s.run("switch", "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
			const onTrunk, inVLANs = "02:00:00:00:00:0d", "02:00:00:00:00:01"
			for i, ns := range []string{"director", "client", "s1", "s2"} {
				port, here, there := fmt.Sprintf("p%d", i), inVLANs, onTrunk
				if i == 0 {
					here, there = there, here
				}
				s.link(ns, "eth0", "switch", port)
				s.run(ns, "ip link set eth0 address "+here)
				s.run("switch", "ip link set "+port+" address "+there)
			}
			s.vlanSwitch("switch", 7, 8, 9)
			s.assign("client", "eth0", 7, 2)
			for i, ns := range []string{"s1", "s2"} {
				s.assign(ns, "eth0", 8+i, 11)
				s.run(ns, "ip route add default via "+s.addr(8+i, 1))
				s.nginx(ns, dir)
			}
			bits := "/24"
			if v6 {
				bits = "/64"
			}
			var options []string
			for _, vlan := range []int{7, 8, 9} {
				options = append(options, "--vlan", fmt.Sprintf("eth0.%d=%s%s", vlan, s.addr(vlan, 1), bits))
			}
			s.directorWith("director", options, "eth0")
			vip := s.url(s.addr(7, 100))
			s.ipvsadm("director", fmt.Sprintf(`
				ipvsadm -A -t %[1]s:80 -s rr
				ipvsadm -a -t %[1]s:80 -r %[2]s:8080 -m
				ipvsadm -a -t %[1]s:80 -r %[3]s:8080 -m`, vip, s.url(s.addr(8, 11)), s.url(s.addr(9, 11))))
			eventually(t, "all servers are reached", func() bool {
				return !strings.Contains(s.run("director", uvsBinary+" services"), "unresolved")
			})
			var got []string
			for range 10 {
				got = append(got, strings.TrimSpace(s.run("client", "curl -s -f -g --max-time 20 http://"+vip+"/")))
			}
			slices.Sort(got)
			if want := strings.Repeat("s1 ", 5) + strings.Repeat("s2 ", 5); strings.Join(got, " ")+" " != want {
				t.Errorf("answered by %v", got)
			}
			s.run("client", fmt.Sprintf("curl -s -f -g --max-time 60 http://%s/files/file | cmp - %s/file", vip, dir))
			s.run("client", "ping -c 1 -W 5 "+s.addr(7, 1))
			s.run("s1", "ping -c 1 -W 5 "+s.addr(8, 1))
			s.checkNoErrors()
			if out := s.run("director", uvsBinary+" stats"); strings.Contains(out, "not_ours_vlan") {
				t.Errorf("frames of VLANs were left alone:\n%s", out)
			}
		})
	}
}

// A wrong VLAN on the command line is refused with one line.
func TestVLANsRefused(t *testing.T) {
	n := newNetwork(t)
	n.add("director")
	n.run("director", "ip link add eth0 type veth peer name eth0.9")
	for _, r := range []struct{ options, want string }{
		{"--vlan eth0", `"eth0" is not INTERFACE.NUMBER`},
		{"--vlan eth0.4095", `number "4095" is not 1 to 4094`},
		{"--vlan eth0.7=10.7.0.0.1", `"10.7.0.0.1" is not a unicast address`},
		{"--vlan eth0.7=10.7.0.1/24,10.7.1.1/24", "more than one address of a family"},
		{"--vlan eth1.7", `does not run on interface "eth1"`},
		{"--vlan eth0.7 --vlan eth0.7", "eth0.7 is given twice"},
		{"--vlan eth0.9", "eth0.9 is an interface of the host"},
		{"--vlan eth0.7 --localnode", "do not go together"},
	} {
		out, err := n.tryRun("director", uvsBinary+" run --interface eth0 "+r.options)
		if err == nil || !strings.Contains(out, r.want) || strings.Count(strings.TrimSpace(out), "\n") != 0 {
			t.Errorf("%s: %v, printed %q", r.options, err, out)
		}
	}
}
