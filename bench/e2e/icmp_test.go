package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// NAT on one segment, where the director's kernel is a router with redirects
// on, which is the default. The service works, a refused datagram is refused to
// the client, and no host gets a redirect, which would make replies bypass the
// director. The host does send a redirect for what it routes itself, so the
// test would see one.
func TestOneNetworkNAT(t *testing.T) {
	s := &topology{network: newNetwork(t, "nginx", "curl", "tcpdump"), method: "nat"}
	s.add("client", "director", "s1")
	s.bridge("lan1", "client", "director", "s1")
	s.assign("client", "eth0", 1, 2)
	s.assign("director", "eth0", 1, 1)
	s.assign("s1", "eth0", 1, 11)
	s.run("director", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 "+
		"net.ipv4.conf.all.send_redirects=1 net.ipv4.conf.eth0.send_redirects=1")
	for _, one := range []*topology{s.withFamily(false), s.withFamily(true)} {
		s.run("s1", fmt.Sprintf("ip route add %s%s via %s", one.addr(1, 2), one.prefixLen(), one.addr(1, 1)))
	}
	s.nginx("s1", s.dir)
	s.director("director", "eth0")
	captured := s.capture("s1", "eth0")
	for _, one := range []*topology{s.withFamily(false), s.withFamily(true)} {
		vip, rip := s.url(one.vip()), s.url(one.addr(1, 11))
		s.ipvsadm("director", fmt.Sprintf(`
			ipvsadm -A -t %[1]s:80 -s rr
			ipvsadm -a -t %[1]s:80 -r %[2]s:8080 -m
			ipvsadm -A -u %[1]s:9 -s rr
			ipvsadm -a -u %[1]s:9 -r %[2]s:9 -m`, vip, rip))
		eventually(t, "the client reaches the server", func() bool {
			out, err := s.tryRun("client", fmt.Sprintf("curl -s -f -g --max-time 1 http://%s/", vip))
			return err == nil && strings.TrimSpace(out) == "s1"
		})
		out, _ := s.tryRun("client", fmt.Sprintf("bash -c 'exec 3<>/dev/udp/%s/9; echo hello >&3; "+
			"read -t 20 -u 3 answer'", one.vip()))
		if !strings.Contains(out, "Connection refused") {
			t.Errorf("a datagram to a closed port of the server: %q, want it refused", out)
		}
		if out, err := s.tryRun("s1", fmt.Sprintf("curl -s -g --max-time 5 http://%s:81/",
			s.url(one.addr(1, 2)))); err == nil {
			t.Errorf("the client serves port 81: %q", out)
		}
	}
	redirects := map[string]int{}
	for _, p := range captured() {
		if l, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok &&
			l.TypeCode.Type() == layers.ICMPv4TypeRedirect {
			redirects["IPv4 "+redirected(l.Payload, layers.LayerTypeIPv4)]++
		}
		if l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok &&
			l.TypeCode.Type() == layers.ICMPv6TypeRedirect {
			redirects["IPv6 "+redirected(quotedHeader(l.Payload), layers.LayerTypeIPv6)]++
		}
	}
	for about := range redirects {
		if !strings.HasSuffix(about, " 81") {
			t.Errorf("redirected: %s", about)
		}
	}
	if len(redirects) < 2 {
		t.Errorf("redirects: %v; want some about port 81 of either family, or the test sees none", redirects)
	}
}

// quotedHeader returns the packet in the redirected header option of an IPv6
// redirect, RFC 4861 sections 4.5 and 4.6.3: after four reserved bytes and two
// addresses.
func quotedHeader(message []byte) []byte {
	const redirectedHeader = 4
	for options := message[min(36, len(message)):]; len(options) > 8 &&
		options[1] > 0; options = options[min(8*int(options[1]), len(options)):] {
		if options[0] == redirectedHeader {
			return options[8:]
		}
	}
	return nil
}

// redirected returns the port of a service, or 81, in a packet that a redirect
// quotes.
func redirected(quote []byte, family gopacket.LayerType) string {
	p := gopacket.NewPacket(quote, family, gopacket.Default)
	if n := p.NetworkLayer(); n != nil && len(n.LayerPayload()) >= 4 {
		b := n.LayerPayload()
		src, dst := int(b[0])<<8|int(b[1]), int(b[2])<<8|int(b[3])
		for _, port := range []int{8080, 9, 81} {
			if src == port || dst == port {
				return fmt.Sprint(port)
			}
		}
	}
	return fmt.Sprintf("%x", quote)
}
