package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// nfsBlock is the size of NFS version 2's reads and writes, which go by UDP.
const nfsBlock = 8192

// Datagrams of 8 KiB reach the servers and return intact by every method, in
// six fragments each. The kernels at the ends make some, and others come in the
// wrong order. The director's host, which routes, neither sends a fragment a
// second time nor an ICMP error for one.
func TestFragments(t *testing.T) {
	needs(t, "nginx", "curl", "tcpdump")
	for _, method := range []string{"nat", "dr", "tunnel"} {
		for _, v6 := range []bool{false, true} {
			for _, onHost := range []bool{false, true} {
				if method == "tunnel" && onHost {
					continue // the director treats it as DR
				}
				t.Run(fmt.Sprintf("%s/v6=%t/vip-on-director=%t", method, v6, onHost), func(t *testing.T) {
					s := &topology{
						network: newNetwork(t), method: method, v6: v6, onHost: onHost,
					}
					s.build(t.TempDir())
					s.run("director", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
					s.trackConnections("director")
					s.fragments()
				})
			}
		}
	}
}

// trackConnections makes the kernel reassemble and track connections in a
// namespace, as many hosts do.
func (n *network) trackConnections(ns string) {
	n.t.Helper()
	must(n.t, n.inNetns(ns, func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "tracking"})
		chain := conn.AddChain(&nftables.Chain{
			Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		})
		conn.AddRule(&nftables.Rule{
			Table: table, Chain: chain,
			Exprs: []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}},
		})
		return conn.Flush()
	}))
}

func (s *topology) fragments() {
	s.t.Helper()
	at := ":2049"
	if s.method != "nat" { // a reply must come from the address that the client sent to
		at = s.url(s.vip()) + at
	}
	for _, ns := range []string{"s1", "s2"} {
		var c net.PacketConn
		must(s.t, s.inNetns(ns, func() (err error) { c, err = net.ListenPacket("udp", at); return err }))
		s.t.Cleanup(func() { c.Close() })
		go echoUDP(c)
	}
	s.ipvsadm("director", fmt.Sprintf(`
		ipvsadm -A -u %[1]s:2049 -s rr
		ipvsadm -a -u %[1]s:2049 -r %[2]s:2049 %[4]s
		ipvsadm -a -u %[1]s:2049 -r %[3]s:2049 %[4]s`,
		s.url(s.vip()), s.url(s.addr(s.serverNet(), 11)), s.url(s.addr(s.serverNet(), 12)), s.flag()))
	var c net.Conn
	must(s.t, s.inNetns("client", func() (err error) { c, err = net.Dial("udp", s.url(s.vip())+":2049"); return err }))
	defer c.Close()

	// The kernel learns the path MTU from its first datagrams.
	eventually(s.t, "a block of 8 KiB comes back", func() bool { return requestReply(c, c.Write, nfsBlock) == nil })
	stops := map[string]func() []gopacket.Packet{}
	for _, ns := range []string{"client", "s1", "s2"} {
		stops[ns] = s.capture(ns, "eth0")
	}
	for range 100 {
		must(s.t, requestReply(c, c.Write, nfsBlock))
	}
	// The kernel may have used the same identifications, so that these datagrams
	// have a TOS to tell them by.
	description := wiretest.Packet{
		TOS:    0x28,
		SrcMAC: s.macOf("client"), DstMAC: s.macOf("director"),
		Src: c.LocalAddr().String(), Dst: s.url(s.vip()) + ":2049", Proto: wire.ProtoUDP,
	}
	for id := range uint32(40) {
		must(s.t, requestReply(c, func(payload []byte) (int, error) {
			description.Payload = payload
			fragments := wiretest.Fragments(description.Frame(), 0x1000+id, 1400)
			slices.Reverse(fragments)
			if id%2 == 1 {
				slices.Reverse(fragments[2:])
			}
			return len(payload), s.sendFrames("client", fragments)
		}, nfsBlock))
	}
	seen := 0
	for ns, stop := range stops {
		seen += s.checkFragments(ns, stop())
	}
	if want := 140 * 6 * 2; seen < want {
		s.t.Errorf("only %d fragments were captured, want %d", seen, want)
	}
	if s.method != "tunnel" || !s.v6 { // where the client had to learn the path MTU
		s.checkNoErrors()
	}
}

// requestReply sends random bytes and checks that they come back.
func requestReply(c net.Conn, send func([]byte) (int, error), size int) error {
	request, reply := make([]byte, size), make([]byte, size+1)
	rand.Read(request)
	if _, err := send(request); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(2 * time.Second))
	n, err := c.Read(reply)
	if err == nil && !bytes.Equal(request, reply[:n]) {
		err = fmt.Errorf("%d bytes came back changed, %d of them", size, n)
	}
	return err
}

// macOf returns the hardware address of a namespace's eth0.
func (s *topology) macOf(ns string) wire.MAC { return s.portMAC(ns, "eth0") }

func (s *topology) portMAC(ns, dev string) wire.MAC {
	s.t.Helper()
	a, err := net.ParseMAC(strings.TrimSpace(s.run(ns, "cat /sys/class/net/"+dev+"/address")))
	must(s.t, err)
	return wire.MAC(a)
}

// sendFrames sends frames from a namespace's eth0.
func (s *topology) sendFrames(ns string, frames []wire.Frame) error {
	return s.inNetns(ns, func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		c, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_LOOP, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		for i := range frames {
			if _, err := c.WriteTo(frames[i].Bytes(), &packet.Addr{HardwareAddr: frames[i].Bytes()[:6]}); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkFragments reports fragments that should not be there, and counts the
// others. At the client all of them are between client and VIP, and none comes
// twice.
func (s *topology) checkFragments(ns string, packets []gopacket.Packet) (fragments int) {
	s.t.Helper()
	seen := map[string]int{}
	for _, p := range packets {
		var tos uint8
		if l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); p.Layer(layers.LayerTypeICMPv4) != nil || ok &&
			l.TypeCode.Type() < 128 {
			s.t.Errorf("%s: ICMP: %s", ns, p)
		}
		var src, dst net.IP
		for _, l := range p.Layers() {
			switch ip := l.(type) {
			case *layers.IPv4:
				src, dst, tos = ip.SrcIP, ip.DstIP, ip.TOS
				if ip.Protocol == layers.IPProtocolIPv4 { // a tunnel's identifications are random
					continue
				}
				if ip.Flags&layers.IPv4MoreFragments != 0 || ip.FragOffset > 0 {
					seen[fmt.Sprintf("%s>%s tos %#x id %d at %d", src, dst, tos, ip.Id, ip.FragOffset)]++
				}
			case *layers.IPv6:
				src, dst, tos = ip.SrcIP, ip.DstIP, ip.TrafficClass
			case *layers.IPv6Fragment:
				seen[fmt.Sprintf("%s>%s tos %#x id %d at %d", src, dst, tos, ip.Identification, ip.FragmentOffset)]++
			}
		}
		if strings.HasPrefix(ns, "s") || src == nil || len(p.Data()) < 1000 {
			continue
		}
		ends := []string{netip.MustParseAddr(src.String()).String(), netip.MustParseAddr(dst.String()).String()}
		slices.Sort(ends)
		if want := []string{s.vip(), s.addr(1, 2)}; !slices.Equal(ends, want) &&
			!slices.Equal(ends, []string{want[1], want[0]}) {
			s.t.Errorf("%s: a packet between %v", ns, ends)
		}
	}
	for key, n := range seen {
		if n > 1 {
			s.t.Errorf("%s: %d copies of fragment %s", ns, n, key)
		}
	}
	return len(seen)
}

// echoUDP answers every datagram with itself.
func echoUDP(c net.PacketConn) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		c.WriteTo(buf[:n], from)
	}
}
