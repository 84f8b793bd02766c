package file

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"uvs/ctl/config"
)

// includeName is the member of a file that names others: paths of files and directories, and
// patterns (filepath.Match), relative to the file's directory. Of a directory it means the
// files *.yaml, *.yml and *.json in the order of their names.
const includeName = "include"

// The most files that include each other, and the most files at all.
const (
	maxIncludes = 8
	maxFiles    = 4096
)

// File is a configuration that was read, and where its values stand.
type File struct {
	Document config.Document
	root     *node
}

// Read reads a configuration: the file of a path, or standard input if it is "-", and what
// it includes. command parses the lines of a file of commands. What is wrong in a file is an
// *Error. Whether a director can have the configuration, Document.State tells.
func Read(path string, command Command) (*File, error) {
	r := reader{command: command}
	root, err := r.read(path, nil)
	if err != nil {
		return nil, err
	}
	return newFile(root)
}

// newFile decodes the value of a file.
func newFile(root *node) (*File, error) {
	f := &File{root: root}
	if err := f.decode(); err != nil {
		return nil, err
	}
	return f, nil
}

// decode decodes the nodes.
func (f *File) decode() error {
	var e encoder
	if err := e.append(f.root, true); err != nil {
		return err
	}
	var document struct {
		config.Document
		Include bool `json:"include"` // so that errors of unknown names know it; reader.include takes it
	}
	if err := config.Decode(e.text, &document); err != nil {
		return f.Locate(err)
	}
	f.Document = document.Document
	if f.Document.Services == nil && f.root.member("services") != nil {
		f.Document.Services = []config.Service{} // the section is empty
	}
	return f.checkUnique()
}

// checkUnique refuses services that are there twice.
func (f *File) checkUnique() error {
	services := f.root.member("services")
	first := map[config.ServiceKey]*node{}
	for i, s := range f.Document.Services {
		at := services.value.items[i]
		if other := first[s.ServiceKey]; other != nil {
			return at.errorf("service %s is given twice; first in %s", s.Text(), other.place)
		}
		first[s.ServiceKey] = at
	}
	return nil
}

// Locate returns an *Error with the file and the line for an error of a value in the
// document: a *config.DecodeError, or a *config.Error with a pointer. It returns any other
// error as it is.
func (f *File) Locate(err error) error {
	if wrong, ok := errors.AsType[*config.DecodeError](err); ok {
		return f.root.find(wrong.Pointer).errorf("%s", wrong.Error())
	}
	if refused, ok := errors.AsType[*config.Error](err); ok && refused.Pointer != "" {
		return f.root.find(refused.Pointer).errorf("%s", refused.Message)
	}
	return err
}

// reader reads a file and those that it includes.
type reader struct {
	command Command
	files   int // that were included
	size    int // of all, in bytes
}

// read reads a file that the files of a path include.
func (r *reader) read(path string, by []string) (*node, error) {
	if info, err := os.Stat(path); by != nil && err == nil && !info.Mode().IsRegular() {
		return nil, errors.New(path + " is no regular file")
	}
	name, from := path, os.Stdin
	if path == "-" && by == nil {
		name = "standard input"
	} else {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, MaxSize+1))
	if err != nil {
		return nil, err
	}
	in, err := newSource(name, text)
	if r.size += len(text); err == nil && r.size > MaxSize {
		err = place{in: in}.errorf("the configuration is longer than %d bytes", MaxSize)
	}
	if err != nil {
		return nil, err
	}
	root, err := r.parse(in)
	if err != nil {
		return nil, err
	}
	return r.include(root, path, by)
}

// parse returns the value of a file, which is an object.
func (r *reader) parse(in *source) (root *node, err error) {
	switch {
	case isCommands(in.text):
		root, err = r.parseCommands(in)
	case bytes.HasPrefix(bytes.TrimSpace(in.text), []byte("{")):
		root, err = parseJSON(in)
		if _, ok := errors.AsType[*Error](err); ok || err == nil {
			break
		}
		fallthrough // {NAME: VALUE} is YAML
	default:
		root, err = parseYAML(in)
	}
	switch {
	case err != nil:
		return nil, err
	case root == nil || root.isNull():
		return &node{place: in.at(0), kind: object}, nil
	case root.kind != object:
		return nil, root.errorf("a configuration is NAME: VALUE, such as services: and a list below it")
	}
	return root, nil
}

// include returns the value of a file with those of the files that it includes after it.
func (r *reader) include(root *node, path string, by []string) (*node, error) {
	m := root.member(includeName)
	if m == nil {
		return root, nil
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	by = append(slices.Clip(by), absolute)
	all := &node{place: root.place, kind: object}
	for _, own := range root.members {
		if own.name != includeName {
			all.members = append(all.members, own)
		}
	}
	items := []*node{m.value}
	if m.value.kind == list || m.value.isNull() {
		items = m.value.items
	}
	for _, item := range items {
		paths, err := included(item, filepath.Dir(absolute))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			r.files++
			switch {
			case slices.Contains(by, path):
				return nil, item.errorf("%s includes itself", path)
			case len(by) > maxIncludes:
				return nil, item.errorf("more than %d files include each other", maxIncludes)
			case r.files > maxFiles:
				return nil, item.errorf("more than %d files are included", maxFiles)
			}
			part, err := r.read(path, by)
			if err != nil {
				return nil, inFile(item, err)
			}
			if err := all.merge(part, ""); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// inFile makes an error of reading a file one of the place that includes it.
func inFile(item *node, err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return item.errorf("%v", err)
}

// included returns the paths of the files that an item of include names.
func included(item *node, dir string) ([]string, error) {
	var name string
	if item.kind != scalar || json.Unmarshal([]byte(item.text), &name) != nil || name == "" {
		return nil, item.errorf("include takes paths of files and directories, such as conf.d")
	}
	path := name
	if !filepath.IsAbs(name) {
		path = filepath.Join(dir, name)
	}
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		return filesIn(path)
	case errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(name, "*?["):
		paths, err := filepath.Glob(path)
		if err != nil {
			return nil, item.errorf("%s: %v", name, err)
		}
		return paths, nil
	case err != nil:
		return nil, item.errorf("%v", err)
	}
	return []string{filepath.Clean(path)}, nil
}

// filesIn returns the configuration files of a directory.
func filesIn(dir string) (paths []string, err error) {
	entries, err := os.ReadDir(dir) // sorted
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".yaml", ".yml", ".json":
			if !strings.HasPrefix(e.Name(), ".") && !e.IsDir() {
				paths = append(paths, filepath.Join(dir, e.Name()))
			}
		}
	}
	return paths, err
}

// merge adds the members of an object of another file: the items of a list after those that
// are there, and the members of an object, which must not be there. path names the object.
func (n *node) merge(o *node, path string) error {
	for _, m := range o.members {
		here := n.member(m.name)
		switch {
		case here == nil || here.value.isNull():
			if here != nil {
				*here = m
			} else {
				n.members = append(n.members, m)
			}
		case m.value.isNull():
		case path == "" && here.value.kind == list && m.value.kind == list:
			both := *here.value // aliases share nodes
			both.items = slices.Concat(both.items, m.value.items)
			here.value = &both
		case path == "" && here.value.kind == object && m.value.kind == object:
			both := *here.value
			both.members = slices.Clone(both.members)
			if err := both.merge(m.value, m.name+"."); err != nil {
				return err
			}
			here.value = &both
		default:
			return m.errorf("%s%s is given twice; first in %s", path, m.name, here.place)
		}
	}
	return nil
}
