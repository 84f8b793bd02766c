package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"uvs/ctl/config"
)

// Every verb and option of -h is in the manual, and the manual has no others.
func TestManual(t *testing.T) {
	prose, err := os.ReadFile("../../docs/uvs.8")
	if err != nil {
		t.Fatal(err)
	}
	page := ""
	for name, text := range manual(newRoot(), string(prose), "") {
		if name != "ipvsadm.8" && name != "uvs.yaml.5" {
			page += text
		}
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?:Fl -|--)([a-z][a-z-]+)`).FindAllStringSubmatch(page, -1) {
		documented[m[1]] = true
	}
	options := regexp.MustCompile(`(?m)(?:^  -|\[--|--)([a-z][a-z-]+)`)
	helped := map[string]bool{}
	help := ""
	eachVerb(newRoot(), func(cmd *cobra.Command) {
		if cmd.DisableFlagParsing && cmd.Name() != "exec" || cmd.Name() == "man" {
			return // ipvsadm(8) is the manual of programs; uvs man is for packagers
		}
		if verb := strings.TrimPrefix(cmd.CommandPath(), "uvs "); cmd.HasParent() &&
			!strings.Contains(page, "uvs "+verb) && !strings.Contains(page, "Cm "+verb) {
			t.Errorf("verb %s is not in the manual", verb)
		}
		help += stdout(t, func() { dispatch(append(strings.Fields(cmd.CommandPath())[1:], "-h")) })
	})
	for _, m := range options.FindAllStringSubmatch(help, -1) {
		helped[m[1]] = true
		if !documented[m[1]] {
			t.Errorf("option --%s is not in the manual", m[1])
		}
	}
	for name := range documented {
		if !helped[name] {
			t.Errorf("option --%s of the manual does not exist", name)
		}
	}
}

// Every page renders without a warning.
func TestManualRenders(t *testing.T) {
	if _, err := exec.LookPath("mandoc"); err != nil {
		t.Skip("needs the program mandoc")
	}
	dir := t.TempDir()
	if code := dispatch([]string{"man", "--source", "../../docs/uvs.8", dir}); code != 0 {
		t.Fatalf("uvs man: exit status %d", code)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(pages) < 30 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	out, err := exec.Command("mandoc", append([]string{"-T", "lint", "-W", "warning"}, pages...)...).CombinedOutput()
	if err != nil {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
	if _, err := exec.LookPath("groff"); err != nil {
		return
	}
	for _, page := range pages {
		out, err := exec.Command("groff", "-mdoc", "-ww", "-Tutf8", "-z", page).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("groff %s: %v\n%s", filepath.Base(page), err, out)
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
