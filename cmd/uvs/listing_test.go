package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"uvs/ctl/config"
)

// A listing has the form that -o asks for.
func TestListingFormats(t *testing.T) {
	type value struct {
		Name  string `json:"name"`
		Ports []int  `json:"ports"`
	}
	l := listing{columns: "NAME STATE +PORTS", list: func(_ []string, add addRow) error {
		add(value{"tcp:192.0.2.1:80", []int{80, 443}}, "tcp:192.0.2.1:80", "up", 2)
		add(nil, "x", "down", "")
		return add(value{"é", nil}, "é", "", uint32(7))
	}}
	for _, r := range []struct{ format, want string }{
		{"", "NAME              STATE\ntcp:192.0.2.1:80  up\nx                 down\né                 -\n"},
		{"wide", "NAME              STATE  PORTS\ntcp:192.0.2.1:80  up     2\nx                 down   -\n" +
			"é                 -      7\n"},
		{"tsv", "tcp:192.0.2.1:80\tup\t2\nx\tdown\t-\né\t-\t7\n"},
		{"yaml", "- name: tcp:192.0.2.1:80\n  ports: [80, 443]\n- name: \"é\"\n  ports: []\n"},
		{"json", "[\n  {\n    \"name\": \"tcp:192.0.2.1:80\",\n    \"ports\": [\n      80,\n      443\n    ]\n  },\n" +
			"  {\n    \"name\": \"é\",\n    \"ports\": []\n  }\n]\n"},
	} {
		var b strings.Builder
		if err := l.printer(r.format, &b).print(nil); err != nil || b.String() != r.want {
			t.Errorf("-o %s: %v\n%swant\n%s", r.format, err, b.String(), r.want)
		}
	}
	var b strings.Builder
	p := l.printer("", &b)
	p.colours = true
	if err := p.print(nil); err != nil || !strings.Contains(b.String(), "  \033[32mup\033[0m\n") {
		t.Errorf("in colours: %v, %q", err, b.String())
	}
	l.list = func([]string, addRow) error { return nil }
	for format, want := range map[string]string{"json": "[]\n", "yaml": "[]\n", "tsv": "", "table": "NAME  STATE\n"} {
		b.Reset()
		if err := l.printer(format, &b).print(nil); err != nil || b.String() != want {
			t.Errorf("an empty listing, -o %s: %v, %q", format, err, b.String())
		}
	}
}

// YAML reads back as the JSON it was made of.
func TestYAML(t *testing.T) {
	for _, text := range []string{
		`{"a":{"b":[[1,2],[],[{"c":{}},{"d":[{"e":null}]}]],"f":{}},"g":[]}`,
		`{"words":["yes","No","on","null","~","","true","1","1e3","0x10","1_000",".5","-","- a","a: b","a #b","#b","'",
			"\"","\\","*a","&a","!a","%a","@a","{a}","[a]","a,b","12:30:45","2026-11-30","10.0.0.1","10.0.0.1:80",
			"2001:db8::1","[2001:db8::1]:53","tcp:192.0.2.1:80","300s","5m","192.0.2.0/24",
			"é","a b"," a","a\nb","=","<<",
			"0o7","1.5","inf",".inf","nan","1e","0b1","12e","1s","y","N","|",">","a:","fwm:1"]}`,
		`[true,false,null,1,-1,1.5,18446744073709551615,"x"]`,
		`{"yes":1,"1":2,"a b":3,"a:":4,"":5}`,
	} {
		var b strings.Builder
		l := listing{single: true, list: func(_ []string, add addRow) error { return add(json.RawMessage(text)) }}
		if err := l.printer("yaml", &b).print(nil); err != nil {
			t.Fatal(err)
		}
		var want, got any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal([]byte(b.String()), &got); err != nil {
			t.Errorf("%v\n%s", err, b.String())
			continue
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		got = nil
		if err := json.Unmarshal(again, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\nis read as %s", b.String(), again)
		}
	}
}

// Options of earlier versions may have one dash; --watch takes a time or none.
func TestWithDashes(t *testing.T) {
	for line, want := range map[string]string{
		"services -json":                  "services --json",
		"run -interface=lo -workers 1":    "run --interface=lo --workers 1",
		"service list --watch 5s":         "service list --watch=5s",
		"server list --watch tcp:1.2.3.4": "server list --watch tcp:1.2.3.4",
		"lab down -all":                   "lab down --all",
		"sorry -m --service x y":          "sorry -m --service x y",
		"service list -ojson":             "service list -ojson",
		"ipvsadm -socket -list":           "ipvsadm -socket -list",
		"conns -- -json":                  "conns -- -json",
		"--socket /x get -service y":      "--socket /x get --service y",
		"lab exec l n ss -socket":         "lab exec l n ss -socket",
	} {
		if got := strings.Join(withDashes(newRoot(), strings.Fields(line)), " "); got != want {
			t.Errorf("%s: %s", line, got)
		}
	}
}

// Options of services and servers change what they name.
func TestMembers(t *testing.T) {
	type part struct {
		Type string `json:"type"`
		Port int    `json:"port,omitempty"`
	}
	type object struct {
		Name  string   `json:"name"`
		N     int      `json:"n"`
		List  []string `json:"list"`
		Part  part     `json:"part"`
		Texts []string `json:"texts"`
	}
	m := members{}
	for _, r := range []struct {
		member, text string
		kind         kind
	}{
		{"n", "7", asValue},
		{"part.port", "6080", asValue},
		{"list", "a,b", asList},
		{"texts", "a,b", repeated},
		{"texts", "7", repeated},
		{"name", "8", asText},
	} {
		if err := m.set(field{member: r.member, kind: r.kind}, r.text); err != nil {
			t.Fatal(err)
		}
	}
	var got object
	err := m.over(object{Name: "x", N: 1, Part: part{"gue", 1}}, &got)
	want := object{"8", 7, []string{"a", "b"}, part{"gue", 6080}, []string{"a,b", "7"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := m.set(field{member: "n"}, "many"); err != nil {
		t.Fatal(err)
	}
	if err := m.over(object{}, &got); err == nil || err.Error() != `n: "many" is not a whole number` {
		t.Error(err)
	}
}

// Every verb that is listed has a short text and an example of itself.
func TestEveryVerbHasAnExample(t *testing.T) {
	eachVerb(newRoot(), func(cmd *cobra.Command) {
		if hiddenBelow(cmd) || cmd.HasSubCommands() {
			return
		}
		if cmd.Short == "" || !strings.Contains(cmd.Example, cmd.Name()) {
			t.Errorf("%s: %q, example %q", cmd.CommandPath(), cmd.Short, cmd.Example)
		}
	})
}

// A service is named with a port or the name of one, a server with or without.
func TestNames(t *testing.T) {
	for text, want := range map[string]string{
		"tcp:192.0.2.1:80": "TCP 192.0.2.1:80", "tcp:192.0.2.1:https": "TCP 192.0.2.1:443",
		"udp:[2001:db8::1]:dns": "UDP [2001:db8::1]:53", "fwm6:7": "FWM 7 IPv6", "tcp:192.0.2.1:nothing": "",
		"tcp:192.0.2.1": "", "icmp:192.0.2.1:http": "", "http": "", "": "", ":": "",
	} {
		if key, err := parseService(text); (err != nil) != (want == "") || err == nil && key.String() != want {
			t.Errorf("service %s: %s, %v; want %s", text, key, err, want)
		}
	}
	of, _ := config.ParseServiceKey("tcp:192.0.2.1:80")
	for text, want := range map[string]string{
		"10.0.0.1": "10.0.0.1:80", "10.0.0.1:8080": "10.0.0.1:8080", "10.0.0.1:http": "10.0.0.1:80",
		"2001:db8::dead": "[2001:db8::dead]:80", "[2001:db8::1]:nfs": "[2001:db8::1]:2049", "10.0.0.1:": "", "x": "",
	} {
		if key, err := parseServer(text, of); (err != nil) != (want == "") || err == nil && key.String() != want {
			t.Errorf("server %s: %s, %v; want %s", text, key, err, want)
		}
	}
}
