package wire_test

import (
	"bytes"
	"net"
	"testing"

	"github.com/google/gopacket/layers"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// TestViewsRead: every getter returns what gopacket decodes, for random headers.
func TestViewsRead(t *testing.T) {
	r := newRandom(t)
	for range 200 {
		f := change(r.packet(wire.ProtoTCP, false, 20), func(p *wiretest.Packet) {
			p.DF, p.TTL, p.TCPFlags = r.coin(), uint8(1+r.IntN(255)), uint8(r.Uint32())
		})
		d := wiretest.Decode(t, f)
		e, ge := wire.Ethernet(f.Bytes()), d.LinkLayer().(*layers.Ethernet)
		requireSame(t, "Ethernet", e.Type() == uint16(ge.EthernetType) && equal(e.Dst(), ge.DstMAC) &&
			equal(e.Src(), ge.SrcMAC), e, ge)
		h, gh := wire.IPv4(f.From(14)), d.NetworkLayer().(*layers.IPv4)
		requireSame(t, "IPv4", h.HeaderLen() == len(gh.Contents) && h.TOS() == gh.TOS && h.TotalLen() == gh.Length &&
			h.ID() == gh.Id &&
			h.DF() == (gh.Flags&layers.IPv4DontFragment != 0) && h.MF() == (gh.Flags&layers.IPv4MoreFragments != 0) &&
			h.FragmentOffset() == int(gh.FragOffset)*8 && h.TTL() == gh.TTL && h.Protocol() == uint8(gh.Protocol) &&
			h.Checksum() == gh.Checksum && h.Src().Netip().String() == gh.SrcIP.String() &&
			h.Dst().Netip().String() == gh.DstIP.String(), h, gh)
		s, gs := wire.TCP(h[h.HeaderLen():]), d.TransportLayer().(*layers.TCP)
		requireSame(t, "TCP", s.SrcPort() == uint16(gs.SrcPort) && s.DstPort() == uint16(gs.DstPort) &&
			s.Seq() == gs.Seq && s.Ack() == gs.Ack &&
			s.HeaderLen() == len(gs.Contents) && s.Flags() == gs.Contents[13] && s.Window() == gs.Window &&
			s.Checksum() == gs.Checksum, s, gs)

		f = r.packet(wire.ProtoUDP, true, 20).Frame()
		d = wiretest.Decode(t, f)
		h6, gh6 := wire.IPv6(f.From(14)), d.NetworkLayer().(*layers.IPv6)
		requireSame(t, "IPv6", h6.TrafficClass() == gh6.TrafficClass && h6.PayloadLen() == gh6.Length &&
			h6.NextHeader() == uint8(gh6.NextHeader) &&
			h6.HopLimit() == gh6.HopLimit && h6.Src().Netip().String() == gh6.SrcIP.String() &&
			h6.Dst().Netip().String() == gh6.DstIP.String(), h6, gh6)
		u, gu := wire.UDP(f.From(54)), d.TransportLayer().(*layers.UDP)
		requireSame(t, "UDP", u.SrcPort() == uint16(gu.SrcPort) && u.DstPort() == uint16(gu.DstPort) &&
			u.Len() == gu.Length && u.Checksum() == gu.Checksum, u, gu)
	}
}

func requireSame(t *testing.T, name string, ok bool, ours []byte, theirs any) {
	t.Helper()
	if !ok {
		t.Fatalf("%s: the view of %x and gopacket's %+v differ", name, ours[:min(60, len(ours))], theirs)
	}
}

func equal(m wire.MAC, h net.HardwareAddr) bool { return bytes.Equal(m[:], h) }

// TestViewsWrite: headers written field by field over random bytes equal those that
// wiretest builds.
func TestViewsWrite(t *testing.T) {
	r := newRandom(t)
	want := wiretest.Packet{
		Src: "10.0.0.1:1", Dst: "10.0.0.2:2", TTL: 9, TOS: 7, ID: 99, DF: true, Seq: 5, Ack: 6,
		TCPFlags: wire.TCPAck,
	}.Frame()
	f := wiretest.Frame(r.bytes(want.Len()))
	e := wire.Ethernet(f.Bytes())
	e.SetDst(wiretest.DirectorMAC)
	e.SetSrc(wiretest.ClientMAC)
	e.SetType(wire.EtherTypeIPv4)
	h := wire.IPv4(f.From(14))
	h.SetVersionIHL(20)
	h.SetTOS(7)
	h.SetTotalLen(40)
	h.SetID(99)
	h.SetFragment(wire.IPv4DF, 0)
	h.SetTTL(9)
	h.SetProtocol(wire.ProtoTCP)
	h.SetSrc(addr(10, 0, 0, 1))
	h.SetDst(addr(10, 0, 0, 2))
	h.FillChecksum()
	s := wire.TCP(f.From(34))
	clear(s)
	s.SetSrcPort(1)
	s.SetDstPort(2)
	s.SetSeq(5)
	s.SetAck(6)
	s.SetHeaderLen(20)
	s.SetFlags(wire.TCPAck)
	s.SetWindow(0xffff)
	var p wire.Packet
	wire.Parse(&f, &p)
	wire.FillChecksum(&f, &p)
	if !bytes.Equal(f.Bytes(), want.Bytes()) {
		t.Errorf("TCP over IPv4: written\n%x\nwant\n%x", f.Bytes(), want.Bytes())
	}

	want = wiretest.Packet{Src: "[2001:db8::1]:1", Dst: "[2001:db8::2]:2", Proto: wire.ProtoUDP, TTL: 9, TOS: 7}.Frame()
	f = wiretest.Frame(r.bytes(want.Len()))
	copy(f.Bytes(), want.Bytes()[:14])
	h6 := wire.IPv6(f.From(14))
	h6.SetVersionClassFlow(7, 0)
	h6.SetPayloadLen(8)
	h6.SetNextHeader(wire.ProtoUDP)
	h6.SetHopLimit(9)
	h6.SetSrc(addr(1))
	h6.SetDst(addr(2))
	u := wire.UDP(f.From(54))
	u.SetSrcPort(1)
	u.SetDstPort(2)
	u.SetLen(8)
	wire.Parse(&f, &p)
	wire.FillChecksum(&f, &p)
	if !bytes.Equal(f.Bytes(), want.Bytes()) {
		t.Errorf("UDP over IPv6: written\n%x\nwant\n%x", f.Bytes(), want.Bytes())
	}

	want = wiretest.ARP(wire.ARPReply, wiretest.ClientMAC, "10.0.0.1", wiretest.DirectorMAC, "10.0.0.2")
	f = wiretest.Frame(r.bytes(want.Len()))
	copy(f.Bytes(), want.Bytes()[:14])
	a := wire.ARP(f.From(14))
	a.SetEthernetIPv4()
	a.SetOperation(wire.ARPReply)
	a.SetSenderMAC(wiretest.ClientMAC)
	a.SetSenderIP(addr(10, 0, 0, 1))
	a.SetTargetMAC(wiretest.DirectorMAC)
	a.SetTargetIP(addr(10, 0, 0, 2))
	if !bytes.Equal(f.Bytes(), want.Bytes()) {
		t.Errorf("ARP: written\n%x\nwant\n%x", f.Bytes(), want.Bytes())
	}
	if a.Operation() != wire.ARPReply || a.SenderMAC() != wiretest.ClientMAC || a.SenderIP() != addr(10, 0, 0, 1) ||
		a.TargetMAC() != wiretest.DirectorMAC || a.TargetIP() != addr(10, 0, 0, 2) {
		t.Errorf("ARP: the getters of %x differ from the values set", []byte(a))
	}
}

// TestNeighbour: gopacket decodes an advertisement that was made from a solicitation.
func TestNeighbour(t *testing.T) {
	f := wiretest.Solicitation(wiretest.ClientMAC, "fe80::1", "2001:db8::2")
	var p wire.Packet
	wire.Parse(&f, &p)
	n := wire.Neighbour(f.From(p.L4))
	if p.ICMPType != wire.ICMPv6Solicit || n.Target() != addr(2) {
		t.Fatalf("solicitation of %v, type %d", n.Target(), p.ICMPType)
	}
	wire.ICMP(n).SetType(wire.ICMPv6Advertise)
	n.SetFlags(wire.NeighbourSolicited | wire.NeighbourOverride)
	n.SetTarget(addr(3))
	n.SetOption(wire.OptionTargetMAC, wiretest.DirectorMAC)
	wire.FillChecksum(&f, &p)
	wiretest.Check(t, f)
	l := wiretest.Decode(t, f).Layer(layers.LayerTypeICMPv6NeighborAdvertisement)
	if l == nil {
		t.Fatal("gopacket sees no advertisement")
	}
	a := l.(*layers.ICMPv6NeighborAdvertisement)
	if a.Router() || !a.Solicited() || !a.Override() || a.TargetAddress.String() != "2001:db8::3" ||
		len(a.Options) != 1 || a.Options[0].Type != layers.ICMPv6OptTargetAddress ||
		!equal(wiretest.DirectorMAC, a.Options[0].Data) {
		t.Errorf("gopacket reads %+v", a)
	}
}

// TestICMPView: gopacket decodes the type, code and second word that were set.
func TestICMPView(t *testing.T) {
	f := echo4.Frame()
	h := wire.ICMP(f.From(34))
	h.SetType(wire.ICMPUnreachable)
	h.SetCode(wire.ICMPCodeTooBig)
	h.SetRest(1400)
	var p wire.Packet
	wire.Parse(&f, &p)
	wire.FillChecksum(&f, &p)
	wiretest.Check(t, f)
	g := wiretest.Decode(t, f).Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if g.TypeCode != layers.CreateICMPv4TypeCode(3, 4) || g.Id != 0 || g.Seq != 1400 || g.Checksum != h.Checksum() ||
		h.Type() != 3 || h.Code() != 4 || h.Rest() != 1400 {
		t.Errorf("gopacket reads %+v in %x", g, []byte(h))
	}
}

// TestIPv4ChecksumUpdates: each method that updates the header checksum gives the
// result of FillChecksum, for random headers.
func TestIPv4ChecksumUpdates(t *testing.T) {
	r := newRandom(t)
	changes := map[string]func(h wire.IPv4){
		"DecTTL":          func(h wire.IPv4) { h.DecTTL() },
		"ReplaceTOS":      func(h wire.IPv4) { h.ReplaceTOS(uint8(r.Uint32())) },
		"ReplaceTotalLen": func(h wire.IPv4) { h.ReplaceTotalLen(uint16(r.Uint32())) },
		"ReplaceSrc":      func(h wire.IPv4) { h.ReplaceSrc(wire.AddrFrom4(r.bytes(4))) },
		"ReplaceDst":      func(h wire.IPv4) { h.ReplaceDst(wire.AddrFrom4(r.bytes(4))) },
	}
	for name, change := range changes {
		for range 500 {
			desc := r.packet(wire.ProtoUDP, false, 0)
			desc.TTL = uint8(1 + r.IntN(255))
			f := desc.Frame()
			h := wire.IPv4(f.From(14))
			before := append([]byte(nil), h[:h.HeaderLen()]...)
			change(h)
			got := h.Checksum()
			h.FillChecksum()
			if got != h.Checksum() {
				t.Fatalf("%s of %x: checksum %#04x, want %#04x", name, before, got, h.Checksum())
			}
			if name == "DecTTL" && h.TTL() != desc.TTL-1 {
				t.Fatalf("DecTTL made %d of %d", h.TTL(), desc.TTL)
			}
		}
	}
}

// TestAddr: an IPv4 address is stored as mapped, prints as IPv4, and converts back.
func TestAddr(t *testing.T) {
	a := wire.AddrFrom4([]byte{192, 0, 2, 1})
	if !a.Is4() || a.As4() != [4]byte{192, 0, 2, 1} || a.String() != "192.0.2.1" || wire.AddrFrom(a.Netip()) != a {
		t.Errorf("192.0.2.1 became %v, %v", a, a.As4())
	}
	b := addr(1)
	if b.Is4() || b.String() != "2001:db8::1" || wire.AddrFrom(b.Netip()) != b || wire.Addr(b[:]) != b {
		t.Errorf("2001:db8::1 became %v", b)
	}
	if !(wire.Addr{}).IsZero() || a.IsZero() || !(wire.MAC{}).IsZero() || wiretest.ClientMAC.IsGroup() ||
		!(wire.MAC{1}).IsGroup() {
		t.Error("IsZero or IsGroup is wrong")
	}
}
