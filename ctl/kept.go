package ctl

import (
	"fmt"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/ctl/store"
)

// record is a change in the store's journal.
type record struct {
	Time   time.Time   `json:"time"`
	Author api.Author  `json:"author"`
	Ops    []config.Op `json:"operations,omitempty"`
	How    string      `json:"how,omitzero"`
	File   string      `json:"file,omitzero"` // see Change.File
	// Confirm: it was not made, nor was what follows, unless a later record EndsConfirm.
	Confirm     bool `json:"confirm,omitzero"`
	EndsConfirm bool `json:"ends_confirm,omitzero"`
}

// snapshot is the whole state in the store.
type snapshot struct {
	Document *config.Document `json:"document"`
	Standby  bool             `json:"standby,omitzero"`
	File     string           `json:"file,omitzero"` // see Change.File
}

// Restore puts in force what a store kept, and keeps all changes from now on in it. Call it
// before other changes.
func (m *Manager) Restore(s *store.Store, kept *store.Kept) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next, file, all, err := replay(kept)
	if err != nil {
		return err
	}
	if kept.Note != "" {
		m.log.Warn().Msg(kept.Note)
	}
	if err := m.commit(*next); err != nil {
		return err
	}
	m.store, m.history, m.file = s, s, file
	m.events.lost = next.Revision
	switch {
	case !all:
		m.log.Warn().Msg("the last apply was not confirmed before the director stopped: it is taken back")
		return m.snapshot()
	case s.WantsSnapshot():
		return m.snapshot()
	}
	return nil
}

// File returns the digest of the configuration file that was applied last; "": none was.
func (m *Manager) File() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.file
}

// replay returns the state that was kept, and the file it is from. all is false if the end of
// it is missing: a change that was not confirmed.
func replay(kept *store.Kept) (state *config.State, file string, all bool, err error) {
	next := new(config.State).Clone()
	next.TouchAll()
	if kept.Document != nil {
		var from snapshot
		if err := config.Decode(kept.Document, &from); err != nil {
			return nil, "", false, fmt.Errorf("the kept state: %w", err)
		}
		if err := next.Apply(config.Op{Kind: config.Replace, Document: from.Document}); err != nil {
			return nil, "", false, fmt.Errorf("the kept state: %w", err)
		}
		next.Standby, file = from.Standby, from.File
	}
	records, n, err := decodeRecords(kept.Records)
	if err != nil {
		return nil, "", false, err
	}
	for i, r := range records {
		if r.File != "" { // though it was taken back: it is not to come back by itself
			file = r.File
		}
		if i >= n {
			continue
		}
		for _, op := range r.Ops {
			if err := next.Apply(op); err != nil {
				return nil, "", false, fmt.Errorf("the kept change of revision %d: %w", kept.Records[i].Revision, err)
			}
		}
	}
	next.Revision = kept.Revision
	return &next, file, n == len(records), nil
}

// decodeRecords decodes records. Those from n on were not confirmed.
func decodeRecords(kept []store.Record) (records []record, n int, err error) {
	open := -1
	for i := range kept {
		var r record
		if err := config.Decode(kept[i].Data, &r); err != nil {
			return nil, 0, fmt.Errorf("the kept change of revision %d: %w", kept[i].Revision, err)
		}
		switch {
		case r.EndsConfirm:
			open = -1
		case r.Confirm:
			open = i
		}
		records = append(records, r)
	}
	if open >= 0 {
		return records, open, nil
	}
	return records, len(records), nil
}

// commitKept makes next the state and keeps the operations that lead to it. It keeps them
// first, so that what is acknowledged is never lost.
func (m *Manager) commitKept(next config.State, c Change, made []config.Op) error {
	err := m.keep(next.Revision, record{
		Author: c.Author, Ops: made, How: c.How, File: c.File,
		Confirm: c.Confirm > 0, EndsConfirm: c.takesBack,
	})
	if err != nil {
		return err
	}
	if err := m.commit(next); err != nil {
		if m.store != nil {
			if err := m.store.TakeBack(); err != nil {
				m.log.Error().Err(err).Msg("take back a kept change that could not be made")
			}
		}
		return err
	}
	if c.File != "" {
		m.file = c.File
	}
	if m.store != nil && m.store.WantsSnapshot() && m.pending == nil && c.Confirm == 0 {
		if err := m.snapshot(); err != nil { // the journal has it all
			m.log.Error().Err(err).Msg("keep a snapshot")
		}
	}
	return nil
}

// keep adds a record to the store, if there is one.
func (m *Manager) keep(revision uint64, r record) error {
	if m.store == nil {
		return nil
	}
	r.Time = time.Now()
	text, err := json.Marshal(r)
	if err == nil {
		err = m.store.Append(revision, text)
	}
	if err != nil {
		return config.Errorf(syscall.EIO, "nothing changed, because it could not be kept: %v", err)
	}
	return nil
}

// snapshot replaces the store's records by the state.
func (m *Manager) snapshot() error {
	text, err := json.Marshal(snapshot{Document: m.state.Document(), Standby: m.state.Standby, File: m.file})
	if err != nil {
		return err
	}
	return m.store.Snapshot(m.state.Revision, text)
}
