package wire_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// tunnels are the encapsulations of these tests. headers returns the protocol number
// and the bytes between the outer IP header and the inner one.
var tunnels = []struct {
	name    string
	ipv6    bool
	headers func(inner6 bool) (proto uint8, header []byte)
}{
	{"none", false, nil},
	{"ipip over IPv4", false, ipip},
	{"ipip over IPv6", true, ipip},
	{"GUE with checksum over IPv4", false, gue(1)},
	{"GUE without checksum over IPv4", false, gue(0)},
	{"GUE over IPv6", true, gue(1)},
	{"GRE with checksum over IPv4", false, gre},
	{"GRE with checksum over IPv6", true, gre},
}

const guePort = 0x17c0

func ipip(inner6 bool) (uint8, []byte) {
	if inner6 {
		return wire.ProtoIPv6, nil
	}
	return wire.ProtoIPIP, nil
}

func gue(checksum byte) func(bool) (uint8, []byte) {
	return func(inner6 bool) (uint8, []byte) {
		proto, _ := ipip(inner6)
		return wire.ProtoUDP, []byte{0xc0, 0, 0x17, 0xc0, 0, 0, 0, checksum, 0, proto, 0, 0}
	}
}

func gre(inner6 bool) (uint8, []byte) {
	if inner6 {
		return wire.ProtoGRE, []byte{0x80, 0, 0x86, 0xdd, 0, 0, 0, 0}
	}
	return wire.ProtoGRE, []byte{0x80, 0, 8, 0, 0, 0, 0, 0}
}

// encap puts f into the tunnel tunnels[kind], as the director does. It leaves the
// lengths and checksums of a GSO frame to the splitter.
func encap(f *wire.Frame, kind int) {
	tun := &tunnels[kind]
	if tun.headers == nil {
		return
	}
	var p wire.Packet
	wire.Parse(f, &p)
	if !f.IsGSO() {
		wire.FinishChecksum(f)
	}
	proto, headers := tun.headers(p.IPv6)
	desc := wiretest.Packet{Src: "192.0.2.1", Dst: "192.0.2.2", Proto: 253, ID: 777}
	if tun.ipv6 {
		desc.Src, desc.Dst = "2001:db8:ffff::1", "2001:db8:ffff::2"
	}
	desc.Payload = append(headers, f.Bytes()[p.L3:]...)
	whole := desc.Frame()
	q := wire.Packet{
		L3: p.L3, L4: p.L3 + wire.IPv4Len, Proto: proto, IPv6: tun.ipv6,
		Len: uint32(whole.Len()) - uint32(p.L3),
	}
	if tun.ipv6 {
		q.L4 = p.L3 + wire.IPv6Len
	}
	if ip := whole.From(q.L3); tun.ipv6 {
		wire.IPv6(ip).SetNextHeader(proto)
	} else {
		wire.IPv4(ip).SetProtocol(proto)
		wire.IPv4(ip).FillChecksum()
	}
	if t := whole.From(q.L4); proto == wire.ProtoUDP && !f.IsGSO() {
		wire.UDP(t).SetLen(uint16(len(t)))
		if wire.UDP(t).Checksum() != 0 {
			wire.FillChecksum(&whole, &q)
		}
	} else if proto == wire.ProtoGRE && !f.IsGSO() {
		binary.BigEndian.PutUint16(t[4:], ^wire.Fold(wire.Sum(t, 0)))
	}
	switch {
	case proto == wire.ProtoUDP && wire.UDP(headers).Checksum() != 0:
		whole.TunnelCsum = wire.UDPChecksum
	case proto == wire.ProtoGRE:
		whole.TunnelCsum = 4
	}
	whole.Offload, whole.TunnelLen = f.Offload, uint8(int(q.L4-q.L3)+len(headers))
	whole.Offload.CsumStart += uint16(whole.TunnelLen)
	*f = whole
}

// decap returns a copy of f without the tunnel's headers, outer bytes long.
func decap(f wire.Frame, outer int, inner6 bool) wire.Frame {
	l3 := wire.EthernetLen
	b := append([]byte(nil), f.Bytes()[:l3]...)
	if outer > 0 {
		binary.BigEndian.PutUint16(b[l3-2:], wire.EtherTypeIPv4)
		if inner6 {
			binary.BigEndian.PutUint16(b[l3-2:], wire.EtherTypeIPv6)
		}
	}
	return wiretest.Frame(append(b, f.Bytes()[l3+outer:]...))
}

// random makes random frames. A failed test logs its seed.
type random struct{ *rand.Rand }

func newRandom(t testing.TB) random {
	seed := uint64(time.Now().UnixNano())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	return random{rand.New(rand.NewPCG(seed, 0))}
}

func (r random) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func (r random) coin() bool { return r.IntN(2) == 0 }

// packet describes a packet with n bytes of random payload.
func (r random) packet(proto uint8, ipv6 bool, n int) wiretest.Packet {
	p := wiretest.Packet{
		Src: fmt.Sprintf("10.1.2.3:%d", 1+r.IntN(65535)), Dst: fmt.Sprintf("10.4.5.6:%d", 1+r.IntN(65535)),
		Proto: proto, ID: uint16(r.Uint32()), Seq: r.Uint32(), Ack: r.Uint32(), TOS: uint8(r.Uint32()),
		Payload: r.bytes(n),
	}
	if ipv6 {
		p.Src, p.Dst = fmt.Sprintf("[2001:db8::1]:%d", 1+r.IntN(65535)),
			fmt.Sprintf("[2001:db8::2]:%d", 1+r.IntN(65535))
	} else if r.coin() {
		p.Options = []byte{1, 0x82, 3, 4, 7, 7, 4, 0, 0, 0, 0, 0} // NOP, security (copied), record route (not)
	}
	if r.coin() {
		p.TCPOptions = []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	}
	return p
}

// split calls Split, which must succeed, and checks every frame that it returns.
func split(t *testing.T, s *wire.Splitter, f *wire.Frame) []wire.Frame {
	t.Helper()
	parts, ok := s.Split(f)
	if !ok {
		t.Fatalf("cannot split a frame of %d bytes to MTU %d, outer %d, %+v", f.Len(), f.MTU, f.TunnelLen, f.Offload)
	}
	for i, part := range parts {
		wiretest.Check(t, part)
		if n := part.Len() - wire.EthernetLen; n > int(f.MTU) {
			t.Errorf("part %d is an IP packet of %d bytes, longer than the MTU %d", i, n, f.MTU)
		}
		if u, ok := wiretest.Decode(t, part).TransportLayer().(*layers.UDP); ok && f.TunnelLen > 0 &&
			u.DstPort == guePort {
			bare := wire.UDP(f.Bytes()[int(f.TunnelLen)+wire.EthernetLen-12:]).Checksum() == 0
			if bare != (u.Checksum == 0) {
				t.Errorf("part %d has the outer UDP checksum %#04x; the frame had none: %v", i, u.Checksum, bare)
			}
		}
		if part.Out != f.Out || part.Headroom() < wire.Headroom || part.Offload != (wire.Offload{}) {
			t.Errorf("part %d has Out %d (want %d), %d bytes of headroom, %+v", i, part.Out, f.Out, part.Headroom(),
				part.Offload)
		}
	}
	return parts
}

// TestSegmentTCP: the segments of a random GSO frame, taken out of their tunnel,
// carry its payload in order, with increasing sequence numbers. Every flag is in
// the segments that must have it.
func TestSegmentTCP(t *testing.T) {
	r, s := newRandom(t), wire.NewSplitter()
	for range 300 {
		s.Reset()
		kind, inner6 := r.IntN(len(tunnels)), r.coin()
		desc := r.packet(wire.ProtoTCP, inner6, 1+r.IntN(20000))
		desc.TCPFlags = wire.TCPAck | uint8(r.IntN(256))&^wire.TCPSyn
		desc.GSOSize = uint16(100 + r.IntN(2000))
		f := desc.Frame()
		encap(&f, kind)
		f.Out, f.MTU = 3, uint16(400+r.IntN(2000))
		parts := split(t, s, &f)

		var got []byte
		for i, part := range parts {
			wiretest.Check(t, decap(part, int(f.TunnelLen), inner6))
			d := wiretest.Decode(t, decap(part, int(f.TunnelLen), inner6))
			tcp, ok := d.TransportLayer().(*layers.TCP)
			if !ok {
				t.Fatalf("%s: part %d is not TCP: %v", tunnels[kind].name, i, d)
			}
			if want := desc.Seq + uint32(len(got)); tcp.Seq != want {
				t.Errorf("segment %d has sequence number %d, want %d", i, tcp.Seq, want)
			}
			want := desc.TCPFlags
			if i < len(parts)-1 {
				want &^= wire.TCPFin | wire.TCPPsh
			}
			if i > 0 {
				want &^= wire.TCPCwr
			}
			if flags := tcp.Contents[13]; flags != want {
				t.Errorf("segment %d of %d has flags %#02x, want %#02x", i, len(parts), flags, want)
			}
			if ip, ok := d.NetworkLayer().(*layers.IPv4); ok && ip.Id != desc.ID+uint16(i) {
				t.Errorf("segment %d has id %d, want %d", i, ip.Id, desc.ID+uint16(i))
			}
			if len(tcp.Payload) > int(desc.GSOSize) {
				t.Errorf("segment %d has %d bytes, more than the GSO size %d", i, len(tcp.Payload), desc.GSOSize)
			}
			got = append(got, tcp.Payload...)
		}
		if !bytes.Equal(got, desc.Payload) {
			t.Fatalf("%s: %d segments carry %d bytes, want the %d sent, unchanged", tunnels[kind].name, len(parts),
				len(got), len(desc.Payload))
		}
	}
}

// TestSegmentUDP: the datagrams of a random UDP GSO frame keep their boundaries.
// Those longer than the MTU are fragmented.
func TestSegmentUDP(t *testing.T) {
	r, s := newRandom(t), wire.NewSplitter()
	for range 300 {
		s.Reset()
		kind, inner6 := r.IntN(len(tunnels)), r.coin()
		size := 100 + r.IntN(1300)
		desc := r.packet(wire.ProtoUDP, inner6, 1+r.IntN(20000))
		desc.GSOSize = uint16(size)
		f := desc.Frame()
		encap(&f, kind)
		f.MTU = uint16(700 + r.IntN(1000))
		if f.TunnelLen == 0 && inner6 {
			f.MTU = 1500 // routers do not fragment IPv6
		}
		var got [][]byte
		for _, whole := range reassemble(t, split(t, s, &f)) {
			d := wiretest.Decode(t, decap(whole, int(f.TunnelLen), inner6))
			wiretest.Check(t, decap(whole, int(f.TunnelLen), inner6))
			got = append(got, d.TransportLayer().LayerPayload())
		}
		for i, payload := range got {
			if want := desc.Payload[i*size : min((i+1)*size, len(desc.Payload))]; !bytes.Equal(payload, want) {
				t.Fatalf("%s: datagram %d has %d bytes, want %d, as sent", tunnels[kind].name, i, len(payload),
					len(want))
			}
		}
		if want := (len(desc.Payload) + size - 1) / size; len(got) != want {
			t.Fatalf("%s: %d datagrams, want %d", tunnels[kind].name, len(got), want)
		}
	}
}

// TestSplitJumbo: the segments of a GSO frame of more than 64 KiB do not have its
// jumbo payload option.
func TestSplitJumbo(t *testing.T) {
	r := newRandom(t)
	desc := r.packet(wire.ProtoTCP, true, 100_000)
	desc.Extension, desc.Extensions = wire.ProtoHopByHop, []byte{wire.ProtoTCP, 0, 0xc2, 4, 0, 1, 0x86, 0xb4}
	desc.GSOSize = 1400
	for kind := range 3 {
		f := desc.Frame()
		encap(&f, kind)
		f.MTU = 1500
		var got []byte
		for _, part := range split(t, wire.NewSplitter(), &f) {
			d := wiretest.Decode(t, decap(part, int(f.TunnelLen), true))
			if d.Layer(layers.LayerTypeIPv6HopByHop) != nil {
				t.Fatal("a segment has a hop-by-hop header, want none")
			}
			got = append(got, d.TransportLayer().LayerPayload()...)
		}
		if !bytes.Equal(got, desc.Payload) {
			t.Fatalf("%s: segments carry %d bytes, want the %d sent, unchanged", tunnels[kind].name, len(got),
				len(desc.Payload))
		}
	}
}

// TestSplitReturnsFittingFrame: Split returns the frame itself if it fits, or if its
// MTU is 0.
func TestSplitReturnsFittingFrame(t *testing.T) {
	for _, mtu := range []uint16{0, 140, 1500} {
		f := wiretest.Packet{
			Src: "10.0.0.1:1", Dst: "10.0.0.2:2", Payload: make([]byte, 100), DF: true,
			PartialChecksum: true,
		}.Frame()
		f.MTU = mtu
		parts, ok := wire.NewSplitter().Split(&f)
		if !ok || len(parts) != 1 || &parts[0].Bytes()[0] != &f.Bytes()[0] || parts[0].Offload != f.Offload {
			t.Errorf("MTU %d: %d parts, %v; want the frame itself", mtu, len(parts), ok)
		}
	}
}

// TestSplitRefuses: Split refuses frames that must not or cannot be split, and then
// keeps no memory in use.
func TestSplitRefuses(t *testing.T) {
	big := make([]byte, 2000)
	cut := func(f wire.Frame, n int32) wire.Frame { f.End = f.Off + n; return f }
	for _, row := range []struct {
		name string
		f    wire.Frame
		mtu  uint16
	}{
		{
			"an IPv4 packet with DF",
			wiretest.Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", DF: true, Payload: big}.Frame(), 1500,
		},
		{
			"an IPv6 packet, routers never fragment",
			wiretest.Packet{Src: "[::1]:1", Dst: "[::2]:2", Payload: big}.Frame(), 1500,
		},
		{
			"an MTU without room for eight bytes",
			wiretest.Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", Payload: big}.Frame(), 27,
		},
		{
			"a GSO frame to an MTU without room for a byte",
			wiretest.Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", Payload: big, GSOSize: 500}.Frame(), 40,
		},
		{
			"datagrams over IPv6 longer than the MTU",
			wiretest.Packet{Src: "[::1]:1", Dst: "[::2]:2", Proto: wire.ProtoUDP, Payload: big, GSOSize: 1500}.Frame(),
			1500,
		},
		{
			"a frame that ends in its Ethernet header",
			cut(wiretest.Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", Payload: big}.Frame(), 13), 10,
		},
		{
			"a frame that ends in its TCP header",
			cut(wiretest.Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", GSOSize: 9}.Frame(), 50), 1500,
		},
		{"more parts than a splitter has", wiretest.Packet{
			Src: "10.0.0.1:1", Dst: "10.0.0.2:2",
			Payload: make([]byte, 4000), GSOSize: 1,
		}.Frame(), 1500},
	} {
		s := wire.NewSplitter()
		row.f.MTU = row.mtu
		if parts, ok := s.Split(&row.f); ok || parts != nil {
			t.Errorf("%s: split into %d parts, want a refusal", row.name, len(parts))
		}
		if used := s.Used(); used != 0 {
			t.Errorf("%s: %d bytes stay in use after a refusal", row.name, used)
		}
	}
}

// TestSplitUntilFull: later calls of Split leave the results of earlier ones intact.
// A full splitter returns false, and Reset frees its memory.
func TestSplitUntilFull(t *testing.T) {
	s, payload := wire.NewSplitter(), newRandom(t).bytes(60_000)
	desc := wiretest.Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", Payload: payload, GSOSize: 1400}
	var first []wire.Frame
	for n := 0; ; n++ {
		f := desc.Frame()
		f.MTU = 1500
		parts, ok := s.Split(&f)
		if !ok {
			if n < 2 {
				t.Fatalf("full after %d frames", n)
			}
			break
		}
		if n == 0 {
			first = append(first, parts...)
		}
	}
	for _, part := range first {
		wiretest.Check(t, part)
	}
	s.Reset()
	f := desc.Frame()
	f.MTU = 1500
	split(t, s, &f)
}

// TestSplitDoesNotAllocate: Split does not allocate.
func TestSplitDoesNotAllocate(t *testing.T) {
	s := wire.NewSplitter()
	gso := wiretest.Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", Payload: make([]byte, 60000), GSOSize: 1400}.Frame()
	encap(&gso, 1)
	long := wiretest.Packet{Src: "[::1]:1", Dst: "[::2]:2", Payload: make([]byte, 1440)}.Frame()
	encap(&long, 2)
	gso.MTU, long.MTU = 1500, 1500
	if n := testing.AllocsPerRun(50, func() {
		s.Reset()
		s.Split(&gso)
		s.Split(&long)
	}); n != 0 {
		t.Errorf("%v allocations per run, want 0", n)
	}
}

// BenchmarkSplit splits a 60 KB GSO frame in an IPIP tunnel for an MTU of 1500.
func BenchmarkSplit(b *testing.B) {
	s := wire.NewSplitter()
	f := wiretest.Packet{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", Payload: make([]byte, 60000), GSOSize: 1400}.Frame()
	encap(&f, 1)
	f.MTU = 1500
	b.SetBytes(60000)
	for b.Loop() {
		s.Reset()
		s.Split(&f)
	}
}
