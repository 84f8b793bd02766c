package file

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestInclude: what an including file and the included ones make together.
func TestInclude(t *testing.T) {
	service := func(port int) string {
		return fmt.Sprintf("services:\n  - {address: 10.9.0.1, port: %d, protocol: tcp}\n", port)
	}
	const commands = "-A -t 10.9.0.1:86\n-a -t 10.9.0.1:86 -r 10.0.0.1:86 -m\n"
	for _, row := range []struct {
		sentence string
		files    map[string]string
		ports    string // of the services, or an error
	}{
		{"a directory, in the order of names", map[string]string{
			"x.yaml": "include: conf.d\n" + service(80), "conf.d/b.yaml": service(82), "conf.d/a.yml": service(81),
			"conf.d/c.json":    `{"services": [{"address": "10.9.0.1", "port": 83, "protocol": "tcp"}]}`,
			"conf.d/README.md": "text", "conf.d/.d.yaml": service(84), "conf.d/e.yaml/x.yaml": service(85),
		}, "80 81 82 83"},
		{"a list, a pattern, a file of commands, paths from the including file", map[string]string{
			"x.yaml":     service(80) + "include: [sub/a.yaml, 'more*.yaml', none*.yaml]\n",
			"sub/a.yaml": "include: ../b.yaml", "b.yaml": service(81),
			"more1.yaml": service(82), "more2.yaml": commands,
		}, "80 81 82 86"},
		{"settings of several files", map[string]string{
			"x.yaml": "include: a.yaml\nsettings: {mss_clamp: 1}\n",
			"a.yaml": "settings: {timeout_udp: 60s}\n" + service(80),
		}, "80"},
		{"an empty section", map[string]string{
			"x.yaml": "include: a.yaml\nservices:\nmarks:\n", "a.yaml": service(80),
		}, "80"},
		{"a setting twice", map[string]string{
			"x.yaml": "include: a.yaml\nsettings: {mss_clamp: 1}\n", "a.yaml": "settings: {mss_clamp: 0}\n",
		}, "a.yaml:1: settings.mss_clamp is given twice; first in x.yaml:2\n"},
		{"a service twice", map[string]string{
			"x.yaml": "include: a.yaml\n" + service(80),
			"a.yaml": service(81) + "\n  - address: 10.9.0.1\n    port: 80\n    protocol: tcp\n",
		}, "a.yaml:4: service tcp:10.9.0.1:80 is given twice; first in x.yaml:3\n"},
		{"a service twice, in a file of commands", map[string]string{
			"x.yaml": "include: a.yaml\n" + service(86), "a.yaml": "\n" + commands,
		}, "a.yaml:2: service tcp:10.9.0.1:86 is given twice; first in x.yaml:3\n"},
		{"an error in an included file", map[string]string{
			"x.yaml": "include: a.yaml\n" + service(80), "a.yaml": service(81) + "  - {address: x}\n",
		}, "a.yaml:3: services[2].address: \"x\" is not an IP address\n     3 |   - {address: x}\n"},
		{"what a check refuses in an included file", map[string]string{
			"x.yaml": "include: a.yaml\n" + service(80), "a.yaml": service(0),
		}, "a.yaml:2: service TCP 10.9.0.1:0: port 0 needs persistence\n"},
		{"a loop", map[string]string{
			"x.yaml": "include: a.yaml\n", "a.yaml": "include: sub/../x.yaml\n",
		}, "a.yaml:1: x.yaml includes itself\n"},
		{"a file that is not there", map[string]string{
			"x.yaml": "\ninclude: a.yaml\n",
		}, "x.yaml:2: stat a.yaml: no such file"},
		{"two values of another kind", map[string]string{
			"x.yaml": "include: a.yaml\nservices: 1\n", "a.yaml": "services: []\n",
		}, "a.yaml:1: services is given twice; first in x.yaml:2\n"},
	} {
		f, err := readFiles(t, row.files)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			for _, s := range f.Document.Services {
				got += fmt.Sprint(" ", s.Port)
			}
			got = got[1:]
		}
		if !strings.HasPrefix(got, row.ports) {
			t.Errorf("%s:\n%s\nwant\n%s", row.sentence, got, row.ports)
		}
	}
}

// TestIncludeLimits: files that include each other have an end.
func TestIncludeLimits(t *testing.T) {
	files := map[string]string{}
	name := func(i int) string { return strings.Repeat("d/", i) + "x.yaml" }
	for i := range 20 {
		files[name(i)] = "include: d/x.yaml\n"
	}
	_, err := readFiles(t, files)
	if err == nil || !strings.Contains(err.Error(), "more than 8 files include each other") {
		t.Error(err)
	}
	wide := map[string]string{"x.yaml": "include: [" + strings.Repeat("a.yaml,", 100) + "]", "b.yaml": ""}
	wide["a.yaml"] = "include: [" + strings.Repeat("b.yaml,", 100) + "]"
	if _, err = readFiles(t, wide); err == nil || !strings.Contains(err.Error(), "more than 4096 files are included") {
		t.Error(err)
	}
}

// A pipe that is included is refused, because a reload would wait for its writer.
func TestIncludePipe(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(dir+"/pipe.yaml", 0o600); err != nil {
		t.Fatal(err)
	}
	for _, include := range []string{"pipe.yaml", ".", "'p*'", "/dev/zero"} {
		path := dir + "/x.conf"
		if err := os.WriteFile(path, []byte("include: "+include+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path, nil); err == nil || !strings.Contains(err.Error(), "is no regular file") {
			t.Errorf("%s: %v", include, err)
		}
	}
}
