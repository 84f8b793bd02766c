package director

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/tunnel"
)

// These functions make and describe frames with gopacket; wiretest.Check judges their
// lengths and checksums.

func headers(l ...gopacket.SerializableLayer) []gopacket.SerializableLayer { return l }

func v4(src, dst string) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Id: 1, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
}

func v6(src, dst string) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
}

func with4(h *layers.IPv4, change func(*layers.IPv4)) *layers.IPv4 { change(h); return h }
func with6(h *layers.IPv6, change func(*layers.IPv6)) *layers.IPv6 { change(h); return h }

func as4(h *layers.IPv4, p layers.IPProtocol) *layers.IPv4 { h.Protocol = p; return h }
func as6(h *layers.IPv6, p layers.IPProtocol) *layers.IPv6 { h.NextHeader = p; return h }

func udp(src, dst uint16) *layers.UDP {
	return &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}
}

func ack(src, dst uint16) *layers.TCP {
	return &layers.TCP{SrcPort: layers.TCPPort(src), DstPort: layers.TCPPort(dst), ACK: true, Window: 8192}
}

func syn80(dst uint16) *layers.TCP {
	return &layers.TCP{SrcPort: 80, DstPort: layers.TCPPort(dst), SYN: true, Window: 8192}
}

// fill makes gopacket set lengths and checksums.
var fill = gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}

func data(s string) gopacket.Payload { return gopacket.Payload(s) }

// icmp6 returns an ICMPv6 message: gopacket sums one only behind its own IPv6 layer.
func icmp6(src, dst string, kind, code uint8, rest []byte) gopacket.SerializableLayer {
	h := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, code)}
	h.SetNetworkLayerForChecksum(v6(src, dst))
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, fill, h, gopacket.Payload(rest)); err != nil {
		panic(err)
	}
	return icmpv6Bytes(b.Bytes())
}

// icmpv6Bytes is a finished ICMPv6 message.
type icmpv6Bytes []byte

func (b icmpv6Bytes) LayerType() gopacket.LayerType { return layers.LayerTypeICMPv6 }

func (b icmpv6Bytes) SerializeTo(to gopacket.SerializeBuffer, _ gopacket.SerializeOptions) error {
	return gopacket.Payload(b).SerializeTo(to, gopacket.SerializeOptions{})
}

// serialized returns a packet's bytes with protocol numbers, lengths and checksums
// filled in.
func serialized(t *testing.T, packet []gopacket.SerializableLayer) []byte {
	t.Helper()
	var ip gopacket.NetworkLayer
	for i, l := range packet {
		switch l := l.(type) {
		case *layers.IPv4:
			if ip = l; l.Protocol == 0 {
				l.Protocol = protocol(packet[i+1])
			}
		case *layers.IPv6:
			if ip = l; l.NextHeader == 0 {
				l.NextHeader = protocol(packet[i+1])
			}
		case *layers.TCP:
			l.SetNetworkLayerForChecksum(ip)
		case *layers.UDP:
			l.SetNetworkLayerForChecksum(ip)
		}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, fill, packet...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func protocol(l gopacket.SerializableLayer) layers.IPProtocol {
	return map[gopacket.LayerType]layers.IPProtocol{
		layers.LayerTypeTCP: layers.IPProtocolTCP, layers.LayerTypeUDP: layers.IPProtocolUDP,
		layers.LayerTypeICMPv4: layers.IPProtocolICMPv4, layers.LayerTypeICMPv6: layers.IPProtocolICMPv6,
	}[l.LayerType()]
}

// onWire returns the frame of a packet that arrives from the clients' side.
func onWire(t *testing.T, packet []gopacket.SerializableLayer) wire.Frame {
	t.Helper()
	b := serialized(t, packet)
	eth := layers.Ethernet{SrcMAC: wiretest.ClientMAC[:], DstMAC: portMAC[0][:], EthernetType: layers.EthernetTypeIPv4}
	if b[0]>>4 == 6 {
		eth.EthernetType = layers.EthernetTypeIPv6
	}
	f := wiretest.Frame(serialized(t, []gopacket.SerializableLayer{&eth, gopacket.Payload(b)}))
	f.In = 0
	return f
}

func decoded(f wire.Frame) gopacket.Packet {
	return gopacket.NewPacket(f.Bytes(), layers.LayerTypeEthernet, gopacket.Default)
}

// describe returns what leaves, header by header, after it judged all lengths and
// checksums. It names TOS, flags and options if there are any.
func describe(t *testing.T, f wire.Frame) string {
	t.Helper()
	if f.Out == wire.NoPort {
		return "nothing"
	}
	wiretest.Check(t, f)
	var said []string
	for _, l := range decoded(f).Layers() {
		switch l := l.(type) {
		case *layers.IPv4, *layers.IPv6:
			said = append(said, describeIP(l))
		case *layers.TCP:
			said = append(said, fmt.Sprintf("tcp %d>%d%s", l.SrcPort, l.DstPort, map[bool]string{true: " ack"}[l.ACK]))
		case *layers.UDP:
			if l.DstPort != tunnel.GUEPort {
				said = append(said, fmt.Sprintf("udp %d>%d", l.SrcPort, l.DstPort))
			} else if g, ok := decoded(f).Layer(wiretest.LayerTypeGUE).(*wiretest.GUE); ok {
				said = append(
					said,
					fmt.Sprintf("gue %d %d%s", l.DstPort, g.Proto, map[bool]string{true: " sum"}[l.Checksum != 0]),
				)
			}
		case *layers.GRE:
			said = append(said, fmt.Sprintf("gre %v%s", l.Protocol, map[bool]string{true: " sum"}[l.ChecksumPresent]))
		case *layers.ICMPv4:
			said = append(
				said, fmt.Sprintf("icmp %d/%d id %d rest %d", l.TypeCode.Type(), l.TypeCode.Code(), l.Id, l.Seq),
			)
			said = append(said, quoting(l.Payload, layers.LayerTypeIPv4)...)
			return strings.Join(said, " | ")
		case *layers.ICMPv6:
			text := fmt.Sprintf("icmp6 %d/%d", l.TypeCode.Type(), l.TypeCode.Code())
			if l.TypeCode.Type() >= 128 {
				return strings.Join(append(said, text), " | ")
			}
			said = append(said, fmt.Sprintf("%s mtu %d", text, int(l.Payload[2])<<8|int(l.Payload[3])))
			said = append(said, quoting(l.Payload[4:], layers.LayerTypeIPv6)...)
			return strings.Join(said, " | ")
		case *gopacket.Payload:
			said = append(said, fmt.Sprintf("%d bytes", len(*l)))
		case *gopacket.Fragment:
			said = append(said, fmt.Sprintf("%d bytes", len(*l)))
		}
	}
	return strings.Join(said, " | ")
}

// quoting describes the header that an ICMP error quotes, if any.
func quoting(b []byte, as gopacket.LayerType) []string {
	if len(b) == 0 {
		return nil
	}
	return []string{"quoting " + describeIP(gopacket.NewPacket(b, as, gopacket.Default).Layers()[0])}
}

func describeIP(l gopacket.Layer) string {
	addr := func(ip net.IP) netip.Addr { a, _ := netip.AddrFromSlice(ip); return a.Unmap() }
	say := func(src, dst net.IP, length int, ttl, tos uint8) string {
		text := fmt.Sprintf("%s>%s len %d ttl %d", addr(src), addr(dst), length, ttl)
		if tos != 0 {
			text += fmt.Sprintf(" tos %#02x", tos)
		}
		return text
	}
	switch h := l.(type) {
	case *layers.IPv4:
		text := say(h.SrcIP, h.DstIP, int(h.Length), h.TTL, h.TOS)
		if h.IHL > 5 {
			text += fmt.Sprintf(" options %d", (int(h.IHL)-5)*4)
		}
		if h.Flags&layers.IPv4DontFragment != 0 {
			text += " df"
		}
		if h.Flags&layers.IPv4MoreFragments != 0 {
			text += " more"
		}
		return text
	case *layers.IPv6:
		return say(h.SrcIP, h.DstIP, int(h.Length)+40, h.HopLimit, h.TrafficClass)
	}
	return "what is no IP header"
}
