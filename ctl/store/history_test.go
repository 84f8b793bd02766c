package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Both histories keep the newest 20 versions, newest first.
func TestHistory(t *testing.T) {
	s, _ := mustOpen(t, t.TempDir())
	for name, h := range map[string]History{"store": s, "memory": &Memory{}} {
		t.Run(name, func(t *testing.T) {
			if all, err := h.Versions(); len(all) != 0 || err != nil {
				t.Errorf("at first: %v, %v", all, err)
			}
			version := func(n uint64) Version {
				at := time.Date(2026, 11, 30, 1, 0, int(n), int(n), time.UTC)
				return Version{n, at, "root (uid 0)", fmt.Sprintf("apply \"a\nb\" %d", n)}
			}
			must(t, h.AddVersion(Version{Revision: 3, How: "replaced"}, []byte("replaced")))
			for n := uint64(1); n <= 30; n++ {
				must(t, h.AddVersion(version(n), fmt.Appendf(nil, "document\n%d\n", n)))
			}
			all, err := h.Versions()
			must(t, err)
			if len(all) != keptVersions {
				t.Errorf("%d versions, want %d", len(all), keptVersions)
			}
			for i, v := range all {
				if want := version(uint64(30 - i)); !reflect.DeepEqual(v, want) {
					t.Errorf("version %d is %v, want %v", i, v, want)
				}
				document, err := h.Document(v.Revision)
				if want := fmt.Sprintf("document\n%d\n", v.Revision); err != nil || string(document) != want {
					t.Errorf("document %q (%v), want %q", document, err, want)
				}
			}
			if _, err := h.Document(10); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a document that is not kept: %v", err)
			}
		})
	}
}

// A version that cannot be read is named and hides no other. One that is not of uvs, or of a
// newer format, is neither overwritten nor removed.
func TestHistoryDamaged(t *testing.T) {
	s, _ := mustOpen(t, t.TempDir())
	for n := uint64(1); n <= 3; n++ {
		must(t, s.AddVersion(Version{Revision: n}, []byte("document")))
	}
	must(t, os.WriteFile(s.dir.path("version-2"), []byte("mine"), 0o600))
	must(t, os.WriteFile(s.dir.path("version-x"), []byte("mine"), 0o600))
	must(t, os.Mkdir(s.dir.path("version-4"), 0o700))
	must(t, os.Rename(s.dir.path("version-3"), s.dir.path("version-5")))
	all, err := s.Versions()
	if len(all) != 1 || all[0].Revision != 1 {
		t.Errorf("versions %v", all)
	}
	for _, want := range []string{"2: is not a version", "4: is not a regular file", "5: is of revision 3"} {
		if !strings.Contains(fmt.Sprint(err), "version-"+want) {
			t.Errorf("error %v has no %q", err, want)
		}
	}
	wantError(t, s.AddVersion(Version{Revision: 2}, nil), "version-2: is not a version of uvs")
	wantError(t, s.AddVersion(Version{Revision: 4}, nil), "version-4: is not a regular file")
	must(t, os.WriteFile(s.dir.path("version-3"), []byte("uvs version 2 x"), 0o600))
	wantError(t, s.AddVersion(Version{Revision: 3}, nil), "version-3: has format 2, this uvs reads 1")
	must(t, os.WriteFile(s.dir.path("version-1"), []byte("uvs version 1 damaged"), 0o600))
	must(t, s.AddVersion(Version{Revision: 5}, []byte("again")))
	if document, err := s.Document(5); string(document) != "again" || err != nil {
		t.Errorf("version 5: %q (%v)", document, err)
	}
	for n := uint64(100); n < 120; n++ {
		must(t, s.AddVersion(Version{Revision: n}, nil))
	}
	for file, want := range map[string]string{"version-1": "", "version-2": "mine", "version-3": "uvs version 2 x"} {
		if b, err := os.ReadFile(s.dir.path(file)); string(b) != want {
			t.Errorf("%s is %q (%v), want %q", file, b, err, want)
		}
	}
	reopen(t, s) // versions do not keep a director from starting
}
