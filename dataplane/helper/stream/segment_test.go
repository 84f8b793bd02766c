package stream_test

import (
	"reflect"
	"strings"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/wire"
)

// TestSegments: each segment of a conversation leaves as its row says.
func TestSegments(t *testing.T) {
	type row struct {
		name    string
		dir     conntrack.Dir
		in      seg
		outcome stream.Outcome
		out     seg
	}
	for _, conv := range []struct {
		name string
		rows []row
	}{
		{"a line that grows", []row{
			{"grows by two", client, seg{text: "+a\n", window: 7}, stream.Passed, seg{text: "<+a>\n", window: 7}},
			{"what follows is shifted", client, seg{seq: 3, text: "b\n"}, stream.Passed, seg{seq: 5, text: "b\n"}},
			{
				"an acknowledged part of the new line is no part of the old", server,
				seg{ack: 2, window: 80},
				stream.Passed,
				seg{ack: 0, window: 80},
			},
			{"then the rest of it is enough", client, seg{text: "+a\n"}, stream.Passed, seg{seq: 2, text: "a>\n"}},
			{"also for a part of it", client, seg{seq: 1, text: "a"}, stream.Passed, seg{seq: 2, text: "a>\n"}},
			{
				"all of it acknowledged, the window as large", server,
				seg{ack: 5, window: 80},
				stream.Passed,
				seg{ack: 3, window: 80},
			},
			{"what follows, too", server, seg{ack: 7, window: 9}, stream.Passed, seg{ack: 5, window: 9}},
			{
				"an old acknowledgement says what the last one said", server,
				seg{ack: 1, window: 9},
				stream.Passed,
				seg{ack: 5, window: 8},
			},
			{
				"again, long after: the receiver is made to acknowledge", client,
				seg{text: "+a\n"},
				stream.Passed,
				seg{seq: 4, text: ""},
			},
			{
				"again with more: the old is left out", client,
				seg{text: "+a\nb\n"},
				stream.Passed,
				seg{seq: 5, text: "b\n"},
			},
			{"FIN", client, seg{seq: 5, flags: wire.TCPFin}, stream.Passed, seg{seq: 7, flags: wire.TCPFin}},
			{"FIN acknowledged", server, seg{ack: 8}, stream.Passed, seg{ack: 6}},
			{"a reset", client, seg{seq: 6, flags: wire.TCPRst}, stream.Passed, seg{seq: 8, flags: wire.TCPRst}},
		}},
		{"lines that grow and shrink by the same", []row{
			{"the first", client, seg{text: "+a\n"}, stream.Passed, seg{text: "<+a>\n"}},
			{"the second", client, seg{seq: 3, text: "-bc\nd\n"}, stream.Passed, seg{seq: 5, text: "-\nd\n"}},
			{
				"the end has arrived", server,
				seg{ack: 0, sack: []int{7, 9}},
				stream.Passed,
				seg{ack: 0, sack: []int{7, 9}},
			},
			{"all has arrived", server, seg{ack: 9}, stream.Passed, seg{ack: 9}},
			{
				"an old acknowledgement says so too, though numbers are the same again", server,
				seg{ack: 2, sack: []int{7, 9}},
				stream.Passed,
				seg{ack: 9, sack: []int{7, 9}},
			},
		}},
		{"a line in pieces", []row{
			{
				"the first is held back and acknowledged: 100<<3 less 2", client,
				seg{text: "+a", stamp: 0},
				stream.Answered,
				seg{ack: 2, window: 99},
			},
			{"again", client, seg{text: "+a"}, stream.Answered, seg{ack: 2, window: 99}},
			{"the second, too", client, seg{seq: 2, text: "b"}, stream.Answered, seg{ack: 3, window: 99}},
			{"an ACK comes from before the line", client, seg{seq: 3}, stream.Passed, seg{seq: 0}},
			{"so does a keepalive", client, seg{seq: 2}, stream.Passed, seg{seq: 0}},
			{
				"the receiver's ACK covers them, its window shrinks", server,
				seg{ack: 0, window: 50},
				stream.Passed,
				seg{ack: 3, window: 49},
			},
			{"a gap is not judged", client, seg{seq: 4, text: "x"}, stream.DroppedGap, seg{}},
			{"the last brings all", client, seg{seq: 3, text: "\nc"}, stream.Passed, seg{seq: 0, text: "<+ab>\nc"}},
			{"again", client, seg{seq: 3, text: "\n"}, stream.Passed, seg{seq: 0, text: "<+ab>\n"}},
			{
				"nothing arrived: what was held back stays acknowledged", server,
				seg{ack: 0, window: 50},
				stream.Passed,
				seg{ack: 3, window: 49},
			},
			{"all arrived", server, seg{ack: 7, window: 50}, stream.Passed, seg{ack: 5, window: 50}},
		}},
		{"the end of a segment held back", []row{
			{"the segment is shortened", client, seg{text: "a\n+b"}, stream.Shortened, seg{text: "a\n"}},
			{"its beginning acknowledged: all of it", server, seg{ack: 2}, stream.Passed, seg{ack: 4}},
			{"a part of that", server, seg{ack: 1}, stream.Passed, seg{ack: 1}},
			{
				"FIN ends the line", client,
				seg{seq: 4, flags: wire.TCPFin},
				stream.Passed,
				seg{seq: 2, flags: wire.TCPFin, text: "<+b>"},
			},
			{
				"FIN again brings it again", client,
				seg{seq: 4, flags: wire.TCPFin},
				stream.Passed,
				seg{seq: 2, flags: wire.TCPFin, text: "<+b>"},
			},
			{"all acknowledged", server, seg{ack: 7}, stream.Passed, seg{ack: 5}},
		}},
		{"a part of what was held back passes", []row{
			{"two bytes are held back", client, seg{text: "?="}, stream.Answered, seg{ack: 2, window: 99}},
			{"a third decides about the first", client, seg{seq: 2, text: "a"}, stream.Shortened, seg{text: "?"}},
			{"again", client, seg{seq: 2, text: "a"}, stream.Shortened, seg{text: "?"}},
			{"it has arrived", server, seg{ack: 1}, stream.Passed, seg{ack: 3}},
			{"the rest follows", client, seg{seq: 3, text: "\n"}, stream.Passed, seg{seq: 1, text: "=a\n"}},
		}},
		{"the other direction, and a line that shrinks", []row{
			{"shrinks", server, seg{text: "-abcdefgh\nx"}, stream.Passed, seg{text: "-\nx"}},
			{"a client that has it", client, seg{ack: 3, window: 100}, stream.Passed, seg{ack: 11, window: 100}},
			{"and sends", client, seg{ack: 3, text: "q"}, stream.Passed, seg{ack: 11, text: "q"}},
		}},
		{"a line that is removed", []row{
			{"alone: acknowledged", server, seg{text: "!abc\n"}, stream.Answered, seg{ack: 5, window: 100}},
			{"with text", server, seg{seq: 5, text: "a\n"}, stream.Passed, seg{text: "a\n"}},
			{"acknowledged", client, seg{ack: 2}, stream.Passed, seg{ack: 7}},
		}},
		{"SACK", []row{
			{
				"five lines, the second and fourth grow", client,
				seg{text: "a\n+b\nc\n+d\ne\n"},
				stream.Passed,
				seg{text: "a\n<+b>\nc\n<+d>\ne\n"},
			},
			{
				"blocks at the edges of edits", server,
				seg{ack: 0, sack: []int{2, 7, 14, 16}},
				stream.Passed,
				seg{ack: 0, sack: []int{2, 5, 10, 12}},
			},
			{
				"a block that ends within an edit", server,
				seg{ack: 0, sack: []int{1, 4}},
				stream.Passed,
				seg{ack: 0, sack: []int{1, 2}},
			},
			{
				"a block that begins within an edit", server,
				seg{ack: 0, sack: []int{4, 8}},
				stream.Passed,
				seg{ack: 0, sack: []int{5, 6}},
			},
			{
				"a block within an edit, and an ordinary one", server,
				seg{ack: 0, sack: []int{3, 5, 7, 9}},
				stream.Passed,
				seg{ack: 0, sack: []int{5, 7}},
			},
			{"only blocks within edits", server, seg{ack: 0, sack: []int{3, 5, 10, 13}}, stream.Passed, seg{ack: 0}},
			{
				"D-SACK below the acknowledgement", server,
				seg{ack: 2, sack: []int{0, 1}},
				stream.Passed,
				seg{ack: 2, sack: []int{0, 1}},
			},
			{"D-SACK below what is forgotten", server, seg{ack: 9, sack: []int{0, 5}}, stream.Passed, seg{ack: 7}},
			{"all", server, seg{ack: 16}, stream.Passed, seg{ack: 12}},
		}},
		{"urgent text", []row{
			{
				"points behind the line that grows", client,
				seg{text: "+a\nb", flags: wire.TCPUrg, urgent: 4},
				stream.Passed,
				seg{text: "<+a>\nb", flags: wire.TCPUrg, urgent: 6},
			},
			{
				"points before it", client,
				seg{seq: 4, text: "x\n+a\n", flags: wire.TCPUrg, urgent: 1},
				stream.Passed,
				seg{seq: 6, text: "x\n<+a>\n", flags: wire.TCPUrg, urgent: 1},
			},
		}},
		{"refused segments", []row{
			{"a wrong checksum", client, seg{text: "a\n", wrong: true}, stream.DroppedChecksum, seg{}},
			{"a gap", client, seg{seq: 1, text: "a"}, stream.DroppedGap, seg{}},
			{"FIN beyond a gap", client, seg{seq: 1, flags: wire.TCPFin}, stream.DroppedGap, seg{}},
			{"an ACK beyond a gap goes on", client, seg{seq: 1}, stream.Passed, seg{seq: 1}},
			{"an acknowledgement of what was never sent goes on", server, seg{ack: 0}, stream.Passed, seg{ack: 0}},
			{"held back, but without ACK", client, seg{text: "+", noACK: true}, stream.DroppedHeldBack, seg{}},
			{
				"held back, with timestamps, but the server has none", client,
				seg{text: "+", stamp: 5},
				stream.DroppedHeldBack,
				seg{},
			},
		}},
		{"timestamps", []row{
			{"of the server", server, seg{stamp: 77}, stream.Passed, seg{stamp: 77}},
			{
				"in the ACK", client,
				seg{text: "+", stamp: 5, echo: 77},
				stream.Answered,
				seg{ack: 1, stamp: 77, echo: 5},
			},
			{
				"and untouched", client,
				seg{seq: 1, text: "\n", stamp: 6, echo: 77},
				stream.Passed,
				seg{text: "<+>\n", stamp: 6, echo: 77},
			},
		}},
		{"room", []row{
			{"none: nothing of it can go", client, seg{text: "+\n", room: 16}, stream.Shortened, seg{text: "<+"}},
			{"the rest when it comes again", server, seg{ack: 2}, stream.Passed, seg{}},
			{"here it is", client, seg{text: "+\n", room: 16}, stream.Passed, seg{seq: 2, text: ">\n"}},
			{
				"later text finds no room either", client,
				seg{seq: 2, text: "+\nb\n", room: 17},
				stream.Shortened,
				seg{seq: 4, text: "<+>\n"},
			},
			{
				"FIN neither", client,
				seg{seq: 6, text: "+\n", flags: wire.TCPFin, room: 17},
				stream.Shortened,
				seg{seq: 10, text: "<+>"},
			},
		}},
		{"partial checksums and GSO frames", []row{
			{
				"a partial checksum", client,
				seg{text: "+a\n", partial: true},
				stream.Passed,
				seg{text: "<+a>\n", partial: true},
			},
			{
				"a GSO frame", client,
				seg{seq: 3, text: "a\n+b\ncd\n", gso: 3},
				stream.Passed,
				seg{seq: 5, text: "a\n<+b>\ncd\n", gso: 3, partial: true},
			},
			{
				"a GSO frame that shrinks to one segment", client,
				seg{seq: 11, text: "-bcdef\n", gso: 3},
				stream.Passed,
				seg{seq: 15, text: "-\n", partial: true},
			},
		}},
	} {
		t.Run(conv.name, func(t *testing.T) {
			x := begin(t)
			for _, r := range conv.rows {
				got, outcome := x.send(r.dir, r.in)
				if r.in.window == 0 && outcome != stream.Answered {
					got.window = 0
				}
				if r.out.window == 0 {
					got.window = 0
				}
				if outcome != r.outcome || !outcome.Dropped() && !reflect.DeepEqual(got, r.out) {
					t.Errorf("%s: outcome %v, %v\nwant %d, %v", r.name, outcome, got, r.outcome, r.out)
				}
			}
		})
	}
}

// TestMSS: a segment does not grow beyond what every path carries, unless it was
// longer.
func TestMSS(t *testing.T) {
	x := begin(t)
	short := strings.Repeat("a", 531) + "\n+b\n"
	got, outcome := x.send(client, seg{text: short})
	if outcome != stream.Shortened || len(got.text) != 536 {
		t.Errorf("535 bytes that become 537: outcome %v, %d bytes; want 536, shortened", outcome, len(got.text))
	}
	long := strings.Repeat("a", 600) + "\n+b\n"
	if got, outcome = x.send(client, seg{seq: len(short), text: long}); outcome != stream.Shortened ||
		len(got.text) != len(long) {
		t.Errorf("%d bytes become %d, outcome %v; want no more", len(long), len(got.text), outcome)
	}
	tail := seg{seq: len(short) + 601, text: "+b\n"}
	if got, outcome = x.send(client, tail); outcome != stream.Passed || got.text != "<+b>\n" {
		t.Errorf("what was left out, again: outcome %v, %q", outcome, got.text)
	}
}

// TestFull: if there are more edits than are remembered, the first pass. The rest
// passes when it is sent again after the receiver's acknowledgement.
func TestFull(t *testing.T) {
	x := begin(t)
	many := strings.Repeat("+\n", 12)
	got, outcome := x.send(client, seg{text: many, flags: wire.TCPFin})
	n := len(got.text) / 4
	if outcome != stream.Shortened || n == 0 || n >= 12 || got.flags != 0 || got.text != strings.Repeat("<+>\n", n) {
		t.Fatalf("outcome %v, %v", outcome, got)
	}
	rest := seg{seq: 2 * n, text: many[2*n:], flags: wire.TCPFin}
	if _, outcome = x.send(client, rest); outcome != stream.DroppedFull {
		t.Errorf("the rest, before the acknowledgement: outcome %v, want DroppedFull", outcome)
	}
	x.pass(server, seg{ack: 4 * n}, "")
	if got = x.pass(client, rest, strings.Repeat("<+>\n", 12-n)); got.seq != 4*n || got.flags != wire.TCPFin {
		t.Errorf("the rest: %v", got)
	}
}

// TestGoesAway: any number of removed lines is acknowledged and forgotten, although the
// receiver never gets them.
func TestGoesAway(t *testing.T) {
	x := begin(t)
	for i := range 50 {
		if got, outcome := x.send(client, seg{seq: 2 * i, text: "!\n"}); outcome != stream.Answered ||
			got.ack != 2*i+2 {
			t.Fatalf("line %d: outcome %v, %v", i, outcome, got)
		}
	}
}

// TestMiddle: a connection without a handshake is followed from where it is.
func TestMiddle(t *testing.T) {
	x := &conversation{t: t, c: new(stream.Conn), rw: new(lines)}
	x.pass(client, seg{seq: 99, ack: 49}, "") // a keepalive: the number before the next
	x.pass(server, seg{seq: 50, ack: 100, window: 500}, "")
	if got := x.pass(client, seg{seq: 100, ack: 50, text: "+a\n"}, "<+a>\n"); got.seq != 100 {
		t.Errorf("seq is %d, want 100", got.seq)
	}
	x.pass(client, seg{seq: 90, ack: 50, text: "before"}, "before")
	if got := x.pass(server, seg{seq: 50, ack: 105, window: 500}, ""); got.ack != 103 || got.window != 500 {
		t.Errorf("%v, want ack 103 and the window as it was: its scale is not known", got)
	}
}

// TestSYN: text in a SYN is left to be sent again. A SYN restarts a connection that has
// ended or has only its SYN, and no other.
func TestSYN(t *testing.T) {
	x := &conversation{t: t, c: new(stream.Conn), rw: new(lines)}
	restarts := func(dir conntrack.Dir, s seg) bool {
		f := s.frame(dir)
		var p wire.Packet
		wire.Parse(&f, &p)
		return x.c.Restarts(dir, &f, &p)
	}
	syn := seg{seq: -1, flags: wire.TCPSyn, noACK: true}
	other := seg{seq: 1000, flags: wire.TCPSyn, noACK: true}
	if restarts(client, syn) {
		t.Error("the first SYN restarts the connection")
	}
	withText := syn
	withText.text = "+a\n"
	if got, outcome := x.send(client, withText); outcome != stream.Shortened || got.text != "" ||
		got.flags != wire.TCPSyn {
		t.Errorf("SYN with text: outcome %v, %v", outcome, got)
	}
	if restarts(client, syn) || !restarts(client, other) || restarts(server, other) {
		t.Error("before text: the same SYN restarts it, another does not, or the server's does")
	}
	x.pass(server, seg{seq: -1, flags: wire.TCPSyn}, "")
	x.pass(client, seg{text: "+a\n"}, "<+a>\n")
	if restarts(client, other) {
		t.Error("a SYN restarts what is in use")
	}
	x.pass(client, seg{seq: 3, flags: wire.TCPRst}, "")
	if !restarts(client, other) {
		t.Error("a SYN does not restart what was reset")
	}
}

// fixed is a Rewriter that always returns the same judgement.
type fixed struct{ stream.Judgement }

func (f fixed) Judge(conntrack.Dir, []byte, bool) stream.Judgement { return f.Judgement }

// TestQuoted: a number that an ICMP error quotes becomes the sender's again.
func TestQuoted(t *testing.T) {
	x := begin(t)
	x.pass(client, seg{text: "a\n+b\nc\n"}, "a\n<+b>\nc\n")
	first := uint32(isnClient + 1)
	for quoted, want := range map[uint32]uint32{0: 0, 2: 2, 3: 2, 6: 2, 7: 5, 9: 7} {
		if got := x.c.QuotedSeq(client, first+quoted) - first; got != want {
			t.Errorf("%d is %d, want %d", quoted, got, want)
		}
	}
}

// TestRefuse: after a refusal only resets pass.
func TestRefuse(t *testing.T) {
	x := begin(t)
	x.pass(client, seg{text: "+a\n"}, "<+a>\n")
	x.rw = fixed{stream.Judgement{Do: stream.Refuse}}
	for range 2 {
		if _, outcome := x.send(server, seg{ack: 5, text: "x"}); outcome != stream.DroppedRefused {
			t.Errorf("outcome %v, want DroppedRefused", outcome)
		}
	}
	if got := x.pass(server, seg{ack: 5, flags: wire.TCPRst}, ""); got.ack != 3 {
		t.Errorf("reset: %v, want ack 3", got)
	}
}

// TestTooLong: a Rewriter that returns too long a text ends the connection.
func TestTooLong(t *testing.T) {
	x := begin(t)
	x.rw = fixed{stream.Judgement{Do: stream.Replace, N: 1, New: make([]byte, stream.MaxUnit+1)}}
	if _, outcome := x.send(client, seg{text: "a"}); outcome != stream.DroppedRefused {
		t.Errorf("outcome %v, want DroppedRefused", outcome)
	}
}

// TestLeave: after Leave everything passes in any order, the held text first.
func TestLeave(t *testing.T) {
	x := begin(t)
	x.send(client, seg{text: "+a"})
	x.rw = fixed{stream.Judgement{Do: stream.Leave}}
	x.pass(server, seg{text: "-b\n"}, "-b\n")
	if _, outcome := x.send(client, seg{seq: 4, text: "d"}); outcome != stream.DroppedGap {
		t.Errorf("beyond a gap, text held back: outcome %v, want DroppedGap", outcome)
	}
	x.pass(client, seg{seq: 2, text: "c"}, "+ac")
	x.pass(client, seg{seq: 4, text: "d"}, "d")
}

// TestSize: a Conn has no pointers, and is no larger than documented.
func TestSize(t *testing.T) {
	typ := reflect.TypeFor[stream.Conn]()
	if n := typ.Size(); n > 1536 {
		t.Errorf("a Conn has %d bytes, want at most 1536", n)
	}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Struct:
			for i := range typ.NumField() {
				walk(typ.Field(i).Type)
			}
		case reflect.Array:
			walk(typ.Elem())
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.String,
			reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer:
			t.Errorf("%v holds a pointer", typ)
		}
	}
	walk(typ)
}
