package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whoever can only read the directory cannot lock it. What is not the director's own file is
// refused and not touched, and a lock is waited for no longer than said.
func TestLockFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	d, err := os.Open(dir)
	must(t, err)
	defer d.Close()
	must(t, unix.Flock(int(d.Fd()), unix.LOCK_EX))
	first, err := Lock(unix.AT_FDCWD, path, 0)
	must(t, err)
	if _, err := Lock(unix.AT_FDCWD, path, 20*time.Millisecond); !errors.Is(err, ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	first.Close()
	again, err := Lock(int(d.Fd()), "lock", 0)
	must(t, err)
	again.Close()

	for name, make := range map[string]func() error{
		"public":   func() error { return os.WriteFile(path, nil, 0o644) },
		"symlink":  func() error { return os.Symlink(filepath.Join(dir, "target"), path) },
		"pipe":     func() error { return unix.Mkfifo(path, 0o600) },
		"folder":   func() error { return os.Mkdir(path, 0o700) },
		"stranger": func() error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, 12345, -1)) },
	} {
		if name == "stranger" && os.Geteuid() != 0 {
			continue // needs root
		}
		must(t, os.RemoveAll(path))
		must(t, make())
		if l, err := Lock(unix.AT_FDCWD, path, 0); err == nil {
			l.Close()
			t.Errorf("%s: locked", name)
		}
		if _, err := os.Stat(filepath.Join(dir, "target")); err == nil {
			t.Error("a symlink was followed")
		}
	}
}
