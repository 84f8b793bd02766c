package stream_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/helper/stream/streamtest"
	"uvs/dataplane/wire"
)

var streams = streamtest.NewRuns("streams", 3000, 300)

// lines is a Rewriter of lines, by their first byte:
//
//	"+x\n"    grows to "<+x>\n"
//	"-xyz\n"  shrinks to "-\n"
//	"!x\n"    is removed
//	"=x\n"    is held back until it is whole, and passes
//	"?x\n"    its first byte passes alone, once two more bytes or the line's end are there
//	"*x\n"    its first byte is doubled, under the same condition
//
// Any other line passes as it comes; so does one of + - ! = that is longer than
// MaxUnit.
type lines struct {
	rest [2]bool
	text [stream.MaxUnit]byte
}

func (l *lines) Judge(dir conntrack.Dir, text []byte, last bool) stream.Judgement {
	i := bytes.IndexByte(text, '\n')
	whole := i >= 0
	n := i + 1
	if !whole {
		n = len(text)
	}
	pass := stream.Judgement{Do: stream.Pass, N: n}
	switch special := bytes.IndexByte([]byte("+-!=?*"), text[0]) >= 0; {
	case l.rest[dir.Index()] || !special:
		l.rest[dir.Index()] = !whole
		return pass
	case text[0] == '?' || text[0] == '*':
		if n < 3 && !whole && !last {
			return stream.Judgement{Do: stream.More}
		}
		if text[0] == '?' {
			return stream.Judgement{Do: stream.Pass, N: 1}
		}
		l.rest[dir.Index()] = true
		return stream.Judgement{Do: stream.Replace, N: 1, New: append(l.text[:0], "**"...)}
	case !whole && !last:
		return stream.Judgement{Do: stream.More}
	case !whole && len(text) == stream.MaxUnit:
		l.rest[dir.Index()] = true
		return pass
	}
	new, ok := change(l.text[:0], text[:n])
	if !ok {
		return pass
	}
	return stream.Judgement{Do: stream.Replace, N: n, New: new}
}

// change appends what a line of up to MaxUnit bytes becomes.
func change(b, line []byte) ([]byte, bool) {
	body := bytes.TrimSuffix(line, []byte("\n"))
	end := line[len(body):]
	switch line[0] {
	case '+':
		if len(line)+2 > stream.MaxUnit {
			return nil, false
		}
		b = append(append(append(b, '<'), body...), '>')
		return append(b, end...), true
	case '-':
		return append(append(b, '-'), end...), true
	case '!':
		return b, true
	}
	return nil, false
}

// changed returns what a whole text becomes.
func changed(text []byte) (b []byte) {
	for _, line := range bytes.SplitAfter(text, []byte("\n")) {
		for len(line) > 0 && line[0] == '?' {
			b, line = append(b, '?'), line[1:]
		}
		if len(line) > 0 && line[0] == '*' {
			b = append(append(b, '*'), line...)
		} else if len(line) == 0 || len(line) > stream.MaxUnit || len(line) == stream.MaxUnit &&
			line[len(line)-1] != '\n' {
			b = append(b, line...)
		} else if new, ok := change(nil, line); ok {
			b = append(b, new...)
		} else {
			b = append(b, line...)
		}
	}
	return b
}

// text returns random lines.
func text(rng *rand.Rand, finish bool) (b []byte) {
	for range rng.IntN(30) {
		b = append(b, "+-!=?*abc"[rng.IntN(9)])
		if b[len(b)-1] == '?' {
			b = append(b, "+-!=?*abc"[rng.IntN(9)])
		}
		n := rng.IntN(12)
		if rng.IntN(10) == 0 {
			n = rng.IntN(600)
		}
		for range n {
			b = append(b, "abcdefgh"[rng.IntN(8)])
		}
		b = append(b, '\n')
	}
	if finish && len(b) > 0 && rng.IntN(2) == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// TestStreams: whatever the network does, each end receives what the rules make of the
// other's text, is acknowledged no more than it sent, and both finish.
func TestStreams(t *testing.T) { streams.Run(t, runStream) }

func runStream(t *testing.T, rng *rand.Rand) {
	var c stream.Conn
	var rw lines
	late := rng.IntN(3) == 0 // the connection is followed from its first text
	unseen := late
	w := streamtest.New(t, rng, rng.IntN(2) == 0,
		func(dir conntrack.Dir, f *wire.Frame, p *wire.Packet) stream.Outcome {
			if unseen {
				return stream.Passed
			}
			return c.Process(dir, f, p, &rw)
		})
	w.Lossless = rng.IntN(4) == 0
	for _, e := range w.Ends {
		e.Finish = rng.IntN(2) == 0
		e.Out = text(rng, e.Finish)
	}
	w.Connect()
	if unseen = false; late {
		for i, e := range w.Ends {
			if n := len(e.Out); n > 0 {
				w.Carry(streamtest.Dirs[i], 0, 1+rng.IntN(n), false)
			}
		}
	}
	w.Disturb(rng.IntN(500))
	w.Settle()
	for i, e := range w.Ends {
		got, want := w.Ends[1-i].In, changed(e.Out)
		if !bytes.Equal(got, want) {
			t.Errorf("sent %q\nbecame %q\nwant %q", e.Out, got, want)
		}
		if e.Finish != w.Ends[1-i].Ended {
			t.Errorf("FIN sent %v, received %v", e.Finish, w.Ends[1-i].Ended)
		}
	}
	if n := w.Outcomes[stream.DroppedChecksum] + w.Outcomes[stream.DroppedFragment] +
		w.Outcomes[stream.DroppedRefused]; n > 0 {
		t.Errorf("outcomes %v", w.Outcomes)
	}
}

// TestForgedNumbers: on a connection followed from its SYN, no text passes unjudged
// because a segment claims that it was sent long ago.
func TestForgedNumbers(t *testing.T) {
	x := begin(t)
	x.send(client, seg{ack: 1000}) // acknowledges text that was never sent
	x.pass(server, seg{text: "+a\n"}, "<+a>\n")

	x = begin(t)
	x.send(client, seg{seq: 1000, flags: wire.TCPSyn, noACK: true}) // the server ignores this one
	if got, outcome := x.send(client, seg{text: "+a\n"}); got.text != "" {
		t.Errorf("text from before the second SYN: %v, %v", outcome, got)
	}
}
