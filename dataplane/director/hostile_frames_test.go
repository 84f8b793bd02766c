package director

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// hostile makes frames that look like those of a vlanTestbed's flows, from every side:
// errors that quote them, through tunnels and one in another, fragments, tags,
// extension headers, and bytes changed at random.
type hostile struct{ *rand.Rand }

// randomOf returns one of a list.
func randomOf[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// packet returns a packet of either family; depth is how many errors quote it.
func (h hostile) packet(depth int) wiretest.Packet {
	r := h.Rand
	addrs := []string{
		"10.1.0.2", "10.9.0.1", "10.9.0.1", "10.9.0.2", "10.9.0.8", "10.2.0.11", "10.2.0.12", "10.2.0.1", "10.8.0.1",
		"224.0.0.1", "127.0.0.1", "255.255.255.255",
	}
	end, icmp := "%s:%d", uint8(wire.ProtoICMP)
	if r.IntN(2) == 0 {
		addrs = []string{
			"fd00:1::2", "fd00:9::1", "fd00:9::1", "fd00:9::2", "fd00:2::11", "fd00:2::12", "fd00:2::1", "ff02::1",
			"::1", "::",
		}
		end, icmp = "[%s]:%d", wire.ProtoICMPv6
	}
	p := wiretest.Packet{
		Proto: randomOf(
			r, wire.ProtoTCP, wire.ProtoUDP, wire.ProtoSCTP, wire.ProtoESP, wire.ProtoGRE, wire.ProtoIPIP, icmp, icmp,
		),
		TTL: uint8(randomOf(r, 1, 2, 64, 255)), DF: r.IntN(2) == 0, ID: uint16(r.IntN(4)),
		TCPFlags: uint8(randomOf(r, 2, 2, 16, 18, 4, 255)), NoChecksum: r.IntN(8) == 0,
		ICMPType: uint8(randomOf(r, 1, 2, 2, 3, 3, 3, 5, 8, 11, 12, 128, 135, 137)), ICMPCode: uint8(
			randomOf(r, 0, 1, 3, 4),
		),
		ICMPRest: randomOf(r, 0, 68, 552, 1279, 1400, 65535, ^uint32(0)),
		Payload:  make([]byte, randomOf(r, 0, 1, 8, 20, 600, 1400, 1800)),
	}
	src, dst := randomOf(r, addrs...), randomOf(r, addrs...)
	if p.Src, p.Dst = src, dst; (&wire.Packet{Proto: p.Proto}).HasPorts() {
		p.Src, p.Dst = fmt.Sprintf(end, src, randomOf(r, 80, 8080, 5000, 500)), fmt.Sprintf(
			end, dst, randomOf(r, 80, 8080, 5000, 500, 6080),
		)
	}
	switch {
	case p.Proto == icmp && depth < 3:
		p.Payload = wiretest.Quote(h.packet(depth+1).Frame(), randomOf(r, 8, 20, 28, 48, 100, 1500))
	case p.Proto == wire.ProtoIPIP && depth < 3:
		inner := h.packet(depth + 1).Frame()
		p.Payload = inner.Bytes()[wire.EthernetLen:]
	case icmp == wire.ProtoICMPv6 && r.IntN(6) == 0:
		kinds := append(make([]uint8, 1+r.IntN(9)), p.Proto)
		for i := range kinds[1:] {
			kinds[i] = uint8(
				randomOf(r, wire.ProtoHopByHop, wire.ProtoRouting, wire.ProtoFragment, wire.ProtoDestOptions),
			)
			p.Extensions = append(
				p.Extensions, 0, uint8(randomOf(r, 0, 0, 0, 1, 255)), uint8(r.IntN(2)), uint8(r.IntN(3)), 0, 0, 0, 1,
			)
		}
		for i, kind := range kinds[1:] {
			p.Extensions[8*i] = kind
		}
		p.Extension = kinds[0]
	}
	return p
}

// frames returns a packet, or its fragments, as they arrive.
func (h hostile) frames() []wire.Frame {
	r := h.Rand
	whole := h.packet(0).Frame()
	list := []wire.Frame{whole}
	if headers := wire.EthernetLen + wire.IPv6Len; r.IntN(4) == 0 && whole.Len() > headers {
		list = wiretest.Fragments(whole, r.Uint32N(4), randomOf(r, 8, 64, 600, 1480))
		payload := whole.Bytes()[headers:]
		list = append(list, wiretest.Fragment(
			whole, r.Uint32N(4), randomOf(r, 0, 8, 16, 1480, 65000, 65528), r.IntN(2) == 0,
			payload[:r.IntN(len(payload)+1)],
		))
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		list = list[:1+r.IntN(min(len(list), 32))]
	}
	for i := range list {
		f := &list[i]
		if f.In = uint16(r.IntN(2)); r.IntN(4) > 0 {
			wire.Ethernet(f.Bytes()).SetDst(portMAC[f.In])
		}
		if r.IntN(8) == 0 {
			f.Bytes()[r.IntN(f.Len())] ^= 1 << r.IntN(8)
			f.End -= int32(r.IntN(f.Len()) * r.IntN(2))
		}
		for range randomOf(r, 0, 0, 0, 1, 2, 3) {
			wire.PushVLAN(
				f, randomOf[uint16](r, wire.EtherTypeVLAN, wire.EtherTypeQinQ),
				randomOf[uint16](r, 0, 0xe000, 7, 8, 9, 4095),
			)
		}
	}
	return list
}

// testbed returns one with everything that makes a difference to unusual frames.
func (h hostile) testbed(t testing.TB, method conntrack.Method) *testbed {
	r := h.Rand
	w := vlanTestbed(t, method)
	w.addIKE("10.9.0.1")
	tunnel := randomOf(r, encapsulations...).tunnel
	for i := range w.lastID {
		s := w.table.server(i + 1)
		s.Tunnel, s.MSS = tunnel, randomOf[uint16](r, 0, AutoMSS)
		s.Tunnel.Src, s.Tunnel.Dst = s.NextHop.Source, s.Addr
		w.table.Tunnels.Set(TunnelKey(&s.Tunnel), s.ID)
	}
	settings := &w.table.Settings
	settings.ScheduleICMP, settings.NATICMPSend = r.IntN(2) == 0, r.IntN(2) == 0
	settings.KeepTags, settings.SloppyTCP = r.IntN(2) == 0, r.IntN(2) == 0
	return w
}

// A director that has seen many hostile frames gives each one verdict, which shows
// whether it leaves. What leaves is a well-formed IP packet. Nothing is answered that
// must not be, only its sender gets the answer, and no answer has more than
// headers and what was sent. Nothing allocates.
func TestHostileFrames(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	h := hostile{rand.New(rand.NewPCG(seed, 0))}
	for n := range 30 {
		method := []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel}[n%3]
		w := h.testbed(t, method)
		var batch []wire.Frame
		for range 50 {
			for batch = batch[:0]; len(batch) < MaxBatch; {
				batch = append(batch, h.frames()...)
			}
			batch = batch[:MaxBatch]
			before := slices.Clone(batch)
			for i := range before {
				before[i].Buf = bytes.Clone(before[i].Buf)
			}
			w.now += conntrack.Tick(h.IntN(100))
			w.dir.Process(w.now, w.table, batch, w.verdicts[:])
			for i := range batch {
				w.checkOutcome(&before[i], &batch[i], w.verdicts[i])
			}
			w.dir.Originate()
		}
		batchDoesNotAllocate(t, w, method, "hostile", batch)
	}
}

// checkOutcome compares a frame that leaves with what came in.
func (w *testbed) checkOutcome(was, f *wire.Frame, v Verdict) {
	w.t.Helper()
	leaves := v >= ForwardedMasq && v <= PassedAmbiguous && v != ICMPErrorNoted ||
		v >= AnsweredARP && v <= AnsweredHelper
	if leaves != (f.Out != wire.NoPort) {
		w.t.Fatalf("%s, out port %d: %x", v, f.Out, was.Bytes())
	}
	if !leaves {
		return
	}
	var p, q wire.Packet
	wire.Parse(was, &p)
	wire.Parse(f, &q)
	if q.Kind == wire.KindBad {
		w.t.Fatalf("%s leaves with flaw %d: %x, was %x", v, q.Flaw, f.Bytes(), was.Bytes())
	}
	if v < AnsweredEcho || v > AnsweredNoRoute {
		return
	}
	never := p.Fragment == wire.FragmentLater || wire.IsICMPError(&p) ||
		p.Proto == wire.ProtoTCP && p.TCPFlags&wire.TCPRst != 0 && q.Proto == wire.ProtoTCP
	back := q.Dst == p.Src && wire.Ethernet(f.Bytes()).Dst() == wire.Ethernet(was.Bytes()).Src()
	if never || !back || q.Len > p.Len+wire.IPv6Len+wire.ICMPLen {
		w.t.Fatalf("%s: %x, answered by %x", v, was.Bytes(), f.Bytes())
	}
}
