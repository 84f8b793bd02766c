package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// expected is what a directory may keep: the revisions of all changes, in order.
type expected struct {
	sure     []uint64
	possible [][]uint64 // instead: an unfinished or failed step may have come so far
}

func (e *expected) begin(changed []uint64) { e.possible = append(e.possible, changed) }

func (e *expected) end(err error) bool {
	if err == nil {
		e.sure, e.possible = e.possible[len(e.possible)-1], nil
	}
	return err == nil
}

// check compares what is kept: a document is a list of the revisions that it contains.
func (e *expected) check(k *Kept) error {
	got := strings.Fields(string(k.Document))
	for _, r := range k.Records {
		got = append(got, fmt.Sprint(r.Revision))
		if string(r.Data) != record(r.Revision) {
			return fmt.Errorf("record %d is %q", r.Revision, r.Data)
		}
	}
	for _, want := range append(e.possible, e.sure) {
		if slices.Equal(got, strings.Fields(document(want))) {
			return nil
		}
	}
	return fmt.Errorf("kept %s, want %d or one of %d", got, e.sure, e.possible)
}

func document(revisions []uint64) string { return strings.Trim(fmt.Sprint(revisions), "[]") }

// record is shorter than the record before, so what it overwrites would show.
func record(revision uint64) string { return strings.Repeat("x", int(99-revision%100)) }

// life is a series of calls that reaches every step of a store.
type life struct {
	store    *Store
	revision uint64
	expected expected
	versions []uint64 // that must be there
	errs     []error
}

func (l *life) note(err error) {
	if err != nil {
		l.errs = append(l.errs, err)
	}
}

func (l *life) append() bool {
	l.revision++
	l.expected.begin(append(slices.Clone(l.expected.sure), l.revision))
	err := l.store.Append(l.revision, []byte(record(l.revision)))
	l.note(err)
	return l.expected.end(err)
}

func (l *life) takeBack() {
	l.expected.begin(slices.Clone(l.expected.sure[:len(l.expected.sure)-1]))
	err := l.store.TakeBack()
	l.note(err)
	if !l.expected.end(err) { // the next record or snapshot follows what precedes the one taken back
		l.expected.begin(l.expected.sure)
		l.expected.sure = l.expected.sure[:len(l.expected.sure)-1]
	}
}

func (l *life) snapshot() {
	l.expected.begin(l.expected.sure)
	err := l.store.Snapshot(l.revision, []byte(document(l.expected.sure)))
	l.note(err)
	l.expected.end(err)
}

func (l *life) addVersion() {
	err := l.store.AddVersion(Version{Revision: l.revision}, []byte(document(l.expected.sure)))
	l.note(err)
	if err == nil {
		l.versions = append(l.versions, l.revision)
	}
}

func (l *life) run() {
	for range 2 {
		l.append()
		l.append()
		if l.append() {
			l.takeBack()
		}
		l.append()
		l.addVersion()
		l.snapshot()
		if l.append() {
			l.takeBack()
		}
		l.append()
	}
}

// checkDirectory opens a directory, compares what it keeps, and adds a record to it.
func (l *life) checkDirectory(dir string) error {
	s, kept, err := Open(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := l.expected.check(kept); err != nil {
		return err
	}
	for _, revision := range l.versions {
		if _, err := s.Document(revision); err != nil {
			return err
		}
	}
	if err := s.Append(1000, nil); err != nil {
		return err
	}
	s.Close()
	s, again, err := Open(dir)
	if err != nil {
		return err
	}
	s.Close()
	if again.Revision != 1000 || again.Note != "" {
		return fmt.Errorf("after another record: %s, note %q", again.text(), again.Note)
	}
	return nil
}

// memoryDir returns a temporary directory in memory if there is one: syncing costs nothing there.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "uvs-store-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// disk knows which bytes and names of a directory would survive a loss of power.
type disk struct {
	dir   string
	bytes map[uint64][]byte // of files that were synced, by inode
	names map[string]uint64 // inodes by name
	last  [2]string         // the step before, which is done now
}

// listing returns the inodes and bytes of the files by name, as programs see them.
func (d *disk) listing(t *testing.T) (inodes map[string]uint64, content map[string][]byte) {
	inodes, content = map[string]uint64{}, map[string][]byte{}
	entries, err := os.ReadDir(d.dir)
	must(t, err)
	for _, e := range entries {
		info, err := e.Info()
		must(t, err)
		inodes[e.Name()] = info.Sys().(*syscall.Stat_t).Ino
		content[e.Name()], err = os.ReadFile(filepath.Join(d.dir, e.Name()))
		must(t, err)
	}
	return inodes, content
}

// step records the step that is done, and the one that comes next.
func (d *disk) step(t *testing.T, step, file string) {
	inodes, content := d.listing(t)
	switch {
	case d.last == [2]string{"sync", "."}:
		d.names = inodes
	case d.last[0] == "sync":
		d.bytes[inodes[d.last[1]]] = content[d.last[1]]
	case d.last[0] == "create":
		delete(d.bytes, inodes[d.last[1]])
	}
	d.last = [2]string{step, file}
}

// remains returns what a crash may leave: nothing that was not synced, all of it, the
// names alone, the bytes alone, or half of the bytes.
func (d *disk) remains(t *testing.T) map[string]map[string][]byte {
	inodes, current := d.listing(t)
	all := map[string]map[string][]byte{"all": current}
	build := func(kind string, names map[string]uint64, of func(inode uint64) []byte) {
		files := map[string][]byte{}
		for name, inode := range names {
			files[name] = of(inode)
		}
		all[kind] = files
	}
	synced := func(inode uint64) []byte { return d.bytes[inode] }
	written := func(inode uint64) []byte {
		for name, i := range inodes {
			if i == inode {
				return current[name]
			}
		}
		return d.bytes[inode] // a file that has no name any more
	}
	half := func(inode uint64) []byte {
		from, to := len(synced(inode)), len(written(inode))
		if to < from {
			return synced(inode)
		}
		return written(inode)[:from+(to-from)/2]
	}
	build("synced", d.names, synced)
	build("names", inodes, synced)
	build("bytes", d.names, written)
	build("half", inodes, half)
	return all
}

// The power fails before each step, and the disk has whatever it may have of what was not synced.
func TestPowerLoss(t *testing.T) {
	s, _ := mustOpen(t, memoryDir(t))
	l := &life{store: s}
	d := &disk{dir: s.dir.name, bytes: map[uint64][]byte{}}
	inodes, content := d.listing(t) // Open has synced all
	d.names = inodes
	for name, inode := range inodes {
		d.bytes[inode] = content[name]
	}
	steps := 0
	check := func(step, file string) error {
		steps++
		d.step(t, step, file)
		remains := d.remains(t)
		for _, kind := range slices.Sorted(maps.Keys(remains)) {
			dir := memoryDir(t)
			for name, b := range remains[kind] {
				must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
			}
			if err := l.checkDirectory(dir); err != nil {
				t.Errorf("step %d, before %s %s, %s: %v", steps, step, file, kind, err)
			}
		}
		return nil
	}
	s.dir.before = check
	l.run()
	_ = check("end", "")
	if len(l.errs) > 0 || steps < 50 {
		t.Errorf("%d steps, errors %v", steps, l.errs)
	}
}

// A step fails, alone or with some or all that follow: what was acknowledged is kept, and a
// store whose disk works again works.
func TestFailingDisk(t *testing.T) {
	for _, failures := range []int{1, 2, 3, 4, 1000} {
		for first := 1; ; first++ {
			s, _ := mustOpen(t, memoryDir(t))
			l := &life{store: s}
			step := 0
			s.dir.before = func(string, string) error {
				if step++; step >= first && step < first+failures {
					return syscall.EIO
				}
				return nil
			}
			l.run()
			if step < first {
				break
			}
			name := fmt.Sprintf("%d failures from step %d", failures, first)
			for _, err := range l.errs {
				if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), s.dir.name) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if len(l.errs) > failures {
				t.Errorf("%s: %d errors: %v", name, len(l.errs), l.errs)
			}
			s.dir.before = nil
			if !l.append() {
				t.Errorf("%s: after it: %v", name, l.errs[len(l.errs)-1])
			}
			must(t, s.Close())
			if err := l.checkDirectory(s.dir.name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A snapshot whose journal could not be replaced, or not durably, is finished before the next
// record is acknowledged, whose revision must be above the snapshot's.
func TestSnapshotHalfDone(t *testing.T) {
	for _, failing := range []string{"rename journal", "sync ."} {
		s, _ := mustOpen(t, memoryDir(t))
		must(t, s.Append(1, []byte("a")))
		replaced := false
		var steps []string
		s.dir.before = func(step, file string) error {
			steps = append(steps, step+" "+file)
			replaced = replaced || step+" "+file == "rename journal"
			if replaced && step+" "+file == failing {
				return syscall.EIO
			}
			return nil
		}
		if err := s.Snapshot(5, []byte("doc")); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", failing, err)
		}
		wantError(t, s.TakeBack(), "no record")
		wantError(t, s.Append(5, []byte("b")), "revision 5 cannot follow 5")
		if failing == "sync ." {
			wantError(t, s.Append(6, []byte("b")), "input/output error")
			failing, steps = "", nil
			must(t, s.Append(6, []byte("b")))
			if want := []string{"sync .", "write journal", "sync journal"}; !slices.Equal(steps, want) {
				t.Errorf("steps %q, want %q", steps, want)
			}
		} else {
			must(t, s.Append(6, []byte("b")))
		}
		s.dir.before = nil
		_, kept := reopen(t, s)
		wantKept(t, kept, `"doc" 6=b at 6`)
	}
}
