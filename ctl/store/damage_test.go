package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// sample is a journal of four records after a snapshot, and where its lines begin.
func sample() (snapshot, journal []byte, lines []int, records []Record) {
	snapshot = encodeDocument("snapshot", 6, nil, []byte("services:\n  - a\n"))
	journal = emptyJournal(6)
	for n := uint64(7); n <= 10; n++ {
		lines = append(lines, len(journal))
		r := Record{n, fmt.Appendf(nil, `{"op":"put-service","name":"s%d"}`, n)}
		records = append(records, r)
		journal = append(journal, encodeRecord(r)...)
	}
	return snapshot, journal, append(lines, len(journal)), records
}

// openFiles opens a directory with the given files.
func openFiles(t *testing.T, snapshot, journal []byte) (*Kept, error) {
	t.Helper()
	dir := memoryDir(t)
	must(t, os.WriteFile(filepath.Join(dir, "snapshot"), snapshot, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "journal"), journal, 0o600))
	s, kept, err := Open(dir)
	if err != nil {
		return nil, err
	}
	// What was dropped stays dropped, and room for records is left.
	must(t, s.Append(kept.Revision+1, []byte("x")))
	must(t, s.Close())
	s, again, err := Open(dir)
	must(t, err)
	must(t, s.Close())
	if again.Note != "" || len(again.Records) != len(kept.Records)+1 {
		t.Errorf("after another record: %s, note %q", again.text(), again.Note)
	}
	return kept, nil
}

func sameRecords(a, b []Record) bool {
	return slices.EqualFunc(a, b, func(a, b Record) bool {
		return a.Revision == b.Revision && bytes.Equal(a.Data, b.Data)
	})
}

// An interrupted write of the last record, wherever it was cut and whatever the rest of its
// bytes are, loses that record alone and is reported.
func TestTornTail(t *testing.T) {
	snapshot, journal, lines, records := sample()
	last := lines[len(lines)-2]
	for cut := last; cut < len(journal); cut++ {
		for name, rest := range map[string][]byte{
			"cut":      nil,
			"zeros":    make([]byte, len(journal)-cut),
			"newlines": bytes.Repeat([]byte("\n"), len(journal)-cut),
			"letters":  bytes.Repeat([]byte("a"), 4096),
		} {
			file := append(bytes.Clone(journal[:cut]), rest...)
			if bytes.Equal(file, journal) {
				continue // the byte that was cut off was a newline
			}
			kept, err := openFiles(t, snapshot, file)
			switch {
			case err != nil:
				t.Errorf("%s at %d: %v", name, cut-last, err)
			case !sameRecords(kept.Records, records[:3]) || kept.Revision != 9:
				t.Errorf("%s at %d: %s", name, cut-last, kept.text())
			case (kept.Note == "") != (cut == last && rest == nil):
				t.Errorf("%s at %d: note %q", name, cut-last, kept.Note)
			case kept.Note != "":
				wantError(t, fmt.Errorf("%s", kept.Note), "journal:5: dropped the last record")
			}
		}
	}
}

// A changed byte is an error that names the file, and the line of a journal; or it drops the
// last record if it is there.
func TestEveryByteFlipped(t *testing.T) {
	snapshot, journal, lines, records := sample()
	last := lines[len(lines)-2]
	for i := range journal {
		for _, flip := range []byte{0x01, 0x20, 0x80, journal[i] ^ '\n', journal[i]} {
			if flip == 0 {
				continue
			}
			damaged := bytes.Clone(journal)
			damaged[i] ^= flip
			kept, err := openFiles(t, snapshot, damaged)
			switch {
			case i >= last:
				if err != nil || !sameRecords(kept.Records, records[:3]) || kept.Note == "" {
					t.Errorf("byte %d of the last record: %v", i-last, err)
				}
			case i >= lines[0]:
				before := bytes.Count(journal[:i], []byte("\n")) // lines
				wantError(t, err, fmt.Sprintf("journal:%d: the record is damaged", before+1),
					fmt.Sprintf("go back to revision %d", 6+before-1))
			default:
				wantError(t, err, "journal: ")
			}
			if t.Failed() {
				return
			}
		}
	}
	for i := range snapshot {
		damaged := bytes.Clone(snapshot)
		damaged[i] ^= 0x04
		_, err := openFiles(t, damaged, journal)
		wantError(t, err, "snapshot: ")
	}
	for i := range snapshot {
		_, err := openFiles(t, snapshot[:i], journal)
		wantError(t, err, "snapshot: ")
	}
}

// Records that were damaged by hand are no interrupted write, even at the end.
func TestTwoDamagedRecords(t *testing.T) {
	snapshot, journal, _, _ := sample()
	_, err := openFiles(t, snapshot, bytes.ReplaceAll(bytes.ReplaceAll(journal, []byte("s9"), []byte("s1")),
		[]byte("s10"), []byte("s2")))
	wantError(t, err, "journal:4: the record is damaged and others follow it")
}

// Records that the snapshot contains are skipped; revisions rise.
func TestRevisions(t *testing.T) {
	_, journal, lines, records := sample()
	for after := uint64(6); after <= 12; after++ {
		kept, err := openFiles(t, encodeDocument("snapshot", after, nil, nil), journal)
		must(t, err)
		if want := records[min(after-6, 4):]; !sameRecords(kept.Records, want) || kept.Revision != max(after, 10) {
			t.Errorf("after %d: %s", after, kept.text())
		}
	}
	doubled := append(bytes.Clone(journal), journal[lines[3]:]...)
	_, err := openFiles(t, encodeDocument("snapshot", 6, nil, nil), doubled)
	wantError(t, err, "journal:6: revision 10 follows revision 10")
	_, err = openFiles(t, encodeDocument("snapshot", 5, nil, nil), journal)
	wantError(t, err, "journal: continues revision 6, the snapshot has 5")
}

// Whatever a journal holds, what is read from it is what was written to it.
func FuzzJournal(f *testing.F) {
	_, journal, lines, _ := sample()
	f.Add(journal)
	f.Add(journal[:lines[2]+5])
	f.Add(append(bytes.Clone(journal), journal[lines[1]:lines[2]]...))
	f.Add([]byte("uvs journal 2"))
	f.Fuzz(func(t *testing.T, file []byte) {
		j, err := decodeJournal(file)
		if err != nil {
			return
		}
		written := emptyJournal(j.after)
		last := j.after
		for _, r := range j.records {
			if r.Revision <= last {
				t.Errorf("revision %d after %d", r.Revision, last)
			}
			last = r.Revision
			written = append(written, encodeRecord(r)...)
		}
		if len(written) != j.size || !bytes.Equal(append(written, j.torn...), file) {
			t.Errorf("%q was read as %q", file, written)
		}
	})
}

func FuzzDocument(f *testing.F) {
	snapshot, _, _, _ := sample()
	f.Add(snapshot)
	f.Add([]byte("uvs snapshot 1 0"))
	f.Fuzz(func(t *testing.T, file []byte) {
		revision, meta, document, err := decodeDocument("snapshot", file)
		if err == nil && !bytes.Equal(encodeDocument("snapshot", revision, meta, document), file) {
			t.Errorf("%q was read as %d, %q, %q", file, revision, meta, document)
		}
	})
}
