package ftp

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/helper/stream"
	"uvs/dataplane/helper/stream/streamtest"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
)

// vectors are conversations, client and server in turn, and what they become. The
// numbers are those of the LVS HOWTO: (172,23,2,30,169,29) is port 43293,
// 172,23,2,8,10,0 is port 2560.
var vectors = []struct {
	name    string
	context Context
	lines   []string // what is sent, by client and server in turn
	want    []string // what is received, "" if it is what was sent
	asked   []string
	events  Event
}{
	{
		name:    "passive",
		context: Context{Client: addr4(172, 23, 2, 8), Server: addr4(172, 23, 2, 30), VIP: addr4(10, 9, 0, 1)},
		lines: []string{
			"", "220 ready\r\n", "pasv\r\n", "227 Entering Passive Mode (172,23,2,30,169,29)\r\n",
			"list\r\n", "150 here it comes\r\n226 done\r\n", "quit\r\n", "221 bye\r\n",
		},
		want:   []string{3: "227 Entering Passive Mode (10,9,0,1,169,29)\r\n", 7: ""},
		asked:  []string{"passive 172.23.2.30 43293"},
		events: EventPassive,
	}, {
		name:    "active",
		context: Context{Client: addr4(172, 23, 2, 8), Server: addr4(172, 23, 2, 30), VIP: addr4(10, 9, 0, 1)},
		lines:   []string{"port 172,23,2,8,10,0\r\n", "200 ok\r\n", "list\r\n", "150 here it comes\r\n226 done\r\n"},
		asked:   []string{"active 172.23.2.8 2560"},
		events:  EventActive,
	}, {
		name:    "active, a bounce",
		context: context4,
		lines:   []string{"PORT 10,0,0,99,0,22\r\nLIST\r\n", "500 Illegal PORT command.\r\n150 no\r\n"},
		want:    []string{"PORT 0,0,0,0,0,0\r\nLIST\r\n", ""},
		events:  EventBounce,
	}, {
		name:    "two passive ones in a segment, from a server that names the same port twice",
		context: context4,
		lines: []string{
			"PASV\r\nNOOP\r\nPASV\r\n",
			"227 =10,0,0,2,4,0\r\n200 ok\r\n227-\r\n227 (10,0,0,2,4,0)\r\n227 (10,0,0,2,4,0)\r\n",
		},
		want:   []string{"", "227 =10,9,0,1,4,0\r\n200 ok\r\n227-\r\n227 (10,9,0,1,4,0)\r\n227 (10,0,0,2,4,0)\r\n"},
		asked:  []string{"passive 10.0.0.2 1024", "passive 10.0.0.2 1024"},
		events: EventPassive | EventUnasked,
	}, {
		name:    "a reply of several lines, among them one that looks like another",
		context: context4,
		lines: []string{
			"PASV\r\nSTAT x\r\n",
			"227-Hear, 10,0,0,2,4,0\r\n200 is no reply\r\n227 Hear (10,0,0,2,4,0)\r\n213-Status\r\n" +
				"227 (10,0,0,2,4,9)\r\n213 End\r\n",
		},
		want: []string{"", "227-Hear, 10,9,0,1,4,0\r\n200 is no reply\r\n227 Hear (10,9,0,1,4,0)\r\n213-Status\r\n" +
			"227 (10,0,0,2,4,9)\r\n213 End\r\n"},
		asked:  []string{"passive 10.0.0.2 1024"},
		events: EventPassive,
	}, {
		name:    "numbers with blanks",
		context: context4,
		lines: []string{
			"PASV\r\nPORT 198, 51, 100, 7, 10, 0\r\nPORT 192, 0, 2, 9, 0, 22\r\n",
			"227 Entering Passive Mode (10, 0, 0, 2, 169, 29)\r\n",
		},
		want: []string{
			"PASV\r\nPORT 198, 51, 100, 7, 10, 0\r\nPORT 0,0,0,0,0,0\r\n",
			"227 Entering Passive Mode (10,9,0,1,169,29)\r\n",
		},
		asked:  []string{"active 198.51.100.7 2560", "passive 10.0.0.2 43293"},
		events: EventPassive | EventActive | EventBounce,
	}, {
		name:    "PASV and EPSV answered with the reply of the other",
		context: context4,
		lines:   []string{"PASV\r\n", "229 ok (|1|10.0.0.2|2565|)\r\n", "EPSV\r\n", "227 ok (10,0,0,2,4,0)\r\n"},
		want:    []string{1: "229 ok (|||2566|)\r\n", 3: "227 ok (10,9,0,1,4,0)\r\n"},
		asked:   []string{"passive 10.0.0.2 2565", "passive 10.0.0.2 1024"}, events: EventPassive,
	}, {
		name:    "extended, over IPv6, the port in use",
		context: context6,
		lines:   []string{"EPSV ALL\r\nEPSV\r\n", "200 ok\r\n229 Entering Extended Passive Mode (|||65525|)\r\n"},
		want:    []string{"", "200 ok\r\n229 Entering Extended Passive Mode (|||65526|)\r\n"},
		asked:   []string{"passive fd00::2 65525"},
		events:  EventPassive,
	}, {
		name:    "extended, active, over IPv6",
		context: context6,
		lines: []string{"EPRT |2|2001:db8::7|2560|\r\nEPRT |2|2001:DB8:0:0::0007|2561|\r\n" +
			"EPRT |2|2001:db8::8|25|\r\n", "200\r\n"},
		want:   []string{"EPRT |2|2001:db8::7|2560|\r\nEPRT |2|2001:DB8:0:0::0007|2561|\r\nEPRT |2|::|0|\r\n", ""},
		asked:  []string{"active 2001:db8::7 2560", "active 2001:db8::7 2561"},
		events: EventActive | EventBounce,
	}, {
		name:    "refused data connections",
		context: context4,
		lines: []string{
			"PASV\r\nEPSV\r\nPORT 198,51,100,7,0,7\r\n",
			"227 x (10,0,0,2,0,17)\r\n229-a\r\n229 y (|||27|)\r\n200 ok\r\n",
		},
		want: []string{
			"PASV\r\nEPSV\r\nPORT 0,0,0,0,0,0\r\n",
			"425 Can't open data connection.\r\n229-a\r\n229 Can't open data connection.\r\n200 ok\r\n",
		},
		asked:  []string{"active 198.51.100.7 7", "passive 10.0.0.2 17", "passive 10.0.0.2 27"},
		events: EventRefused,
	}, {
		name:    "commands in disguise",
		context: context4,
		lines: []string{"\r\v PO\x00RT 1,2,3,4,5,6\r\nPO\xff\xf1R\xffT\f1,2,3,4,5,6\r\nPORT 198,51,100,7,4,0,9\r\n" +
			"EPRT |1|198.51.0100.7|4|\r\nLPRT 4,192,0,2,9,2,0,22\r\nlpsv\r\n", "200\r\n"},
		want: []string{"PORT 0,0,0,0,0,0\r\nPORT 0,0,0,0,0,0\r\nPORT 0,0,0,0,0,0\r\nEPRT |1|0.0.0.0|0|\r\n" +
			"PORT 0,0,0,0,0,0\r\nPORT 0,0,0,0,0,0\r\n", ""},
		events: EventBounce | EventUnreadable,
	}, {
		name:    "TLS",
		context: context4,
		lines: []string{
			"AUTH TLS\r\n", "234-wait\r\n234 go\r\n", "PORT 1,2,3,4,5,6\r\n\x16\x03",
			"227 (10,0,0,2,4,0)\r\n",
		},
		events: EventTLS,
	}, {
		name:    "TLS from the start",
		context: context4,
		lines:   []string{"\x16\x03\x01\nPASV\r\n", "227 (10,0,0,2,4,0)\r\n"},
		events:  EventTLS,
	}, {
		name:    "another host of another family, although bounces are allowed",
		context: Context{Client: context4.Client, Server: context4.Server, VIP: context4.VIP, Bounce: true},
		lines:   []string{"EPRT |2|2001:db8::7|2560|\r\nPORT 192,0,2,9,4,0\r\n", "200\r\n"},
		want:    []string{"EPRT |1|0.0.0.0|0|\r\nPORT 192,0,2,9,4,0\r\n", ""},
		asked:   []string{"active 192.0.2.9 1024"},
		events:  EventBounce | EventActive,
	}, {
		name:    "lines that are too long",
		context: Context{Client: context4.Client, Server: context4.Server, VIP: addr4(255, 255, 255, 255)},
		lines: []string{
			strings.Repeat(" ", 255) + "PORT 1,2,3,4,5,6\r\nPORT" + strings.Repeat(" ", 300) +
				"198,51,100,7,4,0\r\nPASV\r\nPASV\r\nPASV\r\nSTOR " + strings.Repeat("227", 300) + "\r\n",
			"227 " + strings.Repeat("x", 232) + " 10,0,0,2,4,0\r\n227 " + strings.Repeat("x", 300) +
				" 10,0,0,2,4,0\r\n227 (10,0,0,2,4,0)" + strings.Repeat("x", 300) + "\r\n",
		},
		want: []string{
			"PORT 0,0,0,0,0,0\r\nPORT 0,0,0,0,0,0\r\nPASV\r\nPASV\r\nPASV\r\nSTOR " + strings.Repeat("227",
				300) + "\r\n",
			"425 Can't open data connection.\r\n425 Can't open data connection.\r\n" +
				"425 Can't open data connection.\r\n",
		},
		asked:  []string{"passive 10.0.0.2 1024", "passive 10.0.0.2 1024"},
		events: EventUnreadable | EventPassive,
	},
}

// TestVectors: each conversation becomes what it should, wherever its texts are split
// in two, and with another split when they are retransmitted after a loss.
func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			longest := 0
			for _, text := range v.lines {
				longest = max(longest, len(text))
			}
			every := 1 + longest/200 // every byte, except in very long texts
			if testing.Short() {
				every *= 5
			}
			for split := 0; split <= longest; split += every {
				step := 1 + longest/20
				for resplit := split % step; resplit <= split; resplit += step {
					runVector(t, v.context, v.lines, v.want, v.asked, v.events, split, resplit)
				}
			}
		})
	}
}

func runVector(t *testing.T, context Context, lines, want, asked []string, events Event, split, resplit int) {
	s := newSession(t, rand.New(rand.NewPCG(uint64(split), uint64(resplit))), context)
	var all [2]string
	for i, text := range lines {
		dir := streamtest.Dirs[i%2]
		e := s.network.Ends[dir.Index()]
		from := len(e.Out)
		e.Out = append(e.Out, text...)
		if split > 0 && split < len(text) {
			s.network.Carry(dir, from, from+split, false)
			s.network.Carry(dir, from+split, len(e.Out), true)
			s.network.Carry(dir, from+resplit, from+max(resplit+1, split-resplit), true)
			s.network.Carry(dir, from+resplit, len(e.Out), false)
		}
		s.network.Settle()
		if i < len(want) && want[i] != "" {
			text = want[i]
		}
		all[dir.Index()] += text
		if got := string(s.network.Ends[dir.Opposite().Index()].In); got != all[dir.Index()] {
			t.Fatalf("split at %d, then at %d:\nsent     %q\nreceived %q\nwant     %q", split, resplit, e.Out, got,
				all[dir.Index()])
		}
	}
	if !slices.Equal(s.expect.calls, asked) || s.events != events {
		t.Fatalf("split at %d, then at %d: asked %q, events %b\nwant %q, %b", split, resplit, s.expect.calls, s.events,
			asked, events)
	}
}

// TestRestart: a SYN after the end of a connection begins one with an empty state.
func TestRestart(t *testing.T) {
	s := newSession(t, rand.New(rand.NewPCG(1, 2)), context4)
	s.send(conntrack.DirIn, []byte("PASV\r\n"), 0)
	for _, e := range s.network.Ends {
		e.Finish = true
	}
	s.network.Settle()
	f := wiretest.Packet{Src: "198.51.100.7:40000", Dst: "10.9.0.1:21", TCPFlags: wire.TCPSyn, Seq: 1}.Frame()
	var p wire.Packet
	wire.Parse(&f, &p)
	outcome, _ := New(&s.expect).Process(&s.conn, &s.state, s.twin.context, conntrack.DirIn, &f, &p)
	if outcome != stream.Passed || s.state.pendingPassive != 0 {
		t.Errorf("outcome %d, %d PASV wait", outcome, s.state.pendingPassive)
	}
}

// sampleFrames returns a segment from each end.
func sampleFrames() (f [2]wire.Frame) {
	f[0] = wiretest.Packet{
		Src: "198.51.100.7:40000", Dst: "10.9.0.1:21", TCPFlags: wire.TCPAck, Seq: 100, Ack: 500,
		Payload: []byte("PASV\r\nEPRT |1|198.51.100.7|2560|\r\nPORT 1,2,3,4,5,6\r\n"),
	}.Frame()
	f[1] = wiretest.Packet{
		Src: "10.0.0.2:21", Dst: "198.51.100.7:40000", TCPFlags: wire.TCPAck, Seq: 500, Ack: 147,
		Payload: []byte("227 Entering Passive Mode (10,0,0,2,169,29).\r\n"),
	}.Frame()
	return f
}

// TestNoAllocations: neither commands nor replies cause an allocation.
func TestNoAllocations(t *testing.T) {
	samples, c, s, h := sampleFrames(), new(stream.Conn), new(State), New(new(allowAll))
	f, p := new(wire.Frame), new(wire.Packet)
	buf := make([]byte, 256)
	var events Event
	if n := testing.AllocsPerRun(100, func() {
		*c, *s = stream.Conn{}, State{}
		for i := range samples {
			*f = samples[i]
			f.Buf = buf[:copy(buf, f.Buf)]
			wire.Parse(f, p)
			_, event := h.Process(c, s, context4, streamtest.Dirs[i], f, p)
			events |= event
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if events != EventPassive|EventActive|EventBounce {
		t.Errorf("events %b", events)
	}
}

// allowAll expects everything and records nothing.
type allowAll struct{}

func (*allowAll) ExpectPassive(_ wire.Addr, port uint16) (uint16, bool) { return port, true }
func (*allowAll) ExpectActive(wire.Addr, uint16) bool                   { return true }

// BenchmarkProcess is a segment with three commands, and one with the reply to one.
func BenchmarkProcess(b *testing.B) {
	samples, c, s, h := sampleFrames(), new(stream.Conn), new(State), New(new(allowAll))
	f, p := new(wire.Frame), new(wire.Packet)
	buf := make([]byte, 256)
	for b.Loop() {
		*c, *s = stream.Conn{}, State{}
		for i := range samples {
			*f = samples[i]
			f.Buf = buf[:copy(buf, f.Buf)]
			wire.Parse(f, p)
			h.Process(c, s, context4, streamtest.Dirs[i], f, p)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N), "ns/segment")
}

// BenchmarkManyLines is a segment full of short lines: the most work that a segment can
// be.
func BenchmarkManyLines(b *testing.B) {
	for name, line := range map[string]string{"empty": "\n", "command": "P\n", "reply": "2\n"} {
		b.Run(name, func(b *testing.B) {
			p, dir := wiretest.Packet{Src: "198.51.100.7:40000", Dst: "10.9.0.1:21"}, conntrack.DirIn
			if name == "reply" {
				p, dir = wiretest.Packet{Src: "10.0.0.2:21", Dst: "198.51.100.7:40000"}, conntrack.DirOut
			}
			p.TCPFlags, p.Payload = wire.TCPAck, bytes.Repeat([]byte(line), 1448/len(line))
			sample := p.Frame()
			c, s, h := new(stream.Conn), new(State), New(new(allowAll))
			f, parsed := new(wire.Frame), new(wire.Packet)
			for b.Loop() {
				*c, *s = stream.Conn{}, State{}
				*f = sample
				wire.Parse(f, parsed)
				h.Process(c, s, context4, dir, f, parsed)
			}
		})
	}
}

// FuzzAddress: an address is read as net/netip reads it.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{
		"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2::7:8", "::ffff:1.2.3.4",
		"1:2:3:4:5:6:1.2.3.4", "::1.2.3.4", "1::2::3", ":1", "1:", "12345::", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8",
		"fe80::1%0", "1:2:3:4:5:6:7:1.2.3.4", "::G", "1.2.3.4", "1.2.3", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := netip.ParseAddr(s)
		got, ok := parseIPv6([]byte(s))
		if good := err == nil && want.Is6() && want.Zone() == ""; good != ok || good && got != wire.Addr(want.As16()) {
			t.Errorf("%q: %v %v, netip says %v %v", s, got.Netip(), ok, want, err)
		}
	})
}

// FuzzLines: whatever lines come, the helper and the twin agree.
func FuzzLines(f *testing.F) {
	for _, c := range commandLines {
		for _, r := range []string{"227 (10,0,0,2,4,1)", "229 (|||5|)", "234-a\r\n234 b"} {
			f.Add([]byte(fillIn(rand.New(rand.NewPCG(1, 2)), c, context4)), []byte(r), uint64(len(c)))
		}
	}
	f.Fuzz(func(t *testing.T, command, reply []byte, how uint64) {
		if len(command)+len(reply) > 2000 {
			return
		}
		context := context4
		context.Bounce, context.LeaveAddress = how&1 != 0, how&2 != 0
		s := newSession(t, rand.New(rand.NewPCG(how, 0)), context)
		line := func(b []byte) []byte { return append(bytes.Clone(b), '\n') }
		for range 2 {
			s.send(conntrack.DirIn, line(command), int(how>>2&31))
			s.send(conntrack.DirOut, line(reply), int(how>>2&31))
		}
	})
}
