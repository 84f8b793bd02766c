package file

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"uvs/ctl/config"
	"uvs/ctl/ipvsadm"
)

// command parses the commands of ipvsadm and, of set, one setting.
func command(words []string) (config.Op, error) {
	switch words[0] {
	case "ipvsadm":
		return ipvsadm.Operation(words[1:])
	case "set":
		name, value, err := config.ParseSetting(words[1])
		return config.Op{Kind: config.SetSettings, Settings: config.Values{name: value}}, err
	}
	return config.Op{}, errors.New(words[0] + " is not known")
}

// read reads a file of a text, in a directory of its own.
func read(t *testing.T, text string) (*File, error) {
	t.Helper()
	return readFiles(t, map[string]string{"x.yaml": text})
}

// readFiles reads x.yaml of some files. Errors have the names without the directory.
func readFiles(t *testing.T, files map[string]string) (*File, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Read(filepath.Join(dir, "x.yaml"), command)
	if err == nil {
		_, err = f.Document.State(&config.State{})
		err = f.Locate(err)
	}
	if err != nil {
		err = errors.New(strings.ReplaceAll(err.Error(), dir+"/", ""))
	}
	return f, err
}

// readable are files of the service tcp:10.9.0.1:80 with a persistence of 300 s.
var readable = map[string]string{
	"block style": `
services:
  - address: 10.9.0.1
    port: 80
    protocol: tcp
    persistent: 5m
`,
	"flow style": `services: [{address: 10.9.0.1, port: 80, protocol: tcp, persistent: 300s}]`,
	"flow style over lines": `
{services: [{address: 10.9.0.1, port: 80,
	protocol: tcp, persistent: 300s,
},
]}`,
	"JSON": `{"services": [{"address": "10.9.0.1", "port": 80, "protocol": "tcp", "persistent": "300s"}]}`,
	"JSON by tabs": `
{
	"services": [
		{"address": "10.9.0.1", "port": 80, "protocol": "tcp",
		"persistent": "300s"}]
}`,
	"lists below their names": `
services:
- address: 10.9.0.1
  port: 80
  protocol: tcp
  persistent: 5m
  servers:
  - address: 10.0.0.1
  -
    address: 10.0.0.2
    method: nat
`,
	"quotes, comments, other numbers": `
services: # all
- address: '10.9.0.1'
  # the port
  port: 0x50
  "protocol": tcp
  persistent: >-
    300s
`,
	"an alias": `
settings: {timeout_udp: &t 300s}
services:
- {address: 10.9.0.1, port: 80, protocol: tcp, persistent: *t}`,
	"anchors of lists and objects": `
services: &all
  -   &one
      address: 10.9.0.1
      port: 80
      protocol: tcp
      persistent: 5m
`,
	"a merge": `
services:
- &s {address: 10.9.0.1, port: 80, protocol: tcp, persistent: 300s}
- <<: *s
  port: 81
`,
	"Windows": "\ufeffservices:\r\n  - address: 10.9.0.1\r\n    port: 80\r\n    protocol: tcp\r\n" +
		"    persistent: 5m\r\n",
	"a document": `---
services:
  - {address: 10.9.0.1, port: 80, protocol: tcp, persistent: 5m}
...
`,
	"ipvsadm -S": `
# by ipvsadm-save
-A -t 10.9.0.1:80 -s wlc -p 300
-a -t 10.9.0.1:80 -r 10.0.0.1:80 -m -w 1
`,
	"uvs save --commands": `
set timeout_udp=60
ipvsadm -A -t 10.9.0.1:80 -s wlc -p 300
`,
}

// TestRead: what a file means.
func TestRead(t *testing.T) {
	for sentence, text := range readable {
		f, err := read(t, text)
		if err != nil || len(f.Document.Services) == 0 || f.Document.Services[0].Text() != "tcp:10.9.0.1:80" ||
			f.Document.Services[0].Persist != 300 {
			t.Errorf("%s: %+v, %v", sentence, f, err)
		}
	}
	f, err := read(t, readable["a merge"])
	if err != nil || len(f.Document.Services) != 2 || f.Document.Services[1].Text() != "tcp:10.9.0.1:81" {
		t.Errorf("%+v, %v", f.Document, err)
	}
	f, err = read(t, readable["lists below their names"])
	if err != nil || len(f.Document.Services[0].Servers) != 2 {
		t.Errorf("%+v, %v", f.Document, err)
	}
	for _, empty := range []string{"services:\n", "services: []\nsettings:\n", "director: {interfaces: [eth0]}\n"} {
		if f, err := read(t, empty); err != nil || len(f.Document.Services) > 0 {
			t.Errorf("%q: %v", empty, err)
		}
	}
	for _, nothing := range []string{"", "# no\n", "---\n", "{}", "include: []\n", "settings: {slow_start: 3s}\n"} {
		if _, err := read(t, nothing); err == nil || !strings.Contains(err.Error(), "services are missing") {
			t.Errorf("%q: %v", nothing, err)
		}
	}
}

// TestErrors: an error names the file, the line, the value and what would be right.
func TestErrors(t *testing.T) {
	const service = "services:\n  - {address: 10.9.0.1, port: 80, protocol: tcp, "
	for _, row := range []struct{ text, want string }{
		{
			"services:\n  - address: 10.9.0.1\n    prot: 80\n",
			"x.yaml:3: services[0].prot: prot is not known here; did you mean port?\n" +
				"     3 |     prot: 80\n" +
				"       |     ^",
		},
		{
			"services:\n  - address: 10.9.0.1\n    port: 80000\n",
			"x.yaml:3: services[0].port: 80000 is not a whole number from 0 to 65535\n" +
				"     3 |     port: 80000\n" +
				"       |     ^",
		},
		{
			"services:\n  - servers:\n      - {address: 10.0.0.1}\n" +
				"      - {address: 10.0.0.2,\n         method: via}\n",
			"x.yaml:5: services[0].servers[1].method: forwarding method \"via\" is not nat, dr or tunnel\n" +
				"     5 |          method: via}\n" +
				"       |          ^",
		},
		{
			"services:\n  address: 10.9.0.1\n",
			"x.yaml:1: services: an object is not a list\n     1 | services:\n       | ^",
		},
		{
			"services:\n  - &s {port: 80}\n  - <<: *s\n    weight: 1\n",
			"x.yaml:4: services[1].weight: weight is not known here;",
		},
		{
			"settings: {removed_grace: 2}\nservises: []\n",
			"x.yaml:2: servises: servises is not known here; did you mean services?",
		},
		{
			`{"services": [], "marks": [{"mark": -1}]}`,
			"x.yaml:1: marks[0].mark: -1 is not a whole number from 0 to 4294967295",
		},
		{"{\n \"services\": [\n{\"é\": 1, \"porrt\": 1}]}", "x.yaml:3: services[0].é: é is not known here;"},
		{
			"settings: {mss_clamp: x}",
			"x.yaml:1: settings.mss_clamp: setting mss_clamp: \"x\" is not 0, 1, or 48 to 65495",
		},

		{"- a\n", "x.yaml:1: a configuration is NAME: VALUE"},
		{"seven", "x.yaml:1: a configuration is NAME: VALUE"},
		{"services:\n  - address: 10.9.0.1\n    port:\n    protocol: tcp\n", "x.yaml:3: port has no value"},
		{"services:\n  -\n", "x.yaml:2: this item has no value"},
		{"services: [\n", "x.yaml:1: this [ has no end"},
		{"services: [{]\n", "x.yaml:1: "},
		{"services: {a}\n", "x.yaml:1: \"a\" is not NAME: VALUE"},
		{"services: []\nservices: []\n", "x.yaml:2: services is given twice; first in line 1"},
		{`{"services": [], "services": []}`, "x.yaml:1: services is given twice; first in line 1"},
		{"services:\n - port: 80\n   port: 81\n", "x.yaml:3: port is given twice; first in line 2"},
		{"services: a: b\n", "x.yaml:1: mapping value is not allowed in this context"},
		{"services: - a\n", "x.yaml:1: "},
		{"services:\n  - port: 80\n protocol: tcp\n", "x.yaml:3: value is not allowed in this context"},
		{"services:\n  - port: 80\n     protocol: tcp\n", "x.yaml:"},
		{"services:\n\t- port: 80\n", "x.yaml:2: "},
		{"services:\n  \t- port: 80\n", "x.yaml:2: a tab does not indent"},
		{"services:\n  - port: 80\n\tprotocol: tcp\n", "x.yaml:3: "},
		{"a: 1\n---\nb: 2\n", "x.yaml:2: a second document begins here; a file has one"},
		{"a: 1\n...\nb: 2\n", "x.yaml:3: a second document begins here"},
		{"a: 1\n}\n", "x.yaml:2: "},
		{"a: [{]}\n", "x.yaml:1: this ] has no beginning"},
		{"a: [b: 1]\n", "x.yaml:1: \"b\" cannot begin here"},
		{"a: {b: 'c': 1}\n", "x.yaml:1: \"c\" cannot begin here"},
		{"a: [- 1]\n", "x.yaml:1: a list in brackets has no dashes"},
		{"a: {b: , c: 1}\n", "x.yaml:1: b has no value"},
		{"a: &\n b: 1\n", "x.yaml:1: & is followed by a name"},
		{"a: &b &c 1\n", "x.yaml:1: a value has one anchor"},
		{"a: &b 1\n*b : 1\n", "x.yaml:2: * is not a name"},
		{"services:\n-\nmarks: []\n", "x.yaml:2: this item has no value"},
		{"a: *b\n", "x.yaml:1: there is no &b before this *b"},
		{"a: &b [*b]\n", "x.yaml:1: there is no &b before this *b"},
		{"<<: *b\n", "x.yaml:1: there is no &b before this *b"},
		{"a: &b {<<: *b}\n", "x.yaml:1: there is no &b before this *b"},
		{"a: &b 1\nc:\n  <<: *b\n", "x.yaml:3: << takes the *NAME of an object"},
		{"a: .nan\n", "x.yaml:1: .nan cannot stand here"},
		{"a: !!binary aGVsbG8=\n", "x.yaml:1: !!binary: tags, directives and complex keys are not taken here"},
		{"? a\n: b\n", "x.yaml:1: ?: tags, directives and complex keys are not taken here"},
		{"%YAML 1.1\n---\na: 1\n", "x.yaml:1: "},
		{"a: 010\n", "x.yaml:1: 010 can be read as octal or as decimal"},
		{"a: \"\n", "x.yaml:1: "},
		{"\ta: 1\n", "x.yaml:1: "},
		{"a: 1\nb: \x00\n", "x.yaml:2: this is no text: it has a byte of value 0"},
		{"a: 1\nb: \xff\n", "x.yaml:2: this is not UTF-8: byte 0xff"},
		{strings.Repeat("[", 1000), "x.yaml:1: values are nested deeper than 10 here"},
		{strings.Repeat(`{"a":`, 1000), "x.yaml:1: values are nested deeper than 10 here"},
		{strings.Repeat("- ", 1000), "x.yaml:1: values are nested deeper than 10 here"},

		{
			service + "servers: [{address: 10.0.0.1, weight: -1}]}\n",
			"x.yaml:2: weight -1 is negative\n",
		},
		{service + "scheduler: lcc}\n", "x.yaml:2: scheduler \"lcc\" is not known; there are "},
		{
			service + "\n  servers: [\n{address: 10.0.0.1},\n {address: 'fe80::'}]}\n",
			"x.yaml:5: server fe80:: is of another family",
		},
		{"settings:\n  mss_clamp: 1\n  slow_start: 4000s\n", "x.yaml:3: setting slow_start: 4000 is not 0 to 3600\n"},
		{
			service + "settings:\n {mss_clamp: 1,\n conn_reuse_mode: 1}}\n",
			"x.yaml:4: setting conn_reuse_mode is the director's; a service cannot have its own\n",
		},
		{
			service + "settings: {workers: 1}}\n",
			"x.yaml:2: services[0].settings.workers: there is no setting \"workers\"",
		},
		{
			service + "}\n  - {address: 224.0.0.1, port: 80, protocol: tcp}\n",
			"x.yaml:3: service address 224.0.0.1 is not unicast",
		},
		{
			service + "}\n  - address: 10.9.0.1\n    protocol: tcp\n    port: 80\n",
			"x.yaml:3: service tcp:10.9.0.1:80 is given twice; first in x.yaml:2",
		},

		{"-A -t 10.9.0.1:80\n-a -t 10.9.0.1:80 -r 10.0.0.1 -w -1\n", "x.yaml:2: "},
		{
			"-A -t 10.9.0.1:80\n\n-A -t 10.9.0.1:80\n",
			"x.yaml:3: service TCP 10.9.0.1:80 exists already\n     3 | -A -t 10.9.0.1:80\n",
		},
		{"set mss_clamp=1\nservices: []\n", "x.yaml:2: services: is not known"},
		{"include: nothing.yaml\n", "x.yaml:1: "},
		{"inclode: a.yaml\n", "x.yaml:1: inclode: inclode is not known here; did you mean include?"},
		{"include: {a: b}\n", "x.yaml:1: include takes paths"},
		{"include: x.yaml\n", "x.yaml:1: x.yaml includes itself"},
	} {
		_, err := read(t, row.text)
		if err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%.200q\n%v\nwant\n%s", row.text, err, row.want)
		}
	}
}
