package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/ctl/file"
	"uvs/ctl/ipvsadm"
	"uvs/ctl/store"
)

// reopen puts a new director in the place of that of transactions, which has what the store
// kept.
func (m *model) reopen() {
	m.t.Helper()
	if m.kept != nil {
		if err := m.kept.Close(); err != nil {
			m.t.Fatal(err)
		}
	}
	opened, kept, err := store.Open(filepath.Join(m.dir, "state"))
	if err != nil {
		m.t.Fatal(err)
	}
	m.transactions.close()
	m.transactions, m.kept = newTestDirector(m.t), opened
	if err := m.transactions.manager.Restore(opened, kept); err != nil {
		m.t.Fatal(err)
	}
}

// checkSaved compares what is saved and restored with what was, and makes the operations of a
// diff.
func (m *model) checkSaved() {
	m.t.Helper()
	m.reopen()
	m.compare(step{})
	want := textOf(m.t, m.plain.document())
	d, _, err := m.commands.client.Document()
	if err != nil {
		m.t.Fatal(err)
	}
	document, err := file.Marshal(d)
	if err != nil {
		m.t.Fatal(err)
	}
	var commands bytes.Buffer
	writeConfig(&commands, d)
	for _, text := range [][]byte{document, commands.Bytes()} {
		err := m.restore(text)
		if got, _ := m.spare.manager.Document(); err != nil || textOf(m.t, got) != want {
			m.t.Errorf("saved: %v\n%s\nis restored with %s", err, text, difference(textOf(m.t, got), want))
		}
	}
	m.checkIPVSAdmSave()
	m.checkDiff()
}

// restore has the spare director read what was saved.
func (m *model) restore(text []byte) error {
	path := filepath.Join(m.dir, "saved")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	stdin, before := os.Stdin, dial
	defer func() { os.Stdin, dial = stdin, before }()
	os.Stdin, dial = in, func() (*api.Client, error) { return m.spare.client, nil }
	_, err = execute([]string{"restore"})
	return err
}

// checkIPVSAdmSave compares what ipvsadm saves and restores: services and servers without what
// only uvs has. ipvsadm sorts them.
func (m *model) checkIPVSAdmSave() {
	var saved, nothing bytes.Buffer
	run := func(
		d *testDirector, program func([]string, ipvsadm.Stdio, func() (ipvsadm.Director, error)) int, in string,
		out *bytes.Buffer, args ...string,
	) {
		var errs bytes.Buffer
		std := ipvsadm.Stdio{In: strings.NewReader(in), Out: out, Err: &errs}
		if exit := program(args, std, func() (ipvsadm.Director, error) { return d.client, nil }); exit != 0 {
			m.t.Errorf("exit %d: %s%s", exit, errs.String(), in)
		}
	}
	run(m.commands, ipvsadm.SaveMain, "", &saved, "-n")
	run(m.spare, ipvsadm.RestoreMain, saved.String(), &nothing)
	got, _ := m.spare.manager.Document()
	want := m.plain.clone()
	for i := range want.services {
		s := &want.services[i]
		s.Settings, s.Sorry = nil, nil
		if s.Persist == 0 { // -S leaves out the mask that nothing looks at
			s.Netmask = config.Netmask{}
		}
	}
	if a, b := textOf(m.t, sorted(&config.Document{Services: got.Services})),
		textOf(m.t, sorted(&config.Document{Services: want.document().Services})); a != b {
		m.t.Errorf("ipvsadm -S:\n%s\nis restored with %s", saved.String(), difference(a, b))
	}
}

// checkDiff makes the operations that a diff shows, one by one. They turn the configuration of
// now into that of the last checkSaved, but for the order of services and servers.
func (m *model) checkDiff() {
	steps, err := m.files.client.Diff(m.before)
	if err != nil {
		m.t.Errorf("diff: %v", err)
		return
	}
	m.undo(m.spare, m.plain)
	for _, s := range steps {
		if err := m.spare.client.Apply(s.Op); err != nil {
			m.t.Errorf("diff: %s: %v", s.Op, err)
		}
	}
	got, _ := m.spare.manager.Document()
	if a, b := textOf(m.t, sorted(got)), textOf(m.t, sorted(m.before)); a != b {
		m.t.Errorf("diff: %s", difference(a, b))
	}
	m.before = m.plain.clone().document()
}

// sorted returns a configuration in which services and servers are in the order of their keys.
func sorted(d *config.Document) *config.Document {
	byText := *d
	byText.Services = slices.Clone(d.Services)
	slices.SortFunc(byText.Services, func(a, b config.Service) int { return strings.Compare(a.Text(), b.Text()) })
	for i := range byText.Services {
		s := &byText.Services[i]
		s.Servers = slices.Clone(s.Servers)
		slices.SortFunc(s.Servers, func(a, b config.Server) int { return strings.Compare(a.String(), b.String()) })
	}
	return &byText
}
