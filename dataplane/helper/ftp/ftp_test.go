package ftp

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/helper/stream/streamtest"
	"uvs/dataplane/wire"
)

var sessions = streamtest.NewRuns("sessions", 2000, 200)

var (
	context4 = Context{Client: addr4(198, 51, 100, 7), Server: addr4(10, 0, 0, 2), VIP: addr4(10, 9, 0, 1)}
	context6 = Context{
		Client: addr6(0x20, 1, 0xd, 0xb8, 7), Server: addr6(0xfd, 0, 0, 0, 2),
		VIP: addr6(0x20, 1, 0xd, 0xb8, 9),
	}
)

func addr4(b ...byte) wire.Addr { return wire.AddrFrom4(b) }

// addr6 returns an address with four given first bytes and a given last one.
func addr6(a, b, c, d, last byte) wire.Addr { return wire.Addr{a, b, c, d, 15: last} }

// session is a control connection through the helper, with the twin beside it.
type session struct {
	t       *testing.T
	network *streamtest.Network
	twin    *twin
	expect  recorder
	events  Event
	conn    stream.Conn
	state   State
	want    [2][]byte
}

func newSession(t *testing.T, rng *rand.Rand, context Context) *session {
	s := &session{t: t, twin: newTwin(context)}
	helper := New(&s.expect)
	s.network = streamtest.New(t, rng, !context.Client.Is4(),
		func(dir conntrack.Dir, f *wire.Frame, p *wire.Packet) stream.Outcome {
			outcome, events := helper.Process(&s.conn, &s.state, context, dir, f, p)
			s.events |= events
			return outcome
		})
	s.network.Connect()
	return s
}

// send lets an end send more text while n random things happen. It checks what arrives
// and which data connections were asked for.
func (s *session) send(dir conntrack.Dir, text []byte, n int) {
	s.t.Helper()
	if dir == conntrack.DirIn {
		s.want[dir.Index()] = append(s.want[dir.Index()], s.twin.client(text)...)
	} else {
		s.want[dir.Index()] = append(s.want[dir.Index()], s.twin.server(text)...)
	}
	e := s.network.Ends[dir.Index()]
	e.Out = append(e.Out, text...)
	s.network.Disturb(n)
	s.network.Settle()
	if got := s.network.Ends[dir.Opposite().Index()].In; !bytes.Equal(got, s.want[dir.Index()]) {
		s.t.Fatalf("sent %q\nreceived %q\nwant     %q", e.Out, got, s.want[dir.Index()])
	}
	if !slices.Equal(s.expect.calls, s.twin.expect.calls) {
		s.t.Fatalf("sent %q\nexpected %q\nwant     %q", e.Out, s.expect.calls, s.twin.expect.calls)
	}
}

// The lines of sessions. A, B and C stand for the addresses of the client, the server
// and another host, V for the VIP, P for a port.
var (
	commandLines = []string{
		"USER anonymous", "PASS x@", "LIST", "QUIT", "RETR big file", "NOOP", "\xff\xf4\xff\xf2ABOR",
		"STOR 227 (1,2,3,4,5,6)",
		"PASV", "pasv", " PASV ", "\xff\xf2PASV", "PASV x", "EPSV", "epsv 1", "EPSV 2", "EPSV ALL", "AUTH TLS",
		"PORT A,P", "port a,P", "PORT C,P", "PORT B,P", "PORT A,0,0", "PORT", "PORT A",
		"PORT 198, 51, 100,7 ,4,1", "PO\xff\xf1RT C,P",
		"EPRT |1|A|P|", "EPRT |2|A|P|", "EPRT |1|C|P|", "EPRT |3|A|P|", "eprt !1!A!P!", "EPRT |1|A|0|", "EPRT |1||P|",
		"PORTA,P", "XPORT C,P", "LPRT 4,4", "lpsv", "\r\vPO\x00RT C,P", "",
	}
	replyLines = []string{
		"220 ready", "200 ok", "150 here it comes", "226 done", "500 what?", "425 no", "230-welcome", "230 in",
		"227 Entering Passive Mode (B,P)", "227 Entering Passive Mode (B,P).", "227 =B,P", "227 passive B,P here",
		"227 at 12 (no) B,P", "227 ( 10 , 0,0\t, 0, 2, 4, 1 )", "227 (10, 0, 0, 2, 4,",
		"227 (V,P)", "227 (0,0,0,0,P)", "227 (C,P)", "227 Entering Passive Mode", "227-one (B,P)", "227-",
		"227 two (B,P)", "227",
		"229 Entering Extended Passive Mode (|||P|)", "229 (!!!P!)", "229 |||P|", "229 (|1|B|P|)", "229 (|||0|)",
		"229 none", "229-(|||P|)",
		"213-Status", " 227 (B,P)", "213 End", "234 go on", "234-go on", "",
	}
)

// fillIn puts addresses and ports into a line: with commas, or for EPRT as they are.
func fillIn(rng *rand.Rand, line string, t Context) string {
	other := addr4(192, 0, 2, 9)
	if !t.Client.Is4() {
		other = addr6(0x20, 1, 0xd, 0xb8, 99)
	}
	port := uint16(rng.IntN(1 << 16))
	write := func(a wire.Addr) string { return a.String() }
	p := func() string { return string(appendNumber(nil, int(port))) }
	if !strings.HasPrefix(strings.ToUpper(line), "EPRT") && !strings.HasPrefix(line, "229") {
		write = func(a wire.Addr) string { return strings.ReplaceAll(a.String(), ".", ",") }
		p = func() string {
			return string(appendNumber(nil, int(port>>8))) + "," + string(appendNumber(nil, int(port&255)))
		}
	}
	for _, r := range []struct{ from, to string }{
		{"A,", write(t.Client) + ","},
		{"|A|", "|" + write(t.Client) + "|"},
		{"!A!", "!" + write(t.Client) + "!"},
		{"a,", write(t.Client) + ","},
		{"B,", write(t.Server) + ","},
		{"|B|", "|" + write(t.Server) + "|"},
		{"V,", write(t.VIP) + ","},
		{"C,", write(other) + ","},
		{"|C|", "|" + write(other) + "|"},
		{",P", "," + p()},
		{"|P|", "|" + p() + "|"},
		{"!P!", "!" + p() + "!"},
	} {
		line = strings.ReplaceAll(line, r.from, r.to)
	}
	return line
}

func appendNumber(b []byte, n int) []byte {
	if n >= 10 {
		b = appendNumber(b, n/10)
	}
	return append(b, byte('0'+n%10))
}

// randomLines returns some of the lines, some of them damaged, and a line end.
func randomLines(rng *rand.Rand, lines []string, t Context) (b []byte) {
	for range 1 + rng.IntN(3) {
		if rng.IntN(40) == 0 {
			b = append(b, bytes.Repeat([]byte{' '}, 230+rng.IntN(40))...)
		}
		b = append(b, fillIn(rng, lines[rng.IntN(len(lines))], t)...)
		if rng.IntN(25) == 0 {
			b = append(b, bytes.Repeat([]byte{" 1,"[rng.IntN(3)]}, rng.IntN(300))...)
		}
		b = append(b, "\r\n"[rng.IntN(8)/7:]...)
	}
	for rng.IntN(3) == 0 {
		i := rng.IntN(len(b))
		switch rng.IntN(4) {
		case 0:
			b[i] = byte(rng.Uint32())
		case 1:
			b = slices.Delete(b, i, i+1)
		case 2:
			b = slices.Insert(b, i, "0123456789,|( )-\xff\r\nPE27"[rng.IntN(22)])
		case 3:
			j := i + rng.IntN(len(b)-i)
			b = slices.Insert(b, i, slices.Clone(b[i:j])...)
		}
		if len(b) == 0 {
			break
		}
	}
	return append(b, '\n')
}

// TestSessions: in sessions of ordinary and damaged lines, over a network that loses,
// duplicates, reorders and splits, each end receives what the twin says, and the
// director is asked for the data connections that the lines name.
func TestSessions(t *testing.T) { sessions.Run(t, runSession) }

func runSession(t *testing.T, rng *rand.Rand) {
	context := context4
	if rng.IntN(3) == 0 {
		context = context6
	}
	context.Bounce, context.LeaveAddress = rng.IntN(4) == 0, rng.IntN(4) == 0
	s := newSession(t, rng, context)
	s.network.Lossless = rng.IntN(3) == 0
	for range 1 + rng.IntN(5) {
		s.send(conntrack.DirIn, randomLines(rng, commandLines, context), rng.IntN(60))
		s.send(conntrack.DirOut, randomLines(rng, replyLines, context), rng.IntN(60))
	}
}
