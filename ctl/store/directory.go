package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// newFile is the name of a file that is being written.
const newFile = ".uvs-new"

// lockFile is the name of the file that is locked.
const lockFile = ".uvs-lock"

// directory is the locked directory and the steps that change it. Its errors name the file.
type directory struct {
	name string
	root *os.Root
	self *os.File
	lock *os.File

	// before, in tests, sees each step first and may fail it.
	before func(step, file string) error
}

// Prepare makes a state directory that is missing, but not its parent, and opens it. With a user
// that is not -1 the directory and what is in it belong to that user from then on.
func Prepare(name string, user int) (*os.File, error) {
	dir, err := prepare(name, user)
	if err != nil {
		return nil, stateError(name, err)
	}
	return dir, nil
}

func stateError(name string, err error) error {
	return fmt.Errorf("state directory %s: %w", name, cause(err))
}

func prepare(name string, user int) (*os.File, error) {
	if err := makeDirectory(name); err != nil {
		return nil, err
	}
	dir, err := os.Open(name)
	if err == nil {
		if err = giveTo(dir, user); err == nil {
			return dir, nil
		}
		dir.Close()
	}
	return nil, err
}

// makeDirectory makes a directory, unless it is there.
func makeDirectory(name string) error {
	err := os.Mkdir(name, 0o700)
	switch {
	case err == nil:
		return syncParent(name)
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		// It is the parent that is missing, except where none can be made, as in /proc.
		if parent := filepath.Dir(filepath.Clean(name)); missing(parent) {
			return fmt.Errorf("%s does not exist", parent)
		}
	default: // a file system may be read-only and have the directory
		if _, noStat := os.Stat(name); noStat == nil {
			return nil
		}
	}
	return err
}

// giveTo makes a user the owner of a directory and its files. -1 changes nothing.
func giveTo(dir *os.File, user int) error {
	if user < 0 {
		return nil
	}
	entries, err := dir.ReadDir(-1)
	if err == nil {
		err = dir.Chown(user, -1)
	}
	for _, e := range entries {
		if err == nil {
			err = unix.Fchownat(int(dir.Fd()), e.Name(), user, -1, unix.AT_SYMLINK_NOFOLLOW)
		}
	}
	return err
}

// openDirectory locks a directory that Prepare opened by its name. It takes dir over.
func openDirectory(dir *os.File, name string) (*directory, error) {
	d := &directory{name: name, self: dir}
	if err := d.open(); err != nil {
		d.close()
		return nil, stateError(d.name, err)
	}
	return d, nil
}

func (d *directory) open() (err error) {
	// By the descriptor: the user may not be allowed to follow the path.
	if d.root, err = os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", d.self.Fd())); err != nil {
		return err
	}
	if d.lock, err = Lock(int(d.self.Fd()), lockFile, 0); errors.Is(err, ErrLocked) {
		err = errors.New("another director uses it")
	}
	return err
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func syncParent(name string) error {
	parent, err := os.Open(filepath.Dir(filepath.Clean(name)))
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}

func (d *directory) close() {
	if d.lock != nil {
		d.lock.Close() // gives the lock back
	}
	if d.self != nil {
		d.self.Close()
	}
	if d.root != nil {
		d.root.Close()
	}
}

// cause returns what is wrong without the system call and the path of package os.
func cause(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

func (d *directory) path(file string) string { return filepath.Join(d.name, file) }

func (d *directory) wrap(file string, err error) error {
	var line *lineError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &line):
		return fmt.Errorf("%s:%d: %w", d.path(file), line.line, err)
	}
	return fmt.Errorf("%s: %w", d.path(file), cause(err))
}

// leadsTo returns an error if the next start would not find an open file by its name, because it
// or the directory was removed or renamed.
func (d *directory) leadsTo(f *os.File, file string) error {
	there, err := os.Stat(d.path(file))
	own, _ := f.Stat()
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(there, own) {
		return d.wrap(file, errors.New("was removed or renamed; put it back, or run uvs save and start again"))
	}
	return nil
}

// step does one step that changes what is on disk.
func (d *directory) step(step, file string, do func() error) error {
	if d.before != nil {
		if err := d.before(step, file); err != nil {
			return d.wrap(file, err)
		}
	}
	return d.wrap(file, do())
}

func (d *directory) write(f *os.File, file string, b []byte, offset int64) error {
	return d.step("write", file, func() error {
		_, err := f.WriteAt(b, offset)
		return err
	})
}

func (d *directory) truncate(f *os.File, file string, size int64) error {
	return d.step("truncate", file, func() error { return f.Truncate(size) })
}

// sync makes the bytes and the size of a file durable.
func (d *directory) sync(f *os.File, file string) error {
	return d.step("sync", file, func() error {
		for {
			if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	})
}

// syncNames makes renames and removals durable.
func (d *directory) syncNames() error {
	return d.step("sync", ".", d.self.Sync)
}

func (d *directory) remove(file string) error {
	return d.step("remove", file, func() error { return d.root.Remove(file) })
}

// read returns a file's bytes; fs.ErrNotExist if there is none.
func (d *directory) read(file string) ([]byte, error) {
	info, err := d.root.Lstat(file)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("is not a regular file; move it away or choose another directory")
	}
	if err != nil {
		return nil, d.wrap(file, err)
	}
	b, err := d.root.ReadFile(file)
	return b, d.wrap(file, err)
}

// replace gives a file new bytes: all of them durably, or none. The names may not be durable
// yet: syncNames is next. It returns the open file.
func (d *directory) replace(file string, b []byte) (*os.File, error) {
	if err := d.remove(newFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var f *os.File
	err := d.step("create", newFile, func() (err error) {
		f, err = d.root.OpenFile(newFile, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = d.write(f, newFile, b, 0)
	if err == nil {
		err = d.sync(f, newFile)
	}
	if err == nil {
		err = d.step("rename", file, func() error { return d.root.Rename(newFile, file) })
	}
	if err != nil {
		f.Close()
		_ = d.remove(newFile) // gives the space back; if it cannot, the next call does
		return nil, err
	}
	return f, nil
}

// save is replace, with durable names, for a file that is not written again.
func (d *directory) save(file string, b []byte) error {
	f, err := d.replace(file, b)
	if err != nil {
		return err
	}
	f.Close()
	return d.syncNames()
}
