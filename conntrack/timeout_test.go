package conntrack

import "testing"

// Established conns whose time is up are told of, at most MaxTimedOut a turn;
// the rest end as if nobody asked. Told ones count as inactive, and end too.
func TestForgotten(t *testing.T) {
	for _, on := range []bool{false, true} {
		tab := newTestTable(t, Config{Max: 1000, Seed: 1})
		settings := DefaultSettings()
		settings.ResetForgotten = on
		tab.SetSettings(settings)
		w := tab.Worker(0)
		w.Begin(0)
		const conns = MaxTimedOut + 20
		for i := range conns {
			n := flow(i)
			ref, _ := w.Insert(&n)
			w.Step(ref, DirIn, EventSYN, nil)
			w.Step(ref, DirIn, EventACK, nil)
		}
		w.End()

		told, ended := 0, Tick(0)
		for now := Tick(0); now < 1000*Second; now += Second {
			w.Begin(now)
			w.End()
			told += len(w.TimedOut())
			if s := tab.Stats(); s.InUse == 0 && ended == 0 {
				ended = now
			}
			var active, inactive int32
			for id := range uint32(9) {
				active += tab.Counts(id).Active.Load()
				inactive += tab.Counts(id).Inactive.Load()
			}
			if now == 905*Second && (active != 0 || inactive != int32(told)) {
				t.Errorf("on %t: %d active and %d inactive conns after their time, %d told of", on, active, inactive, told)
			}
		}
		want := map[bool]int{true: MaxTimedOut}[on]
		if told != want || ended == 0 || ended > 915*Second {
			t.Errorf("on %t: told of %d conns, want %d; all had ended at %v", on, told, want, ended)
		}
	}
}
