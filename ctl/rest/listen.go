package rest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uvs/ctl/store"
)

// maxPath is the longest path of a unix socket: sun_path in struct sockaddr_un
// has 108 bytes, of which the last is zero.
const maxPath = 107

// lockWait is how long Listen waits for directors that start at the same moment.
const lockWait = 5 * time.Second

// Listen binds the socket, with the mode that lets in those who may use it. It makes the
// socket's directory, but none above. It replaces the socket of a dead director; that of a
// live one is an error. Of directors that start at the same moment, one gets the socket.
func Listen(path string, access Access) (net.Listener, error) {
	if len(path) == 0 || len(path) > maxPath {
		return nil, fmt.Errorf("socket path %q has %d bytes; must be 1 to %d", path, len(path), maxPath)
	}
	permissions, err := access.resolve()
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the directory of socket %s: %w", path, err)
	}
	lock, err := store.Lock(unix.AT_FDCWD, path+".lock", lockWait)
	if err != nil {
		return nil, fmt.Errorf("lock socket %s: %w", path, err)
	}
	defer lock.Close()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The file gets the mode that the socket has before bind, so others can never connect.
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		failed := raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) })
		return cmp.Or(failed, err)
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	if mode, group := permissions.socketMode(); mode != 0o600 {
		if err := cmp.Or(os.Lchown(path, -1, group), os.Chmod(path, mode)); err != nil {
			l.Close()
			return nil, fmt.Errorf("let others use socket %s: %w", path, err)
		}
	}
	return l, nil
}

// removeStale removes a socket that no process listens on.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket %s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket; remove it or choose another with --socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		conn.Close()
		fallthrough
	case !errors.Is(err, syscall.ECONNREFUSED): // such as a full queue of a live director
		return fmt.Errorf("socket %s is in use by a live director; stop it or choose another with --socket", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove stale socket: %w", err)
	}
	return nil
}
