package realserver

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"uvs/dataplane/wire"
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
		ip = &layers.IPv4{Version: 4, TTL: 64, TOS: 0xb8&^3 | ecn, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{10, 1, 0, 101}, DstIP: net.IP{10, 1, 0, 100}}
	} else {
		ip = &layers.IPv6{Version: 6, HopLimit: 64, TrafficClass: 0xb8&^3 | ecn, NextHeader: layers.IPProtocolUDP, SrcIP: net.ParseIP("fd00:1::101"), DstIP: net.ParseIP("fd00:1::100")}
	}
	udp.SetNetworkLayerForChecksum(ip)
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, udp, gopacket.Payload("hello"))
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// fromSocket makes what the raw socket of a tunnel gives for an inner packet:
// with the outer header for IPv4, with the traffic class beside it for IPv6.
func fromSocket(outer int, outerECN byte, inner []byte) (b, oob []byte) {
	if outer == 4 {
		return append([]byte{0x45, outerECN, 19: 0}, inner...), nil
	}
	oob = make([]byte, unix.CmsgSpace(4))
	binary.NativeEndian.PutUint32(oob[unix.CmsgLen(0):], uint32(outerECN))
	return inner, oob
}

func TestUnwrapEveryKindOfTunnel(t *testing.T) {
	for _, outer := range []int{4, 6} {
		for _, version := range []int{4, 6} {
			s := tunnelSocket{outer: outer, inner: version}
			packet := innerPacket(t, version, 0)
			b, oob := fromSocket(outer, 2, append(packet[:len(packet):len(packet)], 0, 0)) // padded
			got, ecn, ok := s.unwrap(b, oob)
			if !ok || string(got) != string(packet) || ecn != 2 {
				t.Errorf("%d in %d: unwrapped to %x, ECN %d, ok %v; want %x, ECN 2", version, outer, got, ecn, ok, packet)
			}
			for cut := range packet {
				b, oob := fromSocket(outer, 0, packet[:cut])
				if _, _, ok := s.unwrap(b, oob); ok {
					t.Errorf("%d in %d: accepted a packet cut to %d of %d bytes", version, outer, cut, len(packet))
				}
			}
			wrong, oob := fromSocket(outer, 0, innerPacket(t, 10-version, 0))
			if _, _, ok := s.unwrap(wrong, oob); ok {
				t.Errorf("%d in %d: accepted an inner packet of the other version", version, outer)
			}
		}
	}
}

// The table of RFC 6040 4.2 for an outer header, as far as it differs from
// leaving the inner header alone.
func TestMarkCongestion(t *testing.T) {
	const none, ect1, ect0, ce = 0, 1, 2, 3
	for _, row := range []struct {
		what               string
		inner, outer, want uint8
		drop               bool
	}{
		{"nothing experienced, nothing changed", ect0, ect0, ect0, false},
		{"a sender that does not know ECN is told by a loss", none, ce, 0, true},
		{"not ECN inside is kept when the outer is not CE", none, ect0, none, false},
		{"congestion is carried inside, ECT(0)", ect0, ce, ce, false},
		{"congestion is carried inside, ECT(1)", ect1, ce, ce, false},
		{"congestion marked before the tunnel stays", ce, none, ce, false},
	} {
		for _, version := range []int{4, 6} {
			packet := innerPacket(t, version, row.inner)
			kept := markCongestion(packet, row.outer)
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

// A half-made checksum is finished, a whole one is left alone, also one that
// looks half made by chance.
func TestCompleteChecksum(t *testing.T) {
	for _, version := range []int{4, 6} {
		whole := innerPacket(t, version, 0)
		at := len(whole) - len("hello") - 2 // of the UDP checksum
		packet := append([]byte{}, whole...)
		completeChecksum(packet)
		if string(packet) != string(whole) {
			t.Errorf("v%d: a whole checksum was changed from %x to %x", version, whole[at:at+2], packet[at:at+2])
		}

		// Half made: the pseudo-header's sum alone, by RFC 1071 what is left of
		// the whole checksum's complement when the datagram's own sum is taken off.
		half := append([]byte{}, whole...)
		half[at], half[at+1] = 0, 0
		own := wire.Sum(half[at-6:], 0)
		pseudo := wire.Fold(uint32(^binary.BigEndian.Uint16(whole[at:])) + uint32(^wire.Fold(own)))
		binary.BigEndian.PutUint16(half[at:], pseudo)
		completeChecksum(half)
		if string(half) != string(whole) {
			t.Errorf("v%d: half-made %04x was finished to %x, want %x", version, pseudo, half[at:at+2], whole[at:at+2])
		}

		// Payload chosen so that the whole checksum equals the pseudo-header's sum.
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

func FuzzUnwrap(f *testing.F) {
	for _, outer := range []int{4, 6} {
		for _, inner := range []int{4, 6} {
			b, oob := fromSocket(outer, 3, innerPacket(f, inner, 2))
			f.Add(outer, inner, b, oob)
		}
	}
	f.Fuzz(func(t *testing.T, outer, inner int, b, oob []byte) {
		packet, ecn, ok := tunnelSocket{outer: outer, inner: inner}.unwrap(b, oob)
		if !ok {
			return
		}
		destination(packet)
		markCongestion(packet, ecn)
		completeChecksum(packet)
		if len(packet) > len(b) || ecn > 3 {
			t.Errorf("%d bytes unwrapped to %d, ECN %d", len(b), len(packet), ecn)
		}
	})
}
