package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// keptVersions is how many versions a History keeps.
const keptVersions = 20

// A Version says how a document came into force.
type Version struct {
	Revision uint64    `json:"-"`
	Time     time.Time `json:"time"`
	Author   string    `json:"author"`
	How      string    `json:"how"` // "apply FILE", "reload", "rollback", "start"
}

// A History keeps the documents of the newest 20 versions. A version replaces one with the
// same revision.
type History interface {
	AddVersion(v Version, document []byte) error
	// Versions returns the versions, newest first.
	Versions() ([]Version, error)
	// Document returns the document of a version; fs.ErrNotExist if it is not kept.
	Document(revision uint64) ([]byte, error)
}

var (
	_ History = (*Store)(nil)
	_ History = (*Memory)(nil)
)

func versionFile(revision uint64) string { return fmt.Sprintf("version-%d", revision) }

// revisions returns those of the versions that are kept, newest first.
func (s *Store) revisions() ([]uint64, error) {
	entries, err := fs.ReadDir(s.dir.root.FS(), ".")
	if err != nil {
		return nil, s.dir.wrap(".", err)
	}
	var all []uint64
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), "version-")
		revision, err := strconv.ParseUint(digits, 10, 64)
		if ok && err == nil && e.Name() == versionFile(revision) {
			all = append(all, revision)
		}
	}
	slices.Sort(all)
	slices.Reverse(all)
	return all, nil
}

// readVersion reads a version. A damaged one is an error of that version only.
func (s *Store) readVersion(revision uint64) (v Version, document []byte, err error) {
	file, err := s.dir.read(versionFile(revision))
	if err != nil {
		return v, nil, err
	}
	written, meta, document, err := decodeDocument("version", file)
	if err == nil {
		err = json.Unmarshal(meta, &v)
	}
	if err == nil && written != revision {
		err = fmt.Errorf("is of revision %d", written)
	}
	v.Revision = revision
	return v, document, s.dir.wrap(versionFile(revision), err)
}

// AddVersion implements History. The version is durable when it returns nil.
func (s *Store) AddVersion(v Version, document []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal == nil {
		return fs.ErrClosed
	}
	meta, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := s.mayReplace(v.Revision); err != nil {
		return err
	}
	if err := s.dir.save(versionFile(v.Revision), encodeDocument("version", v.Revision, meta, document)); err != nil {
		return err
	}
	revisions, err := s.revisions()
	if err != nil {
		return err
	}
	for _, old := range revisions[min(len(revisions), keptVersions):] {
		if s.mayReplace(old) != nil {
			continue
		}
		if err := s.dir.remove(versionFile(old)); err != nil {
			return err
		}
	}
	return nil
}

// mayReplace returns an error if the file of a version is not of uvs or of a newer format.
func (s *Store) mayReplace(revision uint64) error {
	file, err := s.dir.read(versionFile(revision))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = cutFormat("version", file)
		if errors.Is(err, errDamaged) {
			err = nil
		}
		err = s.dir.wrap(versionFile(revision), err)
	}
	return err
}

// Versions implements History. It returns those that can be read, and an error that names
// the others.
func (s *Store) Versions() ([]Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal == nil {
		return nil, fs.ErrClosed
	}
	revisions, err := s.revisions()
	var all []Version
	for _, revision := range revisions {
		v, _, damaged := s.readVersion(revision)
		if damaged == nil {
			all = append(all, v)
		}
		err = errors.Join(err, damaged)
	}
	return all, err
}

// Document implements History.
func (s *Store) Document(revision uint64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal == nil {
		return nil, fs.ErrClosed
	}
	_, document, err := s.readVersion(revision)
	return document, err
}

// Memory is a History without a directory. The zero value is empty.
type Memory struct {
	mu        sync.Mutex
	versions  []Version // newest first
	documents map[uint64][]byte
}

// AddVersion implements History.
func (m *Memory) AddVersion(v Version, document []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.documents == nil {
		m.documents = map[uint64][]byte{}
	}
	same := func(other Version) bool { return other.Revision == v.Revision }
	m.versions = slices.Insert(slices.DeleteFunc(m.versions, same), 0, v)
	slices.SortFunc(m.versions, func(a, b Version) int { return cmp.Compare(b.Revision, a.Revision) })
	m.documents[v.Revision] = bytes.Clone(document)
	for len(m.versions) > keptVersions {
		last := len(m.versions) - 1
		delete(m.documents, m.versions[last].Revision)
		m.versions = m.versions[:last]
	}
	return nil
}

// Versions implements History.
func (m *Memory) Versions() ([]Version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.versions), nil
}

// Document implements History.
func (m *Memory) Document(revision uint64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	document, ok := m.documents[revision]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(document), nil
}
