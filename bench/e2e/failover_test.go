package e2e

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
)

const (
	failoverVIP  = "192.0.2.10"
	failoverVIP6 = "2001:db8::10"
)

// failover is the network of docs/failover.md, with two directors d1 and d2 that have
// sockets of their own.
type failover struct {
	*network
	running map[string]*exec.Cmd // by program and director
}

func newFailover(t *testing.T, programs ...string) *failover {
	f := &failover{network: newNetwork(t, programs...), running: map[string]*exec.Cmd{}}
	f.add("client", "d1", "d2", "s1", "s2")
	f.bridge("lan1", "client", "d1", "d2")
	f.bridge("lan2", "d1:eth1", "d2:eth1", "s1", "s2")
	f.run("client", "ip addr add 192.0.2.2/24 dev eth0 && ip addr add 2001:db8::2/64 dev eth0 nodad")
	for i, ns := range []string{"d1", "d2"} {
		f.run(ns, fmt.Sprintf("ip addr add 192.0.2.%[1]d/24 dev eth0 && ip addr add 10.0.0.%[1]d/24 dev eth1 &&"+
			"ip addr add 2001:db8::%[1]d/64 dev eth0 nodad", 3+i))
	}
	for i, ns := range []string{"s1", "s2"} {
		f.run(ns, fmt.Sprintf("ip addr add 10.0.0.%d/24 dev eth0 && ip route add default via 10.0.0.254", 11+i))
		f.start(ns, uvsBinary, "rs", "--name", ns)
	}
	return f
}

func (f *failover) socketOf(ns string) string { return filepath.Join(f.dir, ns+".sock") }

// shell runs lines with uvs and ipvsadm on a director.
func (f *failover) shell(ns, lines string) string {
	f.t.Helper()
	return f.run(ns, fmt.Sprintf("export UVS_SOCKET=%s; set -e\n"+
		"uvs() { %[2]s \"$@\"; }; ipvsadm() { uvs ipvsadm \"$@\"; }\n%s", f.socketOf(ns), uvsBinary, lines))
}

// startDirector starts a director with its configuration.
func (f *failover) startDirector(ns, config string, options ...string) {
	f.t.Helper()
	f.running[ns] = f.directorWith(ns, append(options, "--socket", f.socketOf(ns)), "eth0", "eth1")
	f.shell(ns, config)
}

// startKeepalived starts keepalived on a director with a configuration of the page.
func (f *failover) startKeepalived(ns, conf string) {
	f.t.Helper()
	if ns == "d2" {
		conf = strings.ReplaceAll(conf, "priority 100", "priority 90")
	}
	// It runs only scripts that only root could change, which excludes the test's directory.
	conf = strings.ReplaceAll(conf, "    enable_script_security\n", "")
	file := filepath.Join(f.dir, "keepalived-"+ns)
	must(f.t, os.WriteFile(file+".conf", []byte(f.paths(ns, conf)), 0o644))
	f.t.Cleanup(func() {
		if b, _ := os.ReadFile(file + ".log"); f.t.Failed() {
			f.t.Logf("keepalived on %s:\n%s", ns, b)
		}
	})
	f.running["keepalived "+ns] = f.start(ns, "sh", "-c", fmt.Sprintf("export UVS_SOCKET=%s; "+
		"exec keepalived --dont-fork --log-console --log-detail --vrrp "+
		"--use-file %[2]s.conf --pid %[2]s.pid --vrrp_pid %[2]s.vrrp >%[2]s.log 2>&1", f.socketOf(ns), file))
}

// expectBackup waits until a director's keepalived has the role BACKUP.
func (f *failover) expectBackup(ns, instance string) {
	f.t.Helper()
	eventually(f.t, ns+" is BACKUP", func() bool {
		b, _ := os.ReadFile(filepath.Join(f.dir, "keepalived-"+ns+".log"))
		i := strings.LastIndex(string(b), "("+instance+") Entering ")
		return i >= 0 && strings.HasPrefix(string(b[i:]), "("+instance+") Entering BACKUP ")
	})
}

// paths puts paths of this test in the place of those that a page names.
func (f *failover) paths(ns, text string) string {
	return strings.NewReplacer("/usr/sbin/uvs", uvsBinary, "/etc/keepalived/", f.dir+"/", "/run/uvs-role",
		filepath.Join(f.dir, "role-"+ns)).Replace(text)
}

// stop ends a program with a signal.
func (f *failover) stop(program string, signal os.Signal) {
	cmd := f.running[program]
	cmd.Process.Signal(signal)
	cmd.Wait()
}

// signalBoth sends a signal to both processes of a director.
func (f *failover) signalBoth(director string, signal syscall.Signal) {
	for _, pid := range append(children(f.t, f.running[director].Process.Pid), f.running[director].Process.Pid) {
		unix.Kill(pid, signal)
	}
}

// mac returns the hardware address of a director's eth0.
func (f *failover) mac(ns string) string {
	return strings.TrimSpace(f.run(ns, "cat /sys/class/net/eth0/address"))
}

// fetches reports whether the client gets a page of the VIP.
func (f *failover) fetches() bool {
	out, err := f.tryRun("client", "curl -s -f -m 1 http://"+failoverVIP+"/")
	return err == nil && out[:1] == "s"
}

// pageBlocks returns the indented blocks below a heading of docs/failover.md.
func pageBlocks(t testing.TB, heading string) (blocks []string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/failover.md")
	must(t, err)
	_, section, _ := strings.Cut(string(page), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	open := false
	for line := range strings.Lines(section) {
		text, indented := strings.CutPrefix(line, "    ")
		switch {
		case indented && !open:
			blocks, open = append(blocks, text), true
		case indented || open && line == "\n":
			blocks[len(blocks)-1] += text
		default:
			open = false
		}
	}
	return blocks
}

// arpWatch asks for the VIP without pause and notes which hardware addresses answer or
// announce it, each once until another does.
type arpWatch struct {
	mu   sync.Mutex
	macs []string
}

func (f *failover) watchARP() *arpWatch {
	f.t.Helper()
	w := &arpWatch{}
	var c *packet.Conn
	var mac wire.MAC
	must(f.t, f.inNetns("client", func() error {
		dev, err := net.InterfaceByName("eth0")
		if err == nil {
			mac = wire.MAC(dev.HardwareAddr)
			c, err = packet.Listen(dev, packet.Raw, unix.ETH_P_ARP, nil)
		}
		return err
	}))
	f.t.Cleanup(func() { c.Close() })
	request := whoHas(mac)
	go func() {
		for {
			if _, err := c.WriteTo(request, &packet.Addr{HardwareAddr: net.HardwareAddr(request[:6])}); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	go func() {
		for b := make([]byte, 128); ; {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if n >= wire.EthernetLen+wire.ARPLen {
				w.note(wire.ARP(b[wire.EthernetLen:n]))
			}
		}
	}()
	return w
}

// whoHas is the client's ARP request for the VIP.
func whoHas(mac wire.MAC) []byte {
	b := make([]byte, wire.EthernetLen+wire.ARPLen)
	e, a := wire.Ethernet(b), wire.ARP(b[wire.EthernetLen:])
	e.SetDst(wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	e.SetSrc(mac)
	e.SetType(wire.EtherTypeARP)
	a.SetEthernetIPv4()
	a.SetOperation(wire.ARPRequest)
	a.SetSenderMAC(mac)
	a.SetSenderIP(wire.AddrFrom(netip.MustParseAddr("192.0.2.2")))
	a.SetTargetIP(wire.AddrFrom(netip.MustParseAddr(failoverVIP)))
	return b
}

func (w *arpWatch) note(a wire.ARP) {
	if a.SenderIP() != wire.AddrFrom(netip.MustParseAddr(failoverVIP)) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if mac := a.SenderMAC().String(); len(w.macs) == 0 || w.macs[len(w.macs)-1] != mac {
		w.macs = append(w.macs, mac)
	}
}

func (w *arpWatch) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.macs)
}

// expect waits until a director answers for the VIP and the service works.
func (f *failover) expect(w *arpWatch, ns string) {
	f.t.Helper()
	eventually(f.t, ns+" answers for the VIP", func() bool {
		macs := w.seen()
		return len(macs) > 0 && macs[len(macs)-1] == f.mac(ns)
	})
	eventually(f.t, "pages come by "+ns, f.fetches)
}

// As docs/failover.md has it: keepalived moves the VIP, and announce=held makes each
// director serve it while its host holds it. The VIP moves when keepalived is stopped, and
// when a director is killed, hangs or loses a link. At no time do both directors answer for it.
func TestFailoverByAddress(t *testing.T) {
	f := newFailover(t, "curl", "keepalived", "ping")
	blocks := pageBlocks(t, "The address moves")
	config, conf := blocks[0]+"ipvsadm -A -t ["+failoverVIP6+"]:80\n", blocks[1]
	w := f.watchARP()
	f.startDirector("d1", config)
	f.startDirector("d2", config)
	f.startKeepalived("d1", conf)
	f.expect(w, "d1")
	f.startKeepalived("d2", conf)
	var want []string
	for _, move := range []struct {
		from, to string
		fail     func()
	}{
		{"d1", "d2", func() { f.stop("keepalived d1", syscall.SIGTERM) }},
		{"d2", "d1", func() { f.stop("keepalived d2", syscall.SIGTERM) }},
		{"d1", "d2", func() { f.stop("d1", syscall.SIGKILL) }},
		{"d2", "d1", func() { f.signalBoth("d2", syscall.SIGSTOP) }},
		{"d1", "d2", func() { f.run("d1", "ip link set eth1 down") }},
	} {
		f.expectBackup(move.to, "services4")
		want = append(want, f.mac(move.from))
		move.fail()
		f.expect(w, move.to)
		eventually(t, "the IPv6 VIP answers", func() bool {
			_, err := f.tryRun("client", "ping -c 1 -W 1 "+failoverVIP6)
			return err == nil
		})
		if out := f.run("client", "ip -6 neigh show "+failoverVIP6); !strings.Contains(out, f.mac(move.to)) {
			t.Errorf("the client has %q, want %s", out, f.mac(move.to))
		}
		f.signalBoth(move.from, syscall.SIGCONT)
		switch {
		case f.running[move.from].ProcessState != nil: // killed
			f.startDirector(move.from, config)
		case f.running["keepalived "+move.from].ProcessState != nil:
			f.startKeepalived(move.from, conf)
		}
	}
	got := w.seen()
	if want = append(want, f.mac("d2")); !slices.Equal(got, want) {
		t.Errorf("%v answered for the VIP, and %d more; want %v", got[:min(len(got), 12)], max(len(got)-12, 0), want)
	}
}

// As docs/failover.md has it: keepalived tells the directors their roles, and no host
// holds the VIP. The role survives a restart of the director.
func TestFailoverByRole(t *testing.T) {
	f := newFailover(t, "curl", "keepalived")
	config := pageBlocks(t, "The address moves")[0]
	config = strings.ReplaceAll(config, "uvs set announce=held\n", "")
	blocks := pageBlocks(t, "The role moves")
	script, conf, unit := blocks[0], blocks[1], blocks[2]
	_, restore, _ := strings.Cut(unit, "ExecStartPost=-")
	if !strings.Contains(unit, "uvs run --standby --interface eth0 --interface eth1\n") || restore == "" {
		t.Fatalf("the unit is %q", unit)
	}
	for _, ns := range []string{"d1", "d2"} {
		must(t, os.WriteFile(filepath.Join(f.dir, "uvs-role-"+ns), []byte(f.paths(ns, script)), 0o755))
		f.startDirector(ns, config, "--standby")
	}
	start := func(ns string) {
		f.startKeepalived(ns, strings.ReplaceAll(conf, "/etc/keepalived/uvs-role", "/etc/keepalived/uvs-role-"+ns))
	}
	role := func(ns string) string { return strings.TrimSpace(f.shell(ns, "uvs role")) }
	w := f.watchARP()
	start("d1")
	f.expect(w, "d1")
	start("d2")
	f.expectBackup("d2", "services")
	if role("d1") != "active" || role("d2") != "standby" {
		t.Errorf("d1 is %s, d2 is %s", role("d1"), role("d2"))
	}
	for from, to := "d1", "d2"; to != ""; from, to = to, map[string]string{"d2": "d1"}[to] {
		f.expectBackup(to, "services")
		f.stop("keepalived "+from, syscall.SIGTERM)
		f.expect(w, to)
		eventually(t, from+" is on standby", func() bool { return role(from) == "standby" })
		start(from)
	}
	f.stop("d1", syscall.SIGTERM)
	f.startDirector("d1", config, "--standby")
	f.tryRun("d1", "export UVS_SOCKET="+f.socketOf("d1")+"; "+f.paths("d1", restore))
	eventually(t, "one director is active", func() bool { return role("d1") != role("d2") && f.fetches() })
}

// The role is commanded. The director that becomes active announces the VIP, and client and
// neighbours follow. By DR with the same hash on both directors, a connection goes on.
func TestTakeover(t *testing.T) {
	needs(t)
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%t", v6), func(t *testing.T) {
			s := &topology{network: newNetwork(t), method: "dr", v6: v6}
			s.add("client", "d1", "d2", "s1", "s2")
			s.bridge("lan1", "client", "d1", "d2", "s1", "s2")
			s.assign("client", "eth0", 1, 2)
			uvs := func(ns, args string) string {
				return s.run(ns, fmt.Sprintf("UVS_SOCKET=%s/%s.sock %s %s", s.dir, ns, uvsBinary, args))
			}
			e := &clientServer{topology: s}
			for i, ns := range []string{"s1", "s2"} {
				s.assign(ns, "eth0", 1, 11+i)
				s.prepareServer(ns)
				must(t, s.inNetns(ns, func() error {
					l, err := net.Listen("tcp", ":7")
					if err == nil {
						t.Cleanup(func() { l.Close() })
						go echoTCP(l)
					}
					return err
				}))
			}
			for i, ns := range []string{"d1", "d2"} {
				s.assign(ns, "eth0", 1, 3+i)
				s.directorWith(ns, []string{"--standby", "--socket", s.dir + "/" + ns + ".sock"}, "eth0")
				uvs(ns, "set sloppy_tcp=1")
				uvs(ns, fmt.Sprintf("ipvsadm -A -t %s:7 -s mh", s.url(s.vip())))
				for i := range 2 {
					uvs(ns, fmt.Sprintf("ipvsadm -a -t %s:7 -r %s:7 -g", s.url(s.vip()), s.url(s.rip(i))))
				}
				eventually(t, "servers are reached", func() bool {
					return !strings.Contains(uvs(ns, "services"), "unresolved")
				})
			}
			uvs("d1", "active")
			c := e.dial("tcp")
			defer c.Close()
			from, to := "d1", "d2"
			for i := range 4 {
				roundTrip(t, c, fmt.Sprint("line ", i))
				uvs(from, "standby")
				forwarded := forwardedRoute(uvs(from, "stats --all"))
				uvs(to, "active")
				eventually(t, "the client has the other director's hardware address", func() bool {
					mac := strings.TrimSpace(s.run(to, "cat /sys/class/net/eth0/address"))
					return strings.Contains(s.run("client", "ip neigh show "+s.vip()), mac)
				})
				roundTrip(t, c, fmt.Sprint("after takeover ", i))
				if n := forwardedRoute(uvs(from, "stats --all")); n != forwarded {
					t.Errorf("takeover %d: %s forwarded on standby: %s, before %s", i, from, n, forwarded)
				}
				from, to = to, from
			}
		})
	}
}

// roundTrip sends a text over a connection and expects it back.
func roundTrip(t *testing.T, c net.Conn, text string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	_, err := c.Write([]byte(text))
	must(t, err)
	got := make([]byte, len(text))
	_, err = io.ReadFull(c, got)
	must(t, err)
	if string(got) != text {
		t.Errorf("received %q, sent %q", got, text)
	}
}

// forwardedRoute is the line of that counter in the output of `uvs stats`.
func forwardedRoute(stats string) string {
	return regexp.MustCompile(`(?m)^forwarded_route .*$`).FindString(stats)
}

// As docs/failover.md has it: two directors are servers to each other. Whichever is active,
// both serve.
func TestDirectorsAreServers(t *testing.T) {
	f := &failover{network: newNetwork(t, "curl"), running: map[string]*exec.Cmd{}}
	f.add("client", "d1", "d2")
	f.bridge("lan1", "client", "d1", "d2")
	f.run("client", "ip addr add 192.0.2.2/24 dev eth0")
	for i, ns := range []string{"d1", "d2"} {
		f.run(ns, fmt.Sprintf("ip addr add 192.0.2.%d/24 dev eth0", 3+i))
		f.start(ns, uvsBinary, "rs", "--name", ns)
		f.running[ns] = f.directorWith(ns, []string{"--localnode", "--standby", "--socket", f.socketOf(ns)}, "eth0")
		f.shell(ns, pageBlocks(t, "Directors that are servers to each other")[0])
	}
	for from, to := range map[string]string{"d2": "d1", "d1": "d2"} {
		f.shell(from, "ip addr del 192.0.2.10/32 dev eth0 2>/dev/null || true; uvs standby")
		f.shell(to, "ip addr add 192.0.2.10/32 dev eth0; uvs active")
		f.run("client", "ip neigh flush dev eth0")
		eventually(t, "both serve while "+to+" is active", func() bool {
			pages := map[string]bool{}
			for range 4 {
				out, _ := f.tryRun("client", "curl -s -f -m 1 http://"+failoverVIP+"/")
				pages[out[:min(2, len(out))]] = true
			}
			return pages["d1"] && pages["d2"]
		})
	}
}
