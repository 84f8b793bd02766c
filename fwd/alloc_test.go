package fwd_test

import (
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd"
	"uvs/fwd/fwdtest"
)

// samples returns the frames that TestNoAllocations tries the actions on.
func samples(t testing.TB) []wire.Frame {
	frames := []wire.Frame{
		wiretest.Solicitation(wiretest.ClientMAC, requester6, vip6),
		wiretest.ARP(wire.ARPRequest, wiretest.ClientMAC, "10.0.0.1", wire.MAC{}, "10.9.0.1"),
	}
	for i, family := range fwdtest.Families {
		for _, tr := range fwdtest.Transports {
			in := tr.In
			in.Src, in.Dst = family.Client, family.VIP
			frames = append(frames, in.Frame())
		}
		about := wiretest.Packet{Src: family.VIP, Dst: family.Client}
		echo := wiretest.Packet{
			Src: fwdtest.Host(family.Client), Dst: fwdtest.Host(family.VIP), Proto: wire.ProtoICMP,
			ICMPType: wire.ICMPEcho,
		}
		if i == 1 {
			echo.Proto, echo.ICMPType = wire.ProtoICMPv6, wire.ICMPv6Echo
		}
		e := fwdtest.ErrorAbout(about, fwdtest.Host(family.Client), fwdtest.Host(family.VIP), 20)
		frames = append(frames, e.Frame(), echo.Frame())
		for _, tun := range fwdtest.Tunnels {
			f := about.Frame()
			tun.Encap(&f, fwdtest.Parse(t, &f))
			frames = append(frames, f)
		}
	}
	return frames
}

// TestNoAllocations: no action on any frame allocates.
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
				t.Errorf("%s allocates %v times for %s", a.name, n, fwdtest.Dump(sample))
			}
		}
		if done == 0 {
			t.Errorf("%s was not done to any frame", a.name)
		}
	}
}

func BenchmarkNAT(b *testing.B) {
	for _, family := range fwdtest.Families {
		b.Run(family.Name, func(b *testing.B) {
			f := wiretest.Packet{Src: family.Client, Dst: family.VIP, Payload: make([]byte, 10)}.Frame()
			p := fwdtest.Parse(b, &f)
			server, sport := fwdtest.Split(family.Server)
			vip, vport := fwdtest.Split(family.VIP)
			for b.Loop() {
				fwd.ToServer(&f, p, server, sport)
				fwd.FromServer(&f, p, vip, vport)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N), "ns/rewrite")
		})
	}
}

func BenchmarkLinkHeader(b *testing.B) {
	f := wiretest.Packet{Src: fwdtest.Families[0].Client, Dst: fwdtest.Families[0].VIP}.Frame()
	p := fwdtest.Parse(b, &f)
	hop := fwd.LinkHeader{Dst: wiretest.DirectorMAC, Src: wiretest.ClientMAC, Port: 1}
	for b.Loop() {
		if !fwd.TTLExpired(&f, p) {
			fwd.DecTTL(&f, p)
		}
		hop.Apply(&f)
	}
}
