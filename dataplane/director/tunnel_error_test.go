package director

import (
	"testing"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/tunnel"
)

func routerOf(ipv6 bool) string {
	if ipv6 {
		return "fd00:2::254"
	}
	return "10.2.0.254"
}

// What becomes of errors about tunnels, by what they report and quote.
func TestTunnelErrors(t *testing.T) {
	long4, long6 := sized(ends4, 1450, true), sized(ends6, 1450, true)
	loose := sized(ends4, 1450, false)
	type about = func(sent wire.Frame) wiretest.Packet
	mtuError := func(mtu uint32, quoted int) about {
		return func(sent wire.Frame) wiretest.Packet { return tooBig(sent, mtu, quoted) }
	}
	otherError := func(kind, code uint8, rest uint32) about {
		return func(sent wire.Frame) wiretest.Packet { return routerError(sent, kind, code, rest, 100) }
	}
	rows := []struct {
		sentence string
		packet   wiretest.Packet
		over6    bool
		error    about
		verdict  Verdict
		out      string
		mtu      int // known afterwards
	}{
		{
			"eight bytes quoted: the client is not known, but the path is learned", long4, false,
			mtuError(1400, 8), ICMPErrorNoted, "", 1400,
		},
		{
			"the inner header quoted without ports: the same", long4, false,
			mtuError(1400, 20), ICMPErrorNoted, "", 1400,
		},
		{
			"the inner header and ports quoted: told", long4, false,
			mtuError(1400, 28), ICMPErrorToClient,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp DestinationUnreachable(FragmentationNeeded)", 1400,
		},
		{
			"a client that allows fragments is not told", loose, false,
			mtuError(1400, 100), ICMPErrorNoted, "", 1400,
		},
		{
			"an MTU of 0, of a router older than RFC 1191, is the least", long4, false,
			mtuError(0, 100), ICMPErrorToClient,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp DestinationUnreachable(FragmentationNeeded)",
			leastPath4,
		},
		{
			"so is an absurd one", long4, false,
			mtuError(68, 100), ICMPErrorToClient,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp DestinationUnreachable(FragmentationNeeded)",
			leastPath4,
		},
		{
			"and over IPv6", long6, true,
			mtuError(100, 100), ICMPErrorToClient,
			"0 02:00:00:00:00:0c: fd00:9::1>fd00:1::2 ttl 64 icmp6 PacketTooBig", leastPath6,
		},
		{
			"an MTU above the link's teaches nothing", long4, false,
			mtuError(9000, 100), ICMPErrorNoted, "", 1500,
		},
		{
			"IPv6 clients are told of an IPv4 tunnel", long6, false,
			mtuError(1400, 100), ICMPErrorToClient,
			"0 02:00:00:00:00:0c: fd00:9::1>fd00:1::2 ttl 64 icmp6 PacketTooBig", 1400,
		},
		{
			"IPv4 clients are told of an IPv6 tunnel", long4, true,
			mtuError(1400, 100), ICMPErrorToClient,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp DestinationUnreachable(FragmentationNeeded)", 1400,
		},
		{
			"an unreachable server", long4, false,
			otherError(3, 1, 0), ICMPErrorToClient,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp DestinationUnreachable(Host)", 1500,
		},
		{
			"a server without such a tunnel: type and code stay", long4, false,
			otherError(3, 2, 0), ICMPErrorToClient,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp DestinationUnreachable(Protocol)", 1500,
		},
		{
			"time exceeded", long4, false,
			otherError(11, 0, 0), ICMPErrorToClient,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp TimeExceeded(TTLExceeded)", 1500,
		},
		{
			"a parameter problem of the outer header", long4, false,
			otherError(12, 0, 20<<24), ICMPErrorToClient,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp DestinationUnreachable(Host)", 1500,
		},
		{
			"IPv6 time exceeded", long6, true,
			otherError(3, 0, 0), ICMPErrorToClient,
			"0 02:00:00:00:00:0c: fd00:9::1>fd00:1::2 ttl 64 icmp6 TimeExceeded(HopLimitExceeded)", 1500,
		},
		{
			"IPv6 parameter problem", long6, true,
			otherError(4, 1, 6), ICMPErrorToClient,
			"0 02:00:00:00:00:0c: fd00:9::1>fd00:1::2 ttl 64 icmp6 DestinationUnreachable(AddressUnreachable)", 1500,
		},
		{
			"IPv6 unreachable about an IPv4 client", long4, true,
			otherError(1, 1, 0), ICMPErrorToClient,
			"0 02:00:00:00:00:0c: 10.9.0.1>10.1.0.2 ttl 64 icmp DestinationUnreachable(Host)", 1500,
		},
		{
			"IPv4 time exceeded about an IPv6 client", long6, false,
			otherError(11, 0, 0), ICMPErrorToClient,
			"0 02:00:00:00:00:0c: fd00:9::1>fd00:1::2 ttl 64 icmp6 DestinationUnreachable(AddressUnreachable)", 1500,
		},
		{
			"a forged one: we send from another address", long4, false,
			func(f wire.Frame) wiretest.Packet {
				e := tooBig(f, 600, 100)
				e.Dst = "10.2.0.99"
				return e
			}, NotOurs, "", 1500,
		},
		{
			"a forged one: we have no such server", long4, false,
			func(f wire.Frame) wiretest.Packet {
				e := tooBig(f, 600, 100)
				e.Payload[19]++
				return e
			}, NotOurs, "", 1500,
		},
		{
			"a forged one: no client has such a flow; the path is believed within bounds", long4, false,
			func(f wire.Frame) wiretest.Packet {
				e := tooBig(f, 600, 100)
				e.Payload[20+15]++
				return e
			}, ICMPErrorNoted, "", 600,
		},
		{
			"one about the host's own ping of the server is the host's", long4, false,
			func(wire.Frame) wiretest.Packet {
				ping := wiretest.Packet{
					Src: "10.2.0.1", Dst: "10.2.0.11", Proto: wire.ProtoICMP, ICMPType: wire.ICMPEcho,
				}
				return tooBig(ping.Frame(), 600, 100)
			}, NotOurs, "", 1500,
		},
		{
			"and about its own connection to the server", long4, false,
			func(wire.Frame) wiretest.Packet {
				return tooBig(wiretest.Packet{Src: "10.2.0.1:40000", Dst: "10.2.0.11:22"}.Frame(), 600, 100)
			}, NotOurs, "", 1500,
		},
	}
	for _, r := range rows {
		t.Run(r.sentence, func(t *testing.T) {
			w := tunnelTestbed(t, tunnel.Tunnel{}, r.over6)
			e := r.error(w.tunnelled(r.packet))
			f := in(1, e)
			if v := w.process(&f); v != r.verdict {
				t.Errorf("%s, want %s", v, r.verdict)
			}
			if got := w.format(f); got != r.out {
				t.Errorf("out\n%s, want\n%s", got, r.out)
			}
			if got := w.table.server(1).Path.mtu(w.now, 1500); got != r.mtu {
				t.Errorf("path MTU %d, want %d", got, r.mtu)
			}
			if r.verdict == NotOurs {
				return
			}
			spoiled := in(1, e)
			spoiled.Bytes()[spoiled.Len()-1] ^= 1
			if v := w.process(&spoiled); v != DroppedBadICMPChecksum {
				t.Errorf("with a wrong checksum: %s", v)
			}
		})
	}
}

// Clients get errors about their ESP packets too, which follow the conn of IKE.
func TestTunnelErrorAboutESP(t *testing.T) {
	w := tunnelTestbed(t, tunnel.Tunnel{}, false)
	w.addIKE("10.9.0.1")
	w.tunnelled(wiretest.Packet{Src: "10.1.0.2:500", Dst: "10.9.0.1:500", Proto: wire.ProtoUDP})
	sent := w.tunnelled(
		wiretest.Packet{Src: "10.1.0.2", Dst: "10.9.0.1", Proto: wire.ProtoESP, DF: true, Payload: make([]byte, 1430)},
	)
	f := in(1, tooBig(sent, 1400, 100))
	if v := w.process(&f); v != ICMPErrorToClient || reportedMTU(t, f) != 1380 || f.Out != 0 {
		t.Errorf("%s by port %d, told %d, want 1380", v, f.Out, reportedMTU(t, f))
	}
}

// Errors about tunnels allocate nothing.
func TestTunnelErrorDoesNotAllocate(t *testing.T) {
	w := tunnelTestbed(t, tunnel.Tunnel{}, false)
	original := in(1, tooBig(w.tunnelled(sized(ends4, 1450, true)), 1400, 100))
	frames := []wire.Frame{wiretest.Frame(original.Bytes())}
	if n := testing.AllocsPerRun(200, func() {
		f := &frames[0]
		f.Off, f.End, f.In = original.Off, original.End, original.In
		copy(f.Buf[f.Off:], original.Bytes())
		w.now += 100
		w.dir.Process(w.now, w.table, frames, w.verdicts[:1])
	}); n != 0 || w.verdicts[0] != ICMPErrorToClient {
		t.Errorf("%v allocations, %s", n, w.verdicts[0])
	}
}

// Whatever errors quote of tunnels, nothing panics, and what clients get is well
// formed.
func FuzzTunnelError(f *testing.F) {
	var testbeds [2][]*testbed // over IPv4, over IPv6
	for _, e := range encapsulations {
		for i, over6 := range []bool{false, true} {
			w := tunnelTestbed(f, e.tunnel, over6)
			testbeds[i] = append(testbeds[i], w)
			for _, ends := range [][2]string{ends4, ends6} {
				f.Add(wiretest.Quote(w.tunnelled(sized(ends, 1400, true)), 200), uint8(3), uint8(4), uint32(1300))
			}
		}
	}
	f.Fuzz(func(t *testing.T, quote []byte, kind, code uint8, rest uint32) {
		outer := 0
		if len(quote) > 0 && quote[0]>>4 == 6 {
			outer = 1
		}
		for _, w := range testbeds[outer] {
			w.t, w.now = t, w.now+pathTime
			var about wire.Frame
			for _, ends := range [][2]string{ends4, ends6} {
				about = w.tunnelled(sized(ends, 1400, true))
			}
			p := routerError(about, kind, code, rest, 0)
			p.Payload = quote
			frame := in(1, p)
			if v := w.process(&frame); (v == ICMPErrorToClient) != (frame.Out == 0) {
				t.Errorf("%s leaves by %d", v, frame.Out)
			}
			if frame.Out != wire.NoPort {
				wiretest.Check(t, frame)
			}
			if mtu := w.table.server(1).Path.mtu(w.now, 1500); mtu < leastPath4 || outer == 1 && mtu < leastPath6 {
				t.Errorf("path MTU %d", mtu)
			}
		}
	})
}
