package wire_test

import (
	"bytes"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// rewrite changes the addresses and ports of f to those of another frame, as NAT
// does, and applies the ChecksumDelta.
func rewrite(f *wire.Frame, to wire.Frame) {
	var p, q wire.Packet
	wire.Parse(f, &p)
	wire.Parse(&to, &q)
	delta := wire.ChecksumDelta{}.Addr(p.Src, q.Src).Addr(p.Dst, q.Dst)
	if h := f.From(p.L3); p.IPv6 {
		wire.IPv6(h).SetSrc(q.Src)
		wire.IPv6(h).SetDst(q.Dst)
	} else {
		wire.IPv4(h).ReplaceSrc(q.Src)
		wire.IPv4(h).ReplaceDst(q.Dst)
	}
	if p.SrcPort != 0 {
		delta = delta.Port(p.SrcPort, q.SrcPort).Port(p.DstPort, q.DstPort)
		h := wire.UDP(f.From(p.L4))
		h.SetSrcPort(q.SrcPort)
		h.SetDstPort(q.DstPort)
	}
	delta.Apply(f, &p)
}

// deltaKinds are the kinds of packets whose checksums cover different bytes.
var deltaKinds = []struct {
	name   string
	change func(*wiretest.Packet)
	ipv6   bool // also sent over IPv6
}{
	{"TCP", func(p *wiretest.Packet) {}, true},
	{"TCP with a partial checksum", func(p *wiretest.Packet) { p.PartialChecksum = true }, true},
	{"TCP GSO frame", func(p *wiretest.Packet) { p.GSOSize = 100 }, true},
	{"UDP", func(p *wiretest.Packet) { p.Proto = wire.ProtoUDP }, true},
	{
		"UDP with a partial checksum", func(p *wiretest.Packet) { p.Proto, p.PartialChecksum = wire.ProtoUDP, true },
		true,
	},
	{"SCTP", func(p *wiretest.Packet) { p.Proto = wire.ProtoSCTP }, true},
	{"ICMP", func(p *wiretest.Packet) { p.Proto = wire.ProtoICMP }, false},
	{"first fragment of UDP", func(p *wiretest.Packet) { p.Proto, p.MF = wire.ProtoUDP, true }, false},
	{
		"first fragment of UDP without checksum",
		func(p *wiretest.Packet) { p.Proto, p.MF, p.NoChecksum = wire.ProtoUDP, true, true }, false,
	},
	{"later fragment", func(p *wiretest.Packet) { p.Proto, p.Offset = wire.ProtoUDP, 1480 }, false},
	{"a protocol without checksum", func(p *wiretest.Packet) { p.Proto = 253 }, true},
	{"VLAN", func(p *wiretest.Packet) { p.VLANs = []uint16{1, 2} }, true},
}

// TestChecksumDelta: a rewritten frame is, byte for byte, the frame that the new
// endpoints would have sent.
func TestChecksumDelta(t *testing.T) {
	r := newRandom(t)
	for _, kind := range deltaKinds {
		t.Run(kind.name, func(t *testing.T) {
			for range 300 {
				ipv6 := kind.ipv6 && r.coin()
				old := r.packet(wire.ProtoTCP, ipv6, r.IntN(200))
				kind.change(&old)
				new := old
				ends := r.packet(old.Proto, ipv6, 0)
				new.Src, new.Dst = ends.Src, ends.Dst
				f, want := old.Frame(), new.Frame()
				rewrite(&f, want)
				if !bytes.Equal(f.Bytes(), want.Bytes()) || f.Offload != want.Offload {
					t.Fatalf("%s > %s to %s > %s gave\n%x %+v\nwant\n%x %+v",
						old.Src, old.Dst, new.Src, new.Dst, f.Bytes(), f.Offload, want.Bytes(), want.Offload)
				}
			}
		})
	}
}

// TestChecksumDeltaICMPv6: the checksum of ICMPv6 covers the addresses.
func TestChecksumDeltaICMPv6(t *testing.T) {
	old, new := echo6, echo6
	new.Src, new.Dst = "2001:db8::77", "2001:db8::88"
	f, want := old.Frame(), new.Frame()
	rewrite(&f, want)
	if !bytes.Equal(f.Bytes(), want.Bytes()) {
		t.Errorf("rewritten to\n%x\nwant\n%x", f.Bytes(), want.Bytes())
	}
}

// TestChecksumDeltaUDPWithoutChecksum: NAT gives UDP the checksum that its sender left
// out, as IPVS does.
func TestChecksumDeltaUDPWithoutChecksum(t *testing.T) {
	old, new := udp4, udp4
	new.Src, old.NoChecksum = "10.9.9.9:99", true
	f, want := old.Frame(), new.Frame()
	rewrite(&f, want)
	if !bytes.Equal(f.Bytes(), want.Bytes()) {
		t.Errorf("rewritten to\n%x\nwant\n%x", f.Bytes(), want.Bytes())
	}
}

// zeroChecksum describes a UDP packet whose computed checksum is 0. Its payload is
// the checksum that the packet has with a payload of zeros.
func zeroChecksum() wiretest.Packet {
	p := udp4
	p.Payload = []byte{0, 0}
	f := p.Frame()
	check := wire.UDP(f.Bytes()[34:]).Checksum()
	p.Payload = []byte{byte(check >> 8), byte(check)}
	return p
}

// TestUDPComputedZero: a UDP checksum whose value is 0 is sent as 0xffff, whichever
// function computed it.
func TestUDPComputedZero(t *testing.T) {
	zero := zeroChecksum()
	other, bare, partial := zero, zero, zero
	other.Src, bare.NoChecksum, partial.PartialChecksum = "10.9.9.9:99", true, true
	var p wire.Packet
	for _, row := range []struct {
		name string
		make func() wire.Frame
	}{
		{"by difference", func() wire.Frame { f := other.Frame(); rewrite(&f, zero.Frame()); return f }},
		{"by no difference", func() wire.Frame { f := zero.Frame(); rewrite(&f, zero.Frame()); return f }},
		{"from nothing", func() wire.Frame { f := bare.Frame(); rewrite(&f, zero.Frame()); return f }},
		{"by finishing", func() wire.Frame { f := partial.Frame(); wire.FinishChecksum(&f); return f }},
		{
			"by filling",
			func() wire.Frame { f := bare.Frame(); wire.Parse(&f, &p); wire.FillChecksum(&f, &p); return f },
		},
	} {
		f := row.make()
		if got := wire.UDP(f.Bytes()[34:]).Checksum(); got != 0xffff {
			t.Errorf("%s: checksum is %#04x, want 0xffff", row.name, got)
		}
		wiretest.Check(t, f)
	}
}

// TestChecksumDeltaKeepsWrong: a wrong checksum is still wrong after the rewrite.
func TestChecksumDeltaKeepsWrong(t *testing.T) {
	for _, desc := range []wiretest.Packet{tcp4, tcp6, udp4, udp6} {
		f := desc.Frame()
		f.Bytes()[f.Len()-1] ^= 0x10
		to := desc
		to.Dst = desc.Src
		rewrite(&f, to.Frame())
		var p wire.Packet
		wire.Parse(&f, &p)
		if wire.VerifyChecksum(&f, &p) {
			t.Errorf("%s > %s: the checksum of a changed payload became right", desc.Src, desc.Dst)
		}
	}
}

// TestChecksumDeltaOfOuterHeader: a partial checksum of the inner packet does not
// concern the tunnel's UDP header.
func TestChecksumDeltaOfOuterHeader(t *testing.T) {
	f := tcp4.Frame()
	encap(&f, 4)
	f.Offload = wire.Offload{Flags: wire.OffloadNeedsCsum, CsumStart: 14 + 32 + 20, CsumOffset: 16}
	other := wiretest.Packet{Src: "10.7.7.7:7", Dst: "10.8.8.8:8", Proto: wire.ProtoUDP}
	rewrite(&f, other.Frame())
	var p wire.Packet
	wire.Parse(&f, &p)
	if p.Proto != wire.ProtoUDP || p.SrcPort != 7 {
		t.Fatalf("not rewritten: %+v", p)
	}
	f.Offload = wire.Offload{}
	wiretest.Check(t, f)
}

// TestVerifyBeforeTrailer: a checksum does not cover bytes behind the packet.
func TestVerifyBeforeTrailer(t *testing.T) {
	f := padded(tcp6.Frame(), 3)
	var p wire.Packet
	if flaw := wire.ParseIPAt(&f, wire.EthernetLen, &p, wire.Whole); flaw != wire.FlawNone {
		t.Fatalf("flaw %d", flaw)
	}
	if !wire.VerifyChecksum(&f, &p) {
		t.Error("a right checksum, with bytes behind the packet, is called wrong")
	}
}

// TestChecksumDeltaSCTPPorts: two ports that swap places do not change a sum, but
// they change a CRC. If no port changes, even a wrong CRC stays as it is.
func TestChecksumDeltaSCTPPorts(t *testing.T) {
	swapped := sctp4
	swapped.Src, swapped.Dst = "10.0.0.1:2", "10.0.0.2:1"
	f, want := sctp4.Frame(), swapped.Frame()
	rewrite(&f, want)
	if !bytes.Equal(f.Bytes(), want.Bytes()) {
		t.Errorf("swapped ports gave\n%x\nwant\n%x", f.Bytes(), want.Bytes())
	}
	f = editBytes(sctp4, func(b []byte) { b[42] ^= 1 })
	want = editBytes(sctp4, func(b []byte) { b[42] ^= 1 })
	rewrite(&f, want)
	if !bytes.Equal(f.Bytes(), want.Bytes()) {
		t.Errorf("a wrong CRC without a port change became\n%x\nwant\n%x", f.Bytes(), want.Bytes())
	}
}

// TestFinishChecksum: a frame with a completed checksum is the one that a sender
// without offload would have sent.
func TestFinishChecksum(t *testing.T) {
	r := newRandom(t)
	for range 500 {
		proto := []uint8{wire.ProtoTCP, wire.ProtoUDP}[r.IntN(2)]
		desc := r.packet(proto, r.coin(), r.IntN(300))
		if r.coin() {
			desc.VLANs = []uint16{7}
		}
		want := desc.Frame()
		desc.PartialChecksum = true
		f := desc.Frame()
		wire.FinishChecksum(&f)
		if !bytes.Equal(f.Bytes(), want.Bytes()) || f.ChecksumPartial() {
			t.Fatalf("finished\n%x partial %v\nwant\n%x", f.Bytes(), f.ChecksumPartial(), want.Bytes())
		}
	}
}

// TestFinishChecksumSCTP: FinishChecksum computes the CRC of SCTP.
func TestFinishChecksumSCTP(t *testing.T) {
	want := sctp4.Frame()
	f := editBytes(sctp4, func(b []byte) { copy(b[42:46], make([]byte, 4)) })
	f.Offload = wire.Offload{Flags: wire.OffloadNeedsCsum, CsumStart: 34, CsumOffset: 8}
	wire.FinishChecksum(&f)
	if !bytes.Equal(f.Bytes(), want.Bytes()) || f.ChecksumPartial() {
		t.Errorf("finished\n%x\nwant\n%x", f.Bytes(), want.Bytes())
	}
}

// TestChecksumDeltaSCTPPartial: a rewrite of a port completes a CRC that was left to
// the device.
func TestChecksumDeltaSCTPPartial(t *testing.T) {
	other := sctp4
	other.Dst = "10.0.0.9:99"
	f, want := sctp4.Frame(), other.Frame()
	f.Offload = wire.Offload{Flags: wire.OffloadNeedsCsum, CsumStart: 34, CsumOffset: wire.SCTPChecksum}
	rewrite(&f, want)
	if !bytes.Equal(f.Bytes(), want.Bytes()) || f.ChecksumPartial() {
		t.Errorf("rewritten to\n%x, partial %v; want complete\n%x", f.Bytes(), f.ChecksumPartial(), want.Bytes())
	}
}

// TestFinishChecksumAnywhere: offsets that point outside of the frame do no harm.
func TestFinishChecksumAnywhere(t *testing.T) {
	for _, o := range []wire.Offload{
		{Flags: wire.OffloadNeedsCsum, CsumStart: 0xffff},
		{Flags: wire.OffloadNeedsCsum, CsumStart: 55, CsumOffset: 0},
		{Flags: wire.OffloadNeedsCsum, CsumStart: 34, CsumOffset: 0xffff},
		{Flags: wire.OffloadNeedsCsum, CsumStart: 50, CsumOffset: 8},
		{Flags: wire.OffloadDataValid, CsumStart: 34, CsumOffset: 16},
	} {
		f := tcp4.Frame()
		f.Offload = o
		want := append([]byte(nil), f.Bytes()...)
		wire.FinishChecksum(&f)
		if !bytes.Equal(f.Bytes(), want) {
			t.Errorf("%+v changed the frame", o)
		}
	}
}

// TestFillChecksum: the checksum is right afterwards, whatever the field held
// before. A partial checksum stays partial.
func TestFillChecksum(t *testing.T) {
	r := newRandom(t)
	for range 500 {
		proto := []uint8{wire.ProtoTCP, wire.ProtoUDP, wire.ProtoSCTP}[r.IntN(3)]
		desc := r.packet(proto, r.coin(), r.IntN(300))
		desc.PartialChecksum = r.coin() && proto != wire.ProtoSCTP
		f, want := desc.Frame(), desc.Frame()
		var p wire.Packet
		wire.Parse(&f, &p)
		at := int(p.L4) + map[uint8]int{wire.ProtoTCP: 16, wire.ProtoUDP: 6, wire.ProtoSCTP: 8}[proto]
		copy(f.Bytes()[at:], r.bytes(2))
		wire.FillChecksum(&f, &p)
		if !bytes.Equal(f.Bytes(), want.Bytes()) || f.Offload != want.Offload {
			t.Fatalf("filled\n%x\nwant\n%x", f.Bytes(), want.Bytes())
		}
	}
}

// TestVerifyChecksum: one flipped bit makes a checksum wrong. Padding does not, nor
// the absence of a checksum.
func TestVerifyChecksum(t *testing.T) {
	with := func(p wiretest.Packet, how func(*wiretest.Packet)) wire.Frame { return change(p, how) }
	flip := func(p wiretest.Packet) wire.Frame { return editBytes(p, func(b []byte) { b[len(b)-1] ^= 1 }) }
	for _, row := range []struct {
		name string
		f    wire.Frame
		want bool
	}{
		{"TCP over IPv4", tcp4.Frame(), true},
		{"TCP over IPv4, one bit wrong", flip(tcp4), false},
		{"UDP over IPv6", udp6.Frame(), true},
		{"UDP over IPv6, one bit wrong", flip(udp6), false},
		{"UDP over IPv4 without checksum", with(udp4, func(p *wiretest.Packet) { p.NoChecksum = true }), true},
		{"UDP over IPv6 without checksum", with(udp6, func(p *wiretest.Packet) { p.NoChecksum = true }), false},
		{"UDP padded", padded(udp4.Frame(), 9), true},
		{"UDP that ends before its IP packet", udpWithTrailer(), true},
		{"partial", with(tcp4, func(p *wiretest.Packet) { p.PartialChecksum = true }), true},
		{"SCTP", sctp4.Frame(), true},
		{"SCTP, one bit wrong", flip(sctp4), false},
		{"ICMP error", icmpError(wire.ICMPUnreachable, tcp4.Frame(), 28), true},
		{"ICMP echo, one bit wrong", flip(echo4), false},
		{"ICMPv6 error", icmpError(wire.ICMPv6TooBig, tcp6.Frame(), 48), true},
		{"ICMPv6 echo, one bit wrong", flip(echo6), false},
		{"a fragment", third4.Frame(), true},
		{"a protocol without checksum", with(udp4, func(p *wiretest.Packet) { p.Proto = 253 }), true},
	} {
		var p wire.Packet
		wire.Parse(&row.f, &p)
		if p.Kind != wire.KindIP {
			t.Errorf("%s: kind %d, flaw %d", row.name, p.Kind, p.Flaw)
		}
		if got := wire.VerifyChecksum(&row.f, &p); got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}

// udpWithTrailer is UDP in an IP packet that is four bytes longer.
func udpWithTrailer() wire.Frame {
	f := padded(udp4.Frame(), 4)
	wire.IPv4(f.Bytes()[14:]).ReplaceTotalLen(37)
	return f
}

// TestChecksumsDoNotAllocate: none of the functions allocates.
func TestChecksumsDoNotAllocate(t *testing.T) {
	bare := change(udp4, func(p *wiretest.Packet) { p.NoChecksum = true })
	frames := []wire.Frame{
		tcp4.Frame(), bare, sctp4.Frame(), echo6.Frame(),
		change(tcp6, func(p *wiretest.Packet) { p.PartialChecksum = true }),
	}
	packets := make([]wire.Packet, len(frames))
	for i := range frames {
		wire.Parse(&frames[i], &packets[i])
	}
	port := uint16(0)
	if n := testing.AllocsPerRun(100, func() {
		for i := range frames {
			port++
			wire.ChecksumDelta{}.Addr(packets[i].Src, packets[i].Dst).Port(port, port+1).Apply(&frames[i], &packets[i])
			wire.VerifyChecksum(&frames[i], &packets[i])
			wire.FinishChecksum(&frames[i])
		}
	}); n != 0 {
		t.Errorf("%v allocations per run, want 0", n)
	}
}

// BenchmarkChecksumDelta measures the checksum work of NAT in one direction.
func BenchmarkChecksumDelta(b *testing.B) {
	f := tcp4.Frame()
	var p wire.Packet
	wire.Parse(&f, &p)
	for b.Loop() {
		wire.ChecksumDelta{}.Addr(p.Dst, p.Src).Port(p.DstPort, p.SrcPort).Apply(&f, &p)
	}
}
