package stream_test

import (
	"strings"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/helper/stream/streamtest"
	"uvs/dataplane/wire"
)

// steps are segments of every kind, one conversation in order.
var steps = []struct {
	name string
	dir  conntrack.Dir
	in   seg
}{
	{"banner", server, seg{text: "220 ready\n"}},
	{"ACK", client, seg{ack: 10}},
	{"grows", client, seg{ack: 10, text: "+a\n"}},
	{"again", client, seg{ack: 10, text: "+a\n"}},
	{"acknowledged in part, SACK", server, seg{seq: 10, ack: 1, sack: []int{3, 5}}},
	{"acknowledged", server, seg{seq: 10, ack: 5}},
	{"long gone", client, seg{ack: 10, text: "+a\n"}},
	{"gap", client, seg{seq: 5, ack: 10, text: "x"}},
	{"held back", client, seg{seq: 3, ack: 10, text: "a\n+b"}},
	{"all of it held back", client, seg{seq: 7, ack: 10, text: "c"}},
	{"completed", client, seg{seq: 8, ack: 10, text: "\nb\n"}},
	{"GSO frame", client, seg{seq: 11, ack: 10, text: strings.Repeat("-xy\n", 3), gso: 5}},
	{"FIN", client, seg{seq: 23, ack: 10, flags: wire.TCPFin}},
	{"reset", server, seg{seq: 10, flags: wire.TCPRst}},
}

// TestNoAllocations: no segment causes an allocation.
func TestNoAllocations(t *testing.T) {
	x := begin(t)
	for _, s := range steps {
		sample := s.in.frame(s.dir)
		buf := make([]byte, len(sample.Buf))
		c, rw, before, was := new(stream.Conn), new(lines), *x.c, *x.rw.(*lines)
		f, p := new(wire.Frame), new(wire.Packet)
		if n := testing.AllocsPerRun(10, func() {
			*c, *rw = before, was
			copy(buf, sample.Buf)
			*f = sample
			f.Buf = buf
			wire.Parse(f, p)
			c.Process(s.dir, f, p, rw)
		}); n != 0 {
			t.Errorf("%s: %v allocations", s.name, n)
		}
		x.send(s.dir, s.in)
	}
}

func BenchmarkProcess(b *testing.B) {
	x := begin(b)
	for _, s := range steps {
		sample := s.in.frame(s.dir)
		before, was := *x.c, *x.rw.(*lines)
		b.Run(strings.ReplaceAll(s.name, " ", "_"), func(b *testing.B) {
			buf := make([]byte, len(sample.Buf))
			f, p := new(wire.Frame), new(wire.Packet)
			for b.Loop() {
				*x.c, *x.rw.(*lines) = before, was // about a tenth of the time
				copy(buf, sample.Buf)
				*f = sample
				f.Buf = buf
				wire.Parse(f, p)
				x.c.Process(s.dir, f, p, x.rw)
			}
		})
		x.send(s.dir, s.in)
	}
}

// FuzzProcess: whatever frames come, nothing panics or leaves the buffer. A frame that
// continues is valid, and matches the packet.
func FuzzProcess(f *testing.F) {
	for _, s := range steps {
		frame := s.in.frame(s.dir)
		f.Add(frame.Bytes(), uint8(s.dir.Index()), uint8(96), frame.Offload.Flags, frame.Offload.GSOType,
			frame.Offload.GSOSize)
	}
	f.Fuzz(func(t *testing.T, b []byte, how, room, flags, gsoType uint8, gsoSize uint16) {
		if len(b) > 0xffff {
			return
		}
		x := begin(t)
		x.send(client, seg{text: "+a\nb\n-cdef\n+g"})
		for i := range 3 { // several times, from both sides
			dir := streamtest.Dirs[how>>i&1]
			frame := wire.Frame{Buf: append(make([]byte, room), b...), Off: int32(room), End: int32(int(room) + len(b))}
			frame.Offload = wire.Offload{Flags: flags, GSOType: gsoType, GSOSize: gsoSize, CsumOffset: 16}
			var p wire.Packet
			wire.Parse(&frame, &p)
			if p.Kind != wire.KindIP || p.Proto != wire.ProtoTCP {
				return
			}
			frame.Offload.CsumStart = p.L4
			right := frame.IsGSO() || wire.VerifyChecksum(&frame, &p)
			if !right && how&8 != 0 { // the fuzzer does not find checksums
				wire.FillChecksum(&frame, &p)
				right = true
			}
			outcome := x.c.Process(dir, &frame, &p, x.rw)
			if frame.Off < 0 || frame.End < frame.Off || int(frame.End) > len(frame.Buf) {
				t.Fatalf("frame at %d to %d of %d", frame.Off, frame.End, len(frame.Buf))
			}
			if outcome.Dropped() {
				continue
			}
			var after wire.Packet
			wire.Parse(&frame, &after)
			if after.Kind != wire.KindIP || !frame.IsGSO() && !wire.VerifyChecksum(&frame, &after) {
				t.Fatalf("outcome %d, flaw %d: %x", outcome, after.Flaw, frame.Bytes())
			}
			if outcome != stream.Answered && after != p {
				t.Fatalf("packet %+v, frame %+v", p, after)
			}
			_ = right
		}
	})
}
