package realserver

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
)

// innerPacket makes a UDP packet of either family with the given ECN bits.
func innerPacket(t testing.TB, version int, ecn uint8) []byte {
	t.Helper()
	udp := &layers.UDP{SrcPort: 1000, DstPort: 2000}
	var ip interface {
		gopacket.SerializableLayer
		gopacket.NetworkLayer
	}
	if version == 4 {
		ip = &layers.IPv4{
			Version: 4, TTL: 64, TOS: 0xb8&^3 | ecn, Protocol: layers.IPProtocolUDP,
			SrcIP: net.IP{10, 1, 0, 101}, DstIP: net.IP{10, 1, 0, 100},
		}
	} else {
		ip = &layers.IPv6{
			Version: 6, HopLimit: 64, TrafficClass: 0xb8&^3 | ecn, NextHeader: layers.IPProtocolUDP,
			SrcIP: net.ParseIP("fd00:1::101"), DstIP: net.ParseIP("fd00:1::100"),
		}
	}
	udp.SetNetworkLayerForChecksum(ip)
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, udp,
		gopacket.Payload("hello"))
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// tunnelKind is an encapsulation with an inner IP version: the socket that
// receives it, and the bytes that the socket delivers before the inner packet.
type tunnelKind struct {
	name    string
	socket  tunnelSocket
	version int
	front   func(inner []byte) []byte
}

// tunnelKinds returns every kind.
func tunnelKinds() (kinds []tunnelKind) {
	nothing := func([]byte) []byte { return nil }
	bytes := func(b ...byte) func([]byte) []byte { return func([]byte) []byte { return b } }
	for _, outer := range []int{4, 6} {
		raw := func(t tunnel.Type, proto uint8) tunnelSocket {
			return tunnelSocket{outer: outer, header: outer == 4, proto: proto, encap: t.Encapsulation()}
		}
		udp := tunnelSocket{outer: outer, proto: wire.ProtoUDP, encap: tunnel.GUE.Encapsulation()}
		for _, k := range []tunnelKind{
			{"IPIP", raw(tunnel.IPIP, wire.ProtoIPIP), 4, nothing},
			{"IPIP", raw(tunnel.IPIP, wire.ProtoIPv6), 6, nothing},
			{"GRE", raw(tunnel.GRE, wire.ProtoGRE), 4, bytes(0, 0, 8, 0)},
			{"GRE", raw(tunnel.GRE, wire.ProtoGRE), 6, bytes(0, 0, 0x86, 0xdd)},
			{"GRE with checksum", raw(tunnel.GRE, wire.ProtoGRE), 4, greChecksummed(8, 0)},
			{"GRE with checksum", raw(tunnel.GRE, wire.ProtoGRE), 6, greChecksummed(0x86, 0xdd)},
			{"GUE", udp, 4, bytes(0, 4, 0, 0)},
			{"GUE", udp, 6, bytes(0, 41, 0, 0)},
		} {
			k.name = fmt.Sprintf("%s, IPv%d in IPv%d", k.name, k.version, outer)
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// greChecksummed returns a function that makes a GRE header with a checksum, by
// gopacket.
func greChecksummed(etherType ...byte) func([]byte) []byte {
	return func(inner []byte) []byte {
		h := &layers.GRE{ChecksumPresent: true, Protocol: layers.EthernetType(binary.BigEndian.Uint16(etherType))}
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{ComputeChecksums: true}, h,
			gopacket.Payload(inner)); err != nil {
			panic(err)
		}
		return buf.Bytes()[:8]
	}
}

// fromSocket returns what the socket delivers for an inner packet. A raw IPv4
// socket delivers the outer header, too; the TOS or traffic class is in a
// control message.
func (k *tunnelKind) fromSocket(ecn byte, inner []byte) (b, oob []byte) {
	if k.socket.header {
		b = []byte{0x45, 0xff, 19: 0}
	}
	oob = make([]byte, unix.CmsgSpace(4))
	if oob[unix.CmsgLen(0)] = ecn; k.socket.outer == 6 {
		binary.NativeEndian.PutUint32(oob[unix.CmsgLen(0):], uint32(ecn))
	}
	return slices.Concat(b, k.front(inner), inner), oob
}

func TestDecapsulateEveryTunnel(t *testing.T) {
	for _, k := range tunnelKinds() {
		packet := innerPacket(t, k.version, 0)
		b, oob := k.fromSocket(2, append(packet[:len(packet):len(packet)], 0, 0)) // padded
		got, ecn, ok := k.socket.decapsulate(b, oob)
		if !ok || string(got) != string(packet) || ecn != 2 {
			t.Errorf("%s: unwrapped to %x, ECN %d, ok %v; want %x, ECN 2", k.name, got, ecn, ok, packet)
		}
		b, oob = k.fromSocket(0, packet)
		for cut := range b {
			if _, _, ok := k.socket.decapsulate(b[:cut], oob); ok {
				t.Errorf("%s: accepted a packet cut to %d of %d bytes", k.name, cut, len(b))
			}
		}
		wrong, oob := k.fromSocket(0, innerPacket(t, 10-k.version, 0))
		if _, _, ok := k.socket.decapsulate(wrong, oob); ok {
			t.Errorf("%s: accepted an inner packet of the other version", k.name)
		}
	}
}

// A header that our director does not make is refused.
func TestDecapRefuses(t *testing.T) {
	inner := string(innerPacket(t, 4, 0))
	good := string(greChecksummed(8, 0)([]byte(inner)))
	for _, row := range []struct {
		what  string
		encap tunnel.Type
		front string
	}{
		{"GRE with a key", tunnel.GRE, "\x20\x00\x08\x00\x00\x00\x00\x01"},
		{"GRE with a sequence number", tunnel.GRE, "\x10\x00\x08\x00\x00\x00\x00\x01"},
		{"GRE with routing", tunnel.GRE, "\x40\x00\x08\x00\x00\x00\x00\x00"},
		{"GRE version 1, which is PPTP's", tunnel.GRE, "\x00\x01\x08\x00"},
		{"GRE with a reserved bit", tunnel.GRE, "\x04\x00\x08\x00"},
		{"GRE of Ethernet frames", tunnel.GRE, "\x00\x00\x65\x58"},
		{"GRE with a wrong checksum", tunnel.GRE, good[:5] + string([]byte{good[5] ^ 1}) + good[6:]},
		{"GUE version 1", tunnel.GUE, "\x40\x04\x00\x00"},
		{"GUE control message", tunnel.GUE, "\x20\x04\x00\x00"},
		{"GUE with options of four bytes", tunnel.GUE, "\x01\x04\x00\x00\x00\x00\x00\x00"},
		{"GUE with a flag", tunnel.GUE, "\x00\x04\x00\x01"},
		{"GUE of TCP", tunnel.GUE, "\x00\x06\x00\x00"},
	} {
		if _, _, ok := row.encap.Encapsulation().Strip(0, []byte(row.front+inner)); ok {
			t.Errorf("accepted: %s", row.what)
		}
	}
}

// The table of RFC 6040 section 4.2, for the outer headers that change the
// inner one.
func TestCombineECN(t *testing.T) {
	const none, ect1, ect0, ce = 0, 1, 2, 3
	for _, row := range []struct {
		what               string
		inner, outer, want uint8
		drop               bool
	}{
		{"nothing experienced, nothing changed", ect0, ect0, ect0, false},
		{"a sender without ECN sees a loss", none, ce, 0, true},
		{"not ECN inside is kept when the outer is not CE", none, ect0, none, false},
		{"congestion is carried inside, ECT(0)", ect0, ce, ce, false},
		{"congestion is carried inside, ECT(1)", ect1, ce, ce, false},
		{"congestion marked before the tunnel stays", ce, none, ce, false},
	} {
		for _, version := range []int{4, 6} {
			packet := innerPacket(t, version, row.inner)
			kept := tunnel.CombineECN(packet, row.outer)
			if kept == row.drop {
				t.Errorf("%s (v%d): kept is %v", row.what, version, kept)
			}
			if !kept {
				continue
			}
			if want := innerPacket(t, version, row.want); string(packet) != string(want) {
				t.Errorf("%s (v%d): packet is\n%x, want\n%x", row.what, version, packet, want)
			}
		}
	}
}

// A partial checksum is completed. A complete one stays, also if it happens to
// equal a partial one.
func TestCompleteChecksum(t *testing.T) {
	for _, version := range []int{4, 6} {
		whole := innerPacket(t, version, 0)
		at := len(whole) - len("hello") - 2 // of the UDP checksum
		packet := append([]byte{}, whole...)
		completeChecksum(packet)
		if string(packet) != string(whole) {
			t.Errorf("v%d: a whole checksum was changed from %x to %x", version, whole[at:at+2], packet[at:at+2])
		}

		// The partial checksum is the sum of the pseudo-header. By RFC 1071, it
		// is the complement of the complete checksum less the sum of the
		// datagram itself.
		half := append([]byte{}, whole...)
		half[at], half[at+1] = 0, 0
		own := wire.Sum(half[at-6:], 0)
		pseudo := wire.Fold(uint32(^binary.BigEndian.Uint16(whole[at:])) + uint32(^wire.Fold(own)))
		binary.BigEndian.PutUint16(half[at:], pseudo)
		completeChecksum(half)
		if string(half) != string(whole) {
			t.Errorf("v%d: partial checksum %04x was finished to %x, want %x",
				version, pseudo, half[at:at+2], whole[at:at+2])
		}

		// The payload makes the complete checksum equal the sum of the
		// pseudo-header.
		chance := append([]byte{}, whole...)
		binary.BigEndian.PutUint16(chance[at:], pseudo)
		word := chance[at+2:] // first word of the payload, at an even offset
		clear(word[:2])
		rest := wire.Fold(wire.Sum(chance[at-6:], uint32(pseudo)))
		binary.BigEndian.PutUint16(word, ^rest)
		before := string(chance)
		completeChecksum(chance)
		if string(chance) != before {
			t.Errorf("v%d: a whole checksum equal to the pseudo-header's sum was changed", version)
		}
	}
}

func FuzzDecapsulate(f *testing.F) {
	kinds := tunnelKinds()
	for i, k := range kinds {
		b, oob := k.fromSocket(3, innerPacket(f, k.version, 2))
		f.Add(uint(i), b, oob)
	}
	f.Fuzz(func(t *testing.T, kind uint, b, oob []byte) {
		packet, ecn, ok := kinds[kind%uint(len(kinds))].socket.decapsulate(b, oob)
		if !ok {
			return
		}
		destination(packet)
		tunnel.CombineECN(packet, ecn)
		completeChecksum(packet)
		if len(packet) > len(b) || ecn > 3 {
			t.Errorf("%d bytes unwrapped to %d, ECN %d", len(b), len(packet), ecn)
		}
	})
}
