package conntrack

import (
	"testing"

	"uvs/dataplane/wire"
)

func v4(a, b, c, d byte) wire.Addr { return wire.AddrFrom4([]byte{a, b, c, d}) }

func newTest(t testing.TB, cfg Config) *Table {
	t.Helper()
	tab, err := NewTable(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tab.Close(); err != nil {
			t.Error(err)
		}
	})
	return tab
}

// flow is a masqueraded TCP conn from 10.0.0.0 + i to 10.9.0.1:80 at server i%8.
func flow(i int) Entry {
	return Entry{
		Client: clientOf(10<<24 + uint64(i)), ClientPort: uint16(1024 + i%50000),
		VIP: v4(10, 9, 0, 1), VPort: 80, Server: v4(10, 1, 0, byte(i%8)), SPort: 8080,
		Proto: wire.ProtoTCP, Method: MethodMasq, ServerID: uint32(1 + i%8), ServiceID: 7,
	}
}

// clientAsks and serverAsks are the questions of packets of n's flow.
func clientAsks(n *Entry) Query {
	return Query{Client: n.Client, ClientPort: n.ClientPort, Peer: n.VIP, PeerPort: n.VPort,
		Proto: n.Proto, Dir: DirIn, Template: n.Template}
}

func serverAsks(n *Entry) Query {
	q := clientAsks(n)
	q.Dir = DirOut
	if n.Method == MethodMasq {
		q.Peer, q.PeerPort = n.Server, n.SPort
	}
	return q
}

func lookup(l *Worker, q Query) Ref {
	one := []Query{q}
	l.Lookup(one)
	return one[0].Ref
}

// turns runs turns of every worker at a time, until none is behind.
func turns(t *Table, now Tick) {
	for busy := true; busy; {
		busy = false
		for i := range t.locals {
			t.locals[i].Begin(now)
			busy = t.locals[i].End() || busy
		}
	}
}

// quiet brings all memory home: every conn retired so far becomes ready again.
func quiet(t *Table, now Tick) {
	for range 4 {
		turns(t, now)
	}
}
