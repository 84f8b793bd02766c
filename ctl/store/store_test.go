package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mustOpen opens a directory, and closes it at the end of the test if it is open still.
func mustOpen(t *testing.T, dir string) (*Store, *Kept) {
	t.Helper()
	s, kept, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, kept
}

// reopen closes a store and returns what its directory keeps.
func reopen(t *testing.T, s *Store) (*Store, *Kept) {
	t.Helper()
	must(t, s.Close())
	return mustOpen(t, s.dir.name)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// text is what is kept in one line: the document, the records, the revision.
func (k *Kept) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q", k.Document)
	for _, r := range k.Records {
		fmt.Fprintf(&b, " %d=%s", r.Revision, r.Data)
	}
	return fmt.Sprintf("%s at %d", b.String(), k.Revision)
}

func wantKept(t *testing.T, k *Kept, want string) {
	t.Helper()
	if got := k.text(); got != want {
		t.Errorf("kept %s, want %s", got, want)
	}
}

// wantError checks for one line with each of the words.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q has no %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q has several lines", err)
	}
}

// Records, and the document before them, are there again after Close.
func TestStoreKeeps(t *testing.T) {
	s, kept := mustOpen(t, filepath.Join(t.TempDir(), "state"))
	wantKept(t, kept, `"" at 0`)
	if kept.Document != nil {
		t.Error("a document in a new directory")
	}
	must(t, s.Append(1, []byte(`{"put":"a"}`)))
	must(t, s.Append(3, []byte(`{}`)))
	s, kept = reopen(t, s)
	wantKept(t, kept, `"" 1={"put":"a"} 3={} at 3`)

	must(t, s.Snapshot(3, []byte("line\nline\n")))
	s, kept = reopen(t, s)
	wantKept(t, kept, `"line\nline\n" at 3`)

	must(t, s.Append(4, nil))
	must(t, s.Append(5, []byte("b")))
	must(t, s.TakeBack())
	s, kept = reopen(t, s)
	wantKept(t, kept, `"line\nline\n" 4= at 4`)

	must(t, s.Append(5, []byte("c")))
	must(t, s.Snapshot(9, []byte{}))
	s, kept = reopen(t, s)
	wantKept(t, kept, `"" at 9`)
	if kept.Document == nil {
		t.Error("an empty document is none")
	}
	must(t, s.Close())
	for name, want := range map[string]string{
		"journal":  "uvs journal 1 " + string(checksum([]byte("9"))) + " 9\n",
		"snapshot": "uvs snapshot 1 " + string(checksum([]byte("9 \n"))) + " 9 \n",
	} {
		if got, err := os.ReadFile(filepath.Join(s.dir.name, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q (%v), want %q", name, got, err, want)
		}
	}
}

func TestStoreRefuses(t *testing.T) {
	s, _ := mustOpen(t, t.TempDir())
	wantError(t, s.TakeBack(), "journal", "no record")
	must(t, s.Append(5, []byte("a")))
	wantError(t, s.Append(5, []byte("b")), "revision 5 cannot follow 5")
	wantError(t, s.Append(6, []byte("b\n")), "one line")
	wantError(t, s.Snapshot(4, nil), "revision 4 cannot follow 5")
	must(t, s.TakeBack())
	wantError(t, s.TakeBack(), "no record")
	must(t, s.Append(5, []byte("c")))
	must(t, s.Snapshot(5, nil))
	wantError(t, s.TakeBack(), "no record")
	s, kept := reopen(t, s)
	wantKept(t, kept, `"" at 5`)
	must(t, s.Close())
	_, versions := s.Versions()
	_, document := s.Document(1)
	for _, err := range []error{
		s.Append(6, nil), s.TakeBack(), s.Snapshot(6, nil), s.Close(),
		s.AddVersion(Version{}, nil), versions, document,
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// A snapshot is wanted when the journal has outgrown 1 MiB and the last snapshot. One that
// failed is wanted again 1 MiB later.
func TestWantsSnapshot(t *testing.T) {
	s, _ := mustOpen(t, t.TempDir())
	revision := uint64(0)
	grow := func(size int) {
		t.Helper()
		if s.WantsSnapshot() {
			t.Errorf("wanted at %d bytes", s.end.offset)
		}
		revision++
		must(t, s.Append(revision, make([]byte, size)))
	}
	grow(1000)
	grow(minJournal)
	if !s.WantsSnapshot() {
		t.Error("not wanted at 1 MiB")
	}
	s.dir.before = func(step, file string) error { return errors.New("no space") }
	wantError(t, s.Snapshot(revision, nil), "no space")
	s.dir.before = nil
	grow(minJournal)
	if !s.WantsSnapshot() {
		t.Error("not wanted 1 MiB after a failure")
	}
	must(t, s.Snapshot(revision, make([]byte, 2*minJournal)))
	grow(minJournal)
	grow(minJournal)
	s, _ = reopen(t, s)
	if !s.WantsSnapshot() {
		t.Error("not wanted at the size of the snapshot")
	}
}

// Only the owner may read, whatever the umask leaves.
func TestPermissions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, _ := mustOpen(t, dir)
	must(t, s.Append(1, nil))
	must(t, s.Snapshot(1, nil))
	must(t, s.AddVersion(Version{Revision: 1}, nil))
	for file, want := range map[string]fs.FileMode{
		".": 0o700 | fs.ModeDir, "journal": 0o600, "snapshot": 0o600, "version-1": 0o600,
	} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v (%v), want %v", file, info.Mode(), err, want)
		}
	}
}

// One store at a time has a directory.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	s, _ := mustOpen(t, dir)
	_, _, err := Open(dir + "/.")
	wantError(t, err, dir, "another director uses it")
	reopen(t, s)
}

// What cannot be a state directory is refused in one line, and left as it is.
func TestOpenRefuses(t *testing.T) {
	foreign := []byte("something else\n")
	for name, c := range map[string]struct {
		dir   string
		make  func(dir string) error
		words []string
	}{
		"a file": {"f", func(d string) error { return os.WriteFile(d, foreign, 0o600) }, []string{"not a directory"}},
		"no parent": {
			"no/state", func(string) error { return nil },
			[]string{"state directory", "/no does not exist"},
		},
		"foreign journal": {"d", func(d string) error {
			return errors.Join(os.Mkdir(d, 0o700), os.WriteFile(d+"/journal", foreign, 0o600))
		}, []string{"d/journal: is not a journal of uvs", "left alone"}},
		"empty journal": {"d", func(d string) error {
			return errors.Join(os.Mkdir(d, 0o700), os.WriteFile(d+"/journal", nil, 0o600))
		}, []string{"d/journal: is not a journal of uvs"}},
		"foreign snapshot": {"d", func(d string) error {
			return errors.Join(os.Mkdir(d, 0o700), os.WriteFile(d+"/snapshot", foreign, 0o600))
		}, []string{"d/snapshot: is not a snapshot of uvs", "left alone"}},
		"directory as journal": {
			"d", func(d string) error { return os.MkdirAll(d+"/journal", 0o700) },
			[]string{"d/journal: is not a regular file"},
		},
		"link as snapshot": {"d", func(d string) error {
			return errors.Join(os.Mkdir(d, 0o700), os.Symlink("/etc/passwd", d+"/snapshot"))
		}, []string{"d/snapshot: is not a regular file"}},
		"newer journal": {"d", func(d string) error {
			return errors.Join(os.Mkdir(d, 0o700), os.WriteFile(d+"/journal", []byte("uvs journal 2 {}\n"), 0o600))
		}, []string{"d/journal: has format 2, this uvs reads 1"}},
		"newer snapshot": {"d", func(d string) error {
			return errors.Join(os.Mkdir(d, 0o700), os.WriteFile(d+"/snapshot", []byte("uvs snapshot 12 x"), 0o600))
		}, []string{"d/snapshot: has format 12, this uvs reads 1"}},
		"journal without its snapshot": {"d", func(d string) error {
			return errors.Join(os.Mkdir(d, 0o700), os.WriteFile(d+"/journal", emptyJournal(7), 0o600))
		}, []string{"d/journal: continues revision 7, the snapshot has 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			dir := filepath.Join(top, c.dir)
			must(t, c.make(dir))
			before := tree(t, top)
			_, _, err := Open(dir)
			wantError(t, err, c.words...)
			if after := tree(t, top); after != before {
				t.Errorf("%s became %s", before, after)
			}
		})
	}
}

// tree lists the files below a directory with what is in them.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.Name() == lockFile {
			return err
		}
		content, _ := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %v %q\n", path, d.Type(), content)
		return err
	})
	return b.String()
}

// A journal that someone removed is reported.
func TestMissingJournal(t *testing.T) {
	s, _ := mustOpen(t, t.TempDir())
	must(t, s.Snapshot(7, []byte("doc")))
	must(t, s.Close())
	must(t, os.Remove(s.dir.path("journal")))
	s, kept := mustOpen(t, s.dir.name)
	wantKept(t, kept, `"doc" at 7`)
	wantError(t, errors.New(kept.Note), "journal is missing", "revision 7")
	must(t, s.Append(8, nil))
}

// BenchmarkAppend measures a durable change of one server on the disk of the temporary directory.
func BenchmarkAppend(b *testing.B) {
	s, _, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	record := []byte(strings.Repeat("x", 200))
	for n := uint64(1); b.Loop(); n++ {
		if err := s.Append(n, record); err != nil {
			b.Fatal(err)
		}
	}
}

// Where no directory can be made, the error does not say that the parent is missing.
func TestOpenInProc(t *testing.T) {
	_, _, err := Open("/proc/uvs")
	if err == nil || strings.Contains(err.Error(), "does not exist") || !strings.Contains(err.Error(), "/proc/uvs") {
		t.Error(err)
	}
}

// A change that the next start would not find is not acknowledged: the journal or the directory
// was removed, replaced or renamed meanwhile.
func TestMovedAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, _ := mustOpen(t, dir)
	must(t, s.Append(1, []byte("one")))
	must(t, os.Rename(dir, dir+".old"))
	wantError(t, s.Append(2, []byte("two")), "state/journal: was removed or renamed")
	must(t, os.Mkdir(dir, 0o700))
	wantError(t, s.Append(2, []byte("two")), "was removed or renamed")
	must(t, os.Remove(dir))
	must(t, os.Rename(dir+".old", dir))
	must(t, s.Append(2, []byte("two")))
	must(t, os.Remove(filepath.Join(dir, "journal")))
	wantError(t, s.Append(3, []byte("three")), "was removed or renamed")
	must(t, os.WriteFile(filepath.Join(dir, "journal"), nil, 0o600))
	wantError(t, s.Append(3, []byte("three")), "was removed or renamed")
	must(t, s.Snapshot(3, []byte("all"))) // writes all again
	must(t, s.Append(4, []byte("four")))
	_, kept := reopen(t, s)
	wantKept(t, kept, `"all" 4=four at 4`)
}
