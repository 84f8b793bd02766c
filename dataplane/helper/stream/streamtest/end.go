// Package streamtest judges rewriters of TCP streams. Two model ends talk through a
// director that rewrites, over a network that loses, duplicates and reorders. They
// retransmit with other segment boundaries than before. The package shares no code with
// what it judges, and reads frames with gopacket.
package streamtest

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// End is one end of the connection. Positions count bytes of text; the SYN is before
// position 0, the FIN after the last.
type End struct {
	t          testing.TB
	Addr, To   string // its own endpoint ("10.0.0.1:1234"), and the one it connects to
	ISN, Peer  uint32 // sequence numbers of the SYNs
	MSS        uint16
	Scale      uint8
	Timestamps bool // the end uses timestamps
	Finish     bool // a FIN follows the text

	Out      []byte // the text to send
	una, nxt int    // how much of it was acknowledged, and sent
	sacked   map[int]bool

	In         []byte       // the text received in order
	outOfOrder map[int]byte // the text received beyond a gap, by position
	Ended      bool         // and the FIN received
	finAt      int          // position of a FIN beyond a gap, -1 if there is none
	dsack      [2]int       // the last range that came twice, for a D-SACK

	tsval     uint32 // of the last segment sent
	peerTSval uint32 // of the last segment received
}

// finLen returns 1 if a FIN is to be sent.
func (e *End) finLen() int {
	if e.Finish {
		return 1
	}
	return 0
}

// Done reports whether everything was sent and acknowledged.
func (e *End) Done() bool { return e.una == len(e.Out)+e.finLen() }

// options returns the TCP options of a segment without SYN.
func (e *End) options() []byte {
	var b []byte
	if e.Timestamps {
		e.tsval++
		b = append(b, 1, 1, 8, 10)
		b = binary.BigEndian.AppendUint32(b, e.tsval)
		b = binary.BigEndian.AppendUint32(b, e.peerTSval)
	}
	var blocks [][2]int
	if e.dsack != [2]int{} {
		blocks = append(blocks, e.dsack)
		e.dsack = [2]int{}
	}
	if len(e.outOfOrder) > 0 {
		for at, n := len(e.In), len(e.outOfOrder); n > 0 && len(blocks) < 3; at++ {
			from := at
			for e.has(at) {
				at, n = at+1, n-1
			}
			if from == at {
				continue
			}
			blocks = append(blocks, [2]int{from, at})
		}
	}
	if len(blocks) > 0 {
		b = append(b, 1, 1, 5, uint8(2+8*len(blocks)))
		for _, x := range blocks {
			b = binary.BigEndian.AppendUint32(b, e.Peer+1+uint32(x[0]))
			b = binary.BigEndian.AppendUint32(b, e.Peer+1+uint32(x[1]))
		}
	}
	return b
}

// has reports whether the byte at a position has arrived beyond a gap.
func (e *End) has(at int) bool {
	_, ok := e.outOfOrder[at]
	return ok
}

// synOptions returns those of a SYN: MSS, window scale, SACK permitted, timestamps.
func (e *End) synOptions() []byte {
	b := []byte{2, 4, uint8(e.MSS >> 8), uint8(e.MSS), 3, 3, e.Scale, 1, 1, 1, 4, 2}
	if e.Timestamps {
		b = append(b, e.options()...)
	}
	return b
}

// frame builds a segment.
func (e *End) frame(flags uint8, seq uint32, options, payload []byte, gso uint16, partial bool, room,
	back int,
) wire.Frame {
	p := wiretest.Packet{
		Src: e.Addr, Dst: e.To, TCPFlags: flags, Seq: seq, DF: true,
		TCPOptions: options, Payload: payload, GSOSize: gso, PartialChecksum: partial,
	}
	if flags&wire.TCPAck != 0 {
		p.Ack = e.Peer + 1 + uint32(len(e.In))
		if e.Ended {
			p.Ack++
		}
	}
	f := p.Frame()
	buf := make([]byte, room+f.Len()+back)
	copy(buf[room:], f.Bytes())
	f.Buf, f.Off, f.End = buf, int32(room), int32(room+f.Len())
	return f
}

// Segment returns text[from:to], followed by the FIN if to is beyond the text.
func (e *End) Segment(from, to int, s Shape) wire.Frame {
	flags := uint8(wire.TCPAck | wire.TCPPsh)
	end := min(to, len(e.Out))
	if to > len(e.Out) {
		flags |= wire.TCPFin
	}
	e.nxt = max(e.nxt, to)
	return e.frame(flags, e.ISN+1+uint32(from), e.options(), e.Out[min(from, end):end], s.GSO, s.Partial, s.Headroom,
		s.Tailroom)
}

// Ack returns a segment without text.
func (e *End) Ack(s Shape) wire.Frame {
	return e.frame(wire.TCPAck, e.ISN+1+uint32(e.nxt), e.options(), nil, 0, s.Partial, s.Headroom, s.Tailroom)
}

// Probe returns a keepalive: its number was acknowledged long ago.
func (e *End) Probe(s Shape) wire.Frame {
	return e.frame(wire.TCPAck, e.ISN+uint32(e.nxt), e.options(), nil, 0, s.Partial, s.Headroom, s.Tailroom)
}

// Shape is how a frame comes in.
type Shape struct {
	GSO                uint16 // a GSO frame with segments of this many bytes
	Partial            bool   // partial checksum
	Headroom, Tailroom int    // bytes in the buffer before and after the frame
}

// defaultShape is the shape of most frames.
var defaultShape = Shape{Headroom: wire.Headroom}

// Receive takes a frame that arrived. It fails the test if the frame could not have
// come from the other end.
func (e *End) Receive(f wire.Frame) {
	e.t.Helper()
	var tcp *layers.TCP
	for _, l := range gopacket.NewPacket(f.Bytes(), layers.LayerTypeEthernet, gopacket.NoCopy).Layers() {
		if l, ok := l.(*layers.TCP); ok {
			tcp = l
		}
	}
	if tcp == nil {
		e.t.Fatalf("no TCP in %x", f.Bytes())
	}
	if tcp.ACK && !tcp.SYN {
		e.receiveAck(tcp)
	}
	for _, o := range tcp.Options {
		if o.OptionType == layers.TCPOptionKindTimestamps && len(o.OptionData) == 8 {
			e.peerTSval = binary.BigEndian.Uint32(o.OptionData)
			if echo := binary.BigEndian.Uint32(o.OptionData[4:]); echo > e.tsval {
				e.t.Fatalf("%s: echoes TSval %d, %d was sent last", e.Addr, echo, e.tsval)
			}
		}
	}
	e.receiveText(int(int32(tcp.Seq-e.Peer-1)), tcp.LayerPayload(), tcp.FIN)
}

// receiveAck checks and records ACK and SACK.
func (e *End) receiveAck(tcp *layers.TCP) {
	e.t.Helper()
	ack := int(int32(tcp.Ack - e.ISN - 1))
	if ack > e.nxt || ack < 0 {
		e.t.Fatalf("%s: is acknowledged %d, sent %d", e.Addr, ack, e.nxt)
	}
	e.una = max(e.una, ack)
	for _, o := range tcp.Options {
		if o.OptionType != layers.TCPOptionKindSACK {
			continue
		}
		for b := o.OptionData; len(b) >= 8; b = b[8:] {
			left := int(int32(binary.BigEndian.Uint32(b) - e.ISN - 1))
			right := int(int32(binary.BigEndian.Uint32(b[4:]) - e.ISN - 1))
			if left >= right || right > e.nxt {
				e.t.Fatalf("%s: SACK %d to %d, acknowledged %d, sent %d", e.Addr, left, right, ack, e.nxt)
			}
			for at := max(left, 0); at < right; at++ {
				e.sacked[at] = true
			}
		}
	}
}

// receiveText takes text that arrived at a position.
func (e *End) receiveText(at int, text []byte, fin bool) {
	e.t.Helper()
	twice := 0
	for i, c := range text {
		had, ok := e.outOfOrder[at+i]
		switch {
		case at+i < 0:
			e.t.Fatalf("%s: received text before the first, %d", e.Addr, at)
		case at+i < len(e.In):
			had, ok = e.In[at+i], true
		}
		if ok && had != c {
			e.t.Fatalf("%s: byte %d was %q and is %q, in %q at %d", e.Addr, at+i, had, c, text, at)
		}
		if ok {
			twice++
		}
		if at+i >= len(e.In) {
			e.outOfOrder[at+i] = c
		}
	}
	if twice == len(text) && twice > 0 {
		e.dsack = [2]int{at, at + len(text)}
	}
	for c, ok := e.outOfOrder[len(e.In)]; ok; c, ok = e.outOfOrder[len(e.In)] {
		delete(e.outOfOrder, len(e.In))
		e.In = append(e.In, c)
	}
	if fin {
		if e.finAt >= 0 && e.finAt != at+len(text) {
			e.t.Fatalf("%s: FIN at %d, was at %d", e.Addr, at+len(text), e.finAt)
		}
		e.finAt = at + len(text)
	}
	if e.finAt >= 0 && len(e.In) > e.finAt {
		e.t.Fatalf("%s: received %d bytes, FIN at %d", e.Addr, len(e.In), e.finAt)
	}
	e.Ended = e.finAt == len(e.In)
}

func (e *End) String() string {
	return fmt.Sprintf("%s: sent %d of %d, %d acknowledged; received %d, ended %v", e.Addr, e.nxt, len(e.Out), e.una,
		len(e.In), e.Ended)
}
