package wiretest

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"uvs/dataplane/wire"
)

// Decode decodes the frame with gopacket. It fails the test if gopacket finds a fault
// in the headers up to that of the transport; payloads may hold anything.
func Decode(t testing.TB, f wire.Frame) gopacket.Packet {
	t.Helper()
	d := gopacket.NewPacket(f.Bytes(), layers.LayerTypeEthernet, gopacket.Default)
	if e := d.ErrorLayer(); e != nil && d.TransportLayer() == nil {
		t.Errorf("gopacket cannot decode the frame: %v\n%x", e.Error(), f.Bytes())
	}
	return d
}

// Check fails the test unless every length and checksum of the frame is right, also
// inside tunnels. IP lengths must end at the end of the frame. The checksums are
// those of IPv4 headers, TCP, UDP, ICMP, ICMPv6, SCTP and GRE. A partial checksum
// must agree with Offload and be the sum of the pseudo-header. Check does not look
// at the quote of an ICMP error.
func Check(t testing.TB, f wire.Frame) {
	t.Helper()
	var src, dst netip.Addr
	whole := true // the payload of the last IP header is not a fragment
	for _, l := range Decode(t, f).Layers() {
		switch l := l.(type) {
		case *layers.IPv4:
			src, dst = address(l.SrcIP), address(l.DstIP)
			whole = l.FragOffset == 0 && l.Flags&layers.IPv4MoreFragments == 0
			if got := sum16(l.Contents, 0); got != 0xffff {
				t.Errorf("IPv4 %v > %v: header sums to %#04x, want 0xffff", src, dst, got)
			}
			checkLength(t, &f, "IPv4 total length", int(l.Length), 0, l.Contents)
		case *layers.IPv6:
			src, dst = address(l.SrcIP), address(l.DstIP)
			checkLength(t, &f, "IPv6 payload length", int(l.Length), 40, l.Contents)
		case *layers.IPv6Fragment:
			whole = l.FragmentOffset == 0 && !l.MoreFragments
		case *layers.GRE:
			if sum := sum16(l.Payload, sum16(l.Contents, 0)); whole && l.ChecksumPresent && sum != 0xffff {
				t.Errorf("GRE sums to %#04x, want 0xffff", sum)
			}
		case *layers.TCP, *layers.UDP, *layers.ICMPv4, *layers.ICMPv6, *layers.SCTP:
			if whole {
				checkTransport(t, &f, l, src, dst)
			}
			if _, ok := l.(*layers.ICMPv4); ok {
				return
			}
			if _, ok := l.(*layers.ICMPv6); ok {
				return
			}
		}
	}
}

func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

// checkLength compares a length field with the distance from the header to the end of
// the frame. plus is the number of bytes that the field does not count.
func checkLength(t testing.TB, f *wire.Frame, name string, got, plus int, header []byte) {
	t.Helper()
	want := len(f.Bytes()) - offset(f, header)
	if got == 0 && f.IsGSO() && want > 0xffff {
		return
	}
	if got+plus != want {
		t.Errorf("%s is %d, want %d", name, got, want-plus)
	}
}

// offset returns the offset in the frame of a layer that gopacket returned. The
// slices of gopacket all extend to the end of its copy of the frame.
func offset(f *wire.Frame, layer []byte) int { return f.Len() - cap(layer) }

// checkTransport checks lengths and checksum of one transport packet.
func checkTransport(t testing.TB, f *wire.Frame, l gopacket.Layer, src, dst netip.Addr) {
	t.Helper()
	var proto uint8
	switch l := l.(type) {
	case *layers.TCP:
		proto = wire.ProtoTCP
	case *layers.UDP:
		proto = wire.ProtoUDP
		if want := 8 + len(l.Payload); int(l.Length) != want && !(l.Length == 0 && f.IsGSO()) {
			t.Errorf("UDP length is %d, want %d", l.Length, want)
		}
		if l.Checksum == 0 {
			if src.Is6() && l.DstPort != guePort { // RFC 6935: tunnels may
				t.Error("UDP over IPv6 without a checksum")
			}
			return
		}
	case *layers.ICMPv4:
		proto = wire.ProtoICMP
	case *layers.ICMPv6:
		proto = wire.ProtoICMPv6
	case *layers.SCTP:
		proto = wire.ProtoSCTP
	}
	b := append(append([]byte(nil), l.LayerContents()...), l.LayerPayload()...)
	at, pseudo := checksumAt(proto), pseudo16(src, dst, proto, len(b))
	switch {
	case proto == wire.ProtoSCTP:
		got := binary.LittleEndian.Uint32(b[at:])
		copy(b[at:], make([]byte, 4))
		if want := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)); got != want {
			t.Errorf("SCTP CRC is %#08x, want %#08x", got, want)
		}
	case f.ChecksumPartial() && int(f.Offload.CsumStart) == offset(f, l.LayerContents()):
		if int(f.Offload.CsumOffset) != at {
			t.Errorf("%v: CsumOffset is %d, want %d", l.LayerType(), f.Offload.CsumOffset, at)
		}
		if got := binary.BigEndian.Uint16(b[at:]); got != pseudo {
			t.Errorf("%v: partial checksum is %#04x, want the pseudo-header's sum %#04x", l.LayerType(), got, pseudo)
		}
	default:
		if got := sum16(b, pseudo); got != 0xffff {
			t.Errorf("%v %v > %v: sums to %#04x with its pseudo-header, want 0xffff", l.LayerType(), src, dst, got)
		}
	}
}
