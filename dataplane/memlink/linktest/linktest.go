// Package linktest has the tests that every link must pass, in memory or in the kernel.
package linktest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// Link is the link under test: dataplane.Link.
type Link interface {
	Recv(in []wire.Frame) (n int, err error)
	Send(frames []wire.Frame) (sent int, err error)
	Wake()
	Close() error
}

// Testbed is a link of two ports, and access to the other end of each.
type Testbed struct {
	Link Link
	// MAC are the MAC addresses of the ports. The link receives frames for them.
	MAC [2]wire.MAC
	// Inject makes the link receive a frame by a port.
	Inject func(port int, frame []byte)
	// Await returns the next frame from Source that the link sent by a port.
	Await func(port int) []byte
}

// Source is the source MAC address of test frames. There may be other frames too.
var Source = wire.MAC{2, 0, 0, 0, 0x7e, 0x57}

// patience is how long a test waits for a frame. A test waits that long only if it
// fails.
const patience = 5 * time.Second

// Run runs all tests, each on a new Testbed that connect makes.
func Run(t *testing.T, connect func(*testing.T) Testbed) {
	for _, row := range []struct {
		name string
		test func(*testing.T, Testbed)
	}{
		{"frames are received and sent unchanged", forward},
		{"frames are lent until the next Recv", lent},
		{"frames without an out port are not sent", noOutPort},
		{"a frame without headroom for the header is not sent, the next one is", noHeadroom},
		{"a frame longer than its MTU is split", tooLong},
		{"a GSO frame in a tunnel is split", gsoInTunnel},
		{"a call of Wake makes one Recv return", wake},
		{"after Close there are only errors", closed},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := connect(t)
			row.test(t, w)
			if err := w.Link.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// frame returns a UDP frame to a port, with n in its payload.
func (w *Testbed) frame(port, n, length int) wire.Frame {
	payload := bytes.Repeat([]byte{byte(n)}, length)
	binary.BigEndian.PutUint32(payload, uint32(n))
	return wiretest.Packet{
		SrcMAC: Source, DstMAC: w.MAC[port], Proto: wire.ProtoUDP,
		Src: "10.9.0.1:4000", Dst: "10.9.0.2:4000", Payload: payload,
	}.Frame()
}

// receive receives the next n test frames, with one or more Recvs. It calls seen with
// each batch while it is lent.
func (w *Testbed) receive(t *testing.T, n int, seen func([]wire.Frame)) {
	t.Helper()
	var frames [16]wire.Frame
	for end := time.Now().Add(patience); n > 0; {
		if time.Now().After(end) {
			t.Fatalf("%d frames did not come", n)
		}
		got, err := w.Link.Recv(frames[:])
		if err != nil {
			t.Fatalf("receive: %v", err)
		}
		batch := frames[:0:len(frames)]
		for _, f := range frames[:got] {
			if b := f.Bytes(); len(b) > 12 && wire.MAC(b[6:12]) == Source {
				batch = append(batch, f)
			}
		}
		seen(batch)
		n -= len(batch)
	}
}

func forward(t *testing.T, w Testbed) {
	const count = 40
	for port := range 2 {
		var want [][]byte
		for i := range count {
			f := w.frame(port, i, 4+i*30)
			want = append(want, f.Bytes())
			w.Inject(port, f.Bytes())
		}
		at := 0
		w.receive(t, count, func(frames []wire.Frame) {
			for i := range frames {
				f := &frames[i]
				if !bytes.Equal(f.Bytes(), want[at]) {
					t.Fatalf("frame %d came in as\n%x, want\n%x", at, f.Bytes(), want[at])
				}
				if f.In != uint16(port) || f.Out != wire.NoPort || f.Headroom() < wire.Headroom {
					t.Fatalf("In %d Out %d, headroom %d: want %d, NoPort and at least %d", f.In, f.Out, f.Headroom(),
						port, wire.Headroom)
				}
				f.Out = uint16(1 - port)
				at++
			}
			if n, err := w.Link.Send(frames); n != len(frames) || err != nil {
				t.Fatalf("sent %d of %d frames: %v", n, len(frames), err)
			}
		})
		for i := range want {
			if got := w.Await(1 - port); !bytes.Equal(got, want[i]) {
				t.Fatalf("frame %d went out as\n%x, want\n%x", i, got, want[i])
			}
		}
	}
}

func lent(t *testing.T, w Testbed) {
	first, second := w.frame(0, 1, 100), w.frame(0, 2, 100)
	w.Inject(0, first.Bytes())
	w.receive(t, 1, func(frames []wire.Frame) {
		if len(frames) == 0 {
			return
		}
		w.Inject(0, second.Bytes())
		frames[0].Out = 1
		_, _ = w.Link.Send(frames)
		if got := frames[0].Bytes(); !bytes.Equal(got, first.Bytes()) {
			t.Errorf("after Send the lent frame reads\n%x, want\n%x", got, first.Bytes())
		}
	})
	w.receive(t, 1, func([]wire.Frame) {})
}

func noOutPort(t *testing.T, w Testbed) {
	a, b, c := w.frame(1, 1, 60), w.frame(1, 2, 60), w.frame(1, 3, 60)
	a.Out, b.Out, c.Out = wire.NoPort, 1, 2 // there is no port 2
	if n, err := w.Link.Send([]wire.Frame{a, c, b}); n != 1 || err != nil {
		t.Errorf("sent %d frames: %v, want 1", n, err)
	}
	if got := w.Await(1); !bytes.Equal(got, b.Bytes()) {
		t.Errorf("sent\n%x, want\n%x", got, b.Bytes())
	}
}

func noHeadroom(t *testing.T, w Testbed) {
	a, b := w.frame(1, 1, 60), w.frame(1, 2, 60)
	a.Buf, a.Off, a.End = a.Bytes(), 0, int32(a.Len())
	a.Out, b.Out = 1, 1
	if n, err := w.Link.Send([]wire.Frame{a, b}); n != 1 || err != nil {
		t.Errorf("sent %d frames: %v, want 1", n, err)
	}
	if got := w.Await(1); !bytes.Equal(got, b.Bytes()) {
		t.Errorf("sent\n%x, want\n%x", got, b.Bytes())
	}
}

func tooLong(t *testing.T, w Testbed) {
	f := w.frame(1, 1, 1400)
	f.Out, f.MTU = 1, 600
	const fragments = 3 // of 576 bytes of payload each, a multiple of eight
	if n, err := w.Link.Send([]wire.Frame{f}); n != fragments || err != nil {
		t.Errorf("sent %d fragments: %v, want %d", n, err, fragments)
	}
	var whole []byte
	for range fragments {
		got := wiretest.Frame(w.Await(1))
		wiretest.Check(t, got)
		ip := wire.IPv4(got.Bytes()[14:])
		if int(ip.TotalLen()) > 600 || ip.FragmentOffset() != len(whole) {
			t.Errorf("fragment of %d bytes at %d, want at most 600 at %d", ip.TotalLen(), ip.FragmentOffset(),
				len(whole))
		}
		whole = append(whole, ip[ip.HeaderLen():ip.TotalLen()]...)
	}
	if want := f.Bytes()[14+20:]; !bytes.Equal(whole, want) {
		t.Errorf("fragments make\n%x, want\n%x", whole, want)
	}
}

func gsoInTunnel(t *testing.T, w Testbed) {
	const size, segments = 1000, 5
	f := wiretest.Packet{
		SrcMAC: Source, DstMAC: w.MAC[1], Src: "10.9.0.1:4000", Dst: "10.9.0.2:80", TCPFlags: wire.TCPAck,
		Payload: bytes.Repeat([]byte{1}, segments*size), GSOSize: size,
	}.Frame()
	inner := bytes.Clone(f.Bytes()[14:])
	// The outer header of IP in IP, as package fwd writes it.
	outer := wiretest.Packet{
		SrcMAC: Source, DstMAC: w.MAC[1], Src: "10.9.1.1", Dst: "10.9.1.2", Proto: wire.ProtoIPIP, Payload: inner,
	}.Frame()
	outer.Out, outer.TunnelLen, outer.Offload = 1, 20, f.Offload
	outer.Offload.CsumStart += 20
	if n, err := w.Link.Send([]wire.Frame{outer}); n != segments || err != nil {
		t.Errorf("sent %d segments: %v, want %d", n, err, segments)
	}
	for range segments {
		got := wiretest.Frame(w.Await(1))
		wiretest.Check(t, got)
		if want := 14 + 20 + 20 + 20 + size; got.Len() != want {
			t.Errorf("segment of %d bytes, want %d", got.Len(), want)
		}
	}
}

func wake(t *testing.T, w Testbed) {
	var frames [4]wire.Frame
	w.Link.Wake()
	if _, err := w.Link.Recv(frames[:]); err != nil {
		t.Errorf("woken Recv: %v", err)
	}
	f := w.frame(0, 1, 60)
	w.Inject(0, f.Bytes())
	w.receive(t, 1, func([]wire.Frame) {})
}

func closed(t *testing.T, w Testbed) {
	if err := w.Link.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	var frames [4]wire.Frame
	if _, err := w.Link.Recv(frames[:]); !errors.Is(err, net.ErrClosed) {
		t.Errorf("receive after Close: %v, want net.ErrClosed", err)
	}
	if _, err := w.Link.Send(frames[:]); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send after Close: %v, want net.ErrClosed", err)
	}
	w.Link.Wake()
}
