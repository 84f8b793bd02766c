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

func TestSmoke(t *testing.T) {
	tab := newTest(t, Config{Max: 1000})
	l := tab.Local(0)
	l.Begin(1000)
	n := New{Client: v4(10, 0, 0, 1), ClientPort: 5, VIP: v4(10, 9, 0, 1), VPort: 80, Server: v4(10, 1, 0, 1), SPort: 8080, Proto: 6, ServerID: 3, ServiceID: 4}
	ref, fresh := l.Insert(&n)
	if ref == 0 || !fresh {
		t.Fatal(ref, fresh)
	}
	l.Step(ref, DirIn, EventSYN, nil)
	q := []Query{{Client: n.Client, ClientPort: 5, Peer: n.VIP, PeerPort: 80, Proto: 6, Dir: DirIn},
		{Client: n.Client, ClientPort: 5, Peer: n.Server, PeerPort: 8080, Proto: 6, Dir: DirOut}}
	l.Lookup(q)
	if q[0].Ref != ref || q[1].Ref != ref {
		t.Fatal(q)
	}
	if tab.Counts(3).Active.Load() != 1 {
		t.Fatal("active")
	}
	l.End()
	tab.Walk(nil, func(s *Snapshot) bool { t.Log(*s); return true })
	for now := Tick(1000); now < 62000; now += 100 {
		l.Begin(now)
		l.End()
	}
	if s := tab.Stats(); s.InUse != 0 || s.Ended[EndedByTimeout] != 1 {
		t.Fatal(s)
	}
	if tab.Counts(3).Active.Load() != 0 {
		t.Fatal("active")
	}
}
