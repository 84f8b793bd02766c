package director

import (
	"math/rand/v2"
	"slices"
	"testing"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// Datagrams in fragments, each a sentence: what comes in which order, what becomes of
// each fragment, and how many frames leave in all.
func TestFragmentRules(t *testing.T) {
	const udp, tcp = wire.ProtoUDP, wire.ProtoTCP
	request := func(src, dst string) []wire.Frame { // three fragments
		return fragmentsOf(0, 1, 2800, large(udp, src, dst))
	}
	toVIP := func() []wire.Frame { return request("10.1.0.2:5000", "10.9.0.1:80") }
	piece := func(start, end int, more bool) wire.Frame {
		p := large(udp, "10.1.0.2:5000", "10.9.0.1:80")
		f := wiretest.Fragment(p.Frame(), 1, start, more, make([]byte, end-start))
		if start == 0 {
			f = fragmentsOf(0, 1, end, p)[0]
		}
		return f
	}
	ping := wiretest.Packet{
		Src: "10.1.0.2", Dst: "10.9.0.1", Proto: wire.ProtoICMP, ICMPType: 8, Payload: make([]byte, 2000),
	}
	of := func(pieces []wire.Frame, which ...int) (list []wire.Frame) {
		for _, i := range which {
			f := pieces[i]
			f.Buf = slices.Clone(f.Buf)
			list = append(list, f)
		}
		return list
	}
	held, masq := HeldFragment, ForwardedMasq
	for _, r := range []struct {
		sentence string
		frames   []wire.Frame
		verdicts []Verdict
		out      int
	}{
		{
			"a piece that comes twice goes on once", of(toVIP(), 0, 1, 1, 2),
			[]Verdict{masq, masq, DroppedFragmentTwice, masq},
			3,
		},
		{"so does the first", of(toVIP(), 0, 0, 1, 2), []Verdict{masq, DroppedFragmentTwice, masq, masq}, 3},
		{"and what came twice before the first", of(toVIP(), 1, 1, 0, 2), []Verdict{held, held, masq, masq}, 3},
		{
			"a datagram that is complete begins again", of(toVIP(), 0, 1, 2, 0, 1, 2),
			[]Verdict{masq, masq, masq, masq, masq, masq},
			6,
		},
		{
			"an overlap ends the datagram",
			[]wire.Frame{
				piece(0, 1400, true), piece(1400, 2800, true), piece(2000, 3000, true), piece(2800, 4200, false),
			},
			[]Verdict{masq, masq, DroppedFragmentOverlap, DroppedFragmentOverlap},
			2,
		},
		{
			"so does one with the first (the ports of a datagram cannot be changed later)",
			[]wire.Frame{piece(0, 1400, true), piece(8, 1408, true), piece(1400, 2800, false)},
			[]Verdict{masq, DroppedFragmentOverlap, DroppedFragmentOverlap},
			1,
		},
		{
			"a longer first ends it, too",
			[]wire.Frame{piece(0, 1400, true), piece(0, 1408, true), piece(1408, 2800, false)},
			[]Verdict{masq, DroppedFragmentOverlap, DroppedFragmentOverlap},
			1,
		},
		{
			"a second last piece ends it",
			[]wire.Frame{piece(0, 1400, true), piece(2800, 3000, false), piece(1400, 2000, false)},
			[]Verdict{masq, masq, DroppedFragmentOverlap},
			2,
		},
		{
			"so does one behind the last",
			[]wire.Frame{
				piece(0, 1400, true), piece(2800, 3000, false), piece(3000, 4400, true), piece(1400, 2800, true),
			},
			[]Verdict{masq, masq, DroppedFragmentOverlap, DroppedFragmentOverlap},
			2,
		},
		{
			"but after the last that was missing it is another datagram's",
			[]wire.Frame{piece(0, 1400, true), piece(1400, 2000, false), piece(2000, 2800, true)},
			[]Verdict{masq, masq, held},
			2,
		},
		{"a piece without payload is refused", []wire.Frame{piece(1400, 1400, true)}, []Verdict{DroppedFragmentBad}, 0},
		{
			"one in the middle must have a multiple of eight bytes",
			[]wire.Frame{piece(1400, 1405, true)},
			[]Verdict{DroppedFragmentBad},
			0,
		},
		{
			"a datagram ends where an IP packet can (the ping of death)",
			[]wire.Frame{piece(65528, 65544, false)},
			[]Verdict{DroppedFragmentBad},
			0,
		},
		{
			"a first that cuts the TCP header takes the rest with it (RFC 1858)", of(
				fragmentsOf(0, 1, 16, syn("10.1.0.2:5000", "10.9.0.1:80")), 0, 1,
			),
			[]Verdict{DroppedBadTransport, DroppedFragment},
			0,
		},
		{
			"without a service the first is answered, the others dropped", of(
				request("10.1.0.2:5000", "10.9.0.1:81"), 0, 1, 2,
			),
			[]Verdict{RefusedNoService, DroppedFragment, DroppedFragment},
			1,
		},
		{
			"in whatever order", of(request("10.1.0.2:5000", "10.9.0.1:81"), 2, 1, 0),
			[]Verdict{held, held, RefusedNoService},
			1,
		},
		{
			"to a port of the host's own they are the host's", of(request("10.1.0.2:5000", "10.9.0.2:53"), 0, 1, 2),
			[]Verdict{NotOurs, NotOurs, NotOurs},
			0,
		},
		{
			"and the host has seen what came before the first", of(request("10.1.0.2:5000", "10.9.0.2:53"), 2, 0, 1),
			[]Verdict{held, NotOurs, NotOurs},
			0,
		},
		{
			"to another address they are nobody's", of(request("10.1.0.2:5000", "10.1.0.1:53"), 1, 0, 2),
			[]Verdict{NotOurs, NotOurs, NotOurs},
			0,
		},
		{
			"a ping in fragments is not answered", of(fragmentsOf(0, 1, 1400, ping), 0, 1),
			[]Verdict{DroppedVIPOther, DroppedFragment},
			0,
		},
		{
			"what a server sends by another port is the host's", of(
				fragmentsOf(1, 1, 2800, large(udp, "10.2.0.11:53", "10.1.0.2:5000")), 0, 1, 2,
			),
			[]Verdict{NotOurs, NotOurs, NotOurs},
			0,
		},
		{
			"what came before the first was kept from the host, and is routed on", of(
				fragmentsOf(1, 1, 2800, large(udp, "10.2.0.11:53", "10.1.0.254:5000")), 2, 1, 0,
			),
			[]Verdict{held, held, NotOurs},
			2,
		},
		{
			"what it sends by its own port without a conn is routed on", of(
				fragmentsOf(1, 1, 2800, large(udp, "10.2.0.11:8080", "10.1.0.254:5000")), 2, 0, 1,
			),
			[]Verdict{held, PassedUnchanged, PassedUnchanged},
			3,
		},
		{
			"a piece of the TCP kind is not one of UDP",
			append(of(toVIP(), 0), of(fragmentsOf(0, 1, 2800, large(tcp, "10.1.0.2:5000", "10.9.0.1:80")), 1)...),
			[]Verdict{masq, held},
			1,
		},
		{
			"nor is another number's",
			append(of(toVIP(), 0), of(fragmentsOf(0, 2, 2800, large(udp, "10.1.0.2:5000", "10.9.0.1:80")), 1)...),
			[]Verdict{masq, held},
			1,
		},
		{
			"nor another client's", append(of(toVIP(), 0), of(request("10.1.0.3:5000", "10.9.0.1:80"), 1)...),
			[]Verdict{masq, held},
			1,
		},
	} {
		w := newTestbed(t, conntrack.MethodNAT)
		for i := range r.frames {
			if r.frames[i].In == 0 {
				wire.Ethernet(r.frames[i].Bytes()).SetDst(portMAC[0])
			}
		}
		out, verdicts := w.separately(r.frames...)
		if !slices.Equal(verdicts, r.verdicts) || len(out) != r.out {
			t.Errorf("%s: %v and %d frames, want %v and %d", r.sentence, verdicts, len(out), r.verdicts, r.out)
		}
		for _, f := range out {
			wiretest.Check(t, f)
		}
	}
}

// A UDP checksum of zero stays zero in a fragment, because what it covers is in the
// others. Any other is repaired without them.
func TestFragmentWithoutChecksum(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	p := large(wire.ProtoUDP, "10.1.0.2:5000", "10.9.0.1:80")
	p.NoChecksum = true
	out, _ := w.separately(fragmentsOf(0, 1, 1400, p)...)
	whole := wiretest.Reassemble(t, out)
	if sum := wire.UDP(whole.Bytes()[34:]).Checksum(); sum != 0 {
		t.Errorf("the checksum is %#x, want none", sum)
	}
}

// SCTP's CRC covers the ports and the whole packet. Where the port is to change, a
// packet in fragments is refused instead of arriving broken.
func TestFragmentedSCTP(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	w.service(conntrack.MethodNAT, wire.ProtoSCTP, "10.9.0.1", "10.2.0.11") // to port 8080
	p := large(wire.ProtoSCTP, "10.1.0.2:5000", "10.9.0.1:80")
	p.Payload[0] = 1 // INIT
	out, verdicts := w.separately(fragmentsOf(0, 1, 4200, p)...)
	if want := []Verdict{DroppedFragmentSCTP, DroppedFragment}; !slices.Equal(verdicts, want) || len(out) != 0 {
		t.Errorf("%v and %d frames, want %v and none", verdicts, len(out), want)
	}
}

// If a datagram is too long for a tunnel and may not be split, the first fragment is
// answered with an error and the others are not.
func TestFragmentsTooBig(t *testing.T) {
	for _, r := range []struct {
		sentence string
		packet   wiretest.Packet
		size     int
		verdicts []Verdict
		out      int
	}{
		{
			"IPv6", large(wire.ProtoUDP, "[fd00:1::2]:5000", "[fd00:9::1]:80"), 1448,
			[]Verdict{AnsweredTooBig, DroppedFragment, DroppedFragment},
			1,
		},
		{
			"IPv4, whose pieces are cut again",
			wiretest.Packet{
				Src: "10.1.0.2:5000", Dst: "10.9.0.1:80", Proto: wire.ProtoUDP, Payload: make([]byte, 4000),
			},
			1480,
			[]Verdict{ForwardedTunnel, ForwardedTunnel, ForwardedTunnel},
			3,
		},
	} {
		w := newTestbed(t, conntrack.MethodTunnel)
		out, verdicts := w.separately(fragmentsOf(0, 1, r.size, r.packet)...)
		if !slices.Equal(verdicts[:3], r.verdicts) || len(out) != r.out {
			t.Errorf("%s: %v and %d frames, want %v and %d", r.sentence, verdicts, len(out), r.verdicts, r.out)
		}
		splitter := wire.NewSplitter()
		for i := range out {
			pieces, ok := splitter.Split(&out[i])
			if !ok || out[i].Len() > 1514 && len(pieces) < 2 {
				t.Errorf("%s: frame %d of %d bytes is split in %d, %t", r.sentence, i, out[i].Len(), len(pieces), ok)
			}
		}
	}
}

// Although one-packet scheduling leaves no conn, all fragments go where the first went,
// and the next datagram goes to another server.
func TestFragmentsOfOnePacketService(t *testing.T) {
	for _, method := range []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel} {
		w := newTestbed(t, method)
		w.table.serviceAt(Endpoint{addr("10.9.0.1"), 80, wire.ProtoUDP}).OnePacket = true
		for n := range 4 {
			pieces := fragmentsOf(0, uint32(n), 1400, large(wire.ProtoUDP, "10.1.0.2:5000", "10.9.0.1:80"))
			if n%2 == 1 {
				slices.Reverse(pieces)
			}
			w.now += 10
			out, verdicts := w.separately(pieces...)
			if len(out) != len(pieces) {
				t.Fatalf("method %d: %d frames of %d: %v", method, len(out), len(pieces), verdicts)
			}
			for i := range out {
				if got := wire.Ethernet(out[i].Bytes()).Dst(); got != serverMAC[n%2] {
					t.Errorf("method %d, datagram %d: piece %d went to %s", method, n, i, got)
				}
			}
		}
	}
}

// Fragments that wait in vain go after their time, and so do fragment flows; the
// counters show it.
func TestFragmentsExpire(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	pieces := fragmentsOf(0, 1, 1400, large(wire.ProtoUDP, "10.1.0.2:5000", "10.9.0.1:80"))
	w.separately(pieces[1])
	w.now += w.table.Settings.Queue.Timeout
	if out, verdicts := w.separately(pieces[0]); len(out) != 1 || verdicts[0] != ForwardedMasq {
		t.Errorf("the first, too late: %v and %d frames, want it alone", verdicts, len(out))
	}
	w.now += w.table.Settings.FragmentTime
	if out, verdicts := w.separately(pieces[2]); len(out) != 0 || verdicts[0] != HeldFragment {
		t.Errorf("another, after the flow's time: %v and %d frames", verdicts, len(out))
	}
	if s := w.frags.Stats(frag.ForFirst); s != (frag.Stats{Waiting: 1, Expired: 1}) {
		t.Errorf("numbers %+v, want one that waits and one that expired", s)
	}
}

// Whichever worker gets a fragment, the outcome is the same: what one holds leaves when
// another has seen the first.
func TestFragmentsAcrossWorkers(t *testing.T) {
	conns, err := conntrack.NewTable(conntrack.Config{Max: 4096, Workers: 3, ServerIDs: 64, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer conns.Close()
	frags := frag.New(3, 1)
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		w := newTestbed(t, conntrack.MethodNAT)
		var workers []*Director
		for i := range 3 {
			workers = append(workers, New(conns.Worker(i), frags, i))
		}
		for i := range w.lastID {
			w.table.server(i + 1).Counters = NewCounters(3)
		}
		w.now += conntrack.Tick(1000 * seed)
		pieces := fragmentsOf(0, uint32(seed), 704, large(wire.ProtoUDP, "10.1.0.2:5000", "10.9.0.1:80"))
		rng.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		var out []wire.Frame
		process := func(d *Director, batch []wire.Frame) {
			d.Process(w.now, w.table, batch, w.verdicts[:len(batch)])
			out = append(out, w.sent(d, batch)...)
		}
		for _, f := range pieces {
			process(workers[rng.IntN(3)], []wire.Frame{f})
		}
		for _, d := range workers {
			process(d, nil)
		}
		if len(out) != len(pieces) {
			t.Fatalf("seed %d: %d of %d fragments left; %+v", seed, len(out), len(pieces), frags.Stats(frag.ForFirst))
		}
		wiretest.Check(t, wiretest.Reassemble(t, out))
	}
}
