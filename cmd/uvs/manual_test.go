package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"uvs/ctl/config"
)

// Every verb and option of -h is in the manual, and the manual has no others.
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
			continue // ipvsadm(8) is its manual
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

// The manual has every setting with its values, default and scope, and no other.
func TestManualSettings(t *testing.T) {
	page, err := os.ReadFile("../../docs/uvs.8")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), ".Sh SETTINGS")
	section, _, _ = strings.Cut(section, ".Ss uvs save")
	text := map[string]string{} // of each setting, with its list's heading
	for list := range strings.SplitSeq(section, "\nFor the director") {
		heading, items, _ := strings.Cut(list, "\n")
		for item := range strings.SplitSeq(items, "\n.It Cm ") {
			names, rest, _ := strings.Cut(item, "\n")
			for name := range strings.SplitSeq(names, " , ") {
				text[name] = heading + " " + strings.ReplaceAll(rest, "\n", " ")
			}
		}
	}
	known := map[string]bool{}
	for _, k := range new(config.State).Director().List() {
		name, want := k.Name, strings.TrimSpace(k.Range()+" "+k.Unit)+"; default "+k.Shown(k.Default)+"."
		if k.Unit == "s" && strings.HasPrefix(name, "timeout_") {
			name, want = "timeout_*", k.Range()+" s."
		}
		if want = ": Values: " + want; k.PerService {
			want = " or one service" + want
		}
		if !strings.HasPrefix(text[name], want) {
			t.Errorf("setting %s: the manual has %.80q, want %q", name, text[name], want)
		}
		known[name] = true
	}
	for name := range text {
		if !known[name] && !strings.HasPrefix(name, ".") && !strings.Contains(name, " ") {
			t.Errorf("the manual has %q, which is no setting", name)
		}
	}
}

// stdout returns what f prints to standard output.
func stdout(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stdout
	os.Stdout = w
	output := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(r)
		output <- b
	}()
	f()
	os.Stdout = old
	w.Close()
	return string(<-output)
}
