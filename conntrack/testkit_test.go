package conntrack

import (
	"fmt"
	"testing"

	"uvs/dataplane/wire"
)

// v4 returns the address 10.b.0.d.
func v4(b, d byte) wire.Addr { return wire.AddrFrom4([]byte{10, b, 0, d}) }

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

// tcpEntry returns a masqueraded TCP conn from 10.0.0.0 + i to 10.9.0.1:80 at server i%8.
func tcpEntry(i int) Entry {
	return Entry{
		Client: clientAddr(10<<24 + uint64(i)), ClientPort: uint16(1024 + i%50000),
		VIP: v4(9, 1), VPort: 80, Server: v4(1, byte(i%8)), SPort: 8080,
		Proto: wire.ProtoTCP, Method: MethodNAT, ServerID: uint32(1 + i%8),
	}
}

// clientQuery and serverQuery are the queries of packets of e's flow.
func clientQuery(e *Entry) Query {
	return Query{
		Client: e.Client, ClientPort: e.ClientPort, Peer: e.VIP, PeerPort: e.VPort,
		Proto: e.Proto, Dir: DirIn, Template: e.Template,
	}
}

func serverQuery(e *Entry) Query {
	q := clientQuery(e)
	q.Dir = DirOut
	if e.Method == MethodNAT {
		q.Peer, q.PeerPort = e.Server, e.SPort
	}
	return q
}

// lookup looks a conn up as one of a batch and by itself.
func lookup(w *Worker, q Query) Ref {
	one := []Query{q}
	w.Lookup(one)
	if ref := w.Find(&q); q.Dir != DirNone && ref != one[0].Ref {
		panic(fmt.Sprintf("conn %d found by itself, %d in a batch", ref, one[0].Ref))
	}
	return one[0].Ref
}

// runBatches runs batches of all workers at a time, until none has more to do.
func runBatches(t *Table, now Tick) {
	for busy := true; busy; {
		busy = false
		for i := range t.workers {
			t.workers[i].Begin(now)
			busy = t.workers[i].End() || busy
		}
	}
}

// reclaimAll runs batches until every conn retired so far is free.
func reclaimAll(t *Table, now Tick) {
	for range 4 {
		runBatches(t, now)
	}
}
