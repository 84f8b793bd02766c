package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// capture records what passes an interface until the returned function is
// called, which gives the packets.
func (n *network) capture(ns, dev string) func() []gopacket.Packet {
	n.t.Helper()
	file := filepath.Join(n.dir, ns+"-"+dev+".pcap")
	log := filepath.Join(n.dir, ns+"-"+dev+".tcpdump")
	os.Remove(log) // of an earlier capture
	cmd := n.start(ns, "sh", "-c",
		fmt.Sprintf("exec tcpdump -Z root --immediate-mode -U -n -s 0 -B 16384 -i %s -w %s 2>%s", dev, file, log))
	eventually(n.t, "tcpdump listens in "+ns, func() bool {
		b, _ := os.ReadFile(log)
		return strings.Contains(string(b), "listening on")
	})
	return func() []gopacket.Packet {
		n.t.Helper()
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait()
		return readPcap(n.t, file)
	}
}

func readPcap(t testing.TB, file string) (packets []gopacket.Packet) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return packets
		}
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, gopacket.NewPacket(data, layers.LinkTypeEthernet, gopacket.Default))
	}
}

// captureChecker looks at the packets of one captured interface.
type captureChecker struct {
	t     testing.TB
	where string
	// ttl is what packets arriving from each source address must have.
	ttl map[string]uint8
}

// check reports every frame that should not be there.
func (j *captureChecker) check(packets []gopacket.Packet) {
	j.t.Helper()
	seen := map[string]int{}
	judged := 0
	for _, p := range packets {
		if p.ErrorLayer() != nil {
			j.t.Errorf("%s: undecodable frame: %v\n%s", j.where, p.ErrorLayer().Error(), p)
		}
		if l := p.Layer(layers.LayerTypeICMPv4); l != nil {
			j.t.Errorf("%s: ICMP: %s", j.where, p)
		}
		if l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok && l.TypeCode.Type() < 128 {
			j.t.Errorf("%s: ICMPv6 error: %s", j.where, p)
		}
		tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok {
			continue
		}
		judged++
		if tcp.RST {
			j.t.Errorf("%s: reset: %s", j.where, p)
		}
		j.checkHeaders(p, tcp, seen)
	}
	for key, n := range seen {
		if n > 1 {
			j.t.Errorf("%s: %d copies of %s", j.where, n, key)
		}
	}
	if judged < 20 {
		j.t.Errorf("%s: only %d TCP packets captured", j.where, judged)
	}
}

// checkHeaders checks TTL and checksums of the innermost IP header and, where IPv4
// gives every packet a number, that no packet comes twice.
func (j *captureChecker) checkHeaders(p gopacket.Packet, tcp *layers.TCP, seen map[string]int) {
	for _, l := range p.Layers() {
		switch ip := l.(type) {
		case *layers.IPv4:
			j.checkTTL(ip.SrcIP.String(), ip.TTL, p)
			if ip.Protocol == layers.IPProtocolTCP {
				tcp.SetNetworkLayerForChecksum(ip)
				if ip.Id != 0 {
					seen[fmt.Sprintf("%s>%s id %d port %d seq %d", ip.SrcIP, ip.DstIP, ip.Id, tcp.SrcPort, tcp.Seq)]++
				}
			}
		case *layers.IPv6:
			j.checkTTL(ip.SrcIP.String(), ip.HopLimit, p)
			if ip.NextHeader == layers.IPProtocolTCP {
				tcp.SetNetworkLayerForChecksum(ip)
			}
		}
	}
	// Summed with its own checksum in it, a sound segment gives 0 (RFC 1071).
	if rest, err := tcp.ComputeChecksum(); err != nil || rest != 0 {
		j.t.Errorf("%s: TCP checksum %#x leaves %#x, %v: %s", j.where, tcp.Checksum, rest, err, p)
	}
}

func (j *captureChecker) checkTTL(src string, ttl uint8, p gopacket.Packet) {
	if want, ok := j.ttl[src]; ok && ttl != want {
		j.t.Errorf("%s: TTL %d from %s, want %d: %s", j.where, ttl, src, want, p)
	}
}

// What clients and servers see: nothing twice, no reset or ICMP of the host's
// stack, TTL one less for each pass through the director, checksums right when
// the ends make whole ones.
func TestCaptures(t *testing.T) {
	for _, method := range []string{"nat", "dr", "tunnel"} {
		for _, v6 := range []bool{false, true} {
			for _, onHost := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/v6=%t/vip-on-director=%t", method, v6, onHost), func(t *testing.T) {
					s := &topology{network: newNetwork(t, "nginx", "curl", "tcpdump", "ethtool", "sysctl"),
						method: method, v6: v6, onHost: onHost}
					s.build(t.TempDir())
					s.run("director", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
					s.checkTraffic()
				})
			}
		}
	}
}

func (s *topology) checkTraffic() {
	ends := []string{"client", "s1", "s2"}
	for _, ns := range ends {
		s.run(ns, "ethtool -K eth0 tx off tso off gso off gro off >/dev/null")
	}
	stops := map[string]func() []gopacket.Packet{}
	for _, ns := range ends {
		stops[ns] = s.capture(ns, "eth0")
	}
	s.requests(20)
	fromServer := uint8(64)
	if s.method == "nat" {
		fromServer = 63
	}
	for _, ns := range ends {
		j := &captureChecker{t: s.t, where: ns, ttl: map[string]uint8{s.vip(): fromServer, s.addr(1, 2): 63,
			s.addr(1, 1): 63}}
		if ns == "client" {
			j.ttl[s.addr(1, 2)] = 64
		} else {
			j.ttl[s.vip()] = 64
		}
		j.check(stops[ns]())
	}
}
