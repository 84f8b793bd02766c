package director

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/fwdtest"
)

// separately runs frames through the director in batches of one. It returns what
// leaves, queued fragments included, and the verdict of each frame.
func (w *testbed) separately(frames ...wire.Frame) (out []wire.Frame, verdicts []Verdict) {
	w.t.Helper()
	for _, f := range frames {
		batch := []wire.Frame{f}
		w.dir.Process(w.now, w.table, batch, w.verdicts[:1])
		verdicts = append(verdicts, w.verdicts[0])
		out = append(out, w.sent(w.dir, batch)...)
	}
	return out, verdicts
}

// sent returns the frames of a batch that leave, and those that the director
// originates.
func (w *testbed) sent(d *Director, batch []wire.Frame) (out []wire.Frame) {
	for _, f := range append(slices.Clone(batch), d.Originate()...) {
		if f.Out != wire.NoPort {
			f.Buf = slices.Clone(f.Buf) // what was held is good until the next batch
			out = append(out, f)
		}
	}
	return out
}

// inOneBatch is separately with all frames in one batch.
func (w *testbed) inOneBatch(frames ...wire.Frame) (out []wire.Frame, verdicts []Verdict) {
	w.t.Helper()
	w.dir.Process(w.now, w.table, frames, w.verdicts[:len(frames)])
	return w.sent(w.dir, frames), slices.Clone(w.verdicts[:len(frames)])
}

// large returns a packet of 8 KiB, which no network carries whole.
func large(proto uint8, src, dst string) wiretest.Packet {
	payload := make([]byte, 8192)
	for i := range payload {
		payload[i] = byte(i) ^ byte(i>>8)
	}
	return wiretest.Packet{Src: src, Dst: dst, Proto: proto, TCPFlags: wire.TCPSyn, Payload: payload}
}

// fragmentsOf returns the fragments of a packet as they arrive on a port.
func fragmentsOf(port uint16, id uint32, size int, p wiretest.Packet) []wire.Frame {
	p.DstMAC = portMAC[port]
	pieces := wiretest.Fragments(p.Frame(), id, size)
	for i := range pieces {
		pieces[i].In = port
	}
	return pieces
}

// orders are the orders in which fragments arrive.
var orders = map[string]func([]wire.Frame){
	"in order": func([]wire.Frame) {},
	"reversed": func(f []wire.Frame) { slices.Reverse(f) },
	"the first last": func(f []wire.Frame) {
		first := f[0]
		copy(f, f[1:])
		f[len(f)-1] = first
	},
	"shuffled": func(f []wire.Frame) {
		rand.New(rand.NewPCG(1, uint64(len(f)))).Shuffle(len(f), func(i, j int) { f[i], f[j] = f[j], f[i] })
	},
}

// Every fragment of a datagram reaches the server that the first goes to, whatever the
// order, method, protocol and family. The reply's fragments reach the client.
// Reassembled they are the datagram, rewritten as a whole one would have been.
func TestFragmentsArrive(t *testing.T) {
	for _, method := range []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel} {
		for _, v6 := range []bool{false, true} {
			for _, proto := range []uint8{wire.ProtoTCP, wire.ProtoUDP, wire.ProtoSCTP} {
				for order, arrange := range orders {
					for _, atOnce := range []bool{false, true} {
						t.Run(fmt.Sprintf("%d/v6=%t/%d/%s/%t", method, v6, proto, order, atOnce), func(t *testing.T) {
							fragmentsArrive(t, method, v6, proto, arrange, atOnce)
						})
					}
				}
			}
		}
	}
}

func fragmentsArrive(t *testing.T, method conntrack.Method, v6 bool, proto uint8,
	arrange func([]wire.Frame), atOnce bool,
) {
	w := newTestbed(t, method)
	w.service(method, wire.ProtoSCTP, "10.9.0.1", "10.2.0.11", "10.2.0.12")
	w.service(method, wire.ProtoSCTP, "fd00:9::1", "fd00:2::11", "fd00:2::12")
	send := w.separately
	if atOnce {
		send = w.inOneBatch
	}
	client, vip, server, rport := "10.1.0.2:5000", "10.9.0.1:80", "10.2.0.11", 8080
	if v6 {
		client, vip, server = "[fd00:1::2]:5000", "[fd00:9::1]:80", "[fd00:2::11]"
	}
	if proto == wire.ProtoSCTP || method != conntrack.MethodNAT { // SCTP keeps its port: see TestFragmentedSCTP
		rport = 80
	}
	for i := range w.lastID {
		w.table.server(i + 1).Port = uint16(rport)
		w.table.ReplySources.Set(Endpoint{w.table.server(i + 1).Addr, uint16(rport), proto}, 1)
	}
	request := large(proto, client, vip)
	if proto == wire.ProtoSCTP {
		request.Payload[0] = 1 // INIT
	}
	pieces := fragmentsOf(0, 77, 1400, request)
	total := uint64(0)
	for _, f := range pieces {
		total += uint64(f.Len() - wire.EthernetLen)
	}
	arrange(pieces)
	out, verdicts := send(pieces...)
	if len(out) != len(pieces) {
		t.Fatalf("%d fragments became %d: %v", len(pieces), len(out), verdicts)
	}
	for i := range out {
		if got := wire.Ethernet(out[i].Bytes()).Dst(); got != serverMAC[0] || out[i].Out != 1 {
			t.Errorf("fragment %d went to %s by port %d, want the first server", i, got, out[i].Out)
		}
		if method == conntrack.MethodTunnel {
			wiretest.Check(t, out[i])
			var p wire.Packet
			if wire.Parse(&out[i], &p); !fwdtest.Decap(&out[i], &p) {
				t.Fatalf("fragment %d is in no tunnel", i)
			}
		}
	}
	want := request
	want.SrcMAC, want.DstMAC = portMAC[1], serverMAC[0]
	want.TTL = 63
	if method == conntrack.MethodNAT {
		want.Dst = fmt.Sprintf("%s:%d", server, rport)
	}
	checkFragments(t, "the server", out, want)
	got := w.table.server(uint32(serverOf(w, proto, v6))).Counters.Totals()
	if got.InPkts != uint64(len(pieces)) || got.InBytes != total || got.Conns != 1 {
		t.Errorf("the server's counters are %+v, want %d packets and %d bytes in", got, len(pieces), total)
	}

	// The answer, from the server's end or, the director being the gateway, the VIP's.
	reply := large(proto, vip, client)
	if method == conntrack.MethodNAT {
		reply.Src = want.Dst
	}
	reply.TCPFlags |= wire.TCPAck
	pieces = fragmentsOf(1, 78, 1400, reply)
	arrange(pieces)
	out, verdicts = send(pieces...)
	if len(out) != len(pieces) {
		t.Fatalf("%d fragments of the answer became %d: %v", len(pieces), len(out), verdicts)
	}
	want = reply
	want.Src, want.TTL, want.SrcMAC, want.DstMAC = vip, 63, portMAC[0], wiretest.ClientMAC
	checkFragments(t, "the client", out, want)
	if s := w.frags.Stats(frag.ForFirst); s.Waiting != 0 || s.Expired != 0 || s.Evicted != 0 || s.Stopped != 0 {
		t.Errorf("left in memory: %+v", s)
	}
}

// serverOf returns the ID of the first server of the service of a protocol and family.
func serverOf(w *testbed, proto uint8, v6 bool) int {
	vip := map[bool]string{false: "10.9.0.1", true: "fd00:9::1"}[v6]
	return int(w.table.serviceAt(Endpoint{addr(vip), 80, proto}).Servers[0])
}

// checkFragments fails the test unless the fragments make up the packet.
func checkFragments(t *testing.T, who string, out []wire.Frame, want wiretest.Packet) {
	t.Helper()
	got := wiretest.Reassemble(t, out)
	wiretest.Check(t, got)
	f := want.Frame()
	g, x := got.Bytes(), f.Bytes()
	if !slices.Equal(zeroed(g), zeroed(x)) {
		t.Errorf("%s got\n%x, want\n%x", who, g[:80], x[:80])
	}
}

// zeroed returns a frame without the header fields that differ between IPv4 fragments.
func zeroed(b []byte) []byte {
	b = slices.Clone(b)
	if b[14]>>4 == 4 {
		copy(b[18:20], []byte{0, 0}) // identification
		copy(b[24:26], []byte{0, 0}) // checksum
	}
	return b
}
