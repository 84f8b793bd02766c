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
