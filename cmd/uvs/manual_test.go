package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every verb and every option that -h tells of is in the manual, and the manual
// tells of no others.
func TestManual(t *testing.T) {
	page, err := os.ReadFile("../../docs/uvs.8")
	if err != nil {
		t.Fatal(err)
	}
	manual := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?:Fl -|--)([a-z][a-z-]+)`).FindAllSubmatch(page, -1) {
		manual[string(m[1])] = true
	}
	options := regexp.MustCompile(`(?m)(?:^  -|\[--|--)([a-z][a-z-]+)`)
	helped := map[string]bool{}
	verbs := verbs()
	help := stdout(t, func() { dispatch([]string{"help"}) })
	for _, v := range verbs {
		if strings.HasPrefix(v.name, "ipvsadm") {
			continue // it has a manual of its own
		}
		if !strings.Contains(string(page), "uvs "+v.name) && !strings.Contains(string(page), ".Cm "+v.name) {
			t.Errorf("verb %s is not in the manual", v.name)
		}
		help += stdout(t, func() { dispatch([]string{v.name, "-h"}) })
	}
	for _, verb := range []string{"up", "grid"} {
		help += stdout(t, func() { dispatch([]string{"lab", verb, "-h"}) })
	}
	for _, m := range options.FindAllStringSubmatch(help, -1) {
		helped[m[1]] = true
		if !manual[m[1]] {
			t.Errorf("option --%s is not in the manual", m[1])
		}
	}
	for name := range manual {
		if !helped[name] {
			t.Errorf("option --%s of the manual does not exist", name)
		}
	}
}

// stdout is what f prints there.
func stdout(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stdout
	os.Stdout = w
	said := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(r)
		said <- b
	}()
	f()
	os.Stdout = old
	w.Close()
	return string(<-said)
}
