package conntrack

import "testing"

// TestTimedOut: End reports due established conns, at most MaxTimedOut in a batch; the
// others end silently. Reported conns count as inactive, and end too.
func TestTimedOut(t *testing.T) {
	for _, on := range []bool{false, true} {
		tab := newTestTable(t, Config{Max: 1000, Seed: 1})
		settings := DefaultSettings()
		settings.ResetForgotten = on
		tab.SetSettings(settings)
		w := tab.Worker(0)
		w.Begin(0)
		const conns = MaxTimedOut + 20
		for i := range conns {
			e := tcpEntry(i)
			ref, _ := w.Insert(&e)
			w.Step(ref, DirIn, EventSYN, nil)
			w.Step(ref, DirIn, EventACK, nil)
		}
		w.End()

		reported, ended := 0, Tick(0)
		for now := Tick(0); now < 1000*Second; now += Second {
			w.Begin(now)
			w.End()
			reported += len(w.TimedOut())
			if s := tab.Stats(); s.InUse == 0 && ended == 0 {
				ended = now
			}
			var active, inactive int32
			for id := range uint32(9) {
				active += tab.Counts(id).Active.Load()
				inactive += tab.Counts(id).Inactive.Load()
			}
			if now == 905*Second && (active != 0 || inactive != int32(reported)) {
				t.Errorf("on %t: %d active and %d inactive conns after their time, %d reported", on, active, inactive,
					reported)
			}
		}
		want := map[bool]int{true: MaxTimedOut}[on]
		if reported != want || ended == 0 || ended > 915*Second {
			t.Errorf("on %t: reported %d conns, want %d; all had ended at %v", on, reported, want, ended)
		}
	}
}

// TestTimedOutHalfClosed: a TCP connection of which only one end is known to have closed
// is reported as an established one is.
func TestTimedOutHalfClosed(t *testing.T) {
	type packet struct {
		dir Dir
		ev  Event
	}
	clientFIN, clientACK := packet{DirIn, EventFIN}, packet{DirIn, EventACK}
	serverFIN, serverACK := packet{DirOut, EventFIN}, packet{DirOut, EventACK}
	for _, r := range []struct {
		name    string
		method  Method
		packets []packet
		want    int
	}{
		{"client closed", MethodNAT, []packet{clientFIN, serverACK}, 1},
		{"client closed, server sends", MethodNAT, []packet{clientFIN, serverACK, clientACK}, 1},
		{"server closed", MethodNAT, []packet{serverFIN, clientACK}, 1},
		{"both closed, client first", MethodNAT, []packet{clientFIN, serverFIN, clientACK}, 0},
		{"both closed, server first", MethodNAT, []packet{serverFIN, clientACK, clientFIN, serverACK}, 0},
		{"reset", MethodNAT, []packet{clientFIN, {DirOut, EventRST}}, 0},
		{"DR, client closed", MethodDR, []packet{clientFIN}, 1},
		{"DR, both closed", MethodDR, []packet{clientFIN, clientACK}, 0},
		{"DR, replies pass here, client closed", MethodDR, []packet{serverACK, clientFIN, clientACK}, 1},
		{"DR, replies pass here, both closed", MethodDR, []packet{serverACK, clientFIN, serverFIN, clientACK}, 0},
	} {
		tab := newTestTable(t, Config{Max: 10, Seed: 1})
		settings := DefaultSettings()
		settings.ResetForgotten = true
		tab.SetSettings(settings)
		w := tab.Worker(0)
		w.Begin(0)
		e := tcpEntry(1)
		e.Method = r.method
		ref, _ := w.Insert(&e)
		for _, p := range append([]packet{{DirIn, EventSYN}, clientACK}, r.packets...) {
			w.Step(ref, p.dir, p.ev, nil)
		}
		w.End()
		reported := 0
		for now := Tick(0); now < 200*Second; now += Second {
			w.Begin(now)
			w.End()
			reported += len(w.TimedOut())
		}
		if reported != r.want {
			t.Errorf("%s: reported %d times, want %d", r.name, reported, r.want)
		}
		runBatches(tab, 200*Second)
		reclaimAll(tab, 200*Second)
		check(t, tab)
	}
}
