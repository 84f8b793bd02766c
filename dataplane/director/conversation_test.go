package director

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/memlink"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/fwd/tunnel"
)

// generator makes well-formed frames of random conversations: requests, replies, ICMP
// errors from either side, pings and solicitations, of both families, with tags,
// options, partial checksums, GSO frames and every length.
type generator struct {
	*rand.Rand
	method conntrack.Method
}

// endpoints are a client, and the VIP and server that it talks to.
type endpoints struct{ client, vip, server string }

func (k *generator) ends() endpoints {
	n := k.IntN(40)
	if k.IntN(2) == 0 {
		return endpoints{
			fmt.Sprintf("10.1.0.%d:%d", 2+n%5, 5000+n),
			randomOf(k.Rand, "10.9.0.1:80", "10.9.0.1:80", "10.9.0.2:80", "10.9.0.1:81"),
			randomOf(k.Rand, "10.2.0.11:8080", "10.2.0.12:8080"),
		}
	}
	return endpoints{
		fmt.Sprintf("[fd00:1::%d]:%d", 2+n%5, 5000+n),
		randomOf(k.Rand, "[fd00:9::1]:80", "[fd00:9::1]:80", "[fd00:9::1]:81"),
		randomOf(k.Rand, "[fd00:2::11]:8080", "[fd00:2::12]:8080"),
	}
}

// data returns a packet between two endpoints.
func (k *generator) data(src, dst string) wiretest.Packet {
	p := wiretest.Packet{
		Src: src, Dst: dst, Proto: randomOf(k.Rand, uint8(wire.ProtoTCP), wire.ProtoTCP, wire.ProtoUDP),
		TTL: randomOf(k.Rand, uint8(1), 2, 64, 64, 64, 64), TOS: uint8(k.IntN(256)), DF: k.IntN(2) == 0, ID: uint16(
			k.IntN(1 << 16),
		),
		TCPFlags: randomOf(
			k.Rand, uint8(wire.TCPSyn), wire.TCPAck, wire.TCPAck|wire.TCPPsh, wire.TCPFin|wire.TCPAck, wire.TCPRst,
		),
		Seq: k.Uint32(), Ack: k.Uint32(),
		Payload: k.bytes(randomOf(k.Rand, 0, k.IntN(64), k.IntN(1473), 1460)),
	}
	if p.Proto == wire.ProtoTCP {
		p.TCPOptions = k.bytes(4 * k.IntN(4))
		if len(p.Payload) > 1400 {
			p.Payload = p.Payload[:1400]
		}
	}
	if k.IntN(8) == 0 {
		p.VLANs = []uint16{uint16(1 + k.IntN(4000))}
	}
	if k.IntN(8) == 0 && src[0] != '[' {
		p.Options = bytes.Repeat([]byte{1}, 4*k.IntN(11))
		p.Payload = p.Payload[:min(len(p.Payload), 1300)]
	}
	switch k.IntN(8) {
	case 0:
		p.PartialChecksum = true
	case 1:
		p.GSOSize = uint16(500 + k.IntN(901))
		p.Payload = k.bytes(int(p.GSOSize) + 1 + k.IntN(30_000))
	case 2:
		p.NoChecksum = p.Proto == wire.ProtoUDP && src[0] != '['
	}
	return p
}

func (k *generator) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(k.Uint32())
	}
	return b
}

// icmpError returns an ICMP error of a router about a packet.
func (k *generator) icmpError(about wiretest.Packet) wiretest.Packet {
	about.Payload, about.GSOSize, about.VLANs, about.PartialChecksum = k.bytes(k.IntN(600)), 0, nil, false
	quote := wiretest.Quote(about.Frame(), 28+20+k.IntN(500))
	p := wiretest.Packet{
		Proto: wire.ProtoICMP, ICMPType: randomOf(k.Rand, uint8(3), 11), ICMPCode: randomOf(k.Rand, uint8(0), 1, 3, 4),
		ICMPRest: 1400, Src: "10.3.0.1", Payload: quote, TTL: randomOf(k.Rand, uint8(1), 64),
		PartialChecksum: k.IntN(4) == 0,
	}
	if about.Src[0] == '[' {
		p.Proto, p.ICMPType, p.Src = wire.ProtoICMPv6, randomOf(k.Rand, uint8(1), 2, 3, 4), "fd00:3::1"
	}
	p.Dst = host(about.Src)
	return p
}

// tunnelICMPError returns an ICMP error, of a router or the server, about what the
// director sent in a tunnel.
func (k *generator) tunnelICMPError(e endpoints) wiretest.Packet {
	about := k.data(e.client, e.vip)
	about.GSOSize, about.VLANs, about.PartialChecksum = 0, nil, false
	f := about.Frame()
	var p wire.Packet
	wire.Parse(&f, &p)
	tunnel := tunnel.Tunnel{Src: addr("10.2.0.1"), Dst: addr(host(e.server))}
	if about.Src[0] == '[' {
		tunnel.Src = addr("fd00:2::1")
	}
	tunnel.Encap(&f, &p)
	c := routerError(
		f, randomOf(k.Rand, uint8(1), 2, 3, 3, 4, 11, 12), randomOf(k.Rand, uint8(0), 1, 3, 4),
		randomOf(k.Rand, uint32(0), 600, 1300, 1400, 9000), k.IntN(300),
	)
	c.PartialChecksum = k.IntN(4) == 0
	return c
}

// host returns the address of an endpoint.
func host(end string) string {
	if end[0] == '[' {
		return end[1:bytes.IndexByte([]byte(end), ']')]
	}
	return end[:bytes.IndexByte([]byte(end), ':')]
}

// frame returns the next frame, with the port that it comes in by.
func (k *generator) frame() wire.Frame {
	e := k.ends()
	answerer := e.vip
	if k.method == conntrack.MethodNAT {
		answerer = e.server
	}
	switch k.IntN(10) {
	case 0, 1, 2, 3:
		return in(0, k.data(e.client, e.vip))
	case 4, 5, 6:
		return in(1, k.data(answerer, e.client))
	case 7:
		if k.method == conntrack.MethodTunnel && k.IntN(2) == 0 {
			return in(1, k.tunnelICMPError(e))
		}
		return in(1, k.icmpError(k.data(e.client, answerer)))
	case 8:
		return in(0, k.icmpError(k.data(e.vip, e.client)))
	}
	switch k.IntN(4) {
	case 0:
		return wiretest.ARP(1, wiretest.ClientMAC, host("10.1.0.2:1"), wire.MAC{}, "10.9.0.1")
	case 1:
		return wiretest.Solicitation(wiretest.ClientMAC, "fd00:1::2", "fd00:9::1")
	case 2:
		return in(0, wiretest.Packet{
			Src: "fd00:1::2", Dst: "fd00:9::1", Proto: wire.ProtoICMPv6, ICMPType: wire.ICMPv6Echo,
			Payload: k.bytes(k.IntN(1400)), PartialChecksum: k.IntN(2) == 0,
		})
	}
	return in(0, wiretest.Packet{
		Src: "10.1.0.2", Dst: "10.9.0.1", Proto: wire.ProtoICMP, ICMPType: wire.ICMPEcho,
		Payload: k.bytes(k.IntN(1400)), PartialChecksum: k.IntN(2) == 0,
	})
}

// Every frame that leaves after a well-formed one came in has correct lengths and
// checksums and fits the MTU. It is finished, or its offload truly says what remains to
// do. An independent decoder judges it behind a link's splitter.
func TestWhatLeavesIsSound(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, method := range []conntrack.Method{conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel} {
		w := newTestbed(t, method)
		w.table.Settings.KeepTags = true
		link := memlink.New(memlink.Config{Poison: true})
		k := &generator{rand.New(rand.NewPCG(seed, uint64(method))), method}
		var counts [NumVerdict]int
		left := 0
		for range 150 {
			fed := make([]wire.Frame, 1+k.IntN(MaxBatch))
			for i := range fed {
				fed[i] = k.frame()
				wiretest.Check(t, fed[i])
				link.Feed(memlink.Record{Port: fed[i].In, Data: fed[i].Bytes(), Offload: fed[i].Offload})
			}
			frames := make([]wire.Frame, len(fed))
			n, err := link.Recv(frames)
			if err != nil || n != len(fed) {
				t.Fatalf("received %d frames of %d: %v", n, len(fed), err)
			}
			if k.IntN(4) == 0 {
				server := randomOf(k.Rand, "10.2.0.11", "10.2.0.12", "fd00:2::11", "fd00:2::12")
				w.setNeighbour(1, server, randomOf(k.Rand, wire.MAC{}, serverMAC[0]))
			}
			w.dir.Process(w.now, w.table, frames, w.verdicts[:n])
			for _, out := range [][]wire.Frame{frames, w.dir.Originate()} {
				if _, err := link.Send(out); err != nil {
					t.Fatal(err)
				}
			}
			for _, v := range w.verdicts[:n] {
				counts[v]++
			}
			for _, r := range link.Sent() {
				left++
				f := wiretest.Frame(r.Data)
				f.Offload = r.Offload
				wiretest.Check(t, f)
				if !f.IsGSO() && f.Len() > 1500+wire.EthernetLen+8 {
					t.Errorf("a frame of %d bytes leaves by a port with MTU 1500", f.Len())
				}
			}
			if t.Failed() {
				t.Fatalf("method %d, seed %d", method, seed)
			}
			w.now += conntrack.Tick(k.IntN(200))
		}
		if link.Dropped() != 0 {
			t.Errorf("method %d: the link dropped %d frames", method, link.Dropped())
		}
		if method == conntrack.MethodTunnel && counts[ICMPErrorNoted] == 0 {
			t.Error("no error about a tunnel was noted: the talk is too dull")
		}
		for _, v := range []Verdict{
			ICMPErrorToClient, ICMPErrorToServer, AnsweredEcho, AnsweredARP, AnsweredND, AnsweredTTLExceeded,
			RefusedNoService, RefusedNoConn, HeldNoNeighbour,
		} {
			if counts[v] == 0 {
				t.Errorf("method %d: no frame was %s: the talk is too dull", method, v)
			}
		}
		if s := w.unresolvedStats(); s.Sent == 0 || s.Expired == 0 {
			t.Errorf("method %d: of packets that waited, %+v: the talk is too dull", method, s)
		}
		t.Logf("method %d: %d frames left; %v", method, left, counts)
	}
}
