package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"golang.org/x/sys/unix"
)

// endOfCapture is the EtherType of the frame that ends a capture (IEEE 802 local
// experimental).
const endOfCapture = 0x88b5

// capture captures on an interface. The returned function ends the capture and
// returns the packets: all until then, because a last frame has come through.
func (n *network) capture(ns, dev string) func() []gopacket.Packet {
	n.t.Helper()
	file := filepath.Join(n.dir, ns+"-"+dev+".pcap")
	log := filepath.Join(n.dir, ns+"-"+dev+".tcpdump")
	os.Remove(log) // left by an earlier capture
	cmd := n.start(ns, "sh", "-c",
		fmt.Sprintf("exec tcpdump -Z root --immediate-mode -U -n -s 0 -B 16384 -i %s -w %s 2>%s", dev, file, log))
	eventually(n.t, "tcpdump listens in "+ns, func() bool {
		b, _ := os.ReadFile(log)
		return strings.Contains(string(b), "listening on")
	})
	return func() []gopacket.Packet {
		n.t.Helper()
		mark := fmt.Appendf(binary.BigEndian.AppendUint16(make([]byte, 12), endOfCapture), "end of %s", file)
		must(n.t, n.sendFrame(ns, dev, mark))
		eventually(n.t, "tcpdump writes the last frame in "+ns, func() bool {
			b, _ := os.ReadFile(file)
			return bytes.Contains(b, mark[14:])
		})
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait()
		return readPcap(n.t, file)
	}
}

// sendFrame sends a frame from an interface.
func (n *network) sendFrame(ns, dev string, frame []byte) error {
	return n.inNetns(ns, func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: i.Index})
	})
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
		if len(data) < 14 || binary.BigEndian.Uint16(data[12:]) != endOfCapture {
			packets = append(packets, gopacket.NewPacket(data, layers.LinkTypeEthernet, gopacket.Default))
		}
	}
}

// captureChecker checks the packets captured on one interface.
type captureChecker struct {
	t     testing.TB
	where string
	// ttl has the TTL that packets from each source address must have on
	// arrival.
	ttl map[string]uint8
}

// check reports every frame that should not be there.
func (c *captureChecker) check(packets []gopacket.Packet) {
	c.t.Helper()
	seen, closed := map[string]int{}, map[gopacket.Flow]bool{}
	checked := 0
	for _, p := range packets {
		if p.ErrorLayer() != nil {
			c.t.Errorf("%s: undecodable frame: %v\n%s", c.where, p.ErrorLayer().Error(), p)
		}
		if l := p.Layer(layers.LayerTypeICMPv4); l != nil {
			c.t.Errorf("%s: ICMP: %s", c.where, p)
		}
		if l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok && l.TypeCode.Type() < 128 {
			c.t.Errorf("%s: ICMPv6 error: %s", c.where, p)
		}
		tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok {
			continue
		}
		checked++
		// On a slow machine a segment comes twice, and an end that has closed answers with RST.
		if ports := tcp.TransportFlow(); tcp.FIN {
			closed[ports] = true
		} else if tcp.RST && !closed[ports] {
			c.t.Errorf("%s: reset: %s", c.where, p)
		}
		c.checkHeaders(p, tcp, seen)
	}
	for key, n := range seen {
		if n > 1 {
			c.t.Errorf("%s: %d copies of %s", c.where, n, key)
		}
	}
	if checked < 20 {
		c.t.Errorf("%s: only %d TCP packets captured", c.where, checked)
	}
}

// checkHeaders checks TTL and checksums of the innermost IP header. If the
// packet has an IPv4 identification, it also counts the packet, to find copies.
func (c *captureChecker) checkHeaders(p gopacket.Packet, tcp *layers.TCP, seen map[string]int) {
	for _, l := range p.Layers() {
		switch ip := l.(type) {
		case *layers.IPv4:
			c.checkTTL(ip.SrcIP.String(), ip.TTL, p)
			if ip.Protocol == layers.IPProtocolTCP {
				tcp.SetNetworkLayerForChecksum(ip)
				if ip.Id != 0 {
					seen[fmt.Sprintf("%s>%s id %d port %d seq %d", ip.SrcIP, ip.DstIP, ip.Id, tcp.SrcPort, tcp.Seq)]++
				}
			}
		case *layers.IPv6:
			c.checkTTL(ip.SrcIP.String(), ip.HopLimit, p)
			if ip.NextHeader == layers.IPProtocolTCP {
				tcp.SetNetworkLayerForChecksum(ip)
			}
		}
	}
	// With its own checksum included, a correct segment sums to 0 (RFC 1071).
	if rest, err := tcp.ComputeChecksum(); err != nil || rest != 0 {
		c.t.Errorf("%s: TCP checksum %#x leaves %#x, %v: %s", c.where, tcp.Checksum, rest, err, p)
	}
}

func (c *captureChecker) checkTTL(src string, ttl uint8, p gopacket.Packet) {
	if want, ok := c.ttl[src]; ok && ttl != want {
		c.t.Errorf("%s: TTL %d from %s, want %d: %s", c.where, ttl, src, want, p)
	}
}

// Clients and servers see nothing twice, no RST or ICMP of the host's stack, a
// TTL one less for each pass through the director, and correct checksums if the
// ends send complete ones.
func TestCaptures(t *testing.T) {
	needs(t, "nginx", "curl", "tcpdump", "ethtool")
	for _, method := range []string{"nat", "dr", "tunnel"} {
		for _, v6 := range []bool{false, true} {
			for _, onHost := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/v6=%t/vip-on-director=%t", method, v6, onHost), func(t *testing.T) {
					s := &topology{
						network: newNetwork(t),
						method:  method, v6: v6, onHost: onHost,
					}
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
		c := &captureChecker{t: s.t, where: ns, ttl: map[string]uint8{
			s.vip(): fromServer, s.addr(1, 2): 63,
			s.addr(1, 1): 63,
		}}
		if ns == "client" {
			c.ttl[s.addr(1, 2)] = 64
		} else {
			c.ttl[s.vip()] = 64
		}
		c.check(stops[ns]())
	}
}
