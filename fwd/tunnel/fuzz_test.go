package tunnel_test

import (
	"bytes"
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/fwdtest"
)

func BenchmarkEncap(b *testing.B) {
	for _, tun := range fwdtest.Tunnels {
		b.Run(tun.Name, func(b *testing.B) {
			sample := wiretest.Packet{
				Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP, DF: true,
				Payload: make([]byte, 10),
			}.Frame()
			p := fwdtest.Parse(b, &sample)
			for b.Loop() {
				f := sample // the packet stays in place; Encap overwrites its link header
				tun.Encap(&f, p)
			}
		})
	}
}

// FuzzTunnel: whatever frame goes into a tunnel, the link sends valid packets within the
// MTU, and a packet that it sends whole comes out as it went in.
func FuzzTunnel(f *testing.F) {
	for _, family := range fwdtest.Families {
		for _, tr := range fwdtest.Transports {
			for _, e := range fwdtest.Envelopes {
				in := tr.In
				in.Src, in.Dst = family.Client, family.VIP
				e.Wrap(&in, family.Name == "IPv6")
				frame := in.Frame()
				for i := range fwdtest.Tunnels {
					f.Add(frame.Bytes()[:min(frame.Len(), 4000)], uint8(i), uint16(1500), frame.Offload.Flags,
						frame.Offload.GSOType, frame.Offload.GSOSize, frame.Offload.CsumStart, frame.Offload.CsumOffset)
				}
			}
		}
	}
	splitter := wire.NewSplitter()
	f.Fuzz(func(t *testing.T, b []byte, tun uint8, mtu uint16, flags, gsoType uint8, gsoSize, csumStart,
		csumOffset uint16,
	) {
		if len(b) > 0xffff {
			return
		}
		frame := wiretest.Frame(b)
		frame.Offload = wire.Offload{
			Flags: flags, GSOType: gsoType, GSOSize: gsoSize, CsumStart: csumStart,
			CsumOffset: csumOffset,
		}
		frame.MTU = mtu
		p := new(wire.Packet)
		wire.Parse(&frame, p)
		field := map[uint8]uint16{wire.ProtoTCP: 16, wire.ProtoUDP: 6}[p.Proto]
		if p.Kind != wire.KindIP || frame.ChecksumPartial() && (csumStart != p.L4 || csumOffset != field) {
			return // the sender asks for a sum that overwrites headers
		}
		want := wiretest.Frame(b[:int(p.L3)+int(p.Len)]) // without padding
		want.Offload = frame.Offload
		wire.FinishChecksum(&want)
		use := fwdtest.Tunnels[int(tun)%len(fwdtest.Tunnels)]
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
				t.Fatalf("%s: made flaw %d: %s of %s", use.Name, q.Flaw, fwdtest.Dump(piece), fwdtest.Dump(want))
			case mtu != 0 && q.Len > uint32(mtu):
				t.Fatalf("%s: a piece of %d bytes for %d", use.Name, q.Len, mtu)
			case q.Fragment != wire.FragmentNone:
				continue
			case !fwdtest.Decap(&piece, q):
				t.Fatalf("%s: Decap refuses %s of %s", use.Name, fwdtest.Dump(piece), fwdtest.Dump(want))
			}
			if len(pieces) == 1 && !want.IsGSO() && !bytes.Equal(piece.Bytes(), want.Bytes()) {
				t.Fatalf("%s: %s came out as %s", use.Name, fwdtest.Dump(want), fwdtest.Dump(piece))
			}
		}
	})
}
