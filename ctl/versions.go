package ctl

import (
	"bytes"
	"errors"
	"io/fs"
	"strconv"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/ctl/store"
)

// unconfirmed is a change that takes itself back. It becomes a version when it is confirmed.
type unconfirmed struct {
	Change
	before config.State
	timer  *time.Timer
	until  time.Time
}

// retryTakeBack is when a change that could not be taken back is tried again.
const retryTakeBack = 5 * time.Second

// checkConfirm refuses a version while another waits to be confirmed.
func (m *Manager) checkConfirm(c Change) error {
	switch {
	case c.How != "" && !c.takesBack && m.pending != nil:
		return config.Errorf(syscall.EBUSY, "the last apply waits for `uvs confirm`, or is taken back in time")
	case c.Confirm < 0, c.Confirm > 0 && c.How == "":
		return config.Errorf(syscall.EINVAL, "confirm %v: that is for whole configurations, 1s or more", c.Confirm)
	}
	return nil
}

// awaitConfirm takes a change back after some time.
func (m *Manager) awaitConfirm(before config.State, c Change) {
	p := &unconfirmed{Change: c, before: before, until: time.Now().Add(c.Confirm)}
	m.pending = p
	p.timer = time.AfterFunc(c.Confirm, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.pending != p {
			return // it was confirmed just now
		}
		if _, err := m.takeBack(api.Author{}); err != nil {
			m.log.Error().Err(err).Msg("the last apply was not confirmed, and could not be taken back; trying again")
			p.timer.Reset(retryTakeBack)
		}
	})
}

// Confirm keeps the change that would take itself back.
func (m *Manager) Confirm(author api.Author) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending == nil {
		return errNotPending
	}
	if err := m.keep(m.state.Revision+1, record{Author: author, EndsConfirm: true}); err != nil {
		return err
	}
	m.state.Revision++
	m.addVersions(&m.pending.before, m.pending.Change)
	m.endConfirm()
	m.log.Info().Stringer("by", author).Msg("confirmed")
	return nil
}

var errNotPending = config.Errorf(syscall.ENOENT, "no apply waits for confirmation")

func (m *Manager) endConfirm() {
	m.pending.timer.Stop()
	m.pending = nil
}

// TakeBack goes back to the configuration before the change that waits for confirmation, also
// from changes after it.
func (m *Manager) TakeBack(author api.Author) (revision uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.takeBack(author)
}

func (m *Manager) takeBack(author api.Author) (revision uint64, err error) {
	if m.pending == nil {
		return m.state.Revision, errNotPending
	}
	revision, errs := m.change(Change{
		Ops:   []config.Op{{Kind: config.Replace, Document: m.pending.before.Document()}},
		Whole: true, Author: author, How: "taken back", takesBack: true,
	})
	if errs[0] == nil {
		m.endConfirm()
		m.log.Warn().Stringer("by", author).Msg("the last apply is taken back")
	}
	return revision, errs[0]
}

// Rollback puts a version in force again; 0: the one before the newest.
func (m *Manager) Rollback(author api.Author, revision uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if revision == 0 {
		versions := m.readVersions()
		if len(versions) < 2 {
			return 0, config.Errorf(syscall.ENOENT, "there is no earlier version; `uvs history` lists them")
		}
		revision = versions[1].Revision
	}
	d, err := m.Version(revision)
	if err != nil {
		return 0, err
	}
	now, errs := m.change(Change{
		Ops: []config.Op{{Kind: config.Replace, Document: d}}, Author: author, Whole: true,
		How: "rollback to " + strconv.FormatUint(revision, 10),
	})
	return now, errs[0]
}

// Versions returns the configurations that were applied, newest first.
func (m *Manager) Versions() []api.Version {
	list := []api.Version{} // in JSON a list, not null
	for _, v := range m.readVersions() {
		list = append(list, api.Version(v))
	}
	return list
}

// readVersions returns the versions, and logs which of them cannot be read.
func (m *Manager) readVersions() []store.Version {
	versions, err := m.history.Versions()
	if err != nil {
		m.log.Warn().Err(err).Msg("read the versions that were kept")
	}
	return versions
}

// Version returns the configuration of a version; without one the error is ENOENT.
func (m *Manager) Version(revision uint64) (*config.Document, error) {
	text, err := m.history.Document(revision)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, config.Errorf(syscall.ENOENT, "there is no version %d; `uvs history` lists them", revision)
	}
	d := new(config.Document)
	if err == nil {
		err = config.Decode(text, d)
	}
	return d, err
}

// addVersions makes the state a version and, if commands changed it since the last one, the
// state before, too. A version that cannot be kept is only missing.
func (m *Manager) addVersions(before *config.State, c Change) {
	err := m.addCommandsVersion(before)
	if err == nil {
		err = m.addVersion(&m.state, c.Author.String(), c.How)
	}
	if err != nil {
		m.log.Error().Err(err).Msg("keep the version")
	}
}

func (m *Manager) addCommandsVersion(before *config.State) error {
	text, err := documentText(before)
	if err != nil {
		return err
	}
	if m.newest == nil {
		if versions := m.readVersions(); len(versions) > 0 {
			if m.newest, err = m.history.Document(versions[0].Revision); err != nil {
				m.newest = []byte{} // it differs from every other
			}
		}
	}
	how := "changes by commands"
	switch {
	case m.newest == nil:
		how = "before the first version"
	case bytes.Equal(m.newest, text):
		return nil
	}
	return m.addVersion(before, api.Author{}.String(), how)
}

func (m *Manager) addVersion(s *config.State, author, how string) error {
	text, err := documentText(s)
	if err != nil {
		return err
	}
	v := store.Version{Revision: s.Revision, Time: time.Now(), Author: author, How: how}
	if err := m.history.AddVersion(v, text); err != nil {
		return err
	}
	m.newest = text
	return nil
}

// documentText returns a state as JSON that is equal for equal states.
func documentText(s *config.State) ([]byte, error) {
	return json.Marshal(s.Document(), json.Deterministic(true))
}
