package guard

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/packet"
)

// hostMAC and peerMAC are the two sides of the link.
var (
	hostMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	peerMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

// anywhere is the destination for raw packet sockets, which take it from the
// frame instead.
var anywhere = &packet.Addr{HardwareAddr: make(net.HardwareAddr, 6)}

// serialize encodes layers, with lengths and checksums.
func serialize(parts ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		parts...); err != nil {
		panic(err)
	}
	return bytes.Clone(buf.Bytes())
}

// etherTypeOf returns the EtherType of an IP packet.
func etherTypeOf(ip []byte) uint16 {
	if ip[0]>>4 == 4 {
		return uint16(layers.EthernetTypeIPv4)
	}
	return uint16(layers.EthernetTypeIPv6)
}

// frame puts an IP packet into a frame from the peer to dst.
func frame(dst net.HardwareAddr, ip []byte) []byte {
	f := append(append([]byte{}, dst...), peerMAC...)
	return append(binary.BigEndian.AppendUint16(f, etherTypeOf(ip)), ip...)
}

// inVLAN puts an 802.1Q tag into a frame.
func inVLAN(tci uint16, f []byte) []byte {
	return append(append(append([]byte{}, f[:12]...), 0x81, 0, byte(tci>>8), byte(tci)), f[12:]...)
}

// ipTo makes an IP packet of either family.
func ipTo(src, dst string, proto layers.IPProtocol, parts ...gopacket.SerializableLayer) []byte {
	s, d := net.ParseIP(src), net.ParseIP(dst)
	var n gopacket.SerializableLayer
	if s.To4() != nil {
		n = &layers.IPv4{Version: 4, TTL: 64, Id: 77, Protocol: proto, SrcIP: s, DstIP: d}
	} else {
		n = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: s, DstIP: d}
	}
	for _, p := range parts {
		if t, ok := p.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			t.SetNetworkLayerForChecksum(n.(gopacket.NetworkLayer))
		}
	}
	return serialize(append([]gopacket.SerializableLayer{n}, parts...)...)
}

func udp(src string, sport uint16, dst string, dport uint16) []byte {
	return ipTo(src, dst, layers.IPProtocolUDP,
		&layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)},
		gopacket.Payload("twenty-four bytes of it."))
}

func tcp(src string, sport uint16, dst string, dport uint16) []byte {
	return ipTo(src, dst, layers.IPProtocolTCP,
		&layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), ACK: true, Window: 100})
}

// icmpError makes an ICMP message of either family that quotes a packet.
func icmpError(src, dst string, kind uint8, quoted []byte) []byte {
	if net.ParseIP(src).To4() != nil {
		return ipTo(src, dst, layers.IPProtocolICMPv4,
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0)}, gopacket.Payload(quoted))
	}
	return ipTo(src, dst, layers.IPProtocolICMPv6,
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)},
		gopacket.Payload(append(make([]byte, 4), quoted...)))
}

// fragments splits a packet's payload after 16 bytes; id is the datagram's
// identification.
func fragments(packet []byte, id uint16) (first, later []byte) {
	if etherTypeOf(packet) == uint16(layers.EthernetTypeIPv4) {
		cut := func(flags layers.IPv4Flag, offset uint16, payload []byte) []byte {
			var n layers.IPv4
			if err := n.DecodeFromBytes(packet, gopacket.NilDecodeFeedback); err != nil {
				panic(err)
			}
			n.Id, n.Flags, n.FragOffset = id, flags, offset
			return serialize(&n, gopacket.Payload(payload))
		}
		return cut(layers.IPv4MoreFragments, 0, packet[20:36]), cut(0, 2, packet[36:])
	}
	cut := func(offsetFlags uint16, payload []byte) []byte {
		var n layers.IPv6
		if err := n.DecodeFromBytes(packet, gopacket.NilDecodeFeedback); err != nil {
			panic(err)
		}
		h := []byte{byte(n.NextHeader), 0}
		h = binary.BigEndian.AppendUint16(h, offsetFlags)
		h = binary.BigEndian.AppendUint32(h, uint32(id))
		n.NextHeader = layers.IPProtocolIPv6Fragment
		return serialize(&n, gopacket.Payload(append(h, payload...)))
	}
	return cut(1, packet[40:56]), cut(16, packet[56:])
}

// addrsOf decodes a frame. Ports are 0 if it has none. ok reports whether the
// frame is IP.
func addrsOf(f []byte) (src, dst netip.AddrPort, ttl uint8, ok bool) {
	p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
	var from, to netip.Addr
	switch n := p.NetworkLayer().(type) {
	case *layers.IPv4:
		from, _ = netip.AddrFromSlice(n.SrcIP)
		to, _ = netip.AddrFromSlice(n.DstIP)
		ttl = n.TTL
	case *layers.IPv6:
		from, _ = netip.AddrFromSlice(n.SrcIP)
		to, _ = netip.AddrFromSlice(n.DstIP)
		ttl = n.HopLimit
	default:
		return src, dst, 0, false
	}
	var sport, dport uint16
	switch t := p.TransportLayer().(type) {
	case *layers.TCP:
		sport, dport = uint16(t.SrcPort), uint16(t.DstPort)
	case *layers.UDP:
		sport, dport = uint16(t.SrcPort), uint16(t.DstPort)
	}
	return netip.AddrPortFrom(from, sport), netip.AddrPortFrom(to, dport), ttl, true
}
