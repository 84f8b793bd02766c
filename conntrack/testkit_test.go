package conntrack

import (
	"testing"

	"uvs/dataplane/wire"
)

func v4(a, b, c, d byte) wire.Addr { return wire.AddrFrom4([]byte{a, b, c, d}) }

func newTestTable(t testing.TB, cfg Config) *Table {
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

// clientQuery and serverQuery are the questions of packets of n's flow.
func clientQuery(n *Entry) Query {
	return Query{Client: n.Client, ClientPort: n.ClientPort, Peer: n.VIP, PeerPort: n.VPort,
		Proto: n.Proto, Dir: DirIn, Template: n.Template}
}

func serverQuery(n *Entry) Query {
	q := clientQuery(n)
	q.Dir = DirOut
	if n.Method == MethodMasq {
		q.Peer, q.PeerPort = n.Server, n.SPort
	}
	return q
}

func lookup(w *Worker, q Query) Ref {
	one := []Query{q}
	w.Lookup(one)
	return one[0].Ref
}

// runBatches runs turns of every worker at a time, until none is behind.
func runBatches(t *Table, now Tick) {
	for busy := true; busy; {
		busy = false
		for i := range t.workers {
			t.workers[i].Begin(now)
			busy = t.workers[i].End() || busy
		}
	}
}

// reclaimAll brings all memory home: every conn retired so far becomes ready again.
func reclaimAll(t *Table, now Tick) {
	for range 4 {
		runBatches(t, now)
	}
}
