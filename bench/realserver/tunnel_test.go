package realserver_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"uvs/bench/lab"
	"uvs/bench/realserver"
	"uvs/fwd/tunnel"
)

// tunnelLab makes a client and a server that holds the VIPs and decapsulates;
// there is no director, so the tests make its packets.
//
//	client1 10.1.0.101 --front-- router --back-- rs1 10.2.0.11
func tunnelLab(t *testing.T, name string) (*lab.Lab, *realserver.Server) {
	t.Helper()
	if err := lab.Privileged(); err != nil {
		t.Skipf("cannot make a network namespace (%v); needs CAP_SYS_ADMIN and CAP_NET_ADMIN", err)
	}
	l, err := lab.New(lab.Plan{Name: name, Method: lab.Tunnel, Servers: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	var s *realserver.Server
	err = l.Do("rs1", func() (err error) {
		s, err = realserver.Start(realserver.Config{Name: "rs1", VIPs: []netip.Addr{l.VIP(4), l.VIP(6)}, Decap: true})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Do("rs1", s.Close); err != nil {
			t.Error(err)
		}
	})
	return l, s
}

// datagram makes an IP packet with a UDP datagram inside.
func datagram(t *testing.T, src, dst netip.AddrPort, payload []byte) []byte {
	t.Helper()
	udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	var ip interface {
		gopacket.SerializableLayer
		gopacket.NetworkLayer
	}
	if dst.Addr().Is4() {
		ip = &layers.IPv4{
			Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src.Addr().AsSlice(),
			DstIP: dst.Addr().AsSlice(),
		}
	} else {
		ip = &layers.IPv6{
			Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: src.Addr().AsSlice(),
			DstIP: dst.Addr().AsSlice(),
		}
	}
	udp.SetNetworkLayerForChecksum(ip)
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip,
		udp, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// tunnelSender is an encapsulation, by the sockets that send it.
type tunnelSender struct {
	name    string
	network func(outer, inner int) string
	front   func(inner []byte) []byte // the bytes to send before the inner packet
}

// tunnels are all encapsulations.
var tunnels = []tunnelSender{
	{"IPIP", func(outer, inner int) string {
		return fmt.Sprintf("ip%d:%d", outer, map[int]int{4: unix.IPPROTO_IPIP, 6: unix.IPPROTO_IPV6}[inner])
	}, func([]byte) []byte { return nil }},
	{"GRE", rawGRE, func(inner []byte) []byte { return greHeader(inner, false) }},
	{"GRE with checksum", rawGRE, func(inner []byte) []byte { return greHeader(inner, true) }},
	{"GUE", func(outer, _ int) string { return fmt.Sprint("udp", outer) }, func(inner []byte) []byte {
		return []byte{0, map[byte]byte{4: unix.IPPROTO_IPIP, 6: unix.IPPROTO_IPV6}[inner[0]>>4], 0, 0}
	}},
}

func rawGRE(outer, _ int) string { return fmt.Sprintf("ip%d:%d", outer, unix.IPPROTO_GRE) }

func greHeader(inner []byte, checksum bool) []byte {
	h := &layers.GRE{ChecksumPresent: checksum, Protocol: map[byte]layers.EthernetType{
		4: layers.EthernetTypeIPv4,
		6: layers.EthernetTypeIPv6,
	}[inner[0]>>4]}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{ComputeChecksums: true}, h,
		gopacket.Payload(inner)); err != nil {
		panic(err)
	}
	return buf.Bytes()[:len(buf.Bytes())-len(inner)]
}

// send sends an inner packet from client1 to rs1. The kernel makes the outer
// header, of the given version, and fragments where it must.
func (k *tunnelSender) send(l *lab.Lab, outer int, inner []byte) error {
	return l.Do("client1", func() error {
		to := l.RIP(outer, 0).String()
		network := k.network(outer, int(inner[0]>>4))
		if strings.HasPrefix(network, "udp") {
			to = net.JoinHostPort(to, strconv.Itoa(tunnel.GUEPort))
		}
		c, err := net.Dial(network, to)
		if err != nil {
			return err
		}
		defer c.Close()
		raw, err := c.(syscall.Conn).SyscallConn()
		if err != nil {
			return err
		}
		raw.Control(func(fd uintptr) {
			if outer == 4 {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT)
			}
		})
		if err != nil {
			return err
		}
		_, err = c.Write(append(k.front(inner), inner...))
		return err
	})
}

// listenClient opens the socket of client1.
func listenClient(t *testing.T, l *lab.Lab, family int) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	var c *net.UDPConn
	err := l.Do("client1", func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.CIP(family, 0), 0)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	at := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return c, netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// A datagram that arrives through a tunnel of any kind, whole or in fragments,
// gets a reply from the VIP straight to the client.
func TestServerAnswersTunnelledDatagrams(t *testing.T) {
	l, s := tunnelLab(t, "trstun")
	sent := uint64(0)
	for _, k := range tunnels {
		for _, outer := range []int{4, 6} {
			for _, inner := range []int{4, 6} {
				for _, size := range []int{5, 1472, 1400, 4000} {
					name := fmt.Sprintf("%s, IPv%d in IPv%d, %d bytes", k.name, inner, outer, size)
					c, client := listenClient(t, l, inner)
					payload := bytes.Repeat([]byte("x"), size)
					vip := netip.AddrPortFrom(l.VIP(inner), realserver.InfoPort)
					if err := k.send(l, outer, datagram(t, client, vip, payload)); err != nil {
						t.Fatalf("%s: send: %v", name, err)
					}
					sent++
					buf := make([]byte, 1<<16)
					n, from, err := c.ReadFromUDPAddrPort(buf)
					if err != nil {
						t.Fatalf("%s: no answer: %v", name, err)
					}
					if want := "rs1 " + string(payload); string(buf[:n]) != want {
						t.Errorf("%s: answer is %d bytes %.10q, want %d bytes %.10q", name, n, buf[:n], len(want), want)
					}
					if from := netip.AddrPortFrom(from.Addr().Unmap(), from.Port()); from != vip {
						t.Errorf("%s: answered by %v, want the VIP %v", name, from, vip)
					}
				}
			}
		}
	}
	if taken, refused := s.Tunnelled(); taken != sent || refused != 0 {
		t.Errorf("server took %d and refused %d packets, want %d and 0", taken, refused, sent)
	}
}

// A tunnelled packet that is not for one of the server's VIPs is dropped: a
// tunnel must not bypass the server's firewall.
func TestServerRefusesForeignTunnelledPackets(t *testing.T) {
	l, s := tunnelLab(t, "trsforeign")
	_, client := listenClient(t, l, 4)
	rip := netip.AddrPortFrom(l.RIP(4, 0), realserver.InfoPort)
	vip := netip.AddrPortFrom(l.VIP(4), realserver.InfoPort)
	broken := datagram(t, client, vip, []byte("hello"))
	binary.BigEndian.PutUint16(broken[2:], 9999) // longer than the packet
	sent := uint64(0)
	for _, k := range tunnels {
		for _, inner := range [][]byte{datagram(t, client, rip, []byte("hello")), broken} {
			if err := k.send(l, 4, inner); err != nil {
				t.Fatal(err)
			}
			sent++
		}
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		taken, refused := s.Tunnelled()
		if taken == 0 && refused == sent {
			return
		}
		if taken > 0 || time.Now().After(deadline) {
			t.Fatalf("server took %d and refused %d packets, want 0 and %d", taken, refused, sent)
		}
	}
}

// A VIP is not visible on the network, and goes when the server ends.
func TestVIPIsHeldSilently(t *testing.T) {
	if err := lab.Privileged(); err != nil {
		t.Skipf("cannot make a network namespace (%v); needs CAP_SYS_ADMIN and CAP_NET_ADMIN", err)
	}
	l, err := lab.New(lab.Plan{Name: "trsvip", Method: lab.DR, Servers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	// One ARP or neighbour request, and a tenth of a second, which is long for
	// a namespace.
	err = l.Do("client1", func() (err error) {
		for _, family := range []string{"ipv4", "ipv6"} {
			dir := "/proc/sys/net/" + family + "/neigh/eth0/"
			err = errors.Join(err, os.WriteFile(dir+"mcast_solicit", []byte("1"), 0),
				os.WriteFile(dir+"retrans_time_ms", []byte("100"), 0))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// visible reports whether the client gets a reply for the VIP.
	visible := func(family int) bool {
		c, err := l.Dial(t.Context(), "client1", "tcp", 0, net.JoinHostPort(l.VIP(family).String(), "80"))
		if err == nil {
			c.Close()
		}
		return err == nil || errors.Is(err, unix.ECONNREFUSED)
	}
	addresses := func() (list string) {
		err := l.Do("rs1", func() error {
			lo, err := net.InterfaceByName("lo")
			if err != nil {
				return err
			}
			addrs, err := lo.Addrs()
			list = fmt.Sprint(addrs)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	before := addresses()
	var s *realserver.Server
	err = l.Do("rs1", func() (err error) {
		s, err = realserver.Start(realserver.Config{Name: "rs1", VIPs: []netip.Addr{l.VIP(4), l.VIP(6)}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range []int{4, 6} {
		if list := addresses(); !strings.Contains(list, l.VIP(family).String()) {
			t.Errorf("rs1 does not hold %v: %v", l.VIP(family), list)
		}
		if visible(family) {
			t.Errorf("rs1 answers for %v on the network", l.VIP(family))
		}
	}
	if err := l.Do("rs1", s.Close); err != nil {
		t.Errorf("Close: %v", err)
	}
	if after := addresses(); after != before {
		t.Errorf("addresses of lo after Close: %v, before Start: %v", after, before)
	}
}
