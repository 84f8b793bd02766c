package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// commandState is what examples find.
const commandState = `mark add --dst 192.0.2.0/24 --proto tcp --dport 443 --mark 1
ipvsadm -A -t 192.0.2.10:80 -s wlc
ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.11:8080 -m
ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.12:8080 -m -w 2
ipvsadm -A -u 192.0.2.10:53 -s rr
ipvsadm -a -u 192.0.2.10:53 -r 10.0.0.11:53 -m
ipvsadm -A -f 1 -s rr
set --service tcp:192.0.2.10:80 limit_conns=5
sorry --service tcp:192.0.2.10:80 10.0.0.9:80 -g
`

// commandFiles are the files that examples read.
var commandFiles = map[string]string{
	"state":          commandState,
	"marks.iptables": "iptables -t mangle -A PREROUTING -d 192.0.2.10 -p tcp --dport 8080 -j MARK --set-mark 2\n",
	"90-ipvs.conf":   "net.ipv4.vs.sloppy_tcp = 1\n",
	"uvs.yaml": `
director: {interfaces: [eth0]}
services:
  - {address: 192.0.2.10, port: 80, protocol: tcp, scheduler: wlc}
`,
}

// commandNetwork is a director with commandState, and an empty namespace. uvs and ipvsadm are
// in the path.
func commandNetwork(t *testing.T) *network {
	t.Helper()
	n := newNetwork(t)
	n.add("director", "other")
	n.link("director", "eth0", "other", "eth0")
	n.link("director", "eth1", "other", "eth1")
	n.run("director", "ip addr add 192.0.2.1/24 dev eth0 && ip addr add 10.0.0.1/24 dev eth1")
	n.run("other", "ip addr add 192.0.2.2/24 dev eth0")
	n.run("director", "ip route add default via 192.0.2.2")
	for name, text := range commandFiles {
		must(t, os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o644))
	}
	for _, name := range []string{"uvs", "ipvsadm"} {
		must(t, os.Symlink(uvsBinary, filepath.Join(n.bin(), name)))
	}
	n.directorWith("director", []string{"--config", filepath.Join(n.dir, "uvs.yaml")}, "eth0", "eth1")
	n.run("director", "uvs restore <"+n.dir+"/state")
	return n
}

// oldestVersion runs an example with the oldest version in place of 12.
const oldestVersion = `v=$(uvs history -o tsv | tail -n 1 | cut -f 1) && sh -c "$(echo '%s' | sed "s/12/$v/")"`

// special are examples that need something else than commandState, by how they begin: how they
// are run, in which namespace, and why.
var special = []struct{ begin, instead, namespace, why string }{
	{"uvs run ", "timeout --foreground --preserve-status 2 %s --socket ./second", "other", "runs until a signal"},
	{
		"uvs run --config", "mount -t tmpfs none /etc && mount -t tmpfs none /var/lib && mkdir /etc/uvs && " +
			"cp uvs.yaml /etc/uvs && timeout --foreground --preserve-status 2 %s --socket ./second", "other",
		"reads and writes files of the host, and runs until a signal",
	},
	{"uvs rollback 12", oldestVersion, "director", "needs a version that there is"},
	{"uvs save --version 12", oldestVersion, "director", "needs a version that there is"},
	{"uvs rs ", "timeout --foreground --preserve-status 2 %s", "other", "runs until a signal"},
	{"uvs events", "timeout 1 %s; test $? = 124", "director", "never ends"},
	{"uvs paths -o table --watch", "timeout 1 %s; test $? = 124", "director", "never ends"},
	{"uvs lab ", "", "", "takes long, and needs the host: tests of bench/lab drive it"},
}

// exampleCommands returns the examples of the pages of verbs.
func exampleCommands(t *testing.T, pages string) (examples []string) {
	files, err := filepath.Glob(filepath.Join(pages, "uvs-*.8"))
	must(t, err)
	for _, file := range files {
		page, err := os.ReadFile(file)
		must(t, err)
		before := len(examples)
		for line := range strings.Lines(string(page)) {
			if example, ok := strings.CutPrefix(strings.TrimSpace(line), ".Dl "); ok {
				examples = append(examples, strings.ReplaceAll(example, `\e`, `\`))
			}
		}
		if len(examples) == before && bytes.Contains(page, []byte(".Sh OPTIONS\n")) {
			t.Errorf("%s has no example", filepath.Base(file))
		}
	}
	return examples
}

// Every example of the manual's pages does what it shows: it ends well.
func TestExamples(t *testing.T) {
	n := commandNetwork(t)
	pages := filepath.Join(n.dir, "man")
	n.run("director", fmt.Sprintf("cd ../.. && uvs man %s", pages))
	examples := exampleCommands(t, pages)
	if len(examples) < 50 {
		t.Fatalf("found %d examples", len(examples))
	}
	for _, example := range examples {
		ns, command := "director", example
		for _, s := range special {
			if strings.HasPrefix(example, s.begin) {
				ns, command = s.namespace, strings.Replace(s.instead, "%s", example, 1)
			}
		}
		if command == "" {
			continue
		}
		n.run("director", "uvs active && uvs restore <"+n.dir+"/state")
		if out, err := n.tryRun(ns, fmt.Sprintf("cd %s && HOME=$PWD && %s", n.dir, command)); err != nil {
			t.Errorf("%s: %v: %s", example, err, out)
		}
	}
}

// The examples of uvs(8) work too, one block after the other.
func TestManualExamples(t *testing.T) {
	n := commandNetwork(t)
	page, err := os.ReadFile("../../docs/uvs.8")
	must(t, err)
	_, section, _ := strings.Cut(string(page), ".Sh EXAMPLES\n")
	blocks := strings.Split(section, ".Bd -literal -offset indent\n")[1:]
	if len(blocks) < 5 {
		t.Fatalf("found %d blocks", len(blocks))
	}
	n.run("director", "uvs ipvsadm -C")
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, ".Ed\n")
		_, second, isRun := strings.Cut(block, "&\n") // the director runs
		if isRun {
			block = second
		}
		n.run("director", "cd "+n.dir+" && set -e\n"+block)
	}
}

// Every listing has the same values in JSON and YAML, and rows of as many cells as columns.
func TestListings(t *testing.T) {
	n := commandNetwork(t)
	for _, r := range []struct {
		verb string
		rows int // at least
	}{
		{"service list", 3},
		{"service show tcp:192.0.2.10:80", 5},
		{"server list", 4},
		{"server list fwm:1", 0},
		{"server list tcp:192.0.2.10:80", 3},
		{"services", 5},
		{"paths", 4},
		{"conn list", 0},
		{"conn count", 5},
		{"setting list", 40},
		{"setting list --service fwm:1", 10},
		{"setting get slow_start", 1},
		{"mark list", 1},
		{"status", 7},
		{"history", 2},
		{"log show", 2},
		{"stats --all", 50},
		{"explain tcp 192.0.2.2:4711 192.0.2.10:80", 8},
	} {
		get := func(format string) string { return n.run("director", "uvs "+r.verb+" -o "+format) }
		var fromJSON, fromYAML any
		if err := json.Unmarshal([]byte(get("json")), &fromJSON); err != nil {
			t.Errorf("%s -o json: %v", r.verb, err)
		}
		text := get("yaml")
		if err := yaml.Unmarshal([]byte(text), &fromYAML); err != nil {
			t.Errorf("%s -o yaml: %v\n%s", r.verb, err, text)
		}
		again, err := json.Marshal(fromYAML)
		must(t, err)
		fromYAML = nil
		must(t, json.Unmarshal(again, &fromYAML))
		// Uptime and ages go on.
		if r.verb != "status" && r.verb != "stats --all" && !reflect.DeepEqual(fromJSON, fromYAML) {
			t.Errorf("%s: JSON has %v, YAML %v", r.verb, fromJSON, fromYAML)
		}
		if r.rows == 0 {
			continue
		}
		table, wide, tsv := lines(get("table")), lines(get("wide")), lines(get("tsv"))
		if len(table) != len(wide) || len(tsv) != len(table)-1 || len(tsv) < r.rows {
			t.Errorf("%s: %d lines in the table, %d in wide, %d in tsv", r.verb, len(table), len(wide), len(tsv))
			continue
		}
		for _, row := range tsv {
			if cells := strings.Count(row, "\t") + 1; cells != len(strings.Fields(wide[0])) {
				t.Errorf("%s: %d cells, header %q: %s", r.verb, cells, wide[0], row)
			}
		}
	}
	if got := n.run("director", "uvs services"); got != "" && strings.HasPrefix(got, "SERVICE") {
		t.Errorf("uvs services has a header:\n%s", got)
	}
	if got := n.run("director", "uvs server list tcp:192.0.2.10:80 --json"); strings.Count(got, `"address"`) != 3 {
		t.Errorf("a server has no address: %s", got)
	}
}

func lines(s string) []string { return strings.Split(strings.TrimRight(s, "\n"), "\n") }

// A verb ends with the status that the manual states, and tells each error in one line.
func TestExitStatus(t *testing.T) {
	n := commandNetwork(t)
	for _, r := range []struct {
		line   string
		status int
		want   string // in the line
	}{
		{"service list", 0, ""},
		{"service add tcp:192.0.2.10:80", 1, "exists"},
		{"service show tcp:192.0.2.99:80", 1, "uvs: "},
		{"server edit tcp:192.0.2.10:80 10.0.0.99:80 --weight 1", 1, "has no server 10.0.0.99:80"},
		{"service add tcp:192.0.2.11:80 --scheduler best", 1, "best"},
		{"service add tcp:192.0.2.11:80 --persistent 5", 2, "--persistent: 5 is not a time with its unit"},
		{"service add 192.0.2.11:80 --protocol icmp", 2, "not a service"},
		{"service add", 2, "want SERVICE"},
		{"service list now", 2, `unexpected argument "now"`},
		{"service", 2, "want add, edit, delete, list or show"},
		{"servise list", 2, "did you mean service?"},
		{"service lisst", 2, "did you mean list?"},
		{"service list --wathc", 2, "did you mean --watch?"},
		{"service list -o xml", 2, `format "xml" is not table, wide, json, yaml or tsv`},
		{"setting get slow_begin", 1, "slow_begin"},
		{"--wait 0s --socket /nowhere service list", 3, "no director is running on socket /nowhere"},
		{"--wait 0s --socket /nowhere conns", 3, "no director"},
		{"services --wait 0s --socket /nowhere", 3, "no director"},
		{"--wait 0s --socket /nowhere ipvsadm -Ln", 2, ""}, // ipvsadm's own
		{"--wait -1s service list", 2, "--wait -1s"},
		{"lab help", 0, ""},
		{"help lab up", 0, ""},
		{"help service ad", 2, "did you mean add?"},
		{"completion bash", 0, ""},
		{"--version", 0, ""},
		{"-services", 2, ""},
		{"services -json", 0, ""}, // as earlier versions took options
	} {
		cmd := fmt.Sprintf("uvs %s >/dev/null", r.line)
		out, err := n.tryRun("director", cmd)
		status := 0
		if err != nil {
			status = exitCode(err)
		}
		if status != r.status || !strings.Contains(out, r.want) || strings.Count(out, "\n") > 1 && r.want != "" {
			t.Errorf("uvs %s: exit status %d, %q; want %d, %q", r.line, status, out, r.status, r.want)
		}
	}
}

// A shell completes the names of live services and servers; without a director it completes
// the rest, at once.
func TestCompletion(t *testing.T) {
	n := commandNetwork(t)
	complete := func(words string) []string {
		var list []string
		for _, line := range lines(n.run("director", "uvs __complete "+words+" 2>/dev/null")) {
			word, _, _ := strings.Cut(line, "\t")
			list = append(list, word)
		}
		return list[:len(list)-1] // the last is the directive
	}
	for _, r := range []struct{ words, want string }{
		{"service sh", "show"},
		{"service show ''", "tcp:192.0.2.10:80 udp:192.0.2.10:53 fwm:1"},
		{"server edit tcp:192.0.2.10:80 ''", "10.0.0.12:8080 10.0.0.11:8080 10.0.0.9:80"},
		{"server edit udp:192.0.2.10:53 ''", "10.0.0.11:53"},
		{"server add fwm:1 10.0.0.1 --method ''", "nat dr tunnel"},
		{"conn list --service fwm", "fwm:1"},
		{"setting set slow", "slow_start="},
		{"service list -o y", "yaml"},
		{"completion ''", "bash zsh fish"},
		{"--socket /nowhere service show ''", ""},
		{"--socket /nowhere service add tcp:192.0.2.10:80 --scheduler wl", "wlc"},
	} {
		got := complete(r.words)
		if strings.Join(got, " ") != r.want {
			t.Errorf("uvs %s: completed by %q, want %s", r.words, got, r.want)
		}
	}
}
