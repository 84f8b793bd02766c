package fwd_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd"
	"uvs/fwd/answer"
	"uvs/fwd/fwdtest"
)

const (
	vip6       = "2001:db8:9::1"
	requester6 = "fe80::7"
)

var ownMAC = wire.MAC{2, 0, 0, 0, 0, 0x99}

// actions are all that the director may do to a frame. Each reports whether it made a
// frame of it, which must be right.
var actions = append([]action{
	{"LinkHeader.Apply", func(f *wire.Frame, _ *wire.Packet) bool { (&fwd.LinkHeader{}).Apply(f); return true }},
	{"DecTTL", onIP(func(f *wire.Frame, p *wire.Packet) {
		if !fwd.TTLExpired(f, p) {
			fwd.DecTTL(f, p)
		}
	})},
	{"TooLong", onIP(func(f *wire.Frame, p *wire.Packet) { fwd.TooLong(f, p, 1500, 20); fwd.DontFragment(f, p) })},
	{"ToServer", onIP(func(f *wire.Frame, p *wire.Packet) { fwd.ToServer(f, p, ofFamily(p, 0), 8080) })},
	{"FromServer", onIP(func(f *wire.Frame, p *wire.Packet) { fwd.FromServer(f, p, ofFamily(p, 1), 80) })},
	{"ErrorToServer", func(f *wire.Frame, p *wire.Packet) bool {
		var in wire.Packet
		ok := wire.ParseQuoted(f, p, &in)
		if ok {
			fwd.ErrorToServer(f, p, &in, ofFamily(p, 0), 8080)
		}
		return ok
	}},
	{"ErrorFromServer", func(f *wire.Frame, p *wire.Packet) bool {
		var in wire.Packet
		ok := wire.ParseQuoted(f, p, &in)
		if ok {
			fwd.ErrorFromServer(f, p, &in, ofFamily(p, 1), 80)
		}
		return ok
	}},
	{"ClampMSS", func(f *wire.Frame, p *wire.Packet) bool {
		ok := p.Kind == wire.KindIP && p.Proto == wire.ProtoTCP && p.Fragment != wire.FragmentLater
		if ok {
			fwd.ClampMSS(f, p, 1360)
		}
		return ok
	}},
	{"Decap", fwdtest.Decap},
	{"ICMPError", func(f *wire.Frame, p *wire.Packet) bool {
		return answer.ICMPError(f, p, answer.TooBig, ofFamily(p, 1), 1400, 1500)
	}},
	{"Echo", answer.Echo},
	{"Reset", answer.Reset},
	{"Abort", answer.Abort},
	{"ARP", func(f *wire.Frame, p *wire.Packet) bool { return answer.ARP(f, p, ownMAC) }},
	{"NeighbourAdvert", func(f *wire.Frame, p *wire.Packet) bool { return answer.NeighbourAdvert(f, p, ownMAC) }},
	{"Acknowledge", func(f *wire.Frame, p *wire.Packet) bool {
		return answer.Acknowledge(f, p, &answer.TCPAck{Seq: 1, Ack: 2, Window: 3})
	}},
}, encapsulate()...)

type action struct {
	name string
	do   func(f *wire.Frame, p *wire.Packet) bool
}

// encapsulate returns the actions of the tunnels.
func encapsulate() (list []action) {
	for _, tun := range fwdtest.Tunnels {
		list = append(list, action{"Encap " + tun.Name, tun.Encap})
	}
	return list
}

// actionCalled returns the index of an action.
func actionCalled(name string) uint8 {
	return uint8(slices.IndexFunc(actions, func(a action) bool { return a.name == name }))
}

func onIP(do func(*wire.Frame, *wire.Packet)) func(*wire.Frame, *wire.Packet) bool {
	return func(f *wire.Frame, p *wire.Packet) bool {
		if p.Kind == wire.KindIP {
			do(f, p)
		}
		return p.Kind == wire.KindIP
	}
}

// ofFamily returns the address of the server (which is 0) or the VIP (1) in the family of
// the packet.
func ofFamily(p *wire.Packet, which int) wire.Addr {
	switch {
	case p.IPv6 && which == 0:
		return fwdtest.RIP6
	case p.IPv6:
		return fwdtest.Addr(vip6)
	case which == 0:
		return fwdtest.RIP4
	}
	return fwdtest.Addr("10.9.0.1")
}

// FuzzFrame: whatever the frame and its offload, nothing panics or leaves the buffer. A
// refused frame is unchanged. Any other is a valid packet, whose checksums are right if
// they were right before.
func FuzzFrame(f *testing.F) {
	for _, family := range fwdtest.Families {
		for _, tr := range fwdtest.Transports {
			if len(tr.In.Payload) > 10000 {
				continue
			}
			in := tr.In
			in.Src, in.Dst = family.Client, family.VIP
			frame := in.Frame()
			for i := range actions {
				f.Add(frame.Bytes(), uint8(i), frame.Offload.Flags, frame.Offload.GSOType, frame.Offload.GSOSize,
					frame.Offload.CsumStart, frame.Offload.CsumOffset)
			}
		}
		for i := range actions {
			about := wiretest.Packet{Src: family.VIP, Dst: family.Client}
			e := fwdtest.ErrorAbout(about, fwdtest.Host(family.Client), fwdtest.Host(family.VIP), 20).Frame()
			f.Add(e.Bytes(), uint8(i), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))
			tunnelled := about.Frame()
			fwdtest.Tunnels[i%len(fwdtest.Tunnels)].Encap(&tunnelled, fwdtest.Parse(f, &tunnelled))
			f.Add(tunnelled.Bytes(), actionCalled("Decap"), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))
		}
	}
	mapped := wiretest.Packet{Src: "[::ffff:198.51.100.7]:1", Dst: "[::ffff:10.9.0.1]:2", TCPFlags: wire.TCPSyn}.Frame()
	for i := range actions {
		f.Add(mapped.Bytes(), uint8(i), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))
	}
	ask := wiretest.Solicitation(wiretest.ClientMAC, requester6, vip6)
	f.Add(ask.Bytes(), actionCalled("NeighbourAdvert"), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))
	who := wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, "10.0.0.1", wire.MAC{}, "10.9.0.1")
	f.Add(who.Bytes(), actionCalled("ARP"), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))

	f.Fuzz(func(t *testing.T, b []byte, action, flags, gsoType uint8, gsoSize, csumStart, csumOffset uint16) {
		if len(b) > 0xffff {
			return
		}
		frame := wiretest.Frame(b)
		frame.Offload = wire.Offload{
			Flags: flags, GSOType: gsoType, GSOSize: gsoSize, CsumStart: csumStart,
			CsumOffset: csumOffset,
		}
		p := new(wire.Packet)
		wire.Parse(&frame, p)
		if p.Kind == wire.KindBad {
			return
		}
		a := actions[int(action)%len(actions)]
		right := p.Kind == wire.KindIP && wire.VerifyChecksum(&frame, p)
		before := frame
		before.Buf = bytes.Clone(frame.Buf)

		if !a.do(&frame, p) {
			if !bytes.Equal(frame.Buf, before.Buf) || frame.Off != before.Off || frame.End != before.End ||
				frame.Offload != before.Offload {
				t.Fatalf("%s refused and changed %s to %s", a.name, fwdtest.Dump(before), fwdtest.Dump(frame))
			}
			return
		}
		if frame.Off < 0 || frame.End < frame.Off || int(frame.End) > len(frame.Buf) {
			t.Fatalf("%s: frame at %d to %d of %d", a.name, frame.Off, frame.End, len(frame.Buf))
		}
		after := new(wire.Packet)
		wire.Parse(&frame, after)
		if after.Kind == wire.KindBad {
			t.Fatalf("%s made flaw %d: %s of %s", a.name, after.Flaw, fwdtest.Dump(frame), fwdtest.Dump(before))
		}
		encap := strings.HasPrefix(a.name, "Encap") && after.IPv6 && after.Proto == wire.ProtoUDP
		if a.name == "Decap" || encap && wire.UDP(frame.From(after.L4)).Checksum() == 0 {
			return // the inner packet was right or wrong before; a tunnel may have no checksum (RFC 6935)
		}
		if right && after.Kind == wire.KindIP && !wire.VerifyChecksum(&frame, after) {
			t.Fatalf("%s made a wrong checksum: %s of %s", a.name, fwdtest.Dump(frame), fwdtest.Dump(before))
		}
	})
}
