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

// openDirectory locks a directory. It makes one that is missing, but not its parent.
func openDirectory(name string) (*directory, error) {
	d := &directory{name: name}
	if err := d.open(); err != nil {
		d.close()
		return nil, fmt.Errorf("state directory %s: %w", name, cause(err))
	}
	return d, nil
}

func (d *directory) open() error {
	err := os.Mkdir(d.name, 0o700)
	switch {
	case err == nil:
		err = syncParent(d.name)
	case errors.Is(err, fs.ErrExist):
		err = nil
	case errors.Is(err, fs.ErrNotExist):
		// It is the parent that is missing, except where none can be made, as in /proc.
		if parent := filepath.Dir(filepath.Clean(d.name)); missing(parent) {
			err = fmt.Errorf("%s does not exist", parent)
		}
	default: // a file system may be read-only and have the directory
		if _, noStat := os.Stat(d.name); noStat == nil {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	if d.root, err = os.OpenRoot(d.name); err != nil {
		return err
	}
	if d.self, err = d.root.Open("."); err != nil {
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
