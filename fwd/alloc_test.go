package fwd

import (
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// samples are the frames the actions are tried on.
func samples(t testing.TB) []wire.Frame {
	frames := []wire.Frame{
		wiretest.Solicitation(wiretest.ClientMAC, asker6, vip6),
		wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, "10.0.0.1", wire.MAC{}, "10.9.0.1"),
	}
	for i, family := range families {
		for _, tr := range transports {
			in := tr.in
			in.Src, in.Dst = family.client, family.vip
			frames = append(frames, in.Frame())
		}
		about := wiretest.Packet{Src: family.vip, Dst: family.client}
		echo := wiretest.Packet{Src: host(family.client), Dst: host(family.vip), Proto: wire.ProtoICMP, ICMPType: wire.ICMPEcho}
		if i == 1 {
			echo.Proto, echo.ICMPType = wire.ProtoICMPv6, wire.ICMPv6Echo
		}
		frames = append(frames, errorAbout(about, host(family.client), host(family.vip), 20).Frame(), echo.Frame())
		for _, tunnel := range tunnels {
			f := about.Frame()
			tunnel.Encap(&f, parse(t, &f))
			frames = append(frames, f)
		}
	}
	return frames
}

// TestNoAllocations: nothing done to any frame touches the heap.
func TestNoAllocations(t *testing.T) {
	for _, a := range actions {
		done := 0
		for _, sample := range samples(t) {
			f, p := new(wire.Frame), new(wire.Packet)
			buf := make([]byte, len(sample.Buf))
			n := testing.AllocsPerRun(10, func() {
				copy(buf, sample.Buf)
				*f = sample
				f.Buf = buf
				wire.Parse(f, p)
				if a.do(f, p) {
					done++
				}
			})
			if n != 0 {
				t.Errorf("%s allocates %v times for %s", a.name, n, dump(sample))
			}
		}
		if done == 0 {
			t.Errorf("%s was not done to any frame", a.name)
		}
	}
}

func BenchmarkNAT(b *testing.B) {
	for _, family := range families {
		b.Run(family.name, func(b *testing.B) {
			f := wiretest.Packet{Src: family.client, Dst: family.vip, Payload: make([]byte, 10)}.Frame()
			p := parse(b, &f)
			server, sport := split(family.server)
			vip, vport := split(family.vip)
			for b.Loop() {
				ToServer(&f, p, server, sport)
				FromServer(&f, p, vip, vport)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N), "ns/rewrite")
		})
	}
}

func BenchmarkHop(b *testing.B) {
	f := wiretest.Packet{Src: families[0].client, Dst: families[0].vip}.Frame()
	p := parse(b, &f)
	hop := LinkHeader{Dst: wiretest.DirectorMAC, Src: wiretest.ClientMAC, Port: 1}
	for b.Loop() {
		if !TTLExpired(&f, p) {
			DecTTL(&f, p)
		}
		hop.Apply(&f)
	}
}

func BenchmarkEncap(b *testing.B) {
	for _, tunnel := range tunnels {
		b.Run(tunnel.name, func(b *testing.B) {
			sample := wiretest.Packet{Src: families[0].client, Dst: families[0].vip, DF: true, Payload: make([]byte, 10)}.Frame()
			p := parse(b, &sample)
			for b.Loop() {
				f := sample // the packet stays where it is; its link header is overwritten
				tunnel.Encap(&f, p)
			}
		})
	}
}

func BenchmarkICMPError(b *testing.B) {
	sample := wiretest.Packet{Src: families[0].client, Dst: families[0].vip, Payload: make([]byte, 1400)}.Frame()
	p := parse(b, &sample)
	link := sample.Bytes()[:wire.EthernetLen]
	kept := append([]byte(nil), link...)
	src := addr(families[0].vip)
	for b.Loop() {
		f := sample
		ICMPError(&f, p, TimeExceeded, src, 0, 1500)
		copy(link, kept)
	}
}
