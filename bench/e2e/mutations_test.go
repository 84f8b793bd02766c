package e2e

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"uvs/dataplane/director"
	"uvs/dataplane/ring"
	"uvs/dataplane/wire"
)

var mutations = flag.Int("mutations", 60_000, "how many malformed frames TestMutations sends")

// Malformed frames reach a director with services of every kind from both
// sides. They are scapy's frames (testdata/odd.py) with bytes changed, cut and
// spliced. Nothing crashes the director, and every frame is counted once: by
// the ring that did not accept it, or by one verdict.
func TestMutations(t *testing.T) {
	n := newNetwork(t)
	d := n.directorBetweenWires()
	space, err := os.Open("/var/run/netns/" + n.prefix + "wires")
	if err != nil {
		t.Fatal(err)
	}
	defer space.Close()
	link, err := ring.Open(ring.Config{Interfaces: []ring.Interface{
		{Name: "eth0", Netns: int(space.Fd())},
		{Name: "eth1", Netns: int(space.Fd())},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m := newMutator(t, seed)
	frames := make([]wire.Frame, 64)
	for range *mutations / len(frames) {
		for i := range frames {
			frames[i] = m.frame()
		}
		if _, err := link.Send(frames); err != nil {
			t.Fatal(err)
		}
		if err := d.Process.Signal(syscall.Signal(0)); err != nil {
			t.Fatalf("the director is gone: %v", err)
		}
	}
	link.Close()
	sent := 0
	for _, p := range link.Stats().Ports {
		sent += int(p.Sent)
	}
	n.checkAllCounted(sent)
	n.run("director", uvsBinary+" ipvsadm -Ln >/dev/null && "+uvsBinary+" conns >/dev/null")
}

// directorBetweenWires starts a director between two interfaces without hosts.
// It has services of every kind, whose servers are permanent neighbours.
func (n *network) directorBetweenWires() *exec.Cmd {
	n.t.Helper()
	n.add("director", "wires")
	n.run("wires", "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
	for i, dev := range []string{"eth0", "eth1"} {
		n.link("wires", dev, "director", dev)
		n.run("director", fmt.Sprintf("ip link set %s address 02:00:00:00:%02x:0d && ip addr add 10.%d.0.1/24 "+
			"dev %s && ip addr add fd00:%d::1/64 dev %s nodad", dev, i, i+1, dev, i+1, dev))
	}
	for _, host := range []string{
		"10.1.0.2 dev eth0", "fd00:1::2 dev eth0", "10.2.0.11 dev eth1", "10.2.0.12 dev eth1",
		"fd00:2::11 dev eth1", "fd00:2::12 dev eth1",
	} {
		n.run("director", "ip neigh add "+host[:strings.Index(host, " ")]+" lladdr 02:00:00:00:00:01 nud permanent"+
			host[strings.Index(host, " "):])
	}
	d := n.director("director", "eth0", "eth1")
	for _, vip := range []string{"10.1.0.100", "[fd00:1::100]"} {
		servers := []string{"10.2.0.11", "10.2.0.12"}
		if vip[0] == '[' {
			servers = []string{"[fd00:2::11]", "[fd00:2::12]"}
		}
		for _, svc := range []string{
			"-t %s:80 -s rr|:8080 -m", "-t %s:443 -s wlc -p|:443 -g", "-t %s:21 -s rr -p|:21 -m",
			"-u %s:53 -s rr|:53 -m", "-u %s:500 -s sh|:500 -g",
			"-u %s:5060 -s rr -p 60 --pe sip -o|:5060 -m", "-u %s:6080 -s rr|:6080 -i",
			"--sctp-service %s:80 -s rr|:8080 -m",
		} {
			svc, server, _ := strings.Cut(fmt.Sprintf(svc, vip), "|")
			lines := "ipvsadm -A " + svc + "\n"
			end, _, _ := strings.Cut(svc, " -s")
			for _, s := range servers {
				lines += "ipvsadm -a " + end + " -r " + s + server + "\n"
			}
			n.ipvsadm("director", lines)
		}
	}
	n.run("director", uvsBinary+" set keep_tags=1 schedule_icmp=1 nat_icmp_send=1 sloppy_tcp=1 sloppy_sctp=1")
	return d
}

// checkAllCounted checks that each frame sent was counted once, and that the
// verdicts differ.
func (n *network) checkAllCounted(sent int) {
	n.t.Helper()
	// The last frames may still be under way; they have all arrived when the
	// counts add up.
	var counted, kinds, received, passed int
	adds := func() bool {
		count := n.counters()
		counted, kinds, received, passed = 0, 0, 0, 0
		for v := range director.NumVerdict {
			counted += count[v.String()]
			kinds += min(count[v.String()], 1)
		}
		for _, dev := range []string{"eth0", "eth1"} {
			received += count["ring_"+dev+"_received"]
			for _, cause := range []string{"other_host", "malformed", "snapped", "outgoing", "ring_full"} {
				passed += count["ring_"+dev+"_"+cause]
			}
		}
		return counted == received && received+passed >= sent
	}
	for end := time.Now().Add(20 * time.Second); !adds() && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	n.t.Logf("%d sent, %d received, %d not accepted by the rings, %d counted by %d verdicts", sent, received, passed,
		counted, kinds)
	if counted != received || received+passed != sent || received < sent/2 || kinds < 30 {
		n.t.Errorf("the frames do not add up, or are too much alike")
	}
}

// counters returns the counters that `uvs stats` prints.
func (n *network) counters() map[string]int {
	n.t.Helper()
	all := map[string]int{}
	for line := range strings.Lines(n.run("director", uvsBinary+" stats --all")) {
		var name string
		var k int
		if _, err := fmt.Sscan(line, &name, &k); err == nil {
			all[name] = k
		}
	}
	return all
}

// mutator makes frames from other frames.
type mutator struct {
	*rand.Rand
	originals [][]byte
}

func newMutator(t *testing.T, seed uint64) *mutator {
	m := &mutator{Rand: rand.New(rand.NewPCG(seed, 0))}
	for _, p := range readPcap(t, filepath.Join("testdata", "odd.pcap")) {
		m.originals = append(m.originals, p.Data())
	}
	return m
}

func (m *mutator) pick() []byte { return m.originals[m.IntN(len(m.originals))] }

// frame returns an original with up to eight changes, on the port that it was
// made for or on the other.
func (m *mutator) frame() wire.Frame {
	b := bytes.Clone(m.pick())
	for range m.IntN(9) {
		b = m.change(b)
	}
	// The kernel itself drops less than a header, and a truncated tag.
	for len(b) < wire.EthernetLen || len(b) < 20 && (b[12] == 0x81 && b[13] == 0 || b[12] == 0x88 && b[13] == 0xa8) {
		b = append(b, 0)
	}
	b = b[:min(len(b), 1518)]
	out := uint16(m.IntN(2))
	if m.IntN(16) > 0 { // otherwise to another host, or to none
		copy(b, net.HardwareAddr{2, 0, 0, 0, byte(out), 0xd})
	}
	if m.IntN(2) == 0 { // so that parsing goes beyond the IP header
		resumIPv4(b)
	}
	f := wire.Frame{Buf: append(make([]byte, wire.Headroom), b...), Off: wire.Headroom, Out: out}
	f.End = int32(len(f.Buf))
	return f
}

// change makes one change to a frame.
func (m *mutator) change(b []byte) []byte {
	if len(b) < 2 {
		return b
	}
	at := m.IntN(len(b))
	switch m.IntN(10) {
	case 0:
		return b[:at]
	case 1:
		return append(b, make([]byte, m.IntN(64))...)
	case 2: // the end of another frame
		other := m.pick()
		return append(b[:at:at], other[m.IntN(len(other)):]...)
	case 3: // a part twice
		return append(b[:at:at], b[max(0, at-m.IntN(64)):]...)
	case 4: // an odd word
		odd := [...]uint16{0, 1, 0xffff, 0x7fff, 0x8000, 0x8100, 0x88a8, 0x0800, 0x86dd, 20, 8}
		if at+2 <= len(b) {
			binary.BigEndian.PutUint16(b[at:], odd[m.IntN(len(odd))])
		}
	case 5:
		b[at] ^= 1 << m.IntN(8)
	case 6: // in the first bytes, where the headers are
		b[min(m.IntN(64), len(b)-1)] ^= byte(m.IntN(256))
	default:
		b[at] = byte(m.IntN(256))
	}
	return b
}

// resumIPv4 corrects the checksum of an IPv4 header, if there is a header.
func resumIPv4(b []byte) {
	at := wire.EthernetLen
	for len(b) > at+wire.VLANLen && (b[at-2] == 0x81 && b[at-1] == 0 || b[at-2] == 0x88 && b[at-1] == 0xa8) {
		at += wire.VLANLen
	}
	if ip := wire.IPv4(b[at:]); len(ip) >= wire.IPv4Len && ip[0]>>4 == 4 && ip.HeaderLen() >= wire.IPv4Len &&
		ip.HeaderLen() <= len(ip) {
		ip.FillChecksum()
	}
}
