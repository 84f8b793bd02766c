package ctl

import (
	"cmp"
	"syscall"
	"time"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// Change is operations that come into force together.
type Change struct {
	Ops []config.Op
	// Whole: if one is refused, so are all. Otherwise the others are made.
	Whole  bool
	Author api.Author
	// If are revisions that services must still have, or else the change is refused.
	If []Condition
	// How is set if the result is to be a version, as "apply uvs.yaml".
	How string
	// File is a digest of the configuration file that the change is from.
	File string
	// Confirm: the change takes itself back after this time, unless Confirm comes; 0: it does
	// not. It needs How.
	Confirm time.Duration

	takesBack bool // it ends the wait for Confirm
}

// Condition is the revision that a service, or without one the whole state, must have. 0 is
// that of a service that does not exist.
type Condition struct {
	Service  *config.ServiceKey
	Revision uint64
	Exists   bool // the service must exist, with any revision
}

// Apply makes one change. It returns when the change is in force. After an error nothing
// has changed.
func (m *Manager) Apply(op config.Op) error { return m.ApplyAll([]config.Op{op})[0] }

// ApplyAll makes changes one after the other and puts them in force at once. It returns
// the error of each. A change that is refused does not stop the others.
func (m *Manager) ApplyAll(ops []config.Op) []error {
	_, errs := m.Change(Change{Ops: ops})
	return errs
}

// Change makes a change. It returns the state's revision, and the error of each operation. An
// operation without an error is in force, and kept if the director keeps its state; if Whole
// and one has an error, none is.
func (m *Manager) Change(c Change) (revision uint64, errs []error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.change(c)
}

// change is Change under the lock.
func (m *Manager) change(c Change) (revision uint64, errs []error) {
	errs = make([]error, len(c.Ops))
	refuse := func(err error) (uint64, []error) {
		for i := range errs {
			errs[i] = cmp.Or(errs[i], err)
		}
		return m.state.Revision, errs
	}
	if err := cmp.Or(m.checkConditions(c.If), m.checkConfirm(c)); err != nil {
		return refuse(err)
	}
	next := m.state.Clone()
	var made []config.Op
	changed := false
	for i, op := range c.Ops {
		if errs[i] = checkInterfaces(op, m.fib); errs[i] == nil {
			errs[i] = next.Apply(op)
		}
		switch {
		case errs[i] == nil:
			made = append(made, op)
			changed = changed || op.Kind != config.Zero
		case c.Whole:
			return m.state.Revision, errs
		}
	}
	before := m.state
	if changed {
		if err := m.commitKept(next, c, made); err != nil {
			return refuse(err)
		}
	}
	switch {
	case c.Confirm > 0:
		m.awaitConfirm(before, c)
	case c.How != "" && !c.takesBack:
		m.addVersions(&before, c)
	}
	m.applied(&before, made, c.Author)
	return m.state.Revision, errs
}

func (m *Manager) checkConditions(list []Condition) error {
	for _, c := range list {
		what, revision, exists := "the configuration", m.state.Revision, true // 0 before its first change
		if c.Service != nil {
			what, revision = "service "+c.Service.String(), 0
			if svc, err := m.state.Find(*c.Service); err == nil {
				revision = svc.Revision
			}
			exists = revision != 0
		}
		switch {
		case !exists && (c.Exists || c.Revision != 0):
			return config.Errorf(syscall.ESTALE, "%s does not exist", what)
		case exists && !c.Exists && c.Revision == 0 && c.Service != nil:
			return config.Errorf(syscall.ESTALE, "%s exists already", what)
		case !c.Exists && revision != c.Revision:
			return config.Errorf(syscall.ESTALE, "%s has changed since: it has revision %d, the request is about %d",
				what, revision, c.Revision)
		}
	}
	return nil
}

// applied logs the operations that were made, and does what follows from them.
func (m *Manager) applied(before *config.State, ops []config.Op, author api.Author) {
	var all, added []config.Op
	for _, op := range ops {
		steps := []config.Op{op}
		switch op.Kind {
		case config.Replace:
			steps = config.Diff(before, &m.state)
		case config.Standby, config.Active:
			m.logRole()
		case config.Zero:
			m.runtime.ResetCounters(op.Service)
		}
		for _, step := range steps {
			added = append(added, m.addedServers(step)...)
			m.emit(api.Event{Kind: "applied", Op: &step, Author: &author})
		}
		all = append(all, steps...)
	}
	m.logSteps(all, author)
	m.warnUnreachable(added, true)
	m.added = append(m.added, added...)
}

// maxLogged is how many operations of a change are logged one by one, unless at level debug.
const maxLogged = 20

func (m *Manager) logSteps(steps []config.Op, author api.Author) {
	for i, step := range steps {
		event := m.log.Info()
		if i >= maxLogged {
			event = m.log.Debug()
		}
		event.Stringer("by", author).Stringer("change", step).Msg("applied")
	}
	if more := len(steps) - maxLogged; more > 0 {
		m.log.Info().Stringer("by", author).Int("more", more).Msg("applied")
	}
}

// addedServers warns of what an operation on a service lacks, and returns the servers that
// it added, each as an operation.
func (m *Manager) addedServers(op config.Op) (added []config.Op) {
	switch op.Kind {
	case config.AddServer, config.PutServer, config.SetSorry, config.EditServer, config.EditService:
		m.warnFTP(op.Service.ServiceKey)
		m.logAdmin(op)
		if op.Server != nil && op.Kind != config.EditServer {
			added = append(added, op)
		}
	case config.PutService:
		m.warnFTP(op.Service.ServiceKey)
		for _, v := range op.Service.AllServers() {
			step := config.Op{Kind: config.PutServer, Service: op.Service, Server: &v}
			m.logAdmin(step)
			added = append(added, step)
		}
	}
	return added
}

// Document returns the configuration that is in force, and its revision.
func (m *Manager) Document() (*config.Document, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.state.Document()
	d.Director = m.options
	return d, m.state.Revision
}

// SetOptions sets the options of `uvs run` that Document returns.
func (m *Manager) SetOptions(r *config.Run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.options = r
}

// Preview returns the operations that would put a configuration in force, each with the conns
// that it would take their server from.
func (m *Manager) Preview(d *config.Document) ([]api.Step, error) {
	m.mu.Lock()
	next, fib := m.state.Clone(), m.fib
	before := m.state // whose parts are never written to
	m.mu.Unlock()
	op := config.Op{Kind: config.Replace, Document: d}
	if err := cmp.Or(checkInterfaces(op, fib), next.Apply(op)); err != nil {
		return nil, err
	}
	ops := config.Diff(&before, &next)
	steps := make([]api.Step, len(ops))
	losers := map[uint32]int{} // server IDs, and the operations that remove them
	m.mu.Lock()
	for i, op := range ops {
		steps[i].Op, steps[i].Before = op, op.Before(&before)
		if op.Kind != config.DeleteService && op.Kind != config.DeleteServer {
			continue
		}
		for _, v := range m.runtime.ServersOf(op.Service.ServiceKey) {
			if !v.Removed && (op.Server == nil || v.Config.ServerKey == op.Server.ServerKey) {
				losers[v.ID] = i
			}
		}
	}
	m.mu.Unlock()
	m.countLosers(steps, losers)
	return steps, nil
}
