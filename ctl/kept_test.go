package ctl

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"syscall"
	"testing"
	"time"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/ctl/store"
)

// restart ends the store of a director, if it has one, and starts another director on dir.
func restart(t *testing.T, old *fixture, dir string) *fixture {
	t.Helper()
	if old != nil && old.store != nil {
		old.store.Close()
	}
	s, kept, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w := newFixture(t, 1)
	if err := w.Restore(s, kept); err != nil {
		t.Fatal(err)
	}
	return w
}

// kept returns what a director must have after a restart.
func (w *fixture) kept(t *testing.T) string {
	t.Helper()
	text, err := documentText(&w.state)
	if err != nil {
		t.Fatal(err)
	}
	standby := map[bool]string{true: " standby"}[w.state.Standby]
	return string(text) + standby
}

// Whatever operations were made, refused or made in part: a director that stops at any moment
// comes back with the same configuration, revision and role.
func TestKept(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir() + "/state"
	w := restart(t, nil, dir)
	for i := range 300 {
		var ops []config.Op
		for range 1 + rng.IntN(3) {
			ops = append(ops, differentOp(rng, &w.state))
		}
		w.guard.refuse = nil
		if rng.IntN(10) == 0 {
			w.guard.refuse = func(int) error { return errors.New("no") }
		}
		before := w.kept(t)
		if _, errs := w.Change(Change{Ops: ops, Whole: rng.IntN(2) == 0, File: "a digest"}); w.guard.refuse != nil &&
			w.kept(t) != before {
			t.Fatalf("seed %d: refused with %v, but the state changed", seed, errs)
		}
		if rng.IntN(12) > 0 {
			continue
		}
		next := restart(t, w, dir)
		if got, want := next.kept(t), w.kept(t); got != want || next.state.Revision < w.state.Revision {
			t.Fatalf("seed %d, change %d: revision %d\n%s\nwant %d\n%s", seed, i, next.state.Revision, got,
				w.state.Revision, want)
		}
		if text := next.differences(); text != "" {
			t.Fatalf("seed %d: %s", seed, text)
		}
		w = next
	}
}

// What cannot be kept is refused, and nothing changes.
func TestNotKept(t *testing.T) {
	w := restart(t, nil, t.TempDir()+"/state")
	w.must(add(vip, "rr"))
	before, revision := w.kept(t), w.state.Revision
	w.store.Close()
	if err := w.Apply(with(vip, one)); !errors.Is(err, syscall.EIO) || w.kept(t) != before ||
		w.state.Revision != revision {
		t.Errorf("error %v, state %s", err, w.kept(t))
	}
}

// apply applies a configuration as a version.
func (w *fixture) apply(t *testing.T, confirm time.Duration, ops ...config.Op) {
	t.Helper()
	_, errs := w.Change(Change{
		Ops: []config.Op{replacement(t, ops...)}, How: "apply test", Confirm: confirm, Author: api.Author{User: "me"},
	})
	if errs[0] != nil {
		t.Fatal(errs[0])
	}
}

// A change that is not confirmed is taken back, by time or because the director stops. One
// that is confirmed stays.
func TestConfirm(t *testing.T) {
	dir := t.TempDir() + "/state"
	w := restart(t, nil, dir)
	w.apply(t, 0, add(vip, "rr"), with(vip, one))
	before := w.kept(t)

	w.apply(t, time.Hour, add(vip, "wlc"))
	w.must(with(vip, two))
	_, errs := w.Change(Change{Ops: []config.Op{replacement(t)}, How: "apply test"})
	if !errors.Is(errs[0], syscall.EBUSY) {
		t.Errorf("another apply meanwhile: %v", errs[0])
	}
	w = restart(t, w, dir)
	if got := w.kept(t); got != before {
		t.Errorf("after a restart %s, want %s", got, before)
	}
	w = restart(t, w, dir)
	if got := w.kept(t); got != before {
		t.Errorf("after two restarts %s, want %s", got, before)
	}

	watcher, err := w.Watch(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.apply(t, time.Millisecond, add(vip, "wlc"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range 4 { // edit the service and delete its server, and both back
		if _, err := watcher.Next(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.TakeBack(api.Author{}); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("taken back twice: %v", err)
	}
	if got := w.kept(t); got != before {
		t.Errorf("after its time %s, want %s", got, before)
	}

	w.apply(t, time.Hour, add(vip, "wlc"))
	no := errors.New("no")
	w.guard.refuse = func(int) error { return no }
	if _, err := w.TakeBack(api.Author{}); !errors.Is(err, no) {
		t.Errorf("taken back although the guard refuses: %v", err)
	}
	w.guard.refuse = nil
	if _, err := w.TakeBack(api.Author{}); err != nil || w.kept(t) != before {
		t.Errorf("taken back at last: %v, %s", err, w.kept(t))
	}

	w.apply(t, time.Hour, add(vip, "wlc"))
	after := w.kept(t)
	if err := w.Confirm(api.Author{}); err != nil {
		t.Fatal(err)
	}
	if err := w.Confirm(api.Author{}); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("confirmed twice: %v", err)
	}
	if w = restart(t, w, dir); w.kept(t) != after {
		t.Errorf("confirmed, after a restart %s, want %s", w.kept(t), after)
	}
}

// What was not confirmed is no version, so that rollback never returns to it.
func TestUnconfirmedIsNoVersion(t *testing.T) {
	w := newFixture(t, 1)
	w.apply(t, 0, add(vip, "rr"))
	w.apply(t, 0, add(vip, "wlc"))
	w.apply(t, time.Hour, add(vip, "lc"))
	if _, err := w.TakeBack(api.Author{}); err != nil {
		t.Fatal(err)
	}
	w.apply(t, time.Hour, add(vip, "sed"))
	if err := w.Confirm(api.Author{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"wlc", "sed"} {
		if _, err := w.Rollback(api.Author{}, 0); err != nil || w.state.Services[0].Scheduler != want {
			t.Errorf("rolled back to %s, %v; want %s", w.state.Services[0].Scheduler, err, want)
		}
	}
}

// Rollback takes back the last version, and what commands changed before it is a version, too.
func TestRollback(t *testing.T) {
	w := newFixture(t, 1)
	if _, err := w.Rollback(api.Author{}, 0); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("without a version: %v", err)
	}
	w.apply(t, 0, add(vip, "rr"))
	w.must(with(vip, one))
	byCommands := w.kept(t)
	w.apply(t, 0, add(vip, "wlc"), with(vip, two))
	if _, err := w.Rollback(api.Author{User: "me"}, 0); err != nil {
		t.Fatal(err)
	}
	if got := w.kept(t); got != byCommands {
		t.Errorf("rolled back to %s, want %s", got, byCommands)
	}
	versions := w.Versions()
	var hows []string
	for _, v := range versions {
		hows = append(hows, v.How)
	}
	want := []string{"rollback to 2", "apply test", "changes by commands", "apply test", "before the first version"}
	if !slices.Equal(hows, want) || versions[0].Author != "me" {
		t.Errorf("versions %+v; want %v", versions, want)
	}
	if _, err := w.Rollback(api.Author{}, 99); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("to a version that is not there: %v", err)
	}
}

// A version that cannot be read hides no other, and new ones are kept.
func TestVersionDamaged(t *testing.T) {
	dir := t.TempDir()
	w := restart(t, nil, dir)
	w.apply(t, 0, add(vip, "rr"))
	w.apply(t, 0, add(vip, "wlc"))
	revision := w.Versions()[1].Revision
	if err := os.WriteFile(fmt.Sprintf("%s/version-%d", dir, revision), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := len(w.Versions())
	w.apply(t, 0, add(vip, "sh"))
	if _, err := w.Rollback(api.Author{}, 0); err != nil || len(w.Versions()) != before+2 {
		t.Errorf("%v; versions %+v, %d before", err, w.Versions(), before)
	}
}

// An edit of a service that has changed since is refused, also if the service is gone or new.
func TestConditions(t *testing.T) {
	w := newFixture(t, 1)
	key := service(vip, "").ServiceKey
	change := func(revision uint64, op config.Op) error {
		_, errs := w.Change(Change{Ops: []config.Op{op}, If: []Condition{{Service: &key, Revision: revision}}})
		return errs[0]
	}
	for _, row := range []struct {
		revision uint64
		op       config.Op
		want     error
	}{
		{7, add(vip, "rr"), syscall.ESTALE},
		{0, add(vip, "rr"), nil},
		{0, with(vip, one), syscall.ESTALE},
		{1, with(vip, one), nil},
		{1, with(vip, two), syscall.ESTALE},
		{2, with(vip, two), nil},
	} {
		want := w.state.Revision
		if row.want == nil {
			want++
		}
		err := change(row.revision, row.op)
		if got := w.state.Revision; !errors.Is(err, row.want) || got != want {
			t.Errorf("if revision is %d, %s: %v, want %v; revision %d", row.revision, row.op, err, row.want, got)
		}
	}
	w.must(add("10.9.0.9:80", "rr"))
	if err := change(3, with(vip, one)); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("another service changed: %v", err)
	}
	w.hosts()
	if err := change(3, config.Op{Kind: config.DeleteService, Service: service(vip, "")}); err != nil {
		t.Errorf("the host's routes changed: %v", err)
	}
}

// A watcher resumes behind a revision and misses nothing, or is told that it would.
func TestWatchResumes(t *testing.T) {
	w := newFixture(t, 1)
	w.must(add(vip, "rr"), with(vip, one), with(vip, two))
	next := func(watcher *Watcher) api.Event {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		ev, err := watcher.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return ev
	}
	for since := range uint64(3) {
		watcher, err := w.Watch(&since)
		if err != nil {
			t.Fatal(err)
		}
		for revision := since + 1; revision <= 3; revision++ {
			if ev := next(watcher); ev.Revision != revision || ev.Op == nil {
				t.Errorf("since %d: event %+v, want revision %d", since, ev, revision)
			}
		}
	}
	future, past := uint64(4), uint64(0)
	if _, err := w.Watch(&future); !errors.Is(err, syscall.EOVERFLOW) {
		t.Errorf("in the future: %v", err)
	}
	slow, err := w.Watch(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.ApplyAll(slices.Repeat([]config.Op{{Kind: config.Zero}}, keptEvents))
	if ev := next(slow); ev.Op.Kind != config.Zero {
		t.Errorf("event %+v", ev)
	}
	w.ApplyAll(slices.Repeat([]config.Op{{Kind: config.Zero}}, 2))
	if _, err := slow.Next(t.Context()); !errors.Is(err, syscall.EOVERFLOW) {
		t.Errorf("lagging: %v", err)
	}
	if _, err := w.Watch(&past); !errors.Is(err, syscall.EOVERFLOW) {
		t.Errorf("since the beginning: %v", err)
	}
	last := uint64(3)
	if _, err := w.Watch(&last); err != nil {
		t.Errorf("since now: %v", err)
	}
}

// Preview says what an apply would do, with the connections it would take their server from.
// It changes nothing.
func TestPreview(t *testing.T) {
	w := newFixture(t, 1)
	w.must(add(vip, "rr"), with(vip, one), add("10.9.0.9:80", "rr"))
	w.exchange(0, syn("5000"))
	segment := syn("5000")
	segment.TCPFlags = 0x10
	w.exchange(0, segment)
	before := w.state.Clone()
	steps, err := w.Preview(replacement(t, add(vip, "wlc"), with(vip, two)).Document)
	if err != nil || !reflect.DeepEqual(w.state.Clone(), before) {
		t.Fatalf("%v, state %+v", err, w.state)
	}
	var got []string
	conns := 0
	for _, s := range steps {
		got = append(got, string(s.Op.Kind))
		conns += s.Conns
	}
	want := []string{"delete-service", "edit-service", "delete-server", "add-server"}
	if was := steps[2].Before; was != "10.2.0.1:8080 nat weight 1" {
		t.Errorf("the server was %q", was)
	}
	if !slices.Equal(got, want) || conns != 1 || steps[2].Conns != 1 || steps[2].Clients != 1 {
		t.Errorf("steps %+v, want %v", steps, want)
	}
}

// What an apply is called does not matter: one that was not confirmed is taken back, and no
// other apply comes between.
func TestConfirmByAnyName(t *testing.T) {
	dir := t.TempDir() + "/state"
	w := restart(t, nil, dir)
	w.apply(t, 0, add(vip, "rr"), with(vip, one))
	before := w.kept(t)
	c := Change{
		Ops: []config.Op{replacement(t)}, How: "taken back", File: "digest of the file", Confirm: time.Hour,
	}
	if _, errs := w.Change(c); errs[0] != nil {
		t.Fatal(errs[0])
	}
	if _, errs := w.Change(c); !errors.Is(errs[0], syscall.EBUSY) {
		t.Errorf("another apply meanwhile: %v", errs[0])
	}
	for range 2 {
		if w = restart(t, w, dir); w.kept(t) != before {
			t.Errorf("after a restart %s, want %s", w.kept(t), before)
		}
		// The file has not changed since, so the next start does not apply it either.
		if w.File() != c.File {
			t.Errorf("file %q is applied, want %q", w.File(), c.File)
		}
	}
	past := w.state.Revision - 1
	if _, err := w.Watch(&past); !errors.Is(err, syscall.EOVERFLOW) {
		t.Errorf("events before the restart: %v", err)
	}
	if _, err := w.Watch(&w.state.Revision); err != nil {
		t.Errorf("events since the restart: %v", err)
	}
}

// Events of large services are kept in a bounded memory, and a watcher hears of what it missed.
func TestLargeEvents(t *testing.T) {
	w := newFixture(t, 1)
	watcher, err := w.Watch(nil)
	if err != nil {
		t.Fatal(err)
	}
	op := config.Op{Service: &config.Service{Servers: make([]config.Server, keptParts/8)}}
	for i := range uint64(20) {
		w.state.Revision = i + 1
		w.emit(api.Event{Op: &op})
		if kept := w.events.count - w.events.first; kept != min(i+1, 8) {
			t.Errorf("%d events are kept after %d", kept, i+1)
		}
	}
	if _, err := watcher.Next(t.Context()); !errors.Is(err, syscall.EOVERFLOW) {
		t.Errorf("lagging: %v", err)
	}
	for since, lost := range map[uint64]bool{11: true, 12: false, 20: false} {
		if _, err := w.Watch(&since); (err != nil) != lost {
			t.Errorf("since %d: %v", since, err)
		}
	}
	w.emit(api.Event{Op: &config.Op{Service: &config.Service{Servers: make([]config.Server, 2*keptParts)}}})
	w.emit(api.Event{})
	if kept := w.events.count - w.events.first; kept != 1 || w.events.parts != 0 {
		t.Errorf("%d events with %d parts are kept beside one that is too large", kept, w.events.parts)
	}
}
