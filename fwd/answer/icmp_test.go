package answer_test

import (
	"fmt"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/answer"
	"uvs/fwd/fwdtest"
)

// wantReply compares a reply with the frame that is expected. It must go where the
// request came from and leave nothing for the link to do.
func wantReply(t *testing.T, got, want wire.Frame) {
	t.Helper()
	fwdtest.WantFrame(t, got, want)
	if got.Out != got.In || got.MTU != 0 || got.TunnelLen != 0 {
		t.Errorf("answer leaves by %d with MTU %d and TunnelLen %d, want port %d and nothing to do", got.Out, got.MTU,
			got.TunnelLen, got.In)
	}
}

// replyTo gives a reply the addresses of the link that a frame of wiretest came from.
func replyTo(p wiretest.Packet, vlans []uint16) wiretest.Packet {
	p.SrcMAC, p.DstMAC, p.VLANs = wiretest.DirectorMAC, wiretest.ClientMAC, vlans
	return p
}

// TestICMPError: every kind of error about every packet, of the greatest length: 576 and
// 1280 bytes.
func TestICMPError(t *testing.T) {
	const mtu = 1400
	kinds := []struct {
		kind         answer.ErrorKind
		type4, code4 uint8
		type6, code6 uint8
		rest4, rest6 uint32
	}{
		{answer.TimeExceeded, 11, 0, 3, 0, 0, 0},
		{answer.TooBig, 3, 4, 2, 0, mtu, mtu},
		{answer.PortUnreachable, 3, 3, 1, 4, 0, 0},
		{answer.HostUnreachable, 3, 1, 1, 3, 0, 0},
	}
	for _, k := range kinds {
		for i, family := range fwdtest.Families {
			for _, tr := range fwdtest.Transports {
				for _, e := range fwdtest.Envelopes {
					in := tr.In
					in.Src, in.Dst, in.TTL = family.Client, family.VIP, 1
					if i == 1 && in.MF {
						continue
					}
					e.Wrap(&in, i == 1)
					want := replyTo(wiretest.Packet{
						Src: fwdtest.Host(family.VIP), Dst: fwdtest.Host(family.Client), Proto: wire.ProtoICMP,
						TOS: 0xc0, DF: true,
						ICMPType: k.type4, ICMPCode: k.code4, ICMPRest: k.rest4,
						Payload: wiretest.Quote(in.Frame(), 576-28),
					}, in.VLANs)
					if i == 1 {
						want.Proto, want.TOS = wire.ProtoICMPv6, 0
						want.ICMPType, want.ICMPCode, want.ICMPRest = k.type6, k.code6, k.rest6
						want.Payload = wiretest.Quote(in.Frame(), 1280-48)
					}
					t.Run(fmt.Sprint(k.kind, "/", family.Name, "/", tr.Name, "/", e.Name), func(t *testing.T) {
						f := in.Frame()
						f.In, f.MTU = 3, 1400
						if !answer.ICMPError(&f, fwdtest.Parse(t, &f), k.kind, fwdtest.Addr(family.VIP), mtu, 1500) {
							t.Fatal("refused")
						}
						wantReply(t, f, want.Frame())
					})
				}
			}
		}
	}
}

// TestICMPErrorShortLink: an error is not longer than the MTU of its link, nor shorter
// than the least MTU of any link.
func TestICMPErrorShortLink(t *testing.T) {
	for _, row := range []struct{ link, length int }{
		{1500, 576},
		{576, 576},
		{575, 575},
		{512, 512},
		{68, 68},
		{0, 68},
	} {
		in := wiretest.Packet{
			Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP,
			Payload: make([]byte, 1000),
		}
		f := in.Frame()
		if !answer.ICMPError(&f, fwdtest.Parse(t, &f), answer.TooBig, fwdtest.Addr(fwdtest.Families[0].VIP), 500,
			row.link) {
			t.Fatal("refused")
		}
		want := wiretest.Packet{
			Src: fwdtest.Host(fwdtest.Families[0].VIP), Dst: fwdtest.Host(fwdtest.Families[0].Client),
			Proto: wire.ProtoICMP, TOS: 0xc0, DF: true,
			ICMPType: 3, ICMPCode: 4, ICMPRest: 500, Payload: wiretest.Quote(in.Frame(), row.length-28),
		}
		wantReply(t, f, replyTo(want, nil).Frame())
	}
}

// TestICMPErrorNever: no error about what must not be answered by one (RFC 1812 section
// 4.3.2.7, RFC 4443 section 2.4 (e)); an echo request may be.
func TestICMPErrorNever(t *testing.T) {
	icmp := func(kind uint8) wiretest.Packet {
		return wiretest.Packet{
			Src: "198.51.100.7", Dst: "10.9.0.1", Proto: wire.ProtoICMP, ICMPType: kind,
			Payload: make([]byte, 28),
		}
	}
	icmp6 := func(kind uint8) wiretest.Packet {
		return wiretest.Packet{
			Src: "2001:db8::7", Dst: "2001:db8:9::1", Proto: wire.ProtoICMPv6, ICMPType: kind,
			Payload: make([]byte, 48),
		}
	}
	udp := func(src, dst string) wiretest.Packet {
		return wiretest.Packet{Src: src, Dst: dst, Proto: wire.ProtoUDP}
	}
	broadcast := udp("198.51.100.7:1", "10.9.0.1:2")
	broadcast.DstMAC = wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	multicast := udp("[2001:db8::7]:1", "[2001:db8:9::1]:2")
	multicast.DstMAC = wire.MAC{0x33, 0x33, 0, 0, 0, 1}
	later := udp("198.51.100.7:1", "10.9.0.1:2")
	later.Offset, later.Payload = 64, make([]byte, 20)

	tests := []struct {
		name string
		in   wiretest.Packet
	}{
		{"an unreachable", icmp(wire.ICMPUnreachable)},
		{"a source quench", icmp(wire.ICMPSourceQuench)},
		{"a redirect", icmp(wire.ICMPRedirect)},
		{"a time exceeded", icmp(wire.ICMPTimeExceeded)},
		{"a parameter problem", icmp(wire.ICMPParameter)},
		{"an ICMPv6 unreachable", icmp6(wire.ICMPv6Unreachable)},
		{"an ICMPv6 packet too big", icmp6(wire.ICMPv6TooBig)},
		{"an unknown ICMPv6 error", icmp6(100)},
		{"an ICMPv6 redirect", icmp6(137)},
		{"a later fragment", later},
		{"a packet to a broadcast MAC address", broadcast},
		{"a packet to a multicast MAC address", multicast},
		{"a packet to everyone", udp("198.51.100.7:1", "255.255.255.255:2")},
		{"a packet to a group", udp("198.51.100.7:1", "224.0.0.18:2")},
		{"an IPv6 packet to a group", udp("[2001:db8::7]:1", "[ff02::1]:2")},
		{"a packet without source", udp("0.0.0.0:1", "10.9.0.1:2")},
		{"an IPv6 packet without source", udp("[::]:1", "[2001:db8:9::1]:2")},
		{"a packet from a group", udp("239.1.2.3:1", "10.9.0.1:2")},
		{"an IPv6 packet from a group", udp("[ff05::2]:1", "[2001:db8:9::1]:2")},
		{"a packet from everyone", udp("255.255.255.255:1", "10.9.0.1:2")},
		{"a packet from the reserved block", udp("240.0.0.1:1", "10.9.0.1:2")},
		{"a packet from the loopback", udp("127.0.0.1:1", "10.9.0.1:2")},
		{"an IPv6 packet from the loopback", udp("[::1]:1", "[2001:db8:9::1]:2")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := tt.in.Frame()
			p := fwdtest.Parse(t, &f)
			self := fwdtest.Addr("10.9.0.1")
			if p.IPv6 {
				self = fwdtest.Addr("2001:db8:9::1")
			}
			fwdtest.WantUntouched(t, f, func(f *wire.Frame) bool {
				return answer.ICMPError(f, p, answer.PortUnreachable, self, 0, 1500)
			})
		})
	}
	for _, in := range []wiretest.Packet{icmp(wire.ICMPEcho), icmp6(wire.ICMPv6Echo)} {
		f := in.Frame()
		if !answer.ICMPError(&f, fwdtest.Parse(t, &f), answer.TimeExceeded, fwdtest.Addr(in.Dst), 0, 1500) {
			t.Errorf("an echo request from %s may be answered with an error", in.Src)
		}
		wiretest.Check(t, f)
	}
}

// TestICMPErrorImpossible: no error from the other family, none without room.
func TestICMPErrorImpossible(t *testing.T) {
	f := wiretest.Packet{Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP}.Frame()
	p := fwdtest.Parse(t, &f)
	fwdtest.WantUntouched(t, f, func(f *wire.Frame) bool {
		return answer.ICMPError(f, p, answer.TooBig, fwdtest.Addr(fwdtest.Families[1].VIP), 1, 1500)
	})
	fwdtest.WantUntouched(t, f, func(f *wire.Frame) bool {
		return answer.ICMPError(f, p, answer.HostUnreachable+1, fwdtest.Addr(fwdtest.Families[0].VIP), 1, 1500)
	})
	f.Buf, f.Off, f.End = f.Buf[wire.Headroom-27:], 27, f.End-wire.Headroom+27
	fwdtest.WantUntouched(t, f, func(f *wire.Frame) bool {
		return answer.ICMPError(f, p, answer.TooBig, fwdtest.Addr(fwdtest.Families[0].VIP), 1, 1500)
	})
}

// TestEcho: the reply is the request with its addresses swapped.
func TestEcho(t *testing.T) {
	for i, family := range fwdtest.Families {
		for _, e := range fwdtest.Envelopes {
			for _, partial := range []bool{false, true} {
				request := wiretest.Packet{
					Src: fwdtest.Host(family.Client), Dst: fwdtest.Host(family.VIP), Proto: wire.ProtoICMP, TTL: 3,
					TOS: 0x10, ID: 77,
					ICMPType: wire.ICMPEcho, ICMPRest: 0x12340001, Payload: []byte("abcdefghi"),
					PartialChecksum: partial,
				}
				want := request
				want.ICMPType = wire.ICMPEchoReply
				if i == 1 {
					request.Proto, request.ICMPType = wire.ProtoICMPv6, wire.ICMPv6Echo
					want.Proto, want.ICMPType = wire.ProtoICMPv6, wire.ICMPv6EchoReply
				}
				e.Wrap(&request, i == 1)
				e.Wrap(&want, i == 1)
				want.Src, want.Dst, want.TTL, want.PartialChecksum = request.Dst, request.Src, 64, false
				want = replyTo(want, request.VLANs)
				t.Run(fmt.Sprint(family.Name, "/", e.Name, "/partial checksum ", partial), func(t *testing.T) {
					f := request.Frame()
					f.In = 2
					if !answer.Echo(&f, fwdtest.Parse(t, &f)) {
						t.Fatal("refused")
					}
					wantReply(t, f, want.Frame())
				})
			}
		}
	}
}

// TestEchoOfZeros: a reply of zeros has a right checksum. Its sum is 0, which only 0xffff
// completes.
func TestEchoOfZeros(t *testing.T) {
	for _, n := range []int{0, 1, 16} {
		f := wiretest.Packet{
			Src: "198.51.100.7", Dst: "10.9.0.1", Proto: wire.ProtoICMP, ICMPType: wire.ICMPEcho,
			Payload: make([]byte, n),
		}.Frame()
		if !answer.Echo(&f, fwdtest.Parse(t, &f)) {
			t.Fatalf("%d bytes: refused", n)
		}
		wiretest.Check(t, f)
	}
}

// TestEchoNever: only whole requests from one host to one host.
func TestEchoNever(t *testing.T) {
	request := wiretest.Packet{
		Src: "198.51.100.7", Dst: "10.9.0.1", Proto: wire.ProtoICMP, ICMPType: wire.ICMPEcho,
		Payload: make([]byte, 16),
	}
	tests := []struct {
		name   string
		change func(*wiretest.Packet)
	}{
		{"a reply", func(p *wiretest.Packet) { p.ICMPType = wire.ICMPEchoReply }},
		{"an unknown code", func(p *wiretest.Packet) { p.ICMPCode = 1 }},
		{"a first fragment", func(p *wiretest.Packet) { p.MF = true }},
		{"a broadcast", func(p *wiretest.Packet) { p.DstMAC = wire.MAC{255, 255, 255, 255, 255, 255} }},
		{"a group", func(p *wiretest.Packet) { p.Dst = "224.0.0.1" }},
		{"no source", func(p *wiretest.Packet) { p.Src = "0.0.0.0" }},
		{"UDP", func(p *wiretest.Packet) { p.Proto = wire.ProtoUDP }},
		{"a GSO frame", func(p *wiretest.Packet) { p.GSOSize = 8 }},
		{"an IPv6 request over IPv4", func(p *wiretest.Packet) {
			p.Proto, p.ICMPType = wire.ProtoICMPv6, wire.ICMPv6Echo
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := request
			tt.change(&in)
			f := in.Frame()
			p := fwdtest.Parse(t, &f)
			fwdtest.WantUntouched(t, f, func(f *wire.Frame) bool { return answer.Echo(f, p) })
		})
	}
}

func BenchmarkICMPError(b *testing.B) {
	sample := wiretest.Packet{
		Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP,
		Payload: make([]byte, 1400),
	}.Frame()
	p := fwdtest.Parse(b, &sample)
	link := sample.Bytes()[:wire.EthernetLen]
	kept := append([]byte(nil), link...)
	src := fwdtest.Addr(fwdtest.Families[0].VIP)
	for b.Loop() {
		f := sample
		answer.ICMPError(&f, p, answer.TimeExceeded, src, 0, 1500)
		copy(link, kept)
	}
}
