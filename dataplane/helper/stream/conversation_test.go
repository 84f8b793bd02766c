package stream_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/gopacket/layers"

	"uvs/conntrack"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// The endpoints in these tests. Sequence numbers count from the sender's first byte of
// text; its SYN has number -1.
const (
	clientEnd, vipEnd, serverEnd = "198.51.100.7:40000", "10.9.0.1:21", "10.0.0.2:21"
	isnClient, isnServer         = uint32(0xfffffff0), uint32(5000)
)

// conversation is a connection whose segments a test writes one by one.
type conversation struct {
	t  testing.TB
	c  *stream.Conn
	rw stream.Rewriter
}

// seg is a segment as a test writes it, or as it left.
type seg struct {
	seq, ack int
	flags    uint8 // ACK is added unless noACK is set
	noACK    bool
	window   uint16
	text     string
	sack     []int // left and right edges
	stamp    int   // TSval; 0: no timestamps
	echo     int
	urgent   int
	gso      uint16
	partial  bool
	room     int // headroom in bytes; 0: wire.Headroom
	wrong    bool
	options  []byte
}

func (s seg) String() string {
	return fmt.Sprintf("seq %d ack %d flags %#x window %d sack %v stamp %d echo %d urgent %d gso %d %q",
		s.seq, s.ack, s.flags, s.window, s.sack, s.stamp, s.echo, s.urgent, s.gso, s.text)
}

func (s seg) frame(dir conntrack.Dir) wire.Frame {
	p := wiretest.Packet{
		Src: clientEnd, Dst: vipEnd, DF: true, Payload: []byte(s.text), GSOSize: s.gso,
		PartialChecksum: s.partial,
	}
	mine, other := uint32(isnClient), uint32(isnServer)
	if dir == conntrack.DirOut {
		p.Src, p.Dst = serverEnd, clientEnd
		mine, other = other, mine
	}
	p.Seq, p.TCPFlags = mine+1+uint32(s.seq), s.flags
	if !s.noACK {
		p.Ack, p.TCPFlags = other+1+uint32(s.ack), s.flags|wire.TCPAck
	}
	p.TCPOptions = s.options
	if s.stamp != 0 {
		p.TCPOptions = append(p.TCPOptions, 1, 1, 8, 10)
		p.TCPOptions = binary.BigEndian.AppendUint32(p.TCPOptions, uint32(s.stamp))
		p.TCPOptions = binary.BigEndian.AppendUint32(p.TCPOptions, uint32(s.echo))
	}
	if len(s.sack) > 0 {
		p.TCPOptions = append(p.TCPOptions, 1, 1, 5, uint8(2+4*len(s.sack)))
		for _, edge := range s.sack {
			p.TCPOptions = binary.BigEndian.AppendUint32(p.TCPOptions, other+1+uint32(edge))
		}
	}
	f := p.Frame()
	var parsed wire.Packet
	wire.Parse(&f, &parsed)
	tcp := wire.TCP(f.From(parsed.L4))
	tcp.SetWindow(s.window)
	tcp.SetUrgent(uint16(s.urgent))
	wire.FillChecksum(&f, &parsed)
	if s.wrong {
		tcp.SetWindow(s.window ^ 1)
	}
	if s.room != 0 {
		f.Buf = append(make([]byte, s.room), f.Bytes()...)
		f.Off, f.End = int32(s.room), int32(len(f.Buf))
	}
	return f
}

// read reads a frame that left on behalf of the end that sends in dir.
func read(t testing.TB, dir conntrack.Dir, f wire.Frame) (s seg) {
	wiretest.Check(t, f)
	mine, other := uint32(isnClient), uint32(isnServer)
	if dir == conntrack.DirOut {
		mine, other = other, mine
	}
	d := wiretest.Decode(t, f)
	tcp, ok := d.TransportLayer().(*layers.TCP)
	if !ok {
		t.Fatalf("no TCP in %x", f.Bytes())
	}
	s = seg{
		seq: int(int32(tcp.Seq - mine - 1)), ack: int(int32(tcp.Ack - other - 1)), window: tcp.Window,
		flags: wire.TCP(tcp.Contents).Flags() &^ wire.TCPAck, noACK: !tcp.ACK, text: string(tcp.LayerPayload()),
		urgent: int(tcp.Urgent),
		gso:    f.Offload.GSOSize, partial: f.ChecksumPartial(),
	}
	for _, o := range tcp.Options {
		switch b := o.OptionData; o.OptionType {
		case layers.TCPOptionKindSACK:
			for ; len(b) >= 4; b = b[4:] {
				s.sack = append(s.sack, int(int32(binary.BigEndian.Uint32(b)-other-1)))
			}
		case layers.TCPOptionKindTimestamps:
			s.stamp, s.echo = int(binary.BigEndian.Uint32(b)), int(binary.BigEndian.Uint32(b[4:]))
		}
	}
	return s
}

// send processes a segment and returns what leaves: to its receiver, or back to its
// sender if the outcome is Answered.
func (x *conversation) send(dir conntrack.Dir, s seg) (seg, stream.Outcome) {
	x.t.Helper()
	f := s.frame(dir)
	before := bytes.Clone(f.Buf)
	var p wire.Packet
	wire.Parse(&f, &p)
	outcome := x.c.Process(dir, &f, &p, x.rw)
	switch {
	case outcome == stream.DroppedChecksum || outcome == stream.DroppedFragment:
		if !bytes.Equal(f.Buf, before) {
			x.t.Errorf("%v: frame was changed", outcome)
		}
		return seg{}, outcome
	case outcome.Dropped():
		return seg{}, outcome
	case outcome == stream.Answered:
		return read(x.t, dir.Opposite(), f), outcome
	}
	return read(x.t, dir, f), outcome
}

// begin returns a conversation after its handshake, with window scales 2 and 3.
func begin(t testing.TB) *conversation {
	x := &conversation{t: t, c: new(stream.Conn), rw: new(lines)}
	syn := []byte{2, 4, 5, 180, 1, 3, 3, 2}
	x.pass(conntrack.DirIn, seg{seq: -1, flags: wire.TCPSyn, noACK: true, options: syn, window: 100}, "")
	x.pass(conntrack.DirOut, seg{seq: -1, flags: wire.TCPSyn, options: []byte{2, 4, 5, 180, 1, 3, 3, 3}, window: 100},
		"")
	x.pass(conntrack.DirIn, seg{window: 100}, "")
	x.pass(conntrack.DirOut, seg{window: 100}, "")
	return x
}

// pass sends a segment that must pass unchanged except for its text.
func (x *conversation) pass(dir conntrack.Dir, s seg, text string) seg {
	x.t.Helper()
	got, outcome := x.send(dir, s)
	if outcome != stream.Passed || got.text != text {
		x.t.Fatalf("%v: outcome %v, %q, want %q passed", s, outcome, got.text, text)
	}
	return got
}

const client, server = conntrack.DirIn, conntrack.DirOut
