package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// format is the number in the first line of every file. A later one may change anything
// after it.
const format = 1

// sumDigits is the length of a checksum in text.
const sumDigits = 16

var errDamaged = errors.New("its checksum does not match")

// A Record is one change.
type Record struct {
	Revision uint64
	Data     []byte // one line
}

func checksum(b []byte) []byte {
	return hex.AppendEncode(nil, binary.BigEndian.AppendUint64(nil, xxhash.Sum64(b)))
}

// checked returns b behind its checksum and a space.
func checked(b []byte) []byte {
	return append(append(checksum(b), ' '), b...)
}

// verify returns what follows the checksum at the start of b.
func verify(b []byte) ([]byte, bool) {
	if len(b) <= sumDigits || b[sumDigits] != ' ' {
		return nil, false
	}
	rest := b[sumDigits+1:]
	return rest, bytes.Equal(b[:sumDigits], checksum(rest))
}

func appendRevision(b []byte, revision uint64, rest []byte) []byte {
	return append(append(strconv.AppendUint(b, revision, 10), ' '), rest...)
}

// cutRevision splits b into the revision at its start and what follows the space after it.
func cutRevision(b []byte) (uint64, []byte, bool) {
	digits, rest, ended := bytes.Cut(b, []byte(" "))
	revision, err := strconv.ParseUint(string(digits), 10, 64)
	return revision, rest, err == nil && ended
}

func appendFormat(kind string) []byte {
	return fmt.Appendf(nil, "uvs %s %d ", kind, format)
}

// cutFormat returns what follows the format in the first line of a file of the given kind.
func cutFormat(kind string, file []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(file, []byte("uvs "+kind+" "))
	if !ok {
		return nil, fmt.Errorf("is not a %s of uvs and is left alone; move it away or choose another directory", kind)
	}
	digits, rest, _ := bytes.Cut(rest, []byte(" "))
	if n, err := strconv.Atoi(string(digits)); err == nil && n > format {
		return nil, fmt.Errorf("has format %d, this uvs reads %d; run the uvs that wrote it, or a newer one", n, format)
	}
	if string(digits) != strconv.Itoa(format) {
		return nil, errDamaged
	}
	return rest, nil
}

// encodeDocument returns the file of a document; meta has no newline.
func encodeDocument(kind string, revision uint64, meta, document []byte) []byte {
	line := append(appendRevision(nil, revision, meta), '\n')
	return append(appendFormat(kind), checked(append(line, document...))...)
}

func decodeDocument(kind string, file []byte) (revision uint64, meta, document []byte, err error) {
	rest, err := cutFormat(kind, file)
	if err != nil {
		return 0, nil, nil, err
	}
	rest, ok := verify(rest)
	if !ok {
		return 0, nil, nil, errDamaged
	}
	line, document, ended := bytes.Cut(rest, []byte("\n"))
	if revision, meta, ok = cutRevision(line); !ok || !ended {
		return 0, nil, nil, errDamaged
	}
	return revision, meta, document, nil
}

// emptyJournal returns a journal that continues the given revision.
func emptyJournal(revision uint64) []byte {
	line := checked(strconv.AppendUint(nil, revision, 10))
	return append(append(appendFormat("journal"), line...), '\n')
}

func encodeRecord(r Record) []byte {
	return append(checked(appendRevision(nil, r.Revision, r.Data)), '\n')
}

// cutRecord returns the record that b starts with and the length of its line.
func cutRecord(b []byte) (r Record, size int, ok bool) {
	line, _, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return Record{}, 0, false
	}
	rest, ok := verify(line)
	if !ok {
		return Record{}, 0, false
	}
	r.Revision, r.Data, ok = cutRevision(rest)
	return r, len(line) + 1, ok
}

// journal is what a journal's file says.
type journal struct {
	after   uint64 // the revision that the first record continues
	records []Record
	size    int    // of the whole records and what precedes them
	torn    []byte // the rest: a record that was not written completely
}

// lineError says what is wrong with one line of a journal.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return e.text }

// decodeJournal reads a journal. An incomplete record at the end is no error: the write
// was interrupted and never acknowledged.
func decodeJournal(file []byte) (j journal, err error) {
	rest, err := cutFormat("journal", file)
	if err != nil {
		return j, err
	}
	line, rest, ended := bytes.Cut(rest, []byte("\n"))
	first, ok := verify(line)
	if j.after, err = strconv.ParseUint(string(first), 10, 64); err != nil || !ok || !ended {
		return j, errDamaged
	}
	last := j.after
	for len(rest) > 0 {
		r, size, ok := cutRecord(rest)
		if !ok {
			break
		}
		if r.Revision <= last {
			return j, &lineError{len(j.records) + 2, fmt.Sprintf("revision %d follows revision %d; restore the file "+
				"from a backup, or delete lines until revisions rise", r.Revision, last)}
		}
		last = r.Revision
		j.records = append(j.records, r)
		rest = rest[size:]
	}
	if hasRecord(rest) {
		return j, &lineError{len(j.records) + 2, fmt.Sprintf("the record is damaged and others follow it; restore the "+
			"file from a backup, or delete this line and all that follow to go back to revision %d", last)}
	}
	j.size, j.torn = len(file)-len(rest), rest
	return j, nil
}

// hasRecord reports whether a record follows the damaged one that b starts with: a whole
// one anywhere, because a newline may be what was damaged, or the start of one in a line
// of its own. An interrupted write leaves neither.
func hasRecord(b []byte) bool {
	for i := 1; i < len(b); i++ {
		if !startsRecord(b[i:]) {
			continue
		}
		if _, _, ok := cutRecord(b[i:]); ok || b[i-1] == '\n' {
			return true
		}
	}
	return false
}

func startsRecord(b []byte) bool {
	if len(b) < sumDigits+2 || b[sumDigits] != ' ' || b[sumDigits+1] < '0' || b[sumDigits+1] > '9' {
		return false
	}
	_, err := hex.Decode(make([]byte, sumDigits/2), b[:sumDigits])
	return err == nil
}
