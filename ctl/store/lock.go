package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked is that another process has a lock longer than Lock waits.
var ErrLocked = errors.New("another process holds the lock")

// Lock locks a file, whose path is relative to an open directory, until all copies of it are
// closed. It makes the file if it is missing, and leaves it. Only this user, or the
// owner of the directory, can open the file, so that no other can hold the lock.
func Lock(dir int, path string, wait time.Duration) (*os.File, error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, path, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	var stat, parent unix.Stat_t
	err = errors.Join(unix.Fstat(fd, &stat), unix.Fstatat(dir, filepath.Dir(path), &parent, 0))
	own := int(stat.Uid) == os.Geteuid() || stat.Uid == parent.Uid
	if err == nil && (stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Mode&0o077 != 0 || !own) {
		err = fmt.Errorf("%s is not a file of mode 0600 of this user; remove it", path)
	}
	deadline := time.Now().Add(wait)
	for err == nil {
		if err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return f, nil
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
			if time.Now().Before(deadline) {
				time.Sleep(10 * time.Millisecond)
				err = nil
			}
		}
	}
	f.Close()
	return nil, err
}
