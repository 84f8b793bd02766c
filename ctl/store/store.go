package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// minJournal is the size in bytes below which a journal wants no snapshot: some 5,000
// changes of one server.
const minJournal = 1 << 20

// A Store is a locked state directory. Its methods may be called from several goroutines.
type Store struct {
	mu       sync.Mutex
	dir      *directory
	journal  *os.File // nil if closed
	end      position // behind the last record
	previous position // behind the record before, for TakeBack; zero if there is none
	torn     bool     // bytes may follow end: truncate before the next record
	renamed  bool     // the journal's name may not be durable: sync before the next record
	snapshot int64    // bytes
	retry    int64    // a snapshot failed: wants none before the journal has this size
}

// position is an offset in the journal and the revision of what precedes it.
type position struct {
	offset   int64
	revision uint64
}

// Kept is what a store had when it was opened: the state is the document changed by the
// records in their order.
type Kept struct {
	Document []byte // of the last snapshot; nil if there is none
	Records  []Record
	Revision uint64 // of the last record, else of the document; 0 if nothing is kept
	Note     string // what was dropped or missing, for the log; mostly empty
}

// Open locks a state directory and reads what it keeps. It makes a missing directory with mode
// 0700, but not its parent. It does not change the mode of one that is there. A directory that
// another Store has locked is an error, as is a snapshot or journal that is damaged, not of uvs,
// or of a newer format. Open changes no such file.
func Open(dir string) (*Store, *Kept, error) {
	opened, err := Prepare(dir, -1)
	if err != nil {
		return nil, nil, err
	}
	return OpenDir(opened, dir)
}

// OpenDir is Open for a directory that Prepare opened by its name. It takes dir over.
func OpenDir(dir *os.File, name string) (*Store, *Kept, error) {
	d, err := openDirectory(dir, name)
	if err != nil {
		return nil, nil, err
	}
	s := &Store{dir: d}
	kept, err := s.load()
	if err != nil {
		s.close()
		return nil, nil, err
	}
	return s, kept, nil
}

func (s *Store) load() (*Kept, error) {
	kept := &Kept{}
	file, err := s.dir.read("snapshot")
	switch {
	case err == nil:
		kept.Revision, _, kept.Document, err = decodeDocument("snapshot", file)
		s.snapshot = int64(len(file))
		if errors.Is(err, errDamaged) {
			err = fmt.Errorf("%w; restore it from a backup, or move it and the journal away to start with nothing", err)
		}
		if err != nil {
			return nil, s.dir.wrap("snapshot", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	file, err = s.dir.read("journal")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if kept.Document != nil {
			kept.Note = fmt.Sprintf("%s is missing: starting with the snapshot, revision %d",
				s.dir.path("journal"), kept.Revision)
		}
		return kept, s.newJournal(kept.Revision)
	case err != nil:
		return nil, err
	}
	if s.journal, err = s.dir.root.OpenFile("journal", os.O_RDWR, 0); err != nil {
		return nil, s.dir.wrap("journal", err)
	}
	return kept, s.dir.wrap("journal", s.replay(file, kept))
}

// replay adds what a journal says to the kept document.
func (s *Store) replay(file []byte, kept *Kept) error {
	j, err := decodeJournal(file)
	if errors.Is(err, errDamaged) {
		err = fmt.Errorf("%w in line 1; restore it from a backup, or move it away to go back to the snapshot", err)
	}
	if err != nil {
		return err
	}
	if j.after > kept.Revision {
		return fmt.Errorf("continues revision %d, the snapshot has %d (0: there is none); restore both from the same "+
			"backup, or move the journal away", j.after, kept.Revision)
	}
	s.end = position{int64(j.size), kept.Revision}
	for _, r := range j.records {
		if r.Revision > kept.Revision {
			kept.Records = append(kept.Records, r)
			s.end.revision = r.Revision
		}
	}
	kept.Revision = s.end.revision
	if s.torn = len(j.torn) > 0; s.torn {
		kept.Note = fmt.Sprintf("%s:%d: dropped the last record, whose write was interrupted: %d bytes, %.80q",
			s.dir.path("journal"), len(j.records)+2, len(j.torn), j.torn)
	}
	return nil
}

// newJournal replaces the journal by an empty one that continues the given revision.
func (s *Store) newJournal(revision uint64) error {
	b := emptyJournal(revision)
	f, err := s.dir.replace("journal", b)
	if err != nil {
		return err
	}
	if s.journal != nil {
		s.journal.Close()
	}
	s.journal, s.end, s.previous = f, position{int64(len(b)), revision}, position{}
	s.torn, s.renamed, s.retry = false, true, 0
	return s.mend()
}

// mend finishes what an earlier step could not.
func (s *Store) mend() error {
	if s.renamed {
		if err := s.dir.syncNames(); err != nil {
			return err
		}
		s.renamed = false
	}
	if s.torn {
		if err := s.dir.truncate(s.journal, "journal", s.end.offset); err != nil {
			return err
		}
		if err := s.dir.sync(s.journal, "journal"); err != nil {
			return err
		}
		s.torn = false
	}
	return nil
}

// Append adds a change: one line, with a revision above the last one. The change is durable
// when Append returns nil. After an error the journal is as it was; if the disk does not even
// allow that, the next Append tries again and fails before it writes.
func (s *Store) Append(revision uint64, record []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.journal == nil:
		return fs.ErrClosed
	case revision <= s.end.revision:
		return s.dir.wrap("journal", fmt.Errorf("revision %d cannot follow %d", revision, s.end.revision))
	case bytes.IndexByte(record, '\n') >= 0:
		return s.dir.wrap("journal", errors.New("a record is one line"))
	}
	if err := cmp.Or(s.dir.leadsTo(s.journal, "journal"), s.mend()); err != nil {
		return err
	}
	line := encodeRecord(Record{revision, record})
	err := s.dir.write(s.journal, "journal", line, s.end.offset)
	if err == nil {
		err = s.dir.sync(s.journal, "journal")
	}
	if err != nil {
		s.torn = true
		_ = s.mend() // else the next call does
		return err
	}
	s.previous, s.end = s.end, position{s.end.offset + int64(len(line)), revision}
	return nil
}

// TakeBack removes the record appended last: its change could not be put in force. There must
// be one since Open, Snapshot or TakeBack. After an error the record is kept until an Append
// or Snapshot succeeds.
func (s *Store) TakeBack() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.journal == nil:
		return fs.ErrClosed
	case s.previous == position{}:
		return s.dir.wrap("journal", errors.New("has no record to take back"))
	}
	s.end, s.previous, s.torn = s.previous, position{}, true
	return s.mend()
}

// Snapshot replaces the document and the records by a document that contains them all. Its
// revision is the last record's or a later one. After an error what was kept is still kept,
// but the next record's revision must be above that of the document, which may be in place.
func (s *Store) Snapshot(revision uint64, document []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.journal == nil:
		return fs.ErrClosed
	case revision < s.end.revision:
		return s.dir.wrap("snapshot", fmt.Errorf("revision %d cannot follow %d", revision, s.end.revision))
	}
	s.end.revision, s.previous = revision, position{}
	s.retry = s.end.offset + minJournal
	file := encodeDocument("snapshot", revision, nil, document)
	if err := s.dir.save("snapshot", file); err != nil {
		return err
	}
	s.snapshot = int64(len(file))
	return s.newJournal(revision)
}

// WantsSnapshot reports whether the journal has outgrown both 1 MiB and the snapshot. After
// a Snapshot that failed it reports so again 1 MiB later.
func (s *Store) WantsSnapshot() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end.offset > max(minJournal, s.snapshot, s.retry)
}

// Close unlocks the directory. All that was acknowledged is durable already.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal == nil {
		return fs.ErrClosed
	}
	err := s.mend()
	s.close()
	return err
}

func (s *Store) close() {
	if s.journal != nil {
		s.journal.Close()
		s.journal = nil
	}
	s.dir.close()
}
