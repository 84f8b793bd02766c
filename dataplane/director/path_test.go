package director

import (
	"fmt"
	"testing"

	"github.com/google/gopacket/layers"

	"uvs/conntrack"
	"uvs/dataplane/cow"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/tunnel"
)

// encapsulations are the tunnels, with the MTU that IPVS reports to clients for an MTU
// of 1500 (net/netfilter/ipvs/ip_vs_xmit.c, ip_vs_tunnel_xmit).
var encapsulations = []struct {
	name   string
	tunnel tunnel.Tunnel
	over4  int // MTU inside, outer IPv4
	over6  int
}{
	{"ipip", tunnel.Tunnel{}, 1480, 1460},
	{"gue", tunnel.Tunnel{Type: tunnel.GUE, Port: 6080}, 1468, 1448},
	{"gue with checksum", tunnel.Tunnel{Type: tunnel.GUE, Port: 6080, Checksum: true}, 1468, 1448},
	{"gre", tunnel.Tunnel{Type: tunnel.GRE}, 1476, 1456},
	{"gre with checksum", tunnel.Tunnel{Type: tunnel.GRE, Checksum: true}, 1472, 1452},
}

// ends4 and ends6 are a client and a VIP of each family.
var (
	ends4 = [2]string{"10.1.0.2:5000", "10.9.0.1:80"}
	ends6 = [2]string{"[fd00:1::2]:5000", "[fd00:9::1]:80"}
)

// tunnelTestbed returns a testbed with one server in the given tunnel: 10.2.0.11, or
// fd00:2::11.
func tunnelTestbed(t testing.TB, tunnel tunnel.Tunnel, over6 bool) *testbed {
	w := newTestbed(t, conntrack.MethodTunnel)
	to := addr("10.2.0.11")
	if over6 {
		to = addr("fd00:2::11")
	}
	w.table.Tunnels = cow.Map[Endpoint, uint32]{}
	path := new(Path)
	for i := range w.lastID {
		s := w.table.server(i + 1)
		s.Addr, s.NextHop, s.Path = to, w.table.FIB.NextHop(to), path
		s.Tunnel = tunnel
		s.Tunnel.Src, s.Tunnel.Dst = s.NextHop.Source, to
		w.table.Tunnels.Set(TunnelKey(&s.Tunnel), s.ID)
	}
	return w
}

// sized returns a client's packet of a total length.
func sized(ends [2]string, length int, df bool) wiretest.Packet {
	headers := 40
	if ends == ends6 {
		headers = 60
	}
	return wiretest.Packet{
		Src: ends[0], Dst: ends[1], TCPFlags: wire.TCPSyn, DF: df, Payload: make([]byte, length-headers),
	}
}

// reportedMTU returns the MTU of an ICMP error; 0: the frame is none, or reports
// something else.
func reportedMTU(t testing.TB, f wire.Frame) int {
	t.Helper()
	wiretest.Check(t, f)
	d := wiretest.Decode(t, f)
	if e, ok := d.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok && e.TypeCode == layers.CreateICMPv4TypeCode(
		3, 4,
	) {
		return int(e.Seq)
	}
	if e, ok := d.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok && e.TypeCode == layers.CreateICMPv6TypeCode(
		2, 0,
	) {
		b := e.LayerPayload()
		return int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	}
	return 0
}

// The error to a client fits the link by which it leaves, also if that is shorter than
// the longest error. Otherwise the client would never learn to send less.
func TestTooLongOnShortLink(t *testing.T) {
	w := tunnelTestbed(t, tunnel.Tunnel{}, false)
	h := testHostNet()
	h.Ports[0].MTU, h.Ports[1].MTU = 512, 512
	w.table.FIB = NewFIB(h)
	for i := range w.lastID {
		w.table.server(i + 1).NextHop = w.table.FIB.NextHop(addr("10.2.0.11"))
	}
	f := in(0, sized(ends4, 512, true))
	if v := w.process(&f); v != AnsweredTooBig || reportedMTU(t, f) != 492 || f.Len() != wire.EthernetLen+512 {
		t.Errorf("%v with MTU %d, a frame of %d bytes; want one of 526 that says 492", v, reportedMTU(t, f), f.Len())
	}
}

// The longest packet that fits and must not be fragmented is forwarded. For one that is
// a byte longer the client gets the right MTU, by every method.
func TestTooLong(t *testing.T) {
	for _, ends := range [][2]string{ends4, ends6} {
		for _, method := range []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR} {
			checkTooLong(t, fmt.Sprintf("method %d", method), newTestbed(t, method), ends, 1500)
		}
		for _, e := range encapsulations {
			checkTooLong(t, e.name+" over IPv4", tunnelTestbed(t, e.tunnel, false), ends, e.over4)
			checkTooLong(t, e.name+" over IPv6", tunnelTestbed(t, e.tunnel, true), ends, e.over6)
		}
	}
}

func checkTooLong(t *testing.T, name string, w *testbed, ends [2]string, longest int) {
	t.Helper()
	f := in(0, sized(ends, longest, true))
	if v := w.process(&f); v.Dropped() || f.Out != 1 || f.MTU != 0 {
		t.Errorf("%s, %s: %d bytes: %s, asked to be split at %d", name, ends[0], longest, v, f.MTU)
	}
	f = in(0, sized(ends, longest+1, true))
	v := w.process(&f)
	if got := reportedMTU(t, f); v != AnsweredTooBig || f.Out != 0 || got != longest {
		t.Errorf("%s, %s: %d bytes: %s, told %d, want %d", name, ends[0], longest+1, v, got, longest)
	}
	if n := w.totals(); n.TooBig != 1 || n.Split != 0 {
		t.Errorf("%s, %s: counted %+v", name, ends[0], n)
	}
}

// totals returns the sum of the counters of all servers.
func (w *testbed) totals() (sum Totals) {
	for i := range w.lastID {
		n := w.table.server(i + 1).Counters.Totals()
		sum.TooBig += n.TooBig
		sum.Split += n.Split
		sum.InPkts += n.InPkts
	}
	return sum
}

// A packet that may be fragmented is, and every fragment fits: IPv4 without DF by any
// method; in a tunnel, IPv4 with DF under pmtu_disc 0, and IPv6 of up to 1280 bytes,
// which every link must carry, if the tunnel's path is narrower.
func TestFragmented(t *testing.T) {
	rows := []struct {
		sentence     string
		ends         [2]string
		length       int
		df, ignoreDF bool
		path         int // learned
		pieces       bool
	}{
		{"IPv4 without DF", ends4, 1500, false, false, 0, true},
		{"IPv4 with DF under pmtu_disc 0", ends4, 1500, true, true, 0, true},
		{"IPv4 without DF on a narrow path", ends4, 600, false, false, 576, true},
		{"IPv6 of 1280 bytes on a path of 1280", ends6, 1280, false, false, 1280, true},
		{"IPv6 of 1280 bytes on a path of 1300", ends6, 1280, false, false, 1300, true},
		{"a byte more is not", ends6, 1281, false, false, 1300, false},
		{"nor under pmtu_disc 0", ends6, 1500, false, true, 0, false},
	}
	for _, r := range rows {
		for _, e := range encapsulations {
			for _, over6 := range []bool{false, true} {
				w := tunnelTestbed(t, e.tunnel, over6)
				mtu := 1500
				for i := range w.lastID {
					s := w.table.server(i + 1)
					s.Tunnel.IgnoreDF = r.ignoreDF
					if r.path != 0 {
						if over6 {
							r.path = max(r.path, leastPath6)
						}
						s.Path.learn(w.now, r.path, 1500, over6, addr("10.2.0.254"))
						mtu = r.path
					}
				}
				name := fmt.Sprintf("%s, %s, over IPv6 %t", r.sentence, e.name, over6)
				fits := r.length+w.table.server(1).Tunnel.Overhead() <= mtu
				f := in(0, sized(r.ends, r.length, r.df))
				v := w.process(&f)
				switch {
				case !r.pieces:
					if v != AnsweredTooBig || reportedMTU(t, f) < leastMTU6 {
						t.Errorf("%s: %s, told %d", name, v, reportedMTU(t, f))
					}
					continue
				case v != ForwardedTunnel:
					t.Errorf("%s: %s", name, v)
					continue
				}
				if n := w.totals(); (n.Split == 1) == fits || n.TooBig != 0 {
					t.Errorf("%s: counted %+v", name, n)
				}
				pieces, ok := wire.NewSplitter().Split(&f)
				if !ok || (len(pieces) > 1) == fits {
					t.Errorf("%s: %d pieces, %t", name, len(pieces), ok)
				}
				for _, piece := range pieces {
					if n := piece.Len() - wire.EthernetLen; n > mtu {
						t.Errorf("%s: a piece of %d bytes for a path of %d", name, n, mtu)
					}
				}
			}
		}
	}
}

// tunnelled returns what a client's packet becomes on its way to the server.
func (w *testbed) tunnelled(p wiretest.Packet) wire.Frame {
	w.t.Helper()
	f := in(0, p)
	if v := w.process(&f); v != ForwardedTunnel {
		w.t.Fatalf("the packet was %s", v)
	}
	return f
}

// routerError returns an ICMP error from a router on the way to the servers. It quotes
// a number of bytes behind the outer header of a frame that was sent there.
func routerError(about wire.Frame, kind, code uint8, rest uint32, quoted int) wiretest.Packet {
	e := wiretest.Packet{
		Src: "10.2.0.254", Dst: "10.2.0.1", Proto: wire.ProtoICMP, ICMPType: kind, ICMPCode: code, ICMPRest: rest,
	}
	header := wire.IPv4Len
	if about.Bytes()[12] == 0x86 {
		e.Src, e.Dst, e.Proto, header = "fd00:2::254", "fd00:2::1", wire.ProtoICMPv6, wire.IPv6Len
	}
	e.Payload = wiretest.Quote(about, header+quoted)
	return e
}

// tooBig returns the error of a router whose next link takes mtu.
func tooBig(about wire.Frame, mtu uint32, quoted int) wiretest.Packet {
	if about.Bytes()[12] == 0x86 {
		return routerError(about, wire.ICMPv6TooBig, 0, mtu, quoted)
	}
	return routerError(about, wire.ICMPUnreachable, wire.ICMPCodeTooBig, mtu, quoted)
}

// A router on a tunnel's path reports that our packet was too long. The client gets an
// error from the VIP that quotes its own packet and reports what that may be. The
// director knows the path MTU from then on, for all servers with the address, for ten
// minutes.
func TestPathMTULearned(t *testing.T) {
	for _, ends := range [][2]string{ends4, ends6} {
		for _, e := range encapsulations {
			for _, over6 := range []bool{false, true} {
				name := fmt.Sprintf("%s, %s, over IPv6 %t", ends[0], e.name, over6)
				w := tunnelTestbed(t, e.tunnel, over6)
				inside := 1400 - w.table.server(1).Tunnel.Overhead()
				sent := w.tunnelled(sized(ends, inside+30, true))
				quoted := 500
				if over6 {
					quoted = 1200
				}
				f := in(1, tooBig(sent, 1400, quoted))
				v := w.process(&f)
				if got := reportedMTU(t, f); v != ICMPErrorToClient || got != inside || f.Out != 0 {
					t.Fatalf("%s: %s by port %d, told %d, want %d", name, v, f.Out, got, inside)
				}
				d := wiretest.Decode(t, f)
				src := d.NetworkLayer().NetworkFlow().Src().String()
				if vip := host(ends[1]); src != vip || wire.Ethernet(f.Bytes()).Dst() != wiretest.ClientMAC {
					t.Errorf("%s: from %s to %v, want %s to the client", name, src, wire.Ethernet(f.Bytes()).Dst(), vip)
				}
				var p, quote wire.Packet
				wire.Parse(&f, &p)
				if !wire.ParseQuoted(&f, &p, &quote) ||
					quote.Src != addr(host(ends[0])) || quote.Dst != addr(host(ends[1])) ||
					quote.SrcPort != 5000 || quote.DstPort != 80 {
					t.Errorf("%s: the client is quoted %+v", name, quote)
				}
				mtu, by, until, ok := w.table.server(1).Path.Learned(w.now)
				if !ok || mtu != 1400 || by != addr(routerOf(over6)) || until != w.now+pathTime {
					t.Errorf("%s: learned %d from %v until %d, %t", name, mtu, by, until, ok)
				}
				again := in(0, sized(ends, inside+30, true))
				if v := w.process(&again); v != AnsweredTooBig || reportedMTU(t, again) != inside {
					t.Errorf("%s: the same again: %s, told %d, want %d", name, v, reportedMTU(t, again), inside)
				}
				fits := in(0, sized(ends, inside, true))
				if v := w.process(&fits); v != ForwardedTunnel {
					t.Errorf("%s: what fits: %s", name, v)
				}
				w.now += pathTime
				later := in(0, sized(ends, inside+30, true))
				if v := w.process(&later); v != ForwardedTunnel {
					t.Errorf("%s: ten minutes later: %s", name, v)
				}
			}
		}
	}
}

// Routers' errors about packets that go to a server by NAT or DR show where its path is
// narrow, too, although it is the client who must heed them.
func TestPathSeen(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	f := in(0, sized(ends4, 1500, true))
	w.process(&f)
	f = in(1, wiretest.Packet{
		Src: "10.2.0.254", Dst: "10.1.0.2", Proto: wire.ProtoICMP, ICMPType: 3, ICMPCode: 4, ICMPRest: 1400,
		Payload: wiretest.Quote(f, 48),
	})
	if v := w.process(&f); v != ICMPErrorToClient || reportedMTU(t, f) != 1400 {
		t.Errorf("%s, told %d", v, reportedMTU(t, f))
	}
	if mtu, by, _, ok := w.table.server(1).Path.Learned(w.now); !ok || mtu != 1400 || by != addr("10.2.0.254") {
		t.Errorf("learned %d from %v, %t", mtu, by, ok)
	}
	f = in(0, sized(ends4, 1500, true))
	if v := w.process(&f); v != ForwardedMasq {
		t.Errorf("the same again: %s; it is the router's to answer", v)
	}
}

// A report never raises a path MTU, which lives for ten minutes after the last report.
func TestPathLearn(t *testing.T) {
	var p Path
	a, b := addr("10.0.0.1"), addr("10.0.0.2")
	for _, step := range []struct {
		at         conntrack.Tick
		mtu, known int
		by         wire.Addr
		seen       wire.Addr
	}{
		{0, 1500, 1500, a, wire.Addr{}}, // no news
		{10, 1400, 1400, a, a},
		{20, 1450, 1400, b, a}, // would raise it
		{20 + pathTime - 20, 1400, 1400, b, b},
		{pathTime + 10, 1300, 1300, a, a},
		{2*pathTime + 9, 1300, 1300, a, a},
		{4 * pathTime, 1450, 1450, b, b}, // forgotten meanwhile
	} {
		p.learn(step.at, step.mtu, 1500, false, step.by)
		if got := p.mtu(step.at, 1500); got != step.known {
			t.Errorf("at %d, %d reported: %d, want %d", step.at, step.mtu, got, step.known)
		}
		if _, by, _, ok := p.Learned(step.at); ok != (step.known < 1500) || by != step.seen {
			t.Errorf("at %d, %d reported: by %v, %t, want %v", step.at, step.mtu, by, ok, step.seen)
		}
	}
	if got := p.mtu(4*pathTime+1, 1000); got != 1000 {
		t.Errorf("the first hop takes 1000, the path %d", got)
	}
}

// An answer that the limit forbids has another verdict than one that must never be
// sent, and the latter takes nothing from the limit.
func TestAnswerLimit(t *testing.T) {
	w := newTestbed(t, conntrack.MethodTunnel)
	sent := w.tunnelled(sized(ends4, 1450, true))
	for range 10 * limitBurst {
		f := in(0, wiretest.Packet{Src: "10.1.0.2:5000", Dst: "10.9.0.1:81", TCPFlags: wire.TCPRst})
		if v := w.process(&f); v != DroppedUnanswered {
			t.Fatalf("a reset to no service: %s", v)
		}
	}
	for answered := range limitAhead / limitDestination {
		f := in(0, sized(ends4, 1500, true))
		if v := w.process(&f); v != AnsweredTooBig {
			t.Fatalf("after %d answers: %s", answered, v)
		}
	}
	if v := w.verdict(0, tooBig(sent, 1400, 100)); v != DroppedReversePath {
		t.Errorf("an error about a tunnel from the clients' side: %s", v)
	}
	for _, f := range []wire.Frame{in(0, sized(ends4, 1500, true)), in(1, tooBig(sent, 1400, 100))} {
		if v := w.process(&f); v != DroppedAnswerLimitClient || f.Out != wire.NoPort {
			t.Errorf("one answer more: %s by port %d", v, f.Out)
		}
	}
	// A flood of one client leaves half to the others, and nothing too big waits for them.
	for i := range 2 * limitBurst {
		want := RefusedNoService
		if i >= limitBurst/2 {
			want = DroppedAnswerLimitClient
		}
		if v := w.verdict(0, syn("10.1.0.3:5001", "10.9.0.1:81")); v != want {
			t.Fatalf("answer %d to a flood: %s, want %s", i, v, want)
		}
	}
	for i := range limitBurst {
		want := RefusedNoService
		if i >= limitBurst/2 {
			want = DroppedAnswerLimit
		}
		if v := w.verdict(0, syn(fmt.Sprintf("10.1.1.%d:5001", i), "10.9.0.1:81")); v != want {
			t.Errorf("answer %d to others: %s, want %s", i, v, want)
		}
	}
	w.now += limitDestination
	f := in(0, sized(ends4, 1500, true))
	if v := w.process(&f); v != AnsweredTooBig {
		t.Errorf("ten milliseconds later: %s", v)
	}
}
