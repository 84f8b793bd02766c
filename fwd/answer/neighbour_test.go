package answer_test

import (
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/answer"
	"uvs/fwd/fwdtest"
)

const (
	vip6       = "2001:db8:9::1"
	requester6 = "fe80::7"
)

var ownMAC = wire.MAC{2, 0, 0, 0, 0, 0x99}

// solicitation describes the frame of wiretest.Solicitation, for changes.
func solicitation(src, target string, options []byte) wiretest.Packet {
	t := fwdtest.Addr(target)
	return wiretest.Packet{
		DstMAC: wire.MAC{0x33, 0x33, 0xff, t[13], t[14], t[15]},
		Src:    src, Dst: "ff02::1:ff00:1", Proto: wire.ProtoICMPv6, TTL: 255,
		ICMPType: wire.ICMPv6Solicit, Payload: append(t[:], options...),
	}
}

// advertisement describes the reply: flags are R, S and O.
func advertisement(dst string, dstMAC wire.MAC, flags uint8, vlans []uint16) wiretest.Packet {
	target := fwdtest.Addr(vip6)
	return wiretest.Packet{
		SrcMAC: ownMAC, DstMAC: dstMAC, VLANs: vlans, Src: vip6, Dst: dst, Proto: wire.ProtoICMPv6, TTL: 255,
		ICMPType: wire.ICMPv6Advertise, ICMPRest: uint32(flags) << 24,
		Payload: append(append(target[:], 2, 1), ownMAC[:]...),
	}
}

var sourceMAC = []byte{1, 1, 2, 0, 0, 0, 0, 0xc}

// TestNeighbourAdvert: a solicitation gets a solicited reply. A probe (duplicate address
// detection) gets one to all nodes.
func TestNeighbourAdvert(t *testing.T) {
	probe := solicitation("::", vip6, nil)
	unicast := solicitation(requester6, vip6, sourceMAC)
	unicast.Dst, unicast.DstMAC = vip6, wiretest.DirectorMAC
	tagged := solicitation(requester6, vip6, sourceMAC)
	tagged.VLANs = []uint16{42}
	nonce := append([]byte{14, 1, 1, 2, 3, 4, 5, 6}, sourceMAC...)
	extended := solicitation(requester6, vip6, nil)
	extended.Extension, extended.Extensions = wire.ProtoDestOptions,
		append([]byte{wire.ProtoICMPv6, 1, 1, 12}, make([]byte, 12)...)

	const solicitedOverride, override = 0x60, 0x20
	toAll := wire.MAC{0x33, 0x33, 0, 0, 0, 1}
	tests := []struct {
		name string
		in   wiretest.Packet
		want wiretest.Packet
	}{
		{
			"solicitation to the group", solicitation(requester6, vip6, sourceMAC),
			advertisement(requester6, wiretest.ClientMAC, solicitedOverride, nil),
		},
		{"solicitation to the address", unicast, advertisement(requester6, wiretest.ClientMAC, solicitedOverride, nil)},
		{
			"solicitation without options", solicitation(requester6, vip6, nil),
			advertisement(requester6, wiretest.ClientMAC, solicitedOverride, nil),
		},
		{
			"solicitation with more options", solicitation(requester6, vip6, nonce),
			advertisement(requester6, wiretest.ClientMAC, solicitedOverride, nil),
		},
		{
			"solicitation behind an extension header", extended,
			advertisement(requester6, wiretest.ClientMAC, solicitedOverride, nil),
		},
		{"tagged solicitation", tagged, advertisement(requester6, wiretest.ClientMAC, solicitedOverride, tagged.VLANs)},
		{"probe", probe, advertisement("ff02::1", toAll, override, nil)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := tt.in.Frame()
			f.In = 2
			p := fwdtest.Parse(t, &f)
			if target, ok := answer.NeighbourTarget(&f, p); !ok || target != fwdtest.Addr(vip6) {
				t.Fatalf("asks for %v, in order: %v", target, ok)
			}
			if !answer.NeighbourAdvert(&f, p, ownMAC) {
				t.Fatal("refused")
			}
			wantReply(t, f, tt.want.Frame())
		})
	}
}

// TestNeighbourNever: what RFC 4861 section 7.1.1 discards.
func TestNeighbourNever(t *testing.T) {
	tests := []struct {
		name   string
		change func(*wiretest.Packet)
	}{
		{"came through a router", func(p *wiretest.Packet) { p.TTL = 254 }},
		{"code is not 0", func(p *wiretest.Packet) { p.ICMPCode = 1 }},
		{"checksum is wrong", func(p *wiretest.Packet) { p.NoChecksum = true }},
		{"too short for a target", func(p *wiretest.Packet) { p.Payload = p.Payload[:15] }},
		{"asks for a group", func(p *wiretest.Packet) { p.Payload[0] = 0xff }},
		{"asks for nothing", func(p *wiretest.Packet) { clear(p.Payload[:16]) }},
		{"option of length 0", func(p *wiretest.Packet) { p.Payload[17] = 0 }},
		{"option longer than the message", func(p *wiretest.Packet) { p.Payload[17] = 2 }},
		{"asks for an IPv4 address", func(p *wiretest.Packet) { a := fwdtest.Addr("10.9.0.1"); copy(p.Payload, a[:]) }},
		{"half an option", func(p *wiretest.Packet) { p.Payload = p.Payload[:20] }},
		{"from a group", func(p *wiretest.Packet) { p.Src = "ff02::5" }},
		{"probe that names its sender", func(p *wiretest.Packet) { p.Src = "::" }},
		{"probe to the address itself", func(p *wiretest.Packet) {
			p.Src, p.Dst, p.Payload = "::", vip6, p.Payload[:16]
		}},
		{"advertisement", func(p *wiretest.Packet) { p.ICMPType = wire.ICMPv6Advertise }},
		{"fragment", func(p *wiretest.Packet) {
			p.Extension, p.Extensions = wire.ProtoFragment, []byte{wire.ProtoICMPv6, 0, 0, 1, 0, 0, 0, 1}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := solicitation(requester6, vip6, sourceMAC)
			tt.change(&in)
			f := in.Frame()
			p := fwdtest.Parse(t, &f)
			if target, ok := answer.NeighbourTarget(&f, p); ok {
				t.Errorf("in order, asks for %v", target)
			}
			fwdtest.WantUntouched(t, f, func(f *wire.Frame) bool { return answer.NeighbourAdvert(f, p, ownMAC) })
		})
	}
}

// TestNeighbourAdvertRoom: a probe is 8 bytes shorter than its reply. Without room for
// them on either side there is no reply.
func TestNeighbourAdvertRoom(t *testing.T) {
	probe := solicitation("::", vip6, nil).Frame()
	room := func(before, behind int) wire.Frame {
		f := probe
		f.Buf = append(append(make([]byte, before), probe.Bytes()...), make([]byte, behind)...)
		f.Off, f.End = int32(before), int32(before+probe.Len())
		return f
	}
	for _, tt := range []struct{ before, behind int }{{0, 8}, {8, 0}, {3, 5}, {96, 7}} {
		f := room(tt.before, tt.behind)
		if !answer.NeighbourAdvert(&f, fwdtest.Parse(t, &f), ownMAC) {
			t.Errorf("%d bytes before and %d behind: refused", tt.before, tt.behind)
		}
		wantReply(t, f, advertisement("ff02::1", wire.MAC{0x33, 0x33, 0, 0, 0, 1}, 0x20, nil).Frame())
	}
	f := room(3, 4)
	p := fwdtest.Parse(t, &f)
	fwdtest.WantUntouched(t, f, func(f *wire.Frame) bool { return answer.NeighbourAdvert(f, p, ownMAC) })
}
