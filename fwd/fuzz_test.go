package fwd

import (
	"bytes"
	"slices"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// actions are everything the director may do to a frame. Each returns whether
// it made a frame of it that must be right again.
var actions = append([]action{
	{"Send", func(f *wire.Frame, _ *wire.Packet) bool { (&LinkHeader{}).Apply(f); return true }},
	{"DecTTL", onIP(func(f *wire.Frame, p *wire.Packet) {
		if !TTLExpired(f, p) {
			DecTTL(f, p)
		}
	})},
	{"TooLong", onIP(func(f *wire.Frame, p *wire.Packet) { TooLong(f, p, 1500, 20); DontFragment(f, p) })},
	{"ToServer", onIP(func(f *wire.Frame, p *wire.Packet) { ToServer(f, p, ofFamily(p, 0), 8080) })},
	{"FromServer", onIP(func(f *wire.Frame, p *wire.Packet) { FromServer(f, p, ofFamily(p, 1), 80) })},
	{"ErrorToServer", func(f *wire.Frame, p *wire.Packet) bool {
		var in wire.Packet
		ok := wire.ParseQuoted(f, p, &in)
		if ok {
			ErrorToServer(f, p, &in, ofFamily(p, 0), 8080)
		}
		return ok
	}},
	{"ErrorFromServer", func(f *wire.Frame, p *wire.Packet) bool {
		var in wire.Packet
		ok := wire.ParseQuoted(f, p, &in)
		if ok {
			ErrorFromServer(f, p, &in, ofFamily(p, 1), 80)
		}
		return ok
	}},
	{"ClampMSS", func(f *wire.Frame, p *wire.Packet) bool {
		ok := p.Kind == wire.KindIP && p.Proto == wire.ProtoTCP && p.Fragment != wire.FragmentLater
		if ok {
			ClampMSS(f, p, 1360)
		}
		return ok
	}},
	{"Decap", Decap},
	{"ICMPError", func(f *wire.Frame, p *wire.Packet) bool { return ICMPError(f, p, TooBig, ofFamily(p, 1), 1400, 1500) }},
	{"EchoReply", EchoReply},
	{"Reset", Reset},
	{"ARPReply", func(f *wire.Frame, p *wire.Packet) bool { return ARPReply(f, p, ownMAC) }},
	{"NeighborAdvert", func(f *wire.Frame, p *wire.Packet) bool { return NeighborAdvert(f, p, ownMAC) }},
	{"Acknowledge", func(f *wire.Frame, p *wire.Packet) bool { return Acknowledge(f, p, &TCPAck{Seq: 1, Ack: 2, Window: 3}) }},
}, encapsulate()...)

type action struct {
	name string
	do   func(f *wire.Frame, p *wire.Packet) bool
}

// encapsulate are the actions of every tunnel.
func encapsulate() (list []action) {
	for _, tunnel := range tunnels {
		list = append(list, action{"Encap " + tunnel.name, tunnel.Encap})
	}
	return list
}

// actionCalled is the index of an action.
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

// ofFamily is the server's (0) or the VIP's (1) address in the packet's family.
func ofFamily(p *wire.Packet, which int) wire.Addr {
	switch {
	case p.IPv6 && which == 0:
		return rip6
	case p.IPv6:
		return addr(vip6)
	case which == 0:
		return rip4
	}
	return addr("10.9.0.1")
}

// FuzzFrame: whatever the frame and whatever was said of it, nothing panics or
// leaves the buffer; what was refused is as it was; what was done is a sound
// packet again, whose checksums are right if they were.
func FuzzFrame(f *testing.F) {
	for _, family := range families {
		for _, tr := range transports {
			if len(tr.in.Payload) > 10000 {
				continue
			}
			in := tr.in
			in.Src, in.Dst = family.client, family.vip
			frame := in.Frame()
			for i := range actions {
				f.Add(frame.Bytes(), uint8(i), frame.Offload.Flags, frame.Offload.GSOType, frame.Offload.GSOSize, frame.Offload.CsumStart, frame.Offload.CsumOffset)
			}
		}
		for i := range actions {
			about := wiretest.Packet{Src: family.vip, Dst: family.client}
			e := errorAbout(about, host(family.client), host(family.vip), 20).Frame()
			f.Add(e.Bytes(), uint8(i), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))
			tunnelled := about.Frame()
			tunnels[i%len(tunnels)].Encap(&tunnelled, parse(f, &tunnelled))
			f.Add(tunnelled.Bytes(), actionCalled("Decap"), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))
		}
	}
	mapped := wiretest.Packet{Src: "[::ffff:198.51.100.7]:1", Dst: "[::ffff:10.9.0.1]:2", TCPFlags: wire.TCPSyn}.Frame()
	for i := range actions {
		f.Add(mapped.Bytes(), uint8(i), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))
	}
	ask := wiretest.Solicitation(wiretest.ClientMAC, asker6, vip6)
	f.Add(ask.Bytes(), actionCalled("NeighborAdvert"), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))
	who := wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, "10.0.0.1", wire.MAC{}, "10.9.0.1")
	f.Add(who.Bytes(), actionCalled("ARPReply"), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))

	f.Fuzz(func(t *testing.T, b []byte, action, flags, gsoType uint8, gsoSize, csumStart, csumOffset uint16) {
		if len(b) > 0xffff {
			return
		}
		frame := wiretest.Frame(b)
		frame.Offload = wire.Offload{Flags: flags, GSOType: gsoType, GSOSize: gsoSize, CsumStart: csumStart, CsumOffset: csumOffset}
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
			if !bytes.Equal(frame.Buf, before.Buf) || frame.Off != before.Off || frame.End != before.End || frame.Offload != before.Offload {
				t.Fatalf("%s refused and changed %s to %s", a.name, dump(before), dump(frame))
			}
			return
		}
		if frame.Off < 0 || frame.End < frame.Off || int(frame.End) > len(frame.Buf) {
			t.Fatalf("%s: frame at %d to %d of %d", a.name, frame.Off, frame.End, len(frame.Buf))
		}
		after := new(wire.Packet)
		wire.Parse(&frame, after)
		if after.Kind == wire.KindBad {
			t.Fatalf("%s made flaw %d: %s of %s", a.name, after.Flaw, dump(frame), dump(before))
		}
		if a.name == "Decap" || a.name == "Encap GUE over IPv6" {
			return // what was in the tunnel was right or wrong already; it has no checksum, as RFC 6935 allows
		}
		if right && after.Kind == wire.KindIP && !wire.VerifyChecksum(&frame, after) {
			t.Fatalf("%s made a wrong checksum: %s of %s", a.name, dump(frame), dump(before))
		}
	})
}

// FuzzTunnel: whatever frame goes into a tunnel, what the link then sends fits,
// is sound, and what was sent whole comes out as it went in.
func FuzzTunnel(f *testing.F) {
	for _, family := range families {
		for _, tr := range transports {
			for _, e := range envelopes {
				in := tr.in
				in.Src, in.Dst = family.client, family.vip
				e.wrap(&in, family.name == "IPv6")
				frame := in.Frame()
				for i := range tunnels {
					f.Add(frame.Bytes()[:min(frame.Len(), 4000)], uint8(i), uint16(1500), frame.Offload.Flags, frame.Offload.GSOType, frame.Offload.GSOSize, frame.Offload.CsumStart, frame.Offload.CsumOffset)
				}
			}
		}
	}
	splitter := wire.NewSplitter()
	f.Fuzz(func(t *testing.T, b []byte, tunnel uint8, mtu uint16, flags, gsoType uint8, gsoSize, csumStart, csumOffset uint16) {
		if len(b) > 0xffff {
			return
		}
		frame := wiretest.Frame(b)
		frame.Offload = wire.Offload{Flags: flags, GSOType: gsoType, GSOSize: gsoSize, CsumStart: csumStart, CsumOffset: csumOffset}
		frame.MTU = mtu
		p := new(wire.Packet)
		wire.Parse(&frame, p)
		field := map[uint8]uint16{wire.ProtoTCP: 16, wire.ProtoUDP: 6}[p.Proto]
		if p.Kind != wire.KindIP || frame.ChecksumPartial() && (csumStart != p.L4 || csumOffset != field) {
			return // a sum put elsewhere spoils headers, by its sender's own word
		}
		want := wiretest.Frame(b[:int(p.L3)+int(p.Len)]) // without padding
		want.Offload = frame.Offload
		wire.FinishChecksum(&want)
		use := tunnels[int(tunnel)%len(tunnels)]
		if !use.Encap(&frame, p) {
			return
		}
		splitter.Reset()
		pieces, ok := splitter.Split(&frame)
		if !ok {
			return
		}
		for _, piece := range pieces {
			q := new(wire.Packet)
			wire.Parse(&piece, q)
			switch {
			case q.Kind != wire.KindIP:
				t.Fatalf("%s: made flaw %d: %s of %s", use.name, q.Flaw, dump(piece), dump(want))
			case mtu != 0 && q.Len > uint32(mtu):
				t.Fatalf("%s: a piece of %d bytes for %d", use.name, q.Len, mtu)
			case q.Fragment != wire.FragmentNone:
				continue
			case !Decap(&piece, q):
				t.Fatalf("%s: Decap refuses %s of %s", use.name, dump(piece), dump(want))
			}
			if len(pieces) == 1 && !want.IsGSO() && !bytes.Equal(piece.Bytes(), want.Bytes()) {
				t.Fatalf("%s: %s came out as %s", use.name, dump(want), dump(piece))
			}
		}
	})
}
